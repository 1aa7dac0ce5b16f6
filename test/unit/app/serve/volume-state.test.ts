import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { defaultStateFolder, VolumeState } from "../../../../src/app/serve/volume-state.js";
import type { Uuid } from "../../../../src/base/ids.js";
import type { Address } from "../../../../src/ports/stream.js";
import type { VolumeRecord } from "../../../../src/upstairs/record.js";
import { makeFolder, removeFolder } from "../../../kit/folders.js";

t.test("id and generation survive, and the newest is what is found", async (t) => {
  const folder = join(makeFolder(), "deep/state");
  const notes: string[] = [];
  const load = (name: string) => VolumeState.load(folder, name, (_, event) => notes.push(event));
  const first = load("photos");
  t.equal(first.lastUsed, 0n);
  await first.save(1790000000n);
  await first.save(18446744073709551615n);
  const second = load("photos");
  t.equal(second.lastUsed, 18446744073709551615n);
  t.equal(second.upstairsId, first.upstairsId);
  t.equal(load("music").lastUsed, 0n);
  t.same(readdirSync(folder), ["photos.json"], "nothing temporary is left");
  t.same(notes, []);
  removeFolder(folder);
});

t.test("a damaged file is begun anew, with a warning", async (t) => {
  const folder = makeFolder();
  for (const text of [
    "",
    "{",
    "[]",
    '{"upstairs_id":"x","generation":"1"}',
    '{"generation":"1"}',
  ]) {
    writeFileSync(join(folder, "v.json"), text);
    const notes: string[] = [];
    const state = VolumeState.load(folder, "v", (level, event) => notes.push(`${level} ${event}`));
    t.equal(state.lastUsed, 0n);
    t.same(notes, ["warn state.unreadable"]);
    await state.save(3n);
    t.equal(JSON.parse(readFileSync(join(folder, "v.json"), "utf8")).generation, "3");
  }
  removeFolder(folder);
});

const A = "12345678-1111-2222-3333-000000000000" as Uuid;
const B = "12345678-1111-2222-3333-000000000001" as Uuid;
const at = (host: string): Address => ({ host, port: 3810 });
const configured = [at("a"), at("b"), at("::1")];
const record: VolumeRecord = {
  generation: 2n ** 63n,
  regions: [{ uuid: A, behind: false }, { uuid: B, behind: true }, null],
  former: [B],
  geometry: { blockSize: 512, extentSize: 20, extentCount: 8 },
  targets: [at("a"), at("d"), at("::1")],
};

t.test("what the volume is made of survives, and writes do not overtake each other", async (t) => {
  const folder = makeFolder();
  const load = () =>
    VolumeState.load(folder, "v", (level, event) => t.equal(`${level} ${event}`, ""));
  const state = load();
  t.equal(state.record, null);
  await Promise.all([
    state.save(5n),
    state.saveRecord({ ...record, former: [] }, configured),
    state.saveRecord(record, configured),
  ]);
  const again = load();
  t.same(again.record, record);
  t.equal(again.upstairsId, state.upstairsId);
  t.equal(again.lastUsed, 2n ** 63n, "a session's generation counts as used");
  t.same(again.targetsFor(configured), record.targets, "a replica that was moved is found");
  const edited = [at("a"), at("e"), at("::1")];
  t.same(again.targetsFor(edited), edited, "whoever edits the configuration is believed");
  await again.save(2n ** 63n + 1n);
  t.same(load().record, record);
  removeFolder(folder);
});

t.test("files of other versions are used as far as they are understood", async (t) => {
  const folder = makeFolder();
  const path = join(folder, "v.json");
  const load = (text: string): [VolumeState, string[]] => {
    writeFileSync(path, text);
    const notes: string[] = [];
    const state = VolumeState.load(folder, "v", (level, event) => notes.push(`${level} ${event}`));
    return [state, notes];
  };
  const old = `{"upstairs_id":"${A}","generation":"17"}\n`;
  const [first, quiet] = load(old);
  t.same([first.upstairsId, first.lastUsed, first.record, quiet], [A, 17n, null, []]);
  await first.saveRecord(record, configured);
  const text = readFileSync(path, "utf8");
  const json = JSON.parse(text);
  const partly: [string, unknown][] = [
    ["newer", { ...json, version: 3, scent: "lemon" }],
    ["two regions", { ...json, replicas: { ...json.replicas, regions: [null, null] } }],
    ["an address", { ...json, replicas: { ...json.replicas, targets: ["a:1", "b", "c:3"] } }],
    ["an id", { ...json, replicas: { ...json.replicas, former: ["x"] } }],
    ["nothing", { ...json, replicas: 7 }],
  ];
  for (const [name, what] of partly) {
    const [state, notes] = load(JSON.stringify(what));
    t.equal(state.upstairsId, A, name);
    t.same(state.record, name === "newer" ? record : null, name);
    t.same(notes, ["warn state.partial"], name);
  }
  removeFolder(folder);
});

t.test("names of volumes cannot leave the folder", async (t) => {
  const folder = makeFolder();
  for (const name of ["../../etc/passwd", "..", ".", "a/b", "10.0.0.1:1+10.0.0.2:2"]) {
    await VolumeState.load(folder, name, () => {}).save(1n);
  }
  const names = readdirSync(folder);
  t.equal(names.length, 5);
  t.ok(names.every((name) => !name.startsWith(".")));
  removeFolder(folder);
});

t.test("where state goes", async (t) => {
  t.equal(
    defaultStateFolder({ STATE_DIRECTORY: "/var/lib/a:/var/lib/b", HOME: "/h" }),
    "/var/lib/a",
  );
  const folder = defaultStateFolder({ HOME: "/h" });
  t.ok(["/var/lib/trivet", "/h/.local/state/trivet"].includes(folder));
});
