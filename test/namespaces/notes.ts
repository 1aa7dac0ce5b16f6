// What a writer notes in its journal, a line each: `> MS ID KIND FIRST COUNT` before it asks, `< MS ID` when that was answered, `! MS ID TEXT` when
// with an error. A line is written before anything follows from it, and the file outlives the writer: so what was acknowledged is known
// whoever is killed. MS is the system's monotonic clock, the same for all processes.

export type Kind = "write" | "fua" | "flush" | "read";

export type Note =
  | {
      readonly what: "asked";
      readonly ms: number;
      /** For writes, also the number that is in the blocks. */
      readonly id: number;
      readonly kind: Kind;
      readonly first: number;
      readonly count: number;
    }
  | { readonly what: "answered"; readonly ms: number; readonly id: number }
  | { readonly what: "failed"; readonly ms: number; readonly id: number; readonly text: string };

/** Numbers of writes go through all sessions, so a block tells whose write it shows. */
const SESSION_SHIFT = 24;
export const firstIdOf = (session: number): number => session * 2 ** SESSION_SHIFT + 1;
export const sessionOf = (id: number): number => Math.floor(id / 2 ** SESSION_SHIFT);

export const nowMs = (): number => Number(process.hrtime.bigint() / 1000n) / 1000;

export function lineOf(note: Note): string {
  const { ms, id } = note;
  switch (note.what) {
    case "asked":
      return `> ${ms} ${id} ${note.kind} ${note.first} ${note.count}\n`;
    case "answered":
      return `< ${ms} ${id}\n`;
    case "failed":
      return `! ${ms} ${id} ${note.text.replaceAll("\n", " ")}\n`;
  }
}

export function noteOf(line: string): Note {
  const [mark, ms, id, ...rest] = line.split(" ");
  const head = { ms: Number(ms), id: Number(id) };
  if (mark === "<") return { what: "answered", ...head };
  if (mark === "!") return { what: "failed", ...head, text: rest.join(" ") };
  const [kind, first, count] = rest;
  return {
    what: "asked",
    ...head,
    kind: kind as Kind,
    first: Number(first),
    count: Number(count),
  };
}
