import type { Core } from "./core.js";
import { Kind, NONE, Part } from "./job-table.js";
import type { Lane } from "./lane.js";
import { WriterMap } from "./writer-map.js";

/**
 * Sends everything held for a replica that is back, in order of job ids (wire reference 6.10).
 *
 * Dependencies are found anew, among the jobs that are sent again: those are the ones that exist on this connection, and
 * the rule is the same as when they were first submitted. What the replica's last flush covered is not sent and not named.
 * Reads are never held: those it had were asked again elsewhere.
 */
export function replay(core: Core, lane: Lane): void {
  const { table, sender } = core;
  const writers = new WriterMap();
  for (let slot = table.head; slot !== NONE; slot = table.next[slot]!) {
    if (table.part[slot * 3 + lane.index] !== Part.held) continue;
    // Of a repair that is going on it has no part.
    sender.depend(slot, writers, null);
    lane.heldJobs -= 1;
    lane.heldBytes -= table.bytes[slot]!;
    sender.send(slot, lane, writers.floor, core.generation);
    if (table.kind[slot] !== Kind.write) writers.raise(table.id[slot]!);
  }
}
