import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { RegionServer } from "../../src/downstairs/region-server.js";
import { NO_TROUBLE, type TestModes } from "../../src/downstairs/test-modes.js";
import { ScriptedUpstairs } from "../peer/upstairs.js";
import { FakeArena } from "./arena.js";
import { FakeHasher } from "./hasher.js";
import { type LinkOptions, link } from "./link.js";
import { FakeStore, regionOf } from "./store.js";
import { World } from "./world.js";

/** One region served in a simulated world, and upstairs that connect to it. */
export class DownstairsStage {
  readonly world: World;
  readonly arena: FakeArena;
  readonly farArena = new FakeArena(64 * 1024 * 1024);
  readonly store: FakeStore;
  readonly server: RegionServer;
  readonly notes: string[] = [];

  private constructor(
    world: World,
    arena: FakeArena,
    store: FakeStore,
    testModes: TestModes,
    repairPort: number,
  ) {
    this.world = world;
    this.arena = arena;
    this.store = store;
    const notes = (_: string, event: string, text: string): void => {
      this.notes.push(`${event} ${text}`);
    };
    this.server = new RegionServer(
      { store, arena, clock: world, random: world, notes, testModes },
      () => ({ host: "127.0.0.1", port: repairPort }),
    );
  }

  static async open(
    options: {
      readonly seed?: number;
      readonly world?: World;
      readonly repairPort?: number;
      readonly definition?: RegionDefinition;
      readonly readOnly?: boolean;
      readonly arenaBytes?: number;
      readonly testModes?: Partial<TestModes>;
    } = {},
  ): Promise<DownstairsStage> {
    const world = options.world ?? new World(options.seed);
    const arena = new FakeArena(options.arenaBytes);
    const hasher = await FakeHasher.over(arena);
    const definition = options.definition ?? regionOf();
    const store = new FakeStore(world, arena, hasher, definition, options.readOnly);
    const modes = { ...NO_TROUBLE, ...options.testModes };
    return new DownstairsStage(world, arena, store, modes, options.repairPort ?? 7990);
  }

  connect(options: LinkOptions = {}): ScriptedUpstairs {
    const [near, far] = link(this.world, this.arena, this.farArena, options);
    this.server.accept(near);
    return new ScriptedUpstairs(this.farArena, far);
  }
}
