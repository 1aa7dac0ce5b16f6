import { randomUUID } from "node:crypto";
import type { Uuid } from "../base/ids.js";
import type { Random } from "../ports/random.js";

export const hostRandom: Random = {
  uuid: () => randomUUID() as Uuid,
  chance: () => Math.random(),
};
