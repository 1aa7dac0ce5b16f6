import type { Generation, Uuid } from "../base/ids.js";

/** Who is at the other end: the volume, one run of its upstairs, and the generation that it claims. */
export interface Identity {
  readonly upstairsId: Uuid;
  readonly sessionId: Uuid;
  readonly generation: Generation;
}
