import { mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import t, { type Test } from "tap";
import { runClone } from "../../../src/app/downstairs/clone.js";
import { announced } from "../../../src/app/downstairs/endpoint.js";
import { type RunningDownstairs, runDownstairs } from "../../../src/app/downstairs/run.js";
import { Fault } from "../../../src/base/fault.js";
import { decode } from "../../../src/crucible/messages.js";
import { HttpRepairClient } from "../../../src/host/http-client.js";
import { serveHttp } from "../../../src/host/http-server.js";
import type { Address } from "../../../src/ports/stream.js";
import { GOLDEN, rawLines } from "../../kit/recordings.js";
import { makeRegion, scratchDirectory } from "../../kit/region-directory.js";
import { regionOf } from "../../kit/store.js";
import { SocketUpstairs } from "../../peer/socket-upstairs.js";

// Regions on the real file system, real sockets, the native engine.

const ARENA = 32 * 1024 * 1024;
const uuidOf = (n: number): string => `12345678-1111-2222-3333-00000000000${n}`;

async function run(
  t: Test,
  regions: Parameters<typeof runDownstairs>[0]["regions"],
): Promise<RunningDownstairs> {
  const running = await runDownstairs({ regions, notes: () => {}, arenaBytes: ARENA });
  let stopped = false;
  const { stop } = running;
  const once = async (): Promise<void> => {
    if (stopped) return;
    stopped = true;
    await stop();
  };
  t.teardown(once);
  return { ...running, stop: once };
}
const at = (directory: string, readOnly = false) => ({
  directory,
  address: "127.0.0.1",
  port: 0,
  readOnly,
});

type Exchange = {
  readonly mode: "rw" | "ro";
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly text?: string;
  readonly length?: number;
  readonly hex_head?: string;
  readonly hex_tail?: string;
  readonly note?: string;
  readonly failed?: string;
};
const exchanges = JSON.parse(
  readFileSync(new URL("repair-http.json", GOLDEN), "utf8"),
) as Exchange[];

function get(
  to: Address,
  method: string,
  path: string,
): Promise<{ status: number; headers: Record<string, unknown>; body: Buffer }> {
  return new Promise((done, fail) => {
    const asked = request({ ...to, method, path, agent: false }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("end", () =>
        done({
          status: answer.statusCode!,
          headers: answer.headers,
          body: Buffer.concat(chunks),
        }),
      );
    });
    asked.on("error", fail);
    asked.end();
  });
}

for (const mode of ["rw", "ro"] as const)
  t.test(`the repair server's recorded answers, ${mode}`, async (t) => {
    const directory = join(scratchDirectory(t), "region");
    makeRegion(directory, regionOf(512, 20, 12));
    const running = await run(t, [at(directory, mode === "ro")]);
    const { repair } = running.regions[0]!;
    const extent1 = join(directory, "00/000/001");
    for (const exchange of exchanges) {
      if (exchange.note?.includes("symbolic link")) {
        rmSync(extent1, { recursive: true });
        symlinkSync(join(directory, "region.json"), extent1);
      } else if (exchange.note?.includes("by a directory")) {
        rmSync(extent1, { recursive: true });
        mkdirSync(extent1);
      }
      if (exchange.mode !== mode) continue;
      const { method, path } = exchange;
      const { status, headers, body } = await get(repair, method, path);
      if (exchange.failed !== undefined) {
        t.equal(status, 400, `${path}: the original dies of it`);
        continue;
      }
      t.equal(status, exchange.status, `${method} ${path}`);
      for (const [name, value] of Object.entries(exchange.headers))
        if (name !== "transfer-encoding") t.equal(headers[name], value, `${path}: ${name}`);
      if (exchange.length !== undefined) {
        t.equal(headers["content-length"], String(exchange.length));
        t.equal(body.length, exchange.length);
        t.ok(body.toString("hex").startsWith(exchange.hex_head!));
        t.ok(body.toString("hex").endsWith(exchange.hex_tail!));
      } else {
        const said = body
          .toString()
          .replaceAll(directory, "REGION")
          .replace(/"request_id": "[-0-9a-f]{36}"/, '"request_id": "UUID"');
        t.equal(said, exchange.text);
      }
    }
  });

