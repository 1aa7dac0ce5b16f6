import type { StatusReport } from "../../src/control/report.js";
import type { Sheet } from "./page.js";
import type { Stage } from "./stage.js";
import type { Writer } from "./writer.js";

// What acts have in common: their form, and how a writer and a replica are judged.

export interface Act {
  readonly title: string;
  play(stage: Stage, sheet: Sheet): Promise<void>;
}

/** Because of one replica that does nothing, when the other two are good: src/upstairs/README.md, "Patience". */
const STALL_PROMISED_MS = 11_000;
/** Six servers, a writer and whatever else this machine does. */
const STALL_MARGIN_MS = 2_000;
/** The writer's part of a sheet, at the end of an act through which one writer lived. */
export function account(sheet: Sheet, writer: Writer): void {
  sheet.stallMs = Math.max(sheet.stallMs, writer.takeLongestMs());
  sheet.errors += writer.errors.length;
  if (writer.errors.length > 0) sheet.wrong.push(`the writer saw: ${writer.errors[0]}`);
  if (sheet.stallMs > STALL_PROMISED_MS + STALL_MARGIN_MS)
    sheet.wrong.push(`a request took longer than the ${STALL_PROMISED_MS} ms that are promised`);
}

/** How a replica has become equal to the others again. */
export function cameBack(index: number, before: StatusReport, after: StatusReport): string {
  const [was, is] = [before.replicas[index]!, after.replicas[index]!];
  const last = after.repair?.last;
  const isNew = last?.took_ms !== before.repair?.last?.took_ms;
  if (isNew && last?.complete && last.targets.includes(index))
    return `repaired: ${last.repaired} extents copied, ${last.confirmed} were equal, in ${Math.round(last.took_ms / 1000)} s`;
  const replays = (is.counts.replays ?? 0) - (was.counts.replays ?? 0);
  if (replays > 0) return "replayed: what it missed was sent again on a new connection";
  return "caught up on the connection that it had";
}
