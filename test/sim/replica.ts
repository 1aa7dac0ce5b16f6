import type { XXHashAPI } from "xxhash-wasm";
import type { Fault } from "../../src/base/fault.js";
import { invariant } from "../../src/base/invariant.js";
import { RepairRoutes } from "../../src/control/repair-routes.js";
import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { RegionServer } from "../../src/downstairs/region-server.js";
import { openStore } from "../../src/downstairs/store/open.js";
import type { Store } from "../../src/downstairs/store/store.js";
import { NO_TROUBLE } from "../../src/downstairs/test-modes.js";
import type { Address } from "../../src/ports/stream.js";
import { regionConfigObject } from "../../src/region/config.js";
import { extentLayout, extentPath } from "../../src/region/layout.js";
import { DirectoryNode, type FakeDisk, FileNode } from "../kit/disk.js";
import { FakeFiles } from "../kit/files.js";
import { DIRECTORY, freshDisk } from "../kit/fresh-disk.js";
import { FakeHasher } from "../kit/hasher.js";
import type { Death, FakeStream } from "../kit/link.js";
import type { World } from "../kit/world.js";
import { DiskTrouble } from "./disk-trouble.js";
import type { Network } from "./network.js";
import { Machine, Process } from "./process.js";
import { type RepairService, type RepairServices, SimRepairPeer } from "./repair-peer.js";
import type { Trace } from "./trace.js";

const ARENA_BYTES = 4 * 1024 * 1024;
/** As the service manager does it. */
const RESTART_MS = 1000;

export interface ReplicaParts {
  readonly world: World;
  readonly network: Network;
  readonly services: RepairServices;
  readonly hash: XXHashAPI;
  readonly trace: Trace;
  readonly diskMs: number;
  readonly heldBytesMax: number | undefined;
  /** Nothing in the plan changes what a disk holds, or makes a sync fail. */
  readonly disksAreSound: boolean;
  /** Something happened that no plan provides for. */
  readonly failed: (text: string) => void;
}

/** A box with a disk on which a downstairs runs, dies, and is started again. */
export class ReplicaBox {
  readonly name: string;
  readonly machine: Machine;
  readonly data: Address;
  readonly repair: Address;
  region: RegionDefinition;
  disk: FakeDisk;
  trouble: DiskTrouble;
  process: Process | null = null;
  store: Store | null = null;
  server: RegionServer | null = null;
  service: RepairService | null = null;
  /** The end has come: whoever wanted to start it later comes too late. */
  isOver = false;
  starts = 0;
  readonly #parts: ReplicaParts;
  #files: FakeFiles | null = null;
  #silent: FakeStream[] = [];
  #wanted = false;
  /** Some disks are much slower than the others. */
  readonly #diskMs: number;

  /** `number`: counts all boxes that there ever were. */
  constructor(number: number, region: RegionDefinition, parts: ReplicaParts) {
    this.#parts = parts;
    this.#diskMs = parts.diskMs * (parts.world.chance() < 0.3 ? 8 : 1);
    this.name = `r${number}`;
    this.machine = new Machine(`10.0.0.${number + 1}`);
    this.trouble = new DiskTrouble(parts.world);
    this.data = { host: this.machine.name, port: 3810 };
    this.repair = { host: this.machine.name, port: 7810 };
    this.region = region;
    this.disk = freshDisk(region, region.blockSize);
  }

