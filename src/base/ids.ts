// Ids and units are branded numbers: mixing them up is a compile error and costs nothing at run time.
//
// u64 fields of the protocol: job ids, block indices and flush numbers are JS numbers, refused above
// 2^53 when they are decoded. Generations are bigints, because the far side may choose any value.
// Hashes are eight bytes in the arena and never become numbers on the data path.

declare const brand: unique symbol;
type Branded<T, B extends string> = T & { readonly [brand]: B };

export type JobId = Branded<number, "JobId">;
export type ExtentId = Branded<number, "ExtentId">;
/** Absolute block number in a region. */
export type BlockIndex = Branded<number, "BlockIndex">;
export type FlushNumber = Branded<number, "FlushNumber">;
export type Generation = Branded<bigint, "Generation">;
/** Position in the list of targets: 0, 1 or 2. */
export type ClientId = Branded<number, "ClientId">;
/** Lower-case hyphenated text form. */
export type Uuid = Branded<string, "Uuid">;

export const NIL_UUID = "00000000-0000-0000-0000-000000000000" as Uuid;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Accepts either letter case; undefined when the text is no uuid. */
export function parseUuid(text: string): Uuid | undefined {
  const lower = text.toLowerCase();
  return UUID.test(lower) ? (lower as Uuid) : undefined;
}