t.test("nothing but extent files can be had", async (t) => {
  const directory = join(scratchDirectory(t), "region");
  makeRegion(directory, regionOf(512, 20, 2));
  const { repair } = (await run(t, [at(directory)])).regions[0]!;
  for (const path of [
    "/newextent/..%2F..%2Fregion.json/data",
    "/newextent/0/..%2F..%2Fregion.json",
    "/newextent/0/data/../../../region.json",
    "/region.json",
    "/extent/%zz/files",
    `/newextent/${"9".repeat(400)}/data`,
  ]) {
    const { status, body } = await get(repair, "GET", path);
    t.ok(status === 400 || status === 404, `${path}: ${status}`);
    t.notOk(body.toString().includes("block_size"));
  }
});

t.test("a raw conversation over TCP, and the region survives a restart", async (t) => {
  const directory = join(scratchDirectory(t), "region");
  makeRegion(directory, regionOf());
  const first = await run(t, [at(directory)]);
  const { data, repair } = first.regions[0]!;
  const peer = await SocketUpstairs.dial(data.host, data.port);
  const lines = rawLines("dependencies");
  let last: Buffer | undefined;
  for (const line of lines) {
    if (line.dir === "u2d") peer.send(Buffer.from(line.hex!, "hex"));
    if (line.dir !== "d2u" || line.event !== undefined) continue;
    last = await peer.next();
    if (line.msg === "YesItsMe") {
      const said = decode(last!);
      t.same(said.kind === "YesItsMe" && said.repairAddress, repair);
    } else t.equal(last?.toString("hex"), line.hex, line.msg ?? "");
  }
  await first.stop();
  t.equal(await peer.next(), undefined, "the connection was closed");
  const second = await run(t, [at(directory)]);
  const again = await SocketUpstairs.dial(data.host, second.regions[0]!.data.port);
  const reading = lines.filter((line) => line.dir === "u2d").slice(0, 4);
  for (const line of reading) again.send(Buffer.from(line.hex!, "hex"));
  const kinds: string[] = [];
  for (let i = 0; i < 4; i++) kinds.push(decode((await again.next())!).kind);
  t.same(kinds, ["YesItsMe", "YouAreNowActive", "RegionInfo", "ExtentVersions"]);
  again.leave();
  t.equal(second.regions[0]!.statistics.connections, 1);
});

t.test("several regions in one process, and what cannot be started", async (t) => {
  const base = scratchDirectory(t);
  for (const n of [0, 1]) makeRegion(join(base, `r${n}`), regionOf(512, 20, 4, uuidOf(n)));
  const running = await run(t, [at(join(base, "r0")), at(join(base, "r1"))]);
  const ports = running.regions.flatMap(({ data, repair }) => [data.port, repair.port]);
  t.equal(new Set(ports).size, 4);
  const code = async (regions: Parameters<typeof run>[1]): Promise<string> => {
    try {
      await runDownstairs({ regions, notes: () => {}, arenaBytes: ARENA });
      return "it runs";
    } catch (error) {
      return error instanceof Fault ? error.code : String(error);
    }
  };
  t.equal(await code([at(join(base, "r0"))]), "TRIVET_E_REGION_LOCKED");
  t.equal(await code([at(join(base, "none"))]), "TRIVET_E_REGION_MISSING");
  await running.stop();
  const blocker = createServer().listen(0, "127.0.0.1");
  t.teardown(() => blocker.close());
  await new Promise((done) => blocker.once("listening", done));
  const { port } = blocker.address() as { port: number };
  t.equal(
    await code([{ ...at(join(base, "r0")), port, repairPort: 0 }]),
    "TRIVET_E_ADDRESS_IN_USE",
  );
  t.equal(await code([{ ...at(join(base, "r0")), repairPort: port }]), "TRIVET_E_ADDRESS_IN_USE");
  t.equal(await code([{ ...at(join(base, "r0")), port: 61_536 }]), "TRIVET_E_USAGE");
  t.equal(await code([at(join(base, "r0")), at(join(base, "r0"))]), "TRIVET_E_REGION_LOCKED");
  const after = await run(t, [at(join(base, "r0")), at(join(base, "r1"))]);
  t.equal(after.regions.length, 2, "nothing was left locked or open");
});

