import { readdirSync, readFileSync } from "node:fs";
import t from "tap";
import { MemoryDevice } from "../../../src/volume/memory.js";
import { hex } from "../../kit/nbd-client.js";
import { NbdStage } from "../../kit/nbd-stage.js";

const FOLDER = "test/golden/nbd";

type Line = { readonly who: "C" | "S"; readonly bytes: Buffer; readonly text: string };

function script(file: string): Line[] {
  const lines = readFileSync(`${FOLDER}/${file}`, "utf8").split("\n");
  return lines.flatMap((text): Line[] => {
    const match = /^([CS]) (.*)$/.exec(text);
    return match === null ? [] : [{ who: match[1] as "C" | "S", bytes: hex(match[2]!), text }];
  });
}

function stageOf() {
  const stage = new NbdStage();
  const device = new MemoryDevice(stage.arena, { sizeBytes: 1024 * 1024 });
  const baseline = stage.arena.allocations;
  stage.serve({ exports: [{ name: "vol", description: "a volume", device, blockBytes: 4096 }] });
  return { stage, baseline };
}

const files = readdirSync(FOLDER).filter((name) => name.endsWith(".txt"));
t.ok(files.length >= 6, "the conversations are there");

for (const file of files) {
  for (const segmentBytes of [1, 3, 100_000])
    t.test(`${file}, in segments of ${segmentBytes}`, async (t) => {
      const { stage, baseline } = stageOf();
      const client = stage.connect({ segmentBytes });
      for (const { who, bytes, text } of script(file)) {
        if (who === "C") client.send(bytes);
        else t.equal(client.take(bytes.length).toString("hex"), bytes.toString("hex"), text);
      }
      t.equal(client.pending, 0, "and nothing more");
      t.equal(client.isClosed, true, "the server closes");
      t.equal(stage.arena.allocations, baseline, "no memory is kept");
    });

  t.test(`${file}, all at once`, async (t) => {
    const { stage, baseline } = stageOf();
    const client = stage.connect();
    const lines = script(file);
    const all = (who: string) =>
      Buffer.concat(lines.filter((line) => line.who === who).map((line) => line.bytes));
    client.send(all("C"));
    t.equal(client.takeAll().toString("hex"), all("S").toString("hex"));
    t.equal(stage.arena.allocations, baseline);
  });
}
