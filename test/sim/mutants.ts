export interface Mutant {
  /** Breaks the code; the answer puts it right again. */
  readonly mutate: () => () => void;
  /** Found within so many seeds. */
  readonly seeds: number;
  readonly from?: number;
  readonly mix?: string;
}

export const MUTANTS: Readonly<Record<string, Mutant>> = {};