t.test("clone from a region that is served read-only", async (t) => {
  const base = scratchDirectory(t);
  const [from, to, odd] = ["from", "to", "odd"].map((name) => join(base, name));
  makeRegion(from!, regionOf(512, 20, 8, uuidOf(0)));
  makeRegion(to!, regionOf(512, 20, 8, uuidOf(1)));
  makeRegion(odd!, regionOf(512, 20, 4, uuidOf(2)));
  const first = await run(t, [at(from!)]);
  const { data, repair } = first.regions[0]!;
  const peer = await SocketUpstairs.dial(data.host, data.port);
  for (const line of rawLines("dependencies")) {
    if (line.dir === "u2d") peer.send(Buffer.from(line.hex!, "hex"));
    else if (line.dir === "d2u" && line.event === undefined) await peer.next();
  }
  const clone = async (directory: string, source: Address): Promise<string> => {
    try {
      await runClone({ directory, source, notes: () => {} });
      return "cloned";
    } catch (error) {
      return error instanceof Fault ? error.code : String(error);
    }
  };
  t.equal(await clone(to!, repair), "TRIVET_E_READ_ONLY_MISMATCH");
  await first.stop();
  const second = await run(t, [at(from!, true)]);
  const source = second.regions[0]!.repair;
  t.equal(await clone(odd!, source), "TRIVET_E_GEOMETRY_MISMATCH");
  t.equal(await clone(to!, source), "cloned");
  for (let extent = 0; extent < 8; extent++) {
    const name = `00/000/00${extent}`;
    t.same(readFileSync(join(to!, name)), readFileSync(join(from!, name)), name);
  }
  await second.stop();
  t.equal(await clone(to!, source), "TRIVET_E_REPAIR", "nobody answers");
});

t.test("a source that lies about sizes, stalls or talks nonsense", async (t) => {
  const base = scratchDirectory(t);
  const answers: Record<string, { text: string; length?: string }> = {
    "/newextent/0/data": { text: "x".repeat(99) },
    "/newextent/1/data": { text: "x".repeat(101) },
    "/newextent/2/data": { text: "x".repeat(100) },
    "/extent/0/files": { text: '["000","a","b","c","d"]' },
    "/extent/1/files": { text: "[1]" },
    "/extent/2/files": { text: `["${"x".repeat(70_000)}"]` },
    "/extent/3/files": { text: '["003"]' },
    "/extent/0/repair-ready": { text: "1" },
    "/extent/1/repair-ready": { text: "{" },
  };
  const server = await serveHttp({ host: "127.0.0.1", port: 0 }, ({ target }, then) => {
    const answer = answers[target];
    // What is not listed is never answered.
    if (answer !== undefined) then({ status: 200, headers: {}, text: answer.text });
  });
  t.teardown(() => server.close());
  const client = new HttpRepairClient(() => 100, 300);
  const source = server.address;
  const fetch = (extent: number): Promise<string> =>
    new Promise((done) =>
      client.fetch(source, extent, "data", join(base, `${extent}`), (fault) =>
        done(fault === null ? "fetched" : fault.code),
      ),
    );
  t.same(await Promise.all([0, 1, 2, 3].map(fetch)), [
    "TRIVET_E_REPAIR",
    "TRIVET_E_REPAIR",
    "fetched",
    "TRIVET_E_REPAIR",
  ]);
  t.equal(readFileSync(join(base, "2")).length, 100);
  t.equal(await fetch(2), "TRIVET_E_REPAIR", "the file exists");
  const files = (extent: number): Promise<unknown> =>
    new Promise((done) =>
      client.files(source, extent, (fault, names) => done(fault === null ? names : fault.code)),
    );
  t.same(await Promise.all([0, 1, 2, 3].map(files)), [
    "TRIVET_E_REPAIR",
    "TRIVET_E_REPAIR",
    "TRIVET_E_REPAIR",
    ["003"],
  ]);
  const ready = (extent: number): Promise<unknown> =>
    new Promise((done) =>
      client.ready(source, extent, (fault, value) => done(fault === null ? value : fault.code)),
    );
  t.same(await Promise.all([0, 1, 2].map(ready)), new Array(3).fill("TRIVET_E_REPAIR"));
  const nobody = { host: "127.0.0.1", port: 0 };
  const failed = await new Promise<Fault | null>((done) => client.ready(nobody, 0, done));
  t.equal(failed?.code, "TRIVET_E_REPAIR");
});

t.test("the address that peers are told", async (t) => {
  const wild = { host: "0.0.0.0", port: 7810 };
  t.same(announced({ host: "10.0.0.5", port: 7810 }, "10.0.0.9:3810").host, "10.0.0.5");
  t.same(announced(wild, "10.0.0.9:3810"), { host: "10.0.0.9", port: 7810 });
  t.same(announced({ host: "::", port: 7810 }, "[fe80::1%eth0]:3810").host, "fe80::1");
  t.same(announced({ host: "::", port: 7810 }, "[::ffff:10.0.0.9]:3810").host, "10.0.0.9");
  t.same(announced(wild, "unix:/run/a"), wild);
});
