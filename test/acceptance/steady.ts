import { setTimeout as sleep } from "node:timers/promises";
import type { NbdClient } from "./client.js";
import type { Ledger } from "./ledger.js";

/** Between two requests of each of the 32. More would only keep the processors busy. */
const PAUSE_MS = 10;

/** A client that writes all the time, up to 32 requests deep, in a part of the volume of its own, and remembers how long a request took at most. */
export class Steady {
  readonly ledger: Ledger;
  readonly client: NbdClient;
  longestMs = 0;
  requests = 0;
  readonly #fromByte: number;
  #isOver = false;
  readonly #done: Promise<Error | undefined>;

  constructor(client: NbdClient, fromByte: number, ledger: Ledger) {
    this.client = client;
    this.#fromByte = fromByte;
    this.ledger = ledger;
    this.#done = this.ledger.load(this.#view(client), 32, () => this.#isOver);
  }

  /** The longest of the requests since this was asked last. */
  takeLongest(): number {
    const longest = this.longestMs;
    this.longestMs = 0;
    return longest;
  }

  /** Resolves with what ended it; undefined: that it was told to. */
  async end(): Promise<Error | undefined> {
    this.#isOver = true;
    return await this.#done;
  }
  /** Complaints about what `client` reads back of what was acknowledged. */
  check(client: NbdClient): Promise<string[]> {
    return this.ledger.check(this.#view(client), this.ledger.acknowledged);
  }

  #view(client: NbdClient): NbdClient {
    const timed = async <T>(work: Promise<T>): Promise<T> => {
      const startedMs = performance.now();
      const result = await work;
      this.longestMs = Math.max(this.longestMs, performance.now() - startedMs);
      this.requests += 1;
      await sleep(PAUSE_MS);
      return result;
    };
    const from = this.#fromByte;
    return {
      read: (offset: number, length: number) => timed(client.read(from + offset, length)),
      write: (offset: number, data: Buffer, fua?: boolean) =>
        timed(client.write(from + offset, data, fua)),
      flush: () => timed(client.flush()),
    } as NbdClient;
  }
}
