import type { XXHashAPI } from "xxhash-wasm";
import { Fault } from "../../src/base/fault.js";
import type { Uuid } from "../../src/base/ids.js";
import { NbdServer } from "../../src/nbd/server.js";
import type { Journal } from "../../src/ports/journal.js";
import type { Address } from "../../src/ports/stream.js";
import type { Tuning } from "../../src/upstairs/options.js";
import type { Accept } from "../../src/upstairs/quorum.js";
import type { VolumeRecord } from "../../src/upstairs/record.js";
import { Upstairs } from "../../src/upstairs/upstairs.js";
import { UnalignedDevice } from "../../src/volume/unaligned.js";
import { FakeHasher } from "../kit/hasher.js";
import type { Death, FakeStream } from "../kit/link.js";
import type { World } from "../kit/world.js";
import { KeptLog } from "./kept-log.js";
import type { Incarnation, VolumeModel } from "./model.js";
import type { Network } from "./network.js";
import { Machine, Process } from "./process.js";
import type { Trace } from "./trace.js";

/** As the service manager does it. */
const RESTART_MS = 1000;
const DRAIN_MS = 20_000;

export interface HostParts {
  readonly world: World;
  readonly network: Network;
  readonly hash: XXHashAPI;
  readonly trace: Trace;
  readonly model: VolumeModel;
  readonly targets: readonly Address[];
  readonly arenaBytes: number;
  readonly ack: "quorum" | "buffered";
  readonly tuning: Partial<Tuning>;
  readonly degradedAfterMs: number | null;
  /** Rows of the write log; 0: there is none. */
  readonly logRows: number;
  /** Something happened that no plan provides for. */
  readonly failed: (text: string) => void;
}

interface Life {
  readonly process: Process;
  readonly upstairs: Upstairs;
  readonly server: NbdServer;
  readonly incarnation: Incarnation;
}

/** A computer that serves the volume: what `trivet serve` composes, with what it keeps between its lives. */
export class HostBox {
  readonly name: string;
  readonly machine: Machine;
  readonly nbd: Address;
  process: Process | null = null;
  life: Life | null = null;
  /** It was told that another host has the volume; started again only by an operator. */
  isSuperseded = false;
  isStopping = false;
  /** What the operator adds to the command line. */
  accept: Accept = {};
  /** When it had the volume last; -1: never. */
  activeMs = -1;
  /** And whether he puts the log aside before the next start. */
  putsLogAside = false;
  /** Why the last start failed. */
  refusal: Fault | null = null;
  /** As with a replica. */
  isOver = false;
  starts = 0;
  /** The state file. */
  readonly #upstairsId: Uuid;
  #lastUsed = 0n;
  /** In memory that a reboot loses. */
  readonly log: KeptLog;
  #record: VolumeRecord | null = null;
  readonly #parts: HostParts;
  #upstairs: Upstairs | null = null;
  #silent: FakeStream[] = [];
  #wanted = false;

