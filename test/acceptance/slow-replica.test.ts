import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import type { StatusReport } from "../../src/control/report.js";
import { programPath } from "../kit/programs.js";
import { TestProxy } from "../kit/proxy.js";
import { NbdClient } from "./client.js";
import { Rig } from "./rig.js";

// One replica of three behind a proxy: it hangs though it answers pings, and later its link has 1 Mbit/s. A guest writes all the time.
// What is measured is held against generous bounds only: the machine may be busy.

const BLOCK = 4096;
const GUESTS = 16;
const BLOCKS_EACH = 200;
const GENEROUS = 3;

/** Writes its own blocks again and again, one request at a time, and remembers what was acknowledged. */
class Writer {
  readonly #client: NbdClient;
  readonly #first: number;
  readonly acknowledged = new Map<number, number>();
  count = 0;
  longestMs = 0;
  isOn = true;
  readonly done: Promise<void>;

  constructor(client: NbdClient, index: number) {
    this.#client = client;
    this.#first = index * BLOCKS_EACH;
    this.done = this.#run();
    this.done.catch(() => {});
  }
  async #run(): Promise<void> {
    while (this.isOn) {
      const block = this.#first + (this.count % BLOCKS_EACH);
      const fill = 1 + (this.count % 255);
      const since = performance.now();
      await this.#client.write(block * BLOCK, Buffer.alloc(BLOCK, fill));
      if (this.count % 50 === 49) await this.#client.flush();
      this.longestMs = Math.max(this.longestMs, performance.now() - since);
      this.acknowledged.set(block, fill);
      this.count += 1;
    }
  }
  async check(): Promise<number> {
    let wrong = 0;
    for (const [block, fill] of this.acknowledged) {
      const data = await this.#client.read(block * BLOCK, BLOCK);
      if (!data.equals(Buffer.alloc(BLOCK, fill))) wrong += 1;
    }
    return wrong;
  }
}

t.test("a replica that hangs, and then one with a very slow link", async (t) => {
  const rig = new Rig();
  const proxies: TestProxy[] = [];
  t.teardown(async () => {
    for (const proxy of proxies) proxy.close();
    await rig.remove();
  });
  await rig.create({ blockSize: BLOCK, extentSize: 1024, extentCount: 8 });
  await rig.startAll();
  const proxy = await TestProxy.open(rig.ports[1]!);
  proxies.push(proxy);
  rig.detours.set(1, proxy.port);
  await rig.serve();
  const status = (): StatusReport => {
    const args = ["status", "--json"];
    const env = { ...process.env, RUNTIME_DIRECTORY: rig.runtime };
    const asked = spawnSync(programPath("trivet"), args, { env, encoding: "utf8" });
    return JSON.parse(asked.stdout) as StatusReport;
  };
  const until = async (what: string, seconds: number, holds: () => boolean): Promise<number> => {
    const since = performance.now();
    while (!holds()) {
      if (performance.now() - since > seconds * 1000 * GENEROUS)
        throw new Error(`${what}: not within ${seconds * GENEROUS} s\n${rig.server?.output}`);
      await sleep(500);
    }
    return (performance.now() - since) / 1000;
  };
  const word = (): string => status().replicas[1]!.state;

  const client = await NbdClient.connect({ port: rig.nbdPort });
  const writers = Array.from({ length: GUESTS }, (_, i) => new Writer(client, i));
  const count = (): number => writers.reduce((sum, writer) => sum + writer.count, 0);
  const longest = (): number => Math.max(...writers.map(({ longestMs }) => longestMs)) / 1000;
  await sleep(2000);
  t.ok(count() > 100, "it writes");

  proxy.mode = "pingsOnly";
  const hungFor = await until("given up", 15, () => word() === "faulted");
  const goesOn = count();
  await until("writes go on", 5, () => count() > goesOn + 100);
  t.ok(
    longest() <= 12 * GENEROUS,
    `longest wait ${longest().toFixed(1)} s, given up after ${hungFor.toFixed(1)} s`,
  );
  const report = status();
  t.equal(report.health, "degraded");
  t.ok(
    /did nothing for 1\d s|after a new connection too|behind the others/.test(
      report.replicas[1]!.given_up ?? "",
    ),
    `${report.replicas[1]!.given_up}`,
  );

  proxy.mode = "open";
  const backAfter = await until("repaired", 60, () => word() === "active");
  t.pass(`back ${backAfter.toFixed(0)} s after it was well again`);

  for (const writer of writers) writer.longestMs = 0;
  proxy.bytesPerSecond = 125_000;
  const slowFor = await until("given up for slowness", 45, () => word() === "faulted");
  t.pass(`given up after ${slowFor.toFixed(0)} s with 1 Mbit/s`);
  t.ok(longest() <= 22 * GENEROUS, `longest wait ${longest().toFixed(1)} s`);
  const { memory } = status();
  t.ok(memory.writes.used_bytes <= memory.writes.size_bytes);

  for (const writer of writers) writer.isOn = false;
  for (const writer of writers) await writer.done;
  let wrong = 0;
  for (const writer of writers) wrong += await writer.check();
  t.equal(wrong, 0, "every block holds what was acknowledged last");
  client.close();
  t.equal(await rig.stopServer(), 0);
  await rig.stopAll();
  const images = rig.exports().map((image) => readFileSync(image));
  t.ok(images[0]!.equals(images[2]!), "the two good ones are identical");
});
