import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { openLog } from "../../../src/host/log.js";
import type { Level } from "../../../src/ports/notes.js";
import { makeFolder, removeFolder } from "../../kit/folders.js";

async function written(
  format: "json" | "text",
  level: Level,
  use: (log: ReturnType<typeof openLog>) => void,
): Promise<string[]> {
  const folder = makeFolder();
  const path = join(folder, "log");
  const file = openSync(path, "w");
  const log = openLog({ level, format, file, service: "trivet", version: "1.2.3" });
  use(log);
  await log.flush();
  const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
  closeSync(file);
  removeFolder(folder);
  return lines;
}

t.test("JSON lines with the schema's names, all there after a flush", async (t) => {
  const lines = await written("json", "info", (log) => {
    log.notes("debug", "a.b", "not shown");
    log.notes("info", "replica.active", "it is active", {
      replica: 2,
      generation: 18446744073709551615n,
      peer: "127.0.0.1:1",
      nothing: undefined,
    });
    for (let i = 0; i < 2000; i++) log.with({ region: "/r" })("warn", "x.y", `line ${i}`, { i });
  });
  t.equal(lines.length, 2001);
  const first = JSON.parse(lines[0]!);
  t.equal(first["log.level"], "info");
  t.equal(first["event.action"], "replica.active");
  t.equal(first.message, "it is active");
  t.equal(first["trivet.replica"], 2);
  t.equal(first["trivet.generation"], "18446744073709551615");
  t.equal(first["client.address"], "127.0.0.1:1");
  t.equal(first["service.version"], "1.2.3");
  t.equal(first["process.pid"], process.pid);
  t.ok(/^\d{4}-\d\d-\d\dT.*Z$/.test(first["@timestamp"]));
  const last = JSON.parse(lines[2000]!);
  t.equal(last.message, "line 1999");
  t.equal(last["trivet.region"], "/r");
});

t.test("text for people", async (t) => {
  const lines = await written("text", "debug", (log) => {
    log.notes("trace", "a.b", "not shown");
    log.notes("info", "a.b", "all is well");
    log.notes("warn", "a.b", "mind this", { replica: 1, nothing: undefined });
  });
  t.equal(lines.length, 2);
  t.ok(/^\d\d:\d\d:\d\d\.\d{3} all is well$/.test(lines[0]!));
  t.ok(/^\d\d:\d\d:\d\d\.\d{3} warn: mind this replica=1$/.test(lines[1]!));
});
