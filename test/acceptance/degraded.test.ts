import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { ControlClient } from "../../src/app/control/client.js";
import type { StatusReport } from "../../src/control/report.js";
import { freePort } from "../kit/programs.js";
import { prng } from "../kit/world.js";
import { NbdClient } from "./client.js";
import { Ledger } from "./ledger.js";
import { Program, Rig, trivet } from "./rig.js";

// Volumes that begin without the third replica, and what may come in its place.

const GEOMETRY = { blockSize: 4096, extentSize: 128, extentCount: 6 };
const BLOCKS = GEOMETRY.extentSize * GEOMETRY.extentCount;
const TWO = ["--degraded-after", "2s"];

class Volume {
  readonly rig = new Rig();
  readonly ledger: Ledger;

  constructor(t: Test, seed: number) {
    this.ledger = new Ledger(BLOCKS, prng(seed));
    t.teardown(() => this.rig.remove());
  }
  get #control(): string {
    return join(this.rig.dir, "control");
  }
  serve(...args: string[]): Promise<Program> {
    return this.rig.serve(["--control", this.#control, ...args]);
  }
  /** Writes for a while, and flushes at the end. */
  async load(ms: number): Promise<void> {
    const client = await NbdClient.connect({ port: this.rig.nbdPort });
    const until = Date.now() + ms;
    const failure = await this.ledger.load(client, 8, () => Date.now() > until);
    if (failure !== undefined) throw failure;
    await client.flush();
    this.ledger.flushed.set(this.ledger.acknowledged);
    client.close();
  }
  async complaints(): Promise<string[]> {
    const client = await NbdClient.connect({ port: this.rig.nbdPort });
    const wrong = await this.ledger.check(client, this.ledger.flushed);
    client.close();
    return wrong;
  }
  async ask(command: Parameters<ControlClient["ask"]>[0]): Promise<unknown> {
    const client = await ControlClient.connect(this.#control);
    try {
      return await client.ask(command);
    } finally {
      client.close();
    }
  }
  async status(): Promise<StatusReport> {
    return (await this.ask({ do: "status" })) as StatusReport;
  }
  async until(done: (status: StatusReport) => boolean, ms = 60_000): Promise<StatusReport> {
    const end = Date.now() + ms;
    for (;;) {
      const status = await this.status();
      if (done(status) || Date.now() > end) return status;
      await sleep(100);
    }
  }
  whole(): Promise<StatusReport> {
    return this.until((status) => status.replicas.every(({ state }) => state === "active"));
  }
  /** After all is stopped. */
  areIdentical(): boolean {
    const [a, b, c] = this.rig.exports().map((image) => readFileSync(image));
    return a!.equals(b!) && b!.equals(c!);
  }
  /** An empty region, or one that holds something, in the place of the one that is lost. */
  remake(path: string, data?: Buffer): void {
    rmSync(path, { recursive: true, force: true });
    const { blockSize, extentSize, extentCount } = GEOMETRY;
    const size = ["--block-size", `${blockSize}`, "--extent-size", `${extentSize}`];
    trivet(["region", "create", path, ...size, "--extent-count", `${extentCount}`]);
    if (data === undefined) return;
    writeFileSync(`${path}.image`, data);
    trivet(["region", "import", path, `${path}.image`]);
  }
}

t.test("begun with two, the third joins and becomes identical", async (t) => {
  const volume = new Volume(t, 1);
  const { rig } = volume;
  await rig.create(GEOMETRY);
  await rig.startAll();
  await volume.serve(...TWO);
  await volume.load(500);
  await rig.stopAll();

  await Promise.all([rig.startDownstairs(0), rig.startDownstairs(1)]);
  const server = await volume.serve(...TWO);
  t.match(server.output, /started without replica 2/);
  t.equal((await volume.status()).health, "degraded");
  await volume.load(1000);
  await rig.startDownstairs(2);
  const load = volume.load(3000);
  const after = await volume.whole();
  t.equal(after.replicas[2]!.state, "active", after.replicas[2]!.about);
  await load;
  t.same(await volume.complaints(), []);
  await rig.stopAll();
  t.ok(volume.areIdentical());
});

t.test(
  "lost regions: a new one is filled, a foreign one is refused, two at once are too many",
  async (t) => {
    const volume = new Volume(t, 2);
    const { rig } = volume;
    await rig.create(GEOMETRY);
    await rig.startAll();
    await volume.serve(...TWO);
    await volume.load(500);

    // Under a running server: another region answers where the lost one was.
    await rig.downstairs[2]!.stop("SIGKILL");
    volume.remake(rig.region(2));
    await rig.startDownstairs(2);
    await volume.load(1000);
    t.equal((await volume.whole()).health, "ok");
    t.same(await volume.complaints(), []);
    await rig.stopAll();
    t.ok(volume.areIdentical());

    // One that holds something else is named, with the flag, and left alone.
    const foreign = Buffer.alloc(BLOCKS * 4096, "somebody else's");
    volume.remake(rig.region(2), foreign);
    await rig.startAll();
    const server = await volume.serve(...TWO);
    const refused = await volume.until(({ replicas }) => replicas[2]!.refused !== null);
    const uuid = JSON.parse(readFileSync(join(rig.region(2), "region.json"), "utf8")).uuid;
    t.match(refused.replicas[2]!.refused, new RegExp(`${uuid}.*--accept-foreign`));
    t.match(server.output, /TRIVET_E_REGION_FOREIGN/);
    t.equal(refused.health, "degraded");
    await volume.load(500);
    t.same(await volume.complaints(), []);
    await rig.stopAll();
    const image = rig.exports()[2]!;
    t.ok(readFileSync(image).equals(foreign), "nothing was written to it");

    await rig.startAll();
    const told = await volume.serve(...TWO, "--accept-foreign");
    t.match(told.output, /accept-foreign is given/);
    t.equal((await volume.whole()).health, "ok");
    t.same(await volume.complaints(), []);
    await rig.stopAll();
    t.ok(volume.areIdentical());

    // With one region left nothing proves that it holds everything.
    volume.remake(rig.region(0));
    volume.remake(rig.region(1));
    await rig.startAll();
    const barred = rig.launch(["--address", `127.0.0.1:${rig.nbdPort}`, ...TWO]);
    t.equal(await barred.exited, 3);
    t.match(
      barred.output,
      /TRIVET_E_REGION_EMPTY: target 0 and target 1 are empty.*--accept-empty/,
    );
    await volume.serve(...TWO, "--accept-empty");
    t.same(await volume.complaints(), []);
    await rig.stopAll();
    t.ok(volume.areIdentical());
  },
);

t.test(
  "replaced while running: another port, another region, and found again afterwards",
  async (t) => {
    const volume = new Volume(t, 3);
    const { rig } = volume;
    await rig.create(GEOMETRY);
    await rig.startAll();
    await volume.serve(...TWO);
    await volume.load(500);

    const old = `127.0.0.1:${rig.ports[2]}`;
    const port = await freePort();
    const fresh = join(rig.dir, "fresh");
    volume.remake(fresh);
    const program = new Program(join(process.cwd(), "build/bin/trivet"), [
      ...["region", "run", fresh, "--address", "127.0.0.1", "--port", `${port}`],
    ]);
    t.teardown(() => program.stop("SIGKILL"));
    await program.prints(`${port}`);
    const host = "127.0.0.1";
    const load = volume.load(3000);
    const request = {
      do: "replace",
      old: { host, port: rig.ports[2]! },
      new: { host, port },
    } as const;
    t.equal(await volume.ask(request), "started");
    t.ok(["startedAlready", "completedAlready"].includes(String(await volume.ask(request))));
    const after = await volume.whole();
    t.equal(after.replicas[2]!.state, "active", after.replicas[2]!.about);
    t.equal(after.replicas[2]!.address, `${host}:${port}`);
    t.equal(await volume.ask(request), "completedAlready");
    await load;
    t.same(await volume.complaints(), []);
    await rig.stopServer();

    // The same command line as before: the replica that was replaced is not asked, though it is there.
    const again = await volume.serve(...TWO);
    t.match(again.output, new RegExp(`target 2 was replaced: ${host}:${port} is used, not ${old}`));
    t.equal((await volume.status()).health, "ok");
    await volume.load(500);
    t.same(await volume.complaints(), []);
    await rig.stopAll();
    await program.stop("SIGTERM");
    rmSync(rig.region(2), { recursive: true });
    cpSync(fresh, rig.region(2), { recursive: true });
    t.ok(volume.areIdentical());
  },
);

t.test("bad values end with one sentence and status 2", async (t) => {
  const targets = ["-t", "127.0.0.1:1", "-t", "127.0.0.1:2", "-t", "127.0.0.1:3"];
  const said = trivet(["serve", ...targets, "--degraded-after", "soon"], 2);
  t.match(
    said,
    /^TRIVET_E_USAGE: --degraded-after: "soon" is no time; expected one such as 30s or 5m/m,
  );
  t.match(trivet(["serve", ...targets, "--degraded-after", "10ms"], 2), /too short/);
});