  constructor(index: number, parts: HostParts) {
    this.#parts = parts;
    this.name = `h${index}`;
    this.machine = new Machine(`10.0.1.${index + 1}`);
    this.nbd = { host: this.machine.name, port: 10809 };
    this.#upstairsId = parts.world.uuid();
    const { logRows } = parts;
    this.log = new KeptLog(logRows === 0 ? null : { volumeId: this.#upstairsId, rows: logRows });
  }

  get isServing(): boolean {
    return this.life !== null;
  }
  /** There is a process, and it was not told that it is not wanted any more. */
  get isRunning(): boolean {
    return this.process !== null && !this.isSuperseded && !this.isStopping;
  }
  get upstairs(): Upstairs | null {
    return this.#upstairs;
  }

  /** Started, and started again after anything but being superseded. */
  start(): void {
    if (this.isOver) return;
    this.#wanted = true;
    if (this.process !== null || !this.machine.isPowered) return;
    const { world, trace, arenaBytes, hash, failed } = this.#parts;
    this.starts += 1;
    this.isSuperseded = false;
    if (this.putsLogAside) this.log.lose();
    this.putsLogAside = false;
    const process = new Process(world, this.machine, arenaBytes);
    this.process = process;
    const found = this.log.find(world.nowMs(), arenaBytes);
    trace.add(this.name, () => `starts${found.resumes ? ", and finishes a log" : ""}`);
    process.after(found.waitMs, () => {
      const hasher = new FakeHasher(process.arena, hash);
      const journal = found.open(process, hasher);
      if (journal instanceof Fault) failed(`${this.name}: ${journal.line}`);
      else this.#run(process, hasher, journal, found.resumes);
    });
  }
  #run(process: Process, hasher: FakeHasher, journal: Journal, resumes: boolean): void {
    const { world, network, trace, model, targets, arenaBytes, ack, tuning } = this.#parts;
    const { degradedAfterMs } = this.#parts;
    const name = `${this.name}.${this.starts}`;
    const notes = trace.notes(name);
    const upstairs = new Upstairs(
      {
        targets,
        upstairsId: this.#upstairsId,
        generation: {
          kind: "clock",
          lastUsed: this.#lastUsed,
          save: (generation, then) => {
            process.after(world.chance() * 3, () => {
              this.#lastUsed = generation;
              then(null);
            });
          },
        },
        ack,
        tuning,
        degradedAfterMs,
        accept: this.accept,
        record: {
          last: this.#record,
          save: (record, then) => {
            process.after(world.chance() * 3, () => {
              this.#record = record;
              then(null);
            });
          },
        },
      },
      {
        dialer: network.dialer(process),
        arena: process.arena,
        hasher,
        clock: process,
        random: process,
        notes,
        journal,
      },
      { superseded: (fault) => this.#superseded(process, fault) },
    );
    this.#upstairs = upstairs;
    upstairs.activate((fault) => {
      if (this.process !== process) return;
      if (fault !== null) {
        trace.add(name, () => `cannot be started: ${fault.line}`);
        this.refusal = fault;
        this.#ended(process, fault.code === "TRIVET_E_SUPERSEDED");
        return;
      }
      this.accept = {};
      this.refusal = null;
      this.activeMs = world.nowMs();
      const incarnation = { name, life: 0 };
      // Nothing that the log's host had answered is lost, if nobody came in between.
      model.activated(incarnation, resumes && this.log.life === model.owner?.life);
      this.log.life = incarnation.life;
      const server = new NbdServer(
        { arena: process.arena, clock: process, notes },
        {
          exports: [
            {
              name: "",
              device: new UnalignedDevice(process.arena, upstairs),
              blockBytes: upstairs.blockBytes,
              minimumBytes: 512,
              readOnly: false,
            },
          ],
          anyName: true,
          readBytesMax: Math.max(1 << 20, arenaBytes >> 3),
        },
      );
      this.life = { process, upstairs, server, incarnation };
      network.listen(this.nbd, { process, accept: (stream) => server.accept(stream) });
    });
  }
  #superseded(process: Process, fault: Fault): void {
    if (this.process !== process) return;
    this.#parts.trace.add(this.name, () => `is superseded: ${fault.message}`);
    this.isSuperseded = true;
    this.#wanted = false;
    const server = this.life?.server;
    this.life = null;
    this.#parts.network.unlisten(this.nbd);
    const end = (): void => this.#ended(process, true);
    process.after(DRAIN_MS, end);
    // A turn later: we are in a call of the upstairs.
    process.after(0, () => server?.stop(() => this.#upstairs?.stop(end)));
  }
  #ended(process: Process, forGood: boolean): void {
    if (this.process !== process) return;
    this.#exited("end");
    if (forGood) {
      this.isSuperseded = true;
      this.#wanted = false;
      return;
    }
    this.#startLater();
  }
  #startLater(): void {
    this.#parts.world.after(RESTART_MS, () => {
      if (this.#wanted) this.start();
    });
  }
  #exited(how: Death): void {
    const { process } = this;
    this.process = null;
    this.life = null;
    this.#upstairs = null;
    this.isStopping = false;
    if (process === null) return;
    this.log.left();
    this.#silent.push(...process.kill(how));
  }

  kill(how: Death = "end"): void {
    this.#wanted = false;
    if (this.process !== null) this.#exited(how);
  }
  powerCut(): void {
    this.kill("silence");
    this.log.lose();
    this.machine.isPowered = false;
  }
  /** The computer is up again; nothing was started on it yet. */
  powerOn(): void {
    this.machine.isPowered = true;
    for (const stream of this.#silent.splice(0)) stream.reset();
  }
  /** Orderly: clients are let go when their requests are answered, then everything is flushed everywhere. */
  stop(then: (fault: Fault | null) => void): void {
    this.#wanted = false;
    const { process, life } = this;
    const { world, network, model, trace } = this.#parts;
    if (process === null || life === null || this.isStopping || this.isSuperseded) {
      this.kill();
      world.post(() => then(null));
      return;
    }
    this.isStopping = true;
    network.unlisten(this.nbd);
    let isDrained = false;
    const drained = (inTime: boolean): void => {
      if (isDrained || !process.isAlive) return;
      isDrained = true;
      life.upstairs.stop((fault) => {
        if (this.process !== process) return;
        trace.add(this.name, () => `stopped ${fault?.line ?? "in order"}`);
        if (fault === null) model.stopped(life.incarnation.life);
        if (inTime && fault === null) this.#checkMemory(process);
        this.#exited("end");
        then(fault);
      });
    };
    process.after(DRAIN_MS, () => drained(false));
    life.server.stop(() => drained(true));
  }
  /** A turn later everything that was asked for has been given back. */
  #checkMemory(process: Process): void {
    const { world, failed } = this.#parts;
    world.after(1, () => {
      const { allocations } = process.arena;
      if (allocations > 0) failed(`${this.name} ended with ${allocations} allocations of memory`);
    });
  }
}
