import { NBD_STRING_BYTES_MAX } from "../base/limits.js";
import { ALLOCATION_CONTEXT } from "./protocol.js";

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT: u32 length and name, u32 count, count × (u32 length, text). */
export interface MetaQueries {
  readonly name: string;
  readonly queries: readonly string[];
}

/** Undefined when lengths do not add up exactly to the data. */
export function parseMetaQueries(
  bytes: Buffer,
  at: number,
  length: number,
): MetaQueries | undefined {
  const end = at + length;
  const texts: string[] = [];
  const takeText = (): string | undefined => {
    if (end - at < 4) return undefined;
    const count = bytes.readUInt32BE(at);
    at += 4;
    if (count > end - at || count > NBD_STRING_BYTES_MAX) return undefined;
    at += count;
    return bytes.toString("utf8", at - count, at);
  };
  const name = takeText();
  if (name === undefined || end - at < 4) return undefined;
  const count = bytes.readUInt32BE(at);
  at += 4;
  if (count > (end - at) / 4) return undefined;
  for (let i = 0; i < count; i++) {
    const text = takeText();
    if (text === undefined) return undefined;
    texts.push(text);
  }
  return at === end ? { name, queries: texts } : undefined;
}

/** LIST shows it for no query at all, for the namespace, or by name. */
export function listsAllocation(queries: readonly string[]): boolean {
  return queries.length === 0 || queries.some((q) => q === "base:" || q === ALLOCATION_CONTEXT);
}

/** SET takes it by name only. Unknown namespaces and names select nothing. */
export function selectsAllocation(queries: readonly string[]): boolean {
  return queries.includes(ALLOCATION_CONTEXT);
}
