import { setTimeout as sleep } from "node:timers/promises";
import { NbdClient, NbdError } from "../acceptance/client.js";
import { BLOCK_BYTES, type Ledger } from "./ledger.js";

/** Pause between attempts to reach a server that is not there. */
const RECONNECT_MS = 20;
const MOST_BLOCKS = 64;

/** A connection that comes back: whatever was under way is sent again, as a kernel device does. */
class Connection {
  readonly #port: number;
  readonly #mayConnect: () => boolean;
  #client: NbdClient | undefined;
  #connecting: Promise<NbdClient> | undefined;
  /** How often it was lost. */
  losses = 0;

  constructor(port: number, mayConnect: () => boolean) {
    this.#port = port;
    this.#mayConnect = mayConnect;
  }
  /** Rejects with NbdError, or when nobody wants to go on. `run` may be called several times, each time after a loss. */
  async do<T>(run: (client: NbdClient) => Promise<T>): Promise<T> {
    for (;;) {
      const client = await this.#reach();
      try {
        return await run(client);
      } catch (error) {
        if (error instanceof NbdError) throw error;
        if (this.#client === client) {
          this.#client = undefined;
          this.losses += 1;
        }
      }
    }
  }
  #reach(): Promise<NbdClient> {
    if (this.#client !== undefined) return Promise.resolve(this.#client);
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }
  async #connect(): Promise<NbdClient> {
    while (this.#mayConnect()) {
      try {
        this.#client = await NbdClient.connect({ port: this.#port });
        return this.#client;
      } catch {
        await sleep(RECONNECT_MS);
      }
    }
    throw new Error("the workload is over");
  }
  leave(): void {
    this.#client?.close();
  }
}

/**
 * Clients with many requests under way, which write, read back and flush without an end, and never see an error. A block is touched by one
 * of them at a time.
 */
export class Workload {
  readonly #ledger: Ledger;
  readonly #chance: () => number;
  readonly #connections: Connection[];
  readonly #busy: Uint8Array;
  #isOver = false;
  #hasLeft = false;
  #workers: Promise<void> | undefined;
  /** The first thing that went wrong. */
  failure: Error | undefined;
  #failed: (error: Error) => void = () => {};
  readonly failed: Promise<never>;
  flushes = 0;
  reads = 0;

  constructor(ledger: Ledger, chance: () => number, port: number, clients: number) {
    this.#ledger = ledger;
    this.#chance = chance;
    this.#connections = Array.from(
      { length: clients },
      () => new Connection(port, () => !this.#hasLeft),
    );
    this.#busy = new Uint8Array(ledger.blocks);
    this.failed = new Promise((_, fail) => {
      this.#failed = fail;
    });
    this.failed.catch(() => {});
  }
  get losses(): number {
    return this.#connections.reduce((sum, { losses }) => sum + losses, 0);
  }

  start(depth: number): void {
    const work = async (connection: Connection): Promise<void> => {
      while (!this.#isOver && this.failure === undefined) await this.#step(connection);
    };
    const workers = this.#connections.flatMap((connection) =>
      Array.from({ length: depth }, () => work(connection)),
    );
    this.#workers = Promise.all(workers).then(
      () => {},
      (error: Error) => {
        if (this.#hasLeft) return;
        this.failure ??= error;
        this.#failed(error);
      },
    );
  }
  /** What is under way is answered first. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#workers;
  }
  /** Nothing is done any more, nor tried again. */
  leave(): void {
    this.#isOver = true;
    this.#hasLeft = true;
    for (const connection of this.#connections) connection.leave();
  }

  async #step(connection: Connection): Promise<void> {
    const dice = this.#chance();
    if (dice < 0.03) return this.flush(connection);
    const range = this.#range();
    if (range === undefined) {
      await sleep(1);
      return;
    }
    const [first, count] = range;
    this.#busy.fill(1, first, first + count);
    if (dice < 0.25) await this.#read(connection, first, count);
    else await this.#write(connection, first, count, dice > 0.97);
    this.#busy.fill(0, first, first + count);
    // What a write costs here is mostly processor; the programs need it, too.
    if (this.#chance() < 0.1) await sleep(5);
  }
  #range(): [number, number] | undefined {
    const most = this.#chance() < 0.1 ? MOST_BLOCKS : 4;
    const count = 1 + Math.floor(this.#chance() * most);
    const first = Math.floor(this.#chance() * (this.#ledger.blocks - count));
    return this.#busy.subarray(first, first + count).includes(1) ? undefined : [first, count];
  }
  async #write(connection: Connection, first: number, count: number, isDurable: boolean) {
    const { number, data } = this.#ledger.write(first, count);
    await connection.do((client) => client.write(first * BLOCK_BYTES, data, isDurable));
    this.#ledger.acknowledged(first, count, number, isDurable);
  }
  async #read(connection: Connection, first: number, count: number): Promise<void> {
    await connection.do(async (client) => {
      const data = await client.read(first * BLOCK_BYTES, count * BLOCK_BYTES);
      // Nobody else touches these blocks meanwhile.
      const wrong = this.#ledger.check(first, data);
      if (wrong.length > 0) throw new Mismatch(wrong.join("\n"));
      this.reads += 1;
    });
  }
  /** Answers when everything acknowledged before is certain. */
  async flush(connection: Connection = this.#connections[0]!): Promise<void> {
    await connection.do(async (client) => {
      const before = this.#ledger.acknowledgedNow();
      await client.flush();
      this.#ledger.flushEnded(before);
    });
    this.flushes += 1;
  }
  /** All blocks, once nobody writes any more. */
  async readAll(): Promise<void> {
    const step = MOST_BLOCKS;
    for (let first = 0; first < this.#ledger.blocks; first += step)
      await this.#read(this.#connections[0]!, first, Math.min(step, this.#ledger.blocks - first));
  }
}

/** What was read is not what may be there. Counts as an error that the client saw. */
class Mismatch extends NbdError {
  constructor(text: string) {
    super(0);
    this.message = text;
  }
}
