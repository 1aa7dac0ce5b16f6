/** A broken invariant is a bug of ours: it is named and stops the process. Never for input from outside. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

export function invariant(holds: boolean, claim: string): asserts holds {
  if (!holds) throw new InvariantError(claim);
}

/** Makes a switch over a union exhaustive when compiled and loud when run. */
export function unreachable(value: never, claim: string): never {
  const shown = JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}n` : v));
  throw new InvariantError(`${claim}: ${shown}`);
}
