import { Fault } from "../base/fault.js";
import type { Uuid } from "../base/ids.js";
import { LOG_VERSION, SessionState } from "./layout.js";
import type { LogReading } from "./reading.js";

/** What is done with the file that a volume finds in the place of its log. */
export type Decision =
  /** An empty one takes its place. */
  | { readonly kind: "fresh" }
  /** It may hold what somebody misses: it is put aside, that is said, and an empty one takes its place. */
  | { readonly kind: "aside"; readonly why: string }
  /** It holds what this volume promised, in a state in which it cannot be kept: it is put aside, and a person decides. */
  | { readonly kind: "stop"; readonly fault: Fault; readonly aside: boolean }
  /** It is ours, and is finished first. */
  | { readonly kind: "resume" };

export function decide(
  reading: LogReading,
  path: string,
  ours: { readonly bootId: Uuid; readonly volumeId: Uuid },
): Decision {
  const { header, session, rows, problems, version } = reading;
  switch (reading.kind) {
    case "blank":
      return { kind: "fresh" };
    case "alien":
      return {
        kind: "stop",
        aside: false,
        fault: new Fault("TRIVET_E_LOG_FORMAT", `${path} is no write log, and is left as it is`),
      };
    case "version":
      return {
        kind: "aside",
        why: `it has version ${version}, ${version > LOG_VERSION ? "newer" : "older"} than ${LOG_VERSION}, which is the one known here`,
      };
  }
  // What a reboot took from its readers too, or what belongs to others, is not ours to judge, whole or not.
  const isOurs = header === null || header.volumeId === ours.volumeId;
  const isNow = header === null || header.bootId === ours.bootId;
  if (!isOurs || !isNow) {
    const holdsNothing = rows.length === 0 && problems.length === 0;
    if (holdsNothing) return { kind: "fresh" };
    return {
      kind: "aside",
      why: isOurs
        ? `it is of an earlier boot of this machine and holds ${rows.length} writes`
        : `it belongs to the volume ${header?.name} (${header?.volumeId}) and holds ${rows.length} writes`,
    };
  }
  if (reading.kind === "corrupt") {
    const more = problems.length > 1 ? `, and ${problems.length - 1} more` : "";
    return {
      kind: "stop",
      aside: true,
      fault: new Fault("TRIVET_E_LOG_CORRUPT", `${path} is damaged: ${problems[0]}${more}`),
    };
  }
  return session!.state === SessionState.open ? { kind: "resume" } : { kind: "fresh" };
}
