export type Level = "trace" | "debug" | "info" | "warn" | "error";
export type NoteFields = Readonly<Record<string, string | number | bigint | boolean | undefined>>;

/**
 * What an engine has to say; the host turns it into log lines. `event` is a stable dotted name
 * ("replica.active"), `text` a sentence for people. State changes at info, per-request at trace.
 */
export type Notes = (level: Level, event: string, text: string, fields?: NoteFields) => void;
