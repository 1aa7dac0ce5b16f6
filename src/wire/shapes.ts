import { invariant } from "../base/invariant.js";
import type { AnyCodec, Codec, FieldCodecs, Fields } from "./codec.js";
import { bad } from "./cursor.js";
import { u8, u32, u64 } from "./primitives.js";

// Types made of types, as bincode lays them out. A shape adds nothing between its parts.

/** Field order in the literal is the order on the wire. */
export function struct<F extends FieldCodecs>(fields: F): Codec<Fields<F>> {
  const rows: readonly [string, AnyCodec][] = Object.entries(fields);
  return {
    min: rows.reduce((sum, [, codec]) => sum + codec.min, 0),
    size: (value) => rows.reduce((sum, [name, codec]) => sum + codec.size(value[name] as never), 0),
    write(value, to) {
      for (const [name, codec] of rows) codec.write(value[name] as never, to);
    },
    read(from) {
      const value: Record<string, unknown> = {};
      for (const [name, codec] of rows) value[name] = codec.read(from);
      return value as Fields<F>;
    },
  };
}

/** One byte says whether a value follows. */
export function option<T>(inner: Codec<T>): Codec<T | null> {
  return {
    min: 1,
    size: (value) => (value === null ? 1 : 1 + inner.size(value)),
    write(value, to) {
      u8.write(value === null ? 0 : 1, to);
      if (value !== null) inner.write(value, to);
    },
    read(from) {
      const tag = u8.read(from);
      if (tag > 1) bad(`an option's tag is ${tag}`);
      return tag === 0 ? null : inner.read(from);
    },
  };
}

/** u64 count, then the elements: at most `max`, and never more than the bytes left can hold. */
export function vec<T>(item: Codec<T>, max: number = Number.MAX_SAFE_INTEGER): Codec<readonly T[]> {
  invariant(item.min > 0, "elements occupy bytes, so that their count is bounded");
  return {
    min: 8,
    size: (values) => values.reduce((sum, value) => sum + item.size(value), 8),
    write(values, to) {
      u64.write(values.length, to);
      for (const value of values) item.write(value, to);
    },
    read(from) {
      const count = u64.read(from);
      if (count > max) bad(`a list has ${count} elements, at most ${max} are allowed`);
      if (count * item.min > from.left)
        bad(`a list of ${count} elements cannot fit into ${from.left} bytes`);
      const values: T[] = [];
      for (let i = 0; i < count; i++) values.push(item.read(from));
      return values;
    },
  };
}

/** A list of arbitrary u64, packed: no larger in memory than on the wire. */
export const u64Array: Codec<BigUint64Array> = {
  min: 8,
  size: (values) => 8 + 8 * values.length,
  write(values, to) {
    u64.write(values.length, to);
    const at = to.take(8 * values.length);
    for (let i = 0; i < values.length; i++) to.bytes.writeBigUInt64LE(values[i]!, at + 8 * i);
  },
  read(from) {
    const count = u64.read(from);
    const at = from.take(8 * count);
    const values = new BigUint64Array(count);
    for (let i = 0; i < count; i++) values[i] = from.bytes.readBigUInt64LE(at + 8 * i);
    return values;
  },
};

/** A list of u64 that we count with, packed. */
export const countArray: Codec<Float64Array> = {
  min: 8,
  size: (values) => 8 + 8 * values.length,
  write(values, to) {
    u64.write(values.length, to);
    for (const value of values) u64.write(value, to);
  },
  read(from) {
    const count = u64.read(from);
    if (8 * count > from.left) bad(`a list of ${count} numbers cannot fit into ${from.left} bytes`);
    const values = new Float64Array(count);
    for (let i = 0; i < count; i++) values[i] = u64.read(from);
    return values;
  },
};

/** A list of bools, packed: one byte each, 0 or 1. A copy, not a view. */
export const boolArray: Codec<Uint8Array> = {
  min: 8,
  size: (values) => 8 + values.length,
  write(values, to) {
    invariant(
      values.every((value) => value <= 1),
      "a bool is 0 or 1",
    );
    u64.write(values.length, to);
    to.bytes.set(values, to.take(values.length));
  },
  read(from) {
    const count = u64.read(from);
    const at = from.take(count);
    const values = Uint8Array.prototype.slice.call(from.bytes, at, at + count);
    for (const value of values) if (value > 1) bad(`a bool is ${value}`);
    return values;
  },
};

type Variants = Readonly<Record<string, FieldCodecs>>;
export type VariantOf<V extends Variants> = {
  [K in keyof V & string]: { readonly kind: K } & Fields<V[K]>;
}[keyof V & string];

/** A Rust enum: u32 index, then the variant's fields. The order of the literal is the order of indices. */
export function variants<V extends Variants>(rows: V): Codec<VariantOf<V>> {
  const names = Object.keys(rows);
  const bodies = names.map((name) => struct(rows[name]!));
  const indices = new Map(names.map((name, index) => [name, index]));
  const bodyOf = (kind: string): [number, AnyCodec] => {
    const index = indices.get(kind);
    invariant(index !== undefined, `${kind} is a variant`);
    return [index, bodies[index]!];
  };
  return {
    min: 4 + Math.min(...bodies.map((body) => body.min)),
    size: (value) => 4 + bodyOf(value.kind)[1].size(value as never),
    write(value, to) {
      const [index, body] = bodyOf(value.kind);
      u32.write(index, to);
      body.write(value as never, to);
    },
    read(from) {
      const index = u32.read(from);
      const body = bodies[index];
      if (body === undefined) bad(`variant ${index} of ${bodies.length}`);
      return { kind: names[index], ...body.read(from) } as VariantOf<V>;
    },
  };
}

export type Outcome<F extends FieldCodecs, E> =
  | ({ readonly ok: true } & Fields<F>)
  | { readonly ok: false; readonly error: E };

/** A Rust Result: u32 0 and the fields of success, or u32 1 and the error. */
export function result<F extends FieldCodecs, E>(
  success: F,
  failure: Codec<E>,
): Codec<Outcome<F, E>> {
  const body: AnyCodec = struct(success);
  return {
    min: 4 + Math.min(body.min, failure.min),
    size: (value) => 4 + (value.ok ? body.size(value as never) : failure.size(value.error)),
    write(value, to) {
      u32.write(value.ok ? 0 : 1, to);
      if (value.ok) body.write(value as never, to);
      else failure.write(value.error, to);
    },
    read(from) {
      const tag = u32.read(from);
      if (tag > 1) bad(`a result's tag is ${tag}`);
      if (tag === 1) return { ok: false, error: failure.read(from) };
      return { ok: true, ...(body.read(from) as Fields<F>) };
    },
  };
}
