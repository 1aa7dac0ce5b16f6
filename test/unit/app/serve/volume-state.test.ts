import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { defaultStateFolder, VolumeState } from "../../../../src/app/serve/volume-state.js";
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
