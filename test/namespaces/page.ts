// The report: a sheet per act, and one page of all.

/** Of one act, filled in while it is played. */
export class Sheet {
  readonly title: string;
  readonly done: string[] = [];
  readonly found: string[] = [];
  readonly status: string[] = [];
  readonly wrong: string[] = [];
  /** Seen by the writer that had to see none. */
  errors = 0;
  /** The longest request of that writer. */
  stallMs = 0;
  /** From the last answer of a host that was lost to the moment at which the other served. */
  takeoverMs: number | undefined;
  seconds = 0;

  constructor(title: string) {
    this.title = title;
  }
}

const WIDTH = 118;
const INDENT = 11;

function paragraph(name: string, text: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && line.length + 1 + word.length > WIDTH - INDENT) {
      lines.push(line);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines.map((one, i) => `   ${(i === 0 ? name : "").padEnd(INDENT - 3)}${one}`);
}

const ms = (value: number): string => `${Math.round(value)} ms`;

function writerLine({ errors, stallMs, takeoverMs }: Sheet): string {
  const line = `${errors} errors, longest stall ${ms(stallMs)}`;
  if (takeoverMs === undefined) return line;
  return `served again ${ms(takeoverMs)} after the last answer of the host that was lost; then ${line}`;
}

export function page(head: readonly string[], sheets: readonly Sheet[], acts: number): string {
  const lines = [...head];
  for (const [i, sheet] of sheets.entries()) {
    const verdict = sheet.wrong.length === 0 ? "held" : "FAILED";
    const title = `${`${i + 1}`.padStart(2)} ${sheet.title} (${sheet.seconds.toFixed(0)} s)`;
    lines.push("", `${title.padEnd(WIDTH - verdict.length - 1)} ${verdict}`);
    if (sheet.done.length > 0) lines.push(...paragraph("done", sheet.done.join("; ")));
    lines.push(...paragraph("writer", writerLine(sheet)));
    if (sheet.status.length > 0) lines.push(...paragraph("status", sheet.status.join("; ")));
    if (sheet.found.length > 0) lines.push(...paragraph("found", sheet.found.join("; ")));
    for (const text of sheet.wrong) lines.push(...paragraph("wrong", text));
  }
  const failed = sheets.filter(({ wrong }) => wrong.length > 0).length;
  const left = acts - sheets.length;
  lines.push(
    "",
    failed === 0 && left === 0
      ? `all ${acts} acts held`
      : `${sheets.length - failed} acts held, ${failed} failed, ${left} were not played`,
  );
  return lines.join("\n");
}
