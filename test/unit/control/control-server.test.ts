import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import { CONTROL_CLIENTS_MAX } from "../../../src/base/limits.js";
import { ControlServer } from "../../../src/control/control-server.js";
import { cutFrame, makeFrame } from "../../../src/control/frames.js";
import {
  ANSWER_LIMITS,
  type ControlCommand,
  makeRequest,
  REQUEST_LIMITS,
  readAnswer,
} from "../../../src/control/protocol.js";
import type { StatusReport } from "../../../src/control/report.js";
import type { VolumeControl } from "../../../src/control/volume-control.js";
import type { StreamHandler } from "../../../src/ports/stream.js";
import { FakeArena } from "../../kit/arena.js";
import { type FakeStream, type LinkOptions, link } from "../../kit/link.js";
import { World } from "../../kit/world.js";

// Nothing here has the shape of a status: the server passes on what the volume says.
const STATUS = {
  report: 1,
  volume: "photos",
  filler: "x".repeat(20_000),
} as unknown as StatusReport;

class FakeVolume implements VolumeControl {
  readonly asked: unknown[] = [];
  status(): StatusReport {
    return STATUS;
  }
  replace(old: unknown, replacement: unknown, _acceptForeign: boolean) {
    this.asked.push(["replace", old, replacement]);
    return this.asked.length > 1
      ? new Fault("TRIVET_E_REFUSED", "another replica is away")
      : ("started" as const);
  }
  startScrub(rate: number | null) {
    this.asked.push(["scrubStart", rate]);
    return null;
  }
  stopScrub() {
    this.asked.push(["scrubStop"]);
    return null;
  }
  restart(program: readonly string[]) {
    this.asked.push(["restart", ...program]);
    return { pid: 7 };
  }
  setRepairRate(rate: number) {
    this.asked.push(["repairRate", rate]);
    return null;
  }
}

