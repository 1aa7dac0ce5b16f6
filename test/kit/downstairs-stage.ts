import type { Fault } from "../../src/base/fault.js";
import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { RegionServer } from "../../src/downstairs/region-server.js";
import type { RegionStore, RepairPeer } from "../../src/downstairs/region-store.js";
import { openStore } from "../../src/downstairs/store/open.js";
import type { Store } from "../../src/downstairs/store/store.js";
import { NO_TROUBLE, type TestModes } from "../../src/downstairs/test-modes.js";
import type { Address } from "../../src/ports/stream.js";
import { extentPath } from "../../src/region/layout.js";
import { ScriptedUpstairs } from "../peer/upstairs.js";
import { FakeArena } from "./arena.js";
import type { FakeDisk } from "./disk.js";
import { FakeFiles } from "./files.js";
import { DIRECTORY } from "./fresh-disk.js";
import { FakeHasher } from "./hasher.js";
import { type LinkOptions, link } from "./link.js";
import { FakeStore, regionOf } from "./store.js";
import { World } from "./world.js";

export interface StageOptions {
  readonly seed?: number;
  readonly world?: World;
  readonly readOnly?: boolean;
  readonly arenaBytes?: number;
  readonly testModes?: Partial<TestModes>;
  readonly repairPort?: number;
}

/** Where FakeDisks hold their region. */

/** One region served in a simulated world, and upstairs that connect to it. */
export class DownstairsStage<S extends RegionStore = FakeStore> {
  readonly world: World;
  readonly arena: FakeArena;
  readonly farArena = new FakeArena(64 * 1024 * 1024);
  readonly store: S;
  readonly server: RegionServer;
  readonly notes: string[] = [];
  /** Arena allocations that the store holds for as long as it is open. */
  readonly allocations: number;

  private constructor(world: World, arena: FakeArena, store: S, options: StageOptions) {
    this.world = world;
    this.arena = arena;
    this.store = store;
    this.allocations = arena.allocations;
    const notes = (_: string, event: string, text: string): void => {
      this.notes.push(`${event} ${text}`);
    };
    const testModes = { ...NO_TROUBLE, ...options.testModes };
    const port = options.repairPort ?? 7990;
    this.server = new RegionServer(
      { store, arena, clock: world, random: world, notes, testModes },
      () => ({ host: "127.0.0.1", port }),
    );
  }

  /** Over a region in memory, which can be told to fail and to be slow. */
  static async open(
    options: StageOptions & { readonly definition?: RegionDefinition } = {},
  ): Promise<DownstairsStage> {
    const world = options.world ?? new World(options.seed);
    const arena = new FakeArena(options.arenaBytes);
    const hasher = await FakeHasher.over(arena);
    const definition = options.definition ?? regionOf();
    const store = new FakeStore(world, arena, hasher, definition, options.readOnly);
    return new DownstairsStage(world, arena, store, options);
  }

  /** Over the real store and a disk in memory. */
  static async onDisk(
    disk: FakeDisk,
    options: StageOptions & { readonly peer?: RepairPeer } = {},
  ): Promise<DownstairsStage<Store>> {
    const world = options.world ?? new World(options.seed);
    const arena = new FakeArena(options.arenaBytes);
    const hasher = await FakeHasher.over(arena);
    const files = new FakeFiles(world, arena, disk, { latencyMs: 0 });
    const peer = options.peer ?? new DiskPeer(new Map(), disk);
    const parts = { arena, io: files, tree: files, hasher, clock: world, notes: () => {}, peer };
    const opened: { fault: Fault | null; store: Store | null }[] = [];
    openStore(
      parts,
      { directory: DIRECTORY, readOnly: options.readOnly ?? false },
      (fault, store) => opened.push({ fault, store }),
    );
    world.settle();
    const { fault, store } = opened[0]!;
    if (store === null) throw fault;
    return new DownstairsStage(world, arena, store, options);
  }

  connect(options: LinkOptions = {}): ScriptedUpstairs {
    const [near, far] = link(this.world, this.arena, this.farArena, options);
    this.server.accept(near);
    return new ScriptedUpstairs(this.farArena, far);
  }
}

/** What a source says and gives in repairs, by the port of its repair server; others do not answer. */
export type Sources = ReadonlyMap<number, { disk: FakeDisk; isClosed(extent: number): boolean }>;

/** Copies between disks in memory. */
export class DiskPeer implements RepairPeer {
  readonly #sources: Sources;
  readonly #disk: FakeDisk;
  readonly #refused: Fault | undefined;

  constructor(sources: Sources, disk: FakeDisk, refused?: Fault) {
    this.#sources = sources;
    this.#disk = disk;
    this.#refused = refused;
  }
  files(
    source: Address,
    extent: number,
    then: (fault: Fault | null, names: readonly string[]) => void,
  ): void {
    if (!this.#sources.has(source.port)) then(this.#refused!, []);
    else then(null, [extentPath(extent).slice(-3)]);
  }
  fetch(
    source: Address,
    extent: number,
    _type: string,
    path: string,
    then: (fault: Fault | null) => void,
  ): void {
    const bytes = this.#sources.get(source.port)!.disk.get(`${DIRECTORY}/${extentPath(extent)}`)!;
    this.#disk.put(path, bytes);
    then(null);
  }
  ready(
    source: Address,
    extent: number,
    then: (fault: Fault | null, ready: boolean) => void,
  ): void {
    then(null, this.#sources.get(source.port)!.isClosed(extent));
  }
}
