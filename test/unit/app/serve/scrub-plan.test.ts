import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import t from "tap";
import { type Scrubbed, ScrubPlan } from "../../../../src/app/serve/scrub-plan.js";
import { ScrubState, scrubStatePath } from "../../../../src/app/serve/scrub-state.js";
import { Fault } from "../../../../src/base/fault.js";
import type { ScrubOptions, ScrubStatus } from "../../../../src/upstairs/scrub-status.js";
import { makeFolder, removeFolder } from "../../../kit/folders.js";
import { World } from "../../../kit/world.js";

const DAY_MS = 86_400_000;

/** A volume of 1000 blocks that compares ten a second. */
class FakeVolume implements Scrubbed {
  readonly sizeBytes = 4_096_000;
  readonly blockBytes = 4096;
  readOnly = false;
  readonly asked: ScrubOptions[] = [];
  scrubStatus: ScrubStatus | null = null;
  #then: ((fault: Fault | null) => void) | null = null;
  readonly #world: World;
  #sinceMs = 0;

  constructor(world: World) {
    this.#world = world;
  }
  scrub(options: ScrubOptions, then: (fault: Fault | null) => void): void {
    this.asked.push(options);
    this.#then = then;
    this.#sinceMs = this.#world.nowMs();
    this.#tick();
  }
  #tick(): void {
    const { fromBlock = 0 } = this.asked.at(-1)!;
    const done = Math.floor((this.#world.nowMs() - this.#sinceMs) / 100);
    const block = Math.min(1000, fromBlock + done);
    this.#status("running", block);
    if (block === 1000) this.end("done", null);
    else
      this.#world.after(1000, () => {
        if (this.#then !== null) this.#tick();
      });
  }
  #status(state: ScrubStatus["state"], block: number): void {
    this.scrubStatus = { state, block, blocks: 1000 } as ScrubStatus;
  }
  end(state: "done" | "stopped", fault: Fault | null): void {
    const then = this.#then;
    this.#then = null;
    this.#status(state, this.scrubStatus!.block);
    then?.(fault);
  }
  stopScrub(): boolean {
    const was = this.#then !== null;
    if (was) this.end("stopped", null);
    return was;
  }
  setScrubRate(): boolean {
    return false;
  }
}

function planned(everyMs: number | null, state?: ScrubState) {
  const world = new World(1);
  const volume = new FakeVolume(world);
  const notes: string[] = [];
  const kept =
    state ?? ScrubState.load(undefined, "v", world.wallSeconds(), (_, event) => notes.push(event));
  const plan = new ScrubPlan({
    volume,
    state: kept,
    clock: world,
    notes: (_, event) => notes.push(event),
    everyMs,
    bytesPerSecond: 1000,
  });
  return { world, volume, plan, state: kept, notes };
}

t.test(
  "the first comes a period after the volume was first served, then one each period",
  async (t) => {
    const { world, volume, plan } = planned(30 * DAY_MS);
    plan.begin();
    world.advance(29.9 * DAY_MS);
    t.equal(volume.asked.length, 0);
    world.advance(0.2 * DAY_MS);
    t.same(volume.asked, [{ bytesPerSecond: 1000, fromBlock: 0 }]);
    world.advance(29.9 * DAY_MS);
    t.equal(volume.asked.length, 1);
    world.advance(0.2 * DAY_MS);
    t.equal(volume.asked.length, 2);
    await plan.end();
    world.advance(100 * DAY_MS);
    t.equal(volume.asked.length, 2, "none after the end");
  },
);

t.test("one that was interrupted goes on where it was, soon", async (t) => {
  const { world, volume, plan, state } = planned(DAY_MS);
  plan.begin();
  world.advance(DAY_MS + 3_650_000);
  while (volume.scrubStatus?.state !== "running" || volume.scrubStatus.block < 400)
    world.advance(1000);
  volume.end("stopped", new Fault("TRIVET_E_CONNECTION", "the volume was stopped"));
  await plan.end();
  const { position } = state.record;
  t.ok(position !== null && position >= 400 && position < 420, `${position}`);
  const again = planned(DAY_MS, state);
  again.plan.begin();
  again.world.advance(120_000);
  t.equal(again.volume.asked[0]?.fromBlock, position);
  again.world.advance(3_600_000);
  t.equal(state.record.position, null);
  await again.plan.end();
});

t.test("a crash costs a minute: the position is kept on the way", async (t) => {
  const { world, plan, state } = planned(null);
  plan.begin();
  t.equal(plan.start(null), null);
  world.advance(61_000);
  t.ok(state.record.position !== null && state.record.position >= 590);
  await plan.end();
});

t.test("asked for, refused, stopped", async (t) => {
  const { world, volume, plan, state } = planned(DAY_MS);
  t.equal(plan.start(null)?.code, "TRIVET_E_NOT_ACTIVE");
  plan.begin();
  t.equal(plan.start(0), null);
  t.same(volume.asked, [{ bytesPerSecond: 0, fromBlock: 0 }]);
  t.equal(plan.start(null)?.code, "TRIVET_E_SCRUB_RUNNING");
  world.advance(20_000);
  t.equal(plan.stop(), null);
  t.equal(plan.stop(), null, "twice does no harm");
  t.equal(state.record.position, 200);
  world.advance(0.9 * DAY_MS);
  t.equal(volume.asked.length, 1, "whoever stopped it has a day");
  world.advance(0.2 * DAY_MS);
  t.equal(volume.asked.length, 2);
  t.equal(volume.asked[1]!.fromBlock, 200);
  t.equal(plan.stop(), null);
  t.equal(plan.start(null), null, "or asks for it earlier");
  await plan.end();
  const { plan: readOnly, volume: other } = planned(DAY_MS);
  other.readOnly = true;
  readOnly.begin();
  t.equal(readOnly.start(null)?.code, "TRIVET_E_READ_ONLY");
});

t.test("never means when asked", async (t) => {
  const { world, volume, plan } = planned(null);
  plan.begin();
  world.advance(400 * DAY_MS);
  t.equal(volume.asked.length, 0);
  t.equal(plan.start(null), null);
  world.advance(200_000);
  t.equal(volume.scrubStatus?.state, "done");
  await plan.end();
});

t.test("the file: kept, read again, and not believed when it is damaged", async (t) => {
  const folder = makeFolder();
  const notes: string[] = [];
  const load = (name = "photos.2024/x") =>
    ScrubState.load(folder, name, 1_700_000_000, (_, event) => notes.push(event));
  const state = load();
  t.same(state.record, {
    position: null,
    completedAt: null,
    knownSince: 1_700_000_000,
    notBefore: 0,
  });
  const record = { position: 77, completedAt: 5, knownSince: 3, notBefore: 9 };
  await Promise.all([state.save({ ...record, position: 1 }), state.save(record)]);
  t.same(load().record, record);
  t.same(readdirSync(folder).length, 1, "nothing else is left there");
  t.same(notes, []);
  const path = scrubStatePath(folder, "photos.2024/x");
  for (const text of [
    "",
    "{",
    "[]",
    '{"version":2}',
    readFileSync(path, "utf8").replace("77", "-1"),
  ]) {
    writeFileSync(path, text);
    t.equal(load().record.position, null, text);
  }
  t.equal(notes.length, 5);
  const nowhere = ScrubState.load(path, "v", 1, () => {});
  await t.rejects(nowhere.save(record));
  removeFolder(folder);
});
