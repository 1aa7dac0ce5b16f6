// What a round needs of a database.

export interface Found {
  /** Transactions that are there and whose commit nobody has heard of: the database was killed in the middle. */
  readonly unheard: number;
  /** What the database's own checks said, for the report. */
  readonly checks: string;
}

export interface Database {
  readonly name: string;
  /** How this round's load is set, for the report. */
  readonly about: string;
  /** Grows when transactions are committed. */
  readonly pulse: number;
  /** Transactions of this round whose commit had returned when the database was killed. */
  readonly committed: number;
  /** The longest that one of them took. */
  readonly longestMs: number;

  /** A new one, on an empty file system. */
  create(): Promise<void>;
  /** Starts the load of a round, counted from 1. `isCut`: it will end with a power cut. */
  begin(round: number, isCut: boolean): Promise<void>;
  /** Rejects when the load meets an error; never resolves. */
  readonly failed: Promise<never>;
  /** A kill -9 of all that belongs to it. Resolves when nothing of it is left. Nothing that fails later is an error. */
  kill(): Promise<void>;
  /** Starts again, and rejects when anything is missing or wrong. */
  recover(): Promise<Found>;
  /** In order; nothing of it is open afterwards. */
  stop(): Promise<void>;
  /** Nothing of it runs any more, whatever state it was in. */
  abandon(): Promise<void>;
  /** What its programs have said last. */
  said(): string;
}

/** A promise that somebody else rejects, and that is no failure of the process when nobody looks. */
export class Failure {
  #fail: (error: Error) => void = () => {};
  readonly promise: Promise<never>;

  constructor() {
    this.promise = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.promise.catch(() => {});
  }
  say(text: string): void {
    this.#fail(new Error(text));
  }
}
