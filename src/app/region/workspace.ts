import type { Arena } from "../../ports/arena.js";
import type { Hasher } from "../../ports/hasher.js";

/** What the offline commands need of the native part: memory that can be hashed. */
export interface Workspace {
  readonly arena: Arena;
  readonly hasher: Hasher;
}
