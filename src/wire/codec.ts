import type { Sink, Source } from "./cursor.js";

/**
 * One type's encoding: measure, write, read. Measuring first means one exact piece of memory per message;
 * `min` lets a list refuse an absurd length before anything is allocated for it.
 *
 * `read` throws Fault TRIVET_E_FRAME on bytes that the type forbids, and nothing else. `size` and `write`
 * throw InvariantError on values that the type cannot hold: what we send is our own doing.
 */
export interface Codec<T> {
  /** Fewest bytes that one value can occupy. */
  readonly min: number;
  size(value: T): number;
  write(value: T, to: Sink): void;
  read(from: Source): T;
}

/** Any codec, for tables of them: nothing fits in, anything comes out. */
export interface AnyCodec {
  readonly min: number;
  size(value: never): number;
  write(value: never, to: Sink): void;
  read(from: Source): unknown;
}

/** The type that a codec encodes. */
export type Of<C extends AnyCodec> = ReturnType<C["read"]>;

export type FieldCodecs = Readonly<Record<string, AnyCodec>>;
export type Fields<F extends FieldCodecs> = { readonly [K in keyof F]: Of<F[K]> };