/** The far end of a connection: keeps what comes. */
class Client implements StreamHandler {
  readonly stream: FakeStream;
  readonly #arena: FakeArena;
  bytes = Buffer.alloc(0);
  isClosed = false;
  reads = true;
  constructor(stream: FakeStream, arena: FakeArena) {
    this.stream = stream;
    this.#arena = arena;
  }
  received(at: number, end: number): number {
    if (!this.reads) {
      this.stream.pause();
      return 0;
    }
    this.bytes = Buffer.concat([this.bytes, this.#arena.bytes.subarray(at, end)]);
    return end - at;
  }
  filled(): void {}
  sent(): void {}
  drained(): void {}
  closed(): void {
    this.isClosed = true;
  }
  send(bytes: Uint8Array): void {
    if (!this.isClosed) this.#arena.bytes.set(bytes, this.stream.compose(bytes.length));
  }
  ask(id: number, command: ControlCommand): void {
    this.send(makeFrame(makeRequest({ id, command }), REQUEST_LIMITS));
  }
  answers(): unknown[] {
    const values: unknown[] = [];
    for (let rest = this.bytes; ; ) {
      const { usedBytes, value } = cutFrame(rest, ANSWER_LIMITS);
      if (usedBytes === 0) return values;
      values.push(value);
      rest = rest.subarray(usedBytes);
    }
  }
}

function stage(links: LinkOptions = {}) {
  const world = new World(1);
  const arena = new FakeArena(32 * 1024 * 1024);
  const volume = new FakeVolume();
  const notes: string[] = [];
  const server = new ControlServer(
    arena,
    (level, event, text) => notes.push(`${level} ${event} ${text}`),
    volume,
  );
  const connect = (): Client => {
    const [theirs, ours] = link(world, arena, arena, links);
    const client = new Client(theirs, arena);
    theirs.start(client);
    server.accept(ours);
    return client;
  };
  return { world, arena, volume, notes, server, connect };
}

t.test("requests are answered in order, in whatever pieces they come", async (t) => {
  for (const segmentBytes of [1, 7, 64 * 1024]) {
    const { world, volume, connect, server } = stage({ segmentBytes });
    const client = connect();
    const a = { host: "10.0.0.1", port: 3810 };
    const b = { host: "10.0.0.9", port: 3810 };
    client.ask(1, { do: "status" });
    client.ask(2, { do: "replace", old: a, new: b, acceptForeign: false });
    client.ask(3, { do: "replace", old: a, new: b, acceptForeign: false });
    client.ask(4, { do: "scrubStart", rate: null });
    client.ask(5, { do: "scrubStop" });
    client.ask(6, { do: "repairRate", rate: 5_000_000 });
    world.advance(1000);
    const answers = client.answers();
    t.same(readAnswer(answers[0], 1), STATUS);
    t.equal(readAnswer(answers[1], 2), "started");
    t.throws(() => readAnswer(answers[2], 3), { code: "TRIVET_E_REFUSED" });
    for (const id of [4, 5, 6]) t.equal(readAnswer(answers[id - 1], id), null);
    t.same(volume.asked.slice(1), [
      ["replace", a, b],
      ["scrubStart", null],
      ["scrubStop"],
      ["repairRate", 5_000_000],
    ]);
    client.stream.end();
    world.advance(10);
    t.equal(server.clients, 0);
  }
});

t.test("requests that mean nothing are answered, and the connection goes on", async (t) => {
  const { world, connect, volume } = stage();
  const client = connect();
  const wrong: [unknown, RegExp][] = [
    [null, /without version and id/],
    [{ version: 1, id: -1, do: "status" }, /without version and id/],
    [{ version: 2, id: 1, do: "status" }, /speaks version 1 .*, the other side 2/],
    [{ version: 1, id: 1, do: "destroy" }, /do is "destroy"/],
    [{ version: 1, id: 1, do: "status", more: 1 }, /more/],
    [{ version: 1, id: 1, do: "scrubStart", rate: -1 }, /rate/],
    [{ version: 1, id: 1, do: "repairRate" }, /rate/],
    [{ version: 1, id: 1, do: "replace", old: { host: "", port: 1 }, new: 1 }, /old|new/],
    [{ version: 1, id: 1, do: "x".repeat(9_000) }, /…/],
  ];
  for (const [value] of wrong) client.send(makeFrame(value, REQUEST_LIMITS));
  client.ask(9, { do: "status" });
  world.advance(10);
  const answers = client.answers() as { id: number; error?: { code: string; message: string } }[];
  t.equal(answers.length, wrong.length + 1);
  for (const [index, [, pattern]] of wrong.entries()) {
    t.equal(answers[index]?.error?.code, "TRIVET_E_CONTROL");
    t.ok(pattern.test(answers[index]?.error?.message ?? ""), `${answers[index]?.error?.message}`);
  }
  t.equal(answers.at(-1)?.id, 9);
  t.same(volume.asked, []);
});

t.test("bad bytes end that connection only, and are told of once", async (t) => {
  const { world, connect, notes, server } = stage();
  const good = connect();
  const bad = [connect(), connect(), connect()];
  bad[0]!.send(Buffer.from("NBDMAGIC"));
  bad[1]!.send(Buffer.from([0, 0, 0, 1, 0xc1]));
  bad[2]!.send(Buffer.from([255, 255, 255, 255]));
  world.advance(10);
  for (const client of bad) t.equal(client.isClosed, true);
  good.ask(1, { do: "status" });
  world.advance(10);
  t.equal(good.answers().length, 1);
  t.equal(server.badConnections, 3);
  t.equal(notes.filter((note) => note.startsWith("warn control.bad")).length, 1);
  t.ok(/it began with 4e42444d41474943/.test(notes[0]!), notes[0]!);
});

t.test("a client that does not read is cut off before it costs memory", async (t) => {
  const { world, connect, server } = stage({ windowBytes: 4096 });
  const client = connect();
  client.reads = false;
  for (let id = 0; id < 200; id++) {
    client.ask(id, { do: "status" });
    world.advance(1);
  }
  t.equal(server.clients, 0);
});

t.test("one too many makes the oldest go", async (t) => {
  const { world, connect, server } = stage();
  const clients = Array.from({ length: CONTROL_CLIENTS_MAX + 2 }, connect);
  world.advance(10);
  t.equal(server.clients, CONTROL_CLIENTS_MAX);
  t.same(clients.map(({ isClosed }) => isClosed).filter((closed) => closed).length, 2);
  t.ok(clients[0]!.isClosed && clients[1]!.isClosed);
  server.close();
  world.advance(10);
  t.ok(clients.every(({ isClosed }) => isClosed));
});
