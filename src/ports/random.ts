import type { Uuid } from "../base/ids.js";

export interface Random {
  /** Version 4. */
  uuid(): Uuid;
  /** Uniform in [0, 1); for jitter and the test modes of a downstairs, not for secrets. */
  chance(): number;
}
