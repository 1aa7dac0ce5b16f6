import { gunzipSync } from "node:zlib";
import type { Machine } from "./machine.js";

// The writer program in the guest (guest/writer.c): start, watch, end, and what it may have left in a file.

const BLOCK = 4096;

export interface Counts {
  readonly writes: number;
  readonly errors: number;
  /** The longest call, one that is under way included. */
  readonly stallMs: number;
  /** errno of the first error; 0 without any. */
  readonly errno: number;
}

export interface WriterPlan {
  readonly name: string;
  /** Path in the guest. */
  readonly path: string;
  readonly slots: number;
  readonly threads: number;
  readonly mode: "direct" | "buffered";
  /** Where its results go; they outlive a restart of the guest when that is on a disk. */
  readonly results?: string;
}

export class Writer {
  readonly plan: WriterPlan;
  #guest: Machine;
  #end: Promise<string> | undefined;
  /** Per slot: newest acknowledged, newest submitted. Known after `stop`. */
  ledger: Uint32Array = new Uint32Array(0);
  last: Counts = { writes: 0, errors: 0, stallMs: 0, errno: 0 };
  isStopped = false;

  constructor(guest: Machine, plan: WriterPlan) {
    this.#guest = guest;
    this.plan = plan;
  }
  get #out(): string {
    return `${this.plan.results ?? "/run"}/${this.plan.name}`;
  }
  get #command(): string {
    const { path, slots, threads, mode } = this.plan;
    return `${path} ${slots} ${threads} ${mode} ${this.#out}`;
  }

  async start(): Promise<void> {
    const command = `echo $$ >${this.#out}.pid; exec writer ${this.#command}`;
    this.#end = this.#guest.must(command, 3_600_000);
    this.#end.catch(() => {});
    await this.#guest.until(`[ -e ${this.#out}.now ]`);
  }
  /** The same as a service of systemd, which ends it before `mount` is unmounted. `program`: path in the guest. */
  async startService(program: string, mount: string): Promise<void> {
    const properties = `-p RequiresMountsFor=${mount} -p KillMode=process`;
    await this.#guest.must(
      `systemd-run -q --unit=${this.plan.name} ${properties} ${program} ${this.#command}`,
    );
    await this.#guest.until(`[ -e ${this.#out}.now ]`);
  }

  async counts(): Promise<Counts> {
    const text = await this.#guest.must(`cat ${this.#out}.now`);
    const [writes = 0, errors = 0, longest = 0, underWay = 0, errno = 0] = text
      .split(" ")
      .map(Number);
    const stallMs = Math.max(longest, underWay, this.last.stallMs * 1000) / 1000;
    this.last = { writes, errors, stallMs, errno };
    return this.last;
  }

  /** Waits for `count` more good writes than there are now. */
  async progress(count: number, timeoutMs = 60_000): Promise<void> {
    const { writes } = await this.counts();
    await this.#guest.until(
      `read n rest <${this.#out}.now; echo "$n $rest"; [ $n -ge ${writes + count} ]`,
      timeoutMs,
    );
  }

  /** Until no call has been under way for longer than `ms`: what happens next happens to none of those that it happened to before. */
  async settled(ms: number, timeoutMs: number): Promise<void> {
    const read = `read writes errors longest underway rest <${this.#out}.now`;
    await this.#guest.until(`${read}; [ $underway -lt ${ms * 1000} ]`, timeoutMs);
  }

  /** Ends it after what is under way, and fetches the ledger. */
  async stop(timeoutMs = 120_000): Promise<Counts> {
    await this.#guest.must(`kill $(cat ${this.#out}.pid)`);
    const late = new Promise<never>((_, reject) => {
      const text = `${this.plan.name} has not ended within ${timeoutMs} ms`;
      setTimeout(() => reject(new Error(text)), timeoutMs).unref();
    });
    await Promise.race([this.#end, late]);
    await this.collect(this.#guest);
    return this.last;
  }

  /** Fetches what it left when it ended, also from the guest that was started after the one in which it ran. */
  async collect(guest: Machine): Promise<void> {
    this.#guest = guest;
    const bytes = await fetchFile(guest, `${this.#out}.ledger`);
    if (bytes.length !== this.plan.slots * 8) throw new Error("the ledger is not whole");
    this.ledger = new Uint32Array(this.plan.slots * 2).map((_, i) => bytes.readUInt32LE(i * 4));
    this.isStopped = true;
    await this.counts();
  }
  /** How many slots must hold something. */
  get acknowledged(): number {
    return this.ledger.filter((write, i) => i % 2 === 0 && write > 0).length;
  }
  /** Complaints about its file as the guest reads it. */
  async examine(guest: Machine): Promise<readonly string[]> {
    const wrong = complaints(await fetchFile(guest, this.plan.path), this.ledger);
    return wrong.map((text) => `${this.plan.name}: ${text}`);
  }
}

/** Small files, or such as are small once they are packed: blocks of the writer repeat what is in them. */
async function fetchFile(guest: Machine, path: string): Promise<Buffer> {
  const text = await guest.must(`gzip -c ${path} | base64`);
  return gunzipSync(Buffer.from(text, "base64"));
}

export function total(all: readonly Writer[]): Counts {
  const counts = all.map(({ last }) => last);
  return {
    writes: counts.reduce((sum, { writes }) => sum + writes, 0),
    errors: counts.reduce((sum, { errors }) => sum + errors, 0),
    stallMs: Math.max(0, ...counts.map(({ stallMs }) => stallMs)),
    errno: counts.find(({ errno }) => errno !== 0)?.errno ?? 0,
  };
}

/**
 * Complaints about a file: each slot is one whole write of the writer, no older than the newest that was
 * acknowledged and no newer than the newest that was submitted. What the file lacks at its end is zeros.
 */
export function complaints(content: Buffer, ledger: Uint32Array): string[] {
  const wrong: string[] = [];
  for (let slot = 0; slot < ledger.length / 2; slot++) {
    const [acknowledged, submitted] = [ledger[2 * slot]!, ledger[2 * slot + 1]!];
    const data = Buffer.alloc(BLOCK);
    content.subarray(slot * BLOCK, (slot + 1) * BLOCK).copy(data);
    const write = data.readUInt32LE(4);
    const piece = Buffer.alloc(8);
    piece.writeUInt32LE(slot, 0);
    piece.writeUInt32LE(write, 4);
    const whole = write === 0 ? Buffer.alloc(BLOCK) : Buffer.alloc(BLOCK, piece);
    if (!data.equals(whole)) wrong.push(`slot ${slot} is no write of ours`);
    else if (write < acknowledged)
      wrong.push(`slot ${slot} shows write ${write}, ${acknowledged} was acknowledged`);
    else if (write > submitted) wrong.push(`slot ${slot} shows write ${write}, never sent`);
  }
  return wrong;
}
