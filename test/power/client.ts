import type {
  BlockIndex,
  ClientId,
  ExtentId,
  FlushNumber,
  Generation,
  JobId,
  Uuid,
} from "../../src/base/ids.js";
import { readBlockContext } from "../../src/crucible/fields.js";
import { decode, type Message } from "../../src/crucible/messages.js";
import { Sink } from "../../src/wire/cursor.js";
import { SocketUpstairs } from "../peer/socket-upstairs.js";
import { plain, sealed, type Value } from "../unit/store/rig.js";
import { type Found, keyOf } from "./open.js";

const UPSTAIRS = "aaaaaaaa-0000-4000-8000-000000000001" as Uuid;
let sessions = 0;

export interface Source {
  readonly host: string;
  readonly port: number;
}

/** An upstairs that does as it is told, with many jobs under way, and with the dependencies that they need. */
export class Client {
  readonly #socket: SocketUpstairs;
  readonly #session: Uuid;
  readonly #generation: Generation;
  readonly #waiting = new Map<string, (message: Message) => void>();
  #ended: (error: Error) => void = () => {};
  readonly #closed: Promise<never>;
  #nextJob = 1000;
  #nextRepair = 0;
  #lastFlush: number | undefined;
  /** Since the last flush; by block the newest job that touched it. */
  #since: number[] = [];
  #touched = new Map<number, number>();

  /** Of every extent, as it was when the connection was made. */
  extents: Found["extents"] = [];