  get isServing(): boolean {
    return this.server !== null;
  }
  /** Started, and started again whenever it fails to start. */
  start(): void {
    if (this.isOver) return;
    this.#wanted = true;
    if (this.process !== null || !this.machine.isPowered) return;
    const { world, network, hash, trace, heldBytesMax, failed } = this.#parts;
    this.starts += 1;
    const process = new Process(world, this.machine, ARENA_BYTES);
    this.process = process;
    const files = new FakeFiles(world, process.arena, this.disk, {
      latencyMs: this.#diskMs,
      ...this.trouble.options,
    });
    this.#files = files;
    const notes = trace.notes(this.name);
    const bytes = extentLayout(this.region).fileBytes;
    const { services } = this.#parts;
    const peer = new SimRepairPeer(
      process,
      network,
      services,
      this.disk,
      () => files,
      () => bytes,
    );
    const hasher = new FakeHasher(process.arena, hash);
    const parts = {
      arena: process.arena,
      io: files,
      tree: files,
      hasher,
      clock: process,
      notes,
      peer,
    };
    const limit = heldBytesMax === undefined ? {} : { heldBytesMax };
    openStore(parts, { directory: DIRECTORY, readOnly: false, ...limit }, (fault, store) => {
      if (store === null) {
        trace.add(this.name, () => `cannot be started: ${fault!.line}`);
        if (this.#parts.disksAreSound) failed(`${this.name} cannot be started: ${fault!.line}`);
        this.#exited();
        // What the message tells the operator to do.
        if (fault!.code === "TRIVET_E_EXTENT_CONTEXT") this.emptied();
        this.#startLater();
      } else this.#serve(process, store, notes);
    });
  }
  #serve(process: Process, store: Store, notes: ReturnType<Trace["notes"]>): void {
    const surroundings = {
      store,
      arena: process.arena,
      clock: process,
      random: process,
      notes,
      testModes: NO_TROUBLE,
    };
    const server = new RegionServer(surroundings, () => this.repair);
    const { disk } = this;
    const routes = new RepairRoutes(
      {
        info: regionConfigObject(store.definition),
        extentCount: store.definition.extentCount,
        readOnly: false,
        isClosed: (extent) => store.isClosed(extent),
        pathOf: (extent) => `${DIRECTORY}/${extentPath(extent)}`,
        work() {},
      },
      (path, then) => {
        const node = disk.find(path);
        const kind =
          node instanceof FileNode
            ? "file"
            : node instanceof DirectoryNode
              ? "directory"
              : "missing";
        process.after(0, () => then(kind));
      },
      () => process.uuid(),
    );
    this.store = store;
    this.server = server;
    this.service = { process, routes, disk };
    const accept = (stream: FakeStream): void => server.accept(stream);
    this.#parts.network.listen(this.data, { process, accept });
    this.#parts.trace.add(this.name, () => "serves");
  }
  #startLater(): void {
    this.#parts.world.after(RESTART_MS, () => {
      if (this.#wanted) this.start();
    });
  }
  #exited(): void {
    this.#files?.kill();
    this.#files = null;
    this.process = null;
    this.store = null;
    this.server = null;
    this.service = null;
  }

  /** The process dies; what the kernel had of its writes goes on to the disk. */
  kill(how: Death = "end"): void {
    this.#wanted = false;
    if (this.process === null) return;
    this.#silent.push(...this.process.kill(how));
    this.#exited();
  }
  /** Its disk is gone, and a new one with an empty region is in its place. */
  emptied(): void {
    invariant(this.process === null, "the disk of a box is changed while nothing runs");
    this.region = { ...this.region, uuid: this.#parts.world.uuid() };
    this.disk = freshDisk(this.region, this.region.blockSize);
    this.trouble = new DiskTrouble(this.#parts.world);
  }
  /** The box loses its power: whatever was not synced may be gone, sector by sector. */
  powerCut(): void {
    invariant(this.machine.isPowered, "the power fails once at a time");
    this.kill("silence");
    this.machine.isPowered = false;
    this.disk = this.disk.cut(() => this.#parts.world.chance());
  }
  powerOn(): void {
    this.machine.isPowered = true;
    for (const stream of this.#silent.splice(0)) stream.reset();
    this.start();
  }
  /** Orderly, as for an upgrade. */
  stop(then: (fault: Fault | null) => void): void {
    this.#wanted = false;
    const { server, process, store } = this;
    if (server === null || process === null) {
      this.kill();
      this.#parts.world.post(() => then(null));
      return;
    }
    this.#parts.network.unlisten(this.data);
    this.server = null;
    server.close((fault) => {
      this.#parts.trace.add(this.name, () => `stopped ${fault?.line ?? "in order"}`);
      if (this.store === store) {
        process.kill("end");
        this.#exited();
      }
      then(fault);
    });
  }
}
