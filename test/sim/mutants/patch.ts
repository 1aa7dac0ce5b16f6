/** A mistake planted on purpose. */
export interface Mutant {
  /** Breaks the code; the answer puts it right again. */
  readonly mutate: () => () => void;
  /** Found within so many seeds, from `from` on. */
  readonly seeds: number;
  readonly from?: number;
  /** The mix of faults in which it is looked for. */
  readonly mix: string;
}

/** Puts another method in the place of one of a class. */
export function instead<T extends object, K extends keyof T>(
  prototype: T,
  name: K,
  make: (original: T[K]) => T[K],
): () => void {
  const before = Object.getOwnPropertyDescriptor(prototype, name)!;
  Object.defineProperty(prototype, name, { ...before, value: make(prototype[name]) });
  return () => {
    Object.defineProperty(prototype, name, before);
  };
}