  private constructor(socket: SocketUpstairs, generation: number) {
    this.#socket = socket;
    this.#generation = BigInt(generation) as Generation;
    sessions += 1;
    this.#session = `bbbbbbbb-0000-4000-8000-${`${sessions}`.padStart(12, "0")}` as Uuid;
    this.#closed = new Promise((_, fail) => {
      this.#ended = fail;
    });
    this.#closed.catch(() => {});
    void this.#listen();
  }
  /** Negotiates until jobs may be sent. */
  static async dial(port: number, generation: number, encrypted = false): Promise<Client> {
    const client = new Client(await SocketUpstairs.dial("127.0.0.1", port), generation);
    const ids = { upstairsId: UPSTAIRS, sessionId: client.#session };
    const as = { ...ids, generation: client.#generation };
    const hello = { version: 13, readOnly: false, encrypted, alternateVersions: [] };
    await client.#ask({ kind: "HereIAm", ...as, ...hello }, "YesItsMe");
    await client.#ask({ kind: "PromoteToActive", ...as }, "YouAreNowActive");
    await client.#ask({ kind: "RegionInfoPlease" }, "RegionInfo");
    const versions = await client.#ask({ kind: "ExtentVersionsPlease" }, "ExtentVersions");
    if (versions.kind !== "ExtentVersions") throw new Error(versions.kind);
    client.extents = Array.from(versions.flushNumbers, (flushNumber, extent) => ({
      flushNumber,
      generation: BigInt(versions.generations[extent]!),
      dirty: Boolean(versions.dirty[extent]),
    }));
    return client;
  }
  leave(): void {
    this.#socket.leave();
  }

  write(start: number, values: readonly Value[]): Promise<Message> {
    const before = values.map((_, i) => this.#touched.get(start + i));
    const { job, common } = this.#job([...before, this.#lastFlush]);
    for (const i of values.keys()) this.#touched.set(start + i, job);
    return this.#ask(
      {
        kind: "Write",
        ...common,
        start: start as BlockIndex,
        contexts: values.map(({ context }) => ({
          hash: context.readBigUInt64LE(),
          encryption:
            context.length === 9
              ? null
              : { nonce: context.subarray(9, 21), tag: context.subarray(21, 37) },
        })),
        data: Buffer.concat(values.map((value) => value.data)),
      },
      `${job}`,
    );
  }
  /** What each block is, by the name that `keyOf` gives it. */
  async read(start: number, count: number): Promise<string[]> {
    const { job, common } = this.#job([]);
    const message: Message = { kind: "ReadRequest", ...common, start: start as BlockIndex, count };
    const answer = await this.#ask(message, `${job}`);
    if (answer.kind !== "ReadResponse" || !answer.result.ok) throw new Error(answer.kind);
    const { data, result } = answer;
    const length = data.length / count;
    return result.contexts.map((context, i) => {
      const form = Buffer.alloc(readBlockContext.size(context));
      readBlockContext.write(context, new Sink(form, 0, form.length));
      return keyOf(Buffer.from(data.subarray(i * length, (i + 1) * length)), form);
    });
  }
  flush(number: number): Promise<Message> {
    const { job, common } = this.#job([...this.#since, this.#lastFlush]);
    this.#lastFlush = job;
    this.#since = [];
    this.#touched = new Map();
    const flushNumber = number as FlushNumber;
    const rest = { generation: this.#generation, snapshot: null, extentLimit: null };
    return this.#ask({ kind: "Flush", ...common, flushNumber, ...rest }, `${job}`);
  }
  #job(dependencies: readonly (number | undefined)[]) {
    const job = this.#nextJob++;
    this.#since.push(job);
    const known = [...new Set(dependencies.filter((id) => id !== undefined))];
    const common = {
      upstairsId: UPSTAIRS,
      sessionId: this.#session,
      jobId: job as JobId,
      dependencies: known as JobId[],
    };
    return { job, common };
  }

  /** The three jobs that a live repair consists of; I/O to other extents may be under way. */
  async liveRepair(extent: number, source: Source): Promise<void> {
    const extentId = extent as ExtentId;
    const after = [...this.#since, this.#lastFlush];
    const close = this.#job(after);
    const closing = this.#ask(
      { kind: "ExtentLiveClose", ...close.common, extentId },
      `${close.job}`,
    );
    const copy = this.#job([close.job]);
    const from = {
      sourceClientId: 0 as ClientId,
      sourceRepairAddress: { host: source.host, port: source.port },
    };
    const copying = this.#ask(
      { kind: "ExtentLiveRepair", ...copy.common, extentId, ...from },
      `${copy.job}`,
    );
    const open = this.#job([copy.job]);
    const opening = this.#ask(
      { kind: "ExtentLiveReopen", ...open.common, extentId },
      `${open.job}`,
    );
    for (const answer of await Promise.all([closing, copying, opening]))
      if ("result" in answer && !answer.result.ok) throw new Error(JSON.stringify(answer));
  }
  /** The steps of a reconciliation for one extent. */
  async reconcile(extent: number, source: Source): Promise<void> {
    const extentId = extent as ExtentId;
    const from = {
      sourceClientId: 0 as ClientId,
      sourceRepairAddress: { host: source.host, port: source.port },
      destClients: [1 as ClientId],
    };
    await this.close(extent);
    await this.#step((repairId) => ({ kind: "ExtentRepair", repairId, extentId, ...from }));
    await this.reopen(extent);
  }
  /** As the source of a reconciliation is closed; and opened again. */
  close(extent: number): Promise<void> {
    return this.#step((repairId) => ({
      kind: "ExtentClose",
      repairId,
      extentId: extent as ExtentId,
    }));
  }
  reopen(extent: number): Promise<void> {
    return this.#step((repairId) => ({
      kind: "ExtentReopen",
      repairId,
      extentId: extent as ExtentId,
    }));
  }
  async #step(message: (repairId: number) => Message): Promise<void> {
    const id = this.#nextRepair++;
    const answer = await this.#ask(message(id), `r${id}`);
    if (answer.kind !== "RepairAckId") throw new Error(JSON.stringify(answer));
  }

  #ask(message: Message, answer: string): Promise<Message> {
    const answered = new Promise<Message>((done) => this.#waiting.set(answer, done));
    this.#socket.say(message);
    return Promise.race([answered, this.#closed]);
  }
  async #listen(): Promise<void> {
    for (;;) {
      const frame = await this.#socket.next();
      if (frame === undefined) return this.#ended(new Error("the connection ended"));
      const message = decode(frame);
      const name =
        "jobId" in message
          ? `${message.jobId}`
          : "repairId" in message
            ? `r${message.repairId}`
            : message.kind;
      this.#waiting.get(name)?.(message);
      this.#waiting.delete(name);
    }
  }
}

/** Blocks that tell which write they are of. */
export class Values {
  #serial = 0;
  readonly #blockSize: number;
  readonly #encrypted: boolean;
  constructor(blockSize: number, encrypted: boolean) {
    this.#blockSize = blockSize;
    this.#encrypted = encrypted;
  }
  next(count: number): Value[] {
    return Array.from({ length: count }, () => {
      const serial = ++this.#serial;
      const data = Buffer.alloc(this.#blockSize, `write ${serial} `);
      return this.#encrypted ? sealed(data, Buffer.alloc(28, `seal ${serial}`)) : plain(data);
    });
  }
  zeros(count: number): Value[] {
    return Array.from({ length: count }, () => plain(Buffer.alloc(this.#blockSize)));
  }
}
