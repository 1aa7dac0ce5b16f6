type Column = Uint8Array | Uint16Array | Int8Array | Int32Array | Uint32Array | Float64Array;

/** `to`, a new and longer array, with the contents of `from` at its beginning: how tables of parallel arrays grow. */
export function wider<T extends Column>(from: T, to: T): T {
  to.set(from);
  return to;
}
