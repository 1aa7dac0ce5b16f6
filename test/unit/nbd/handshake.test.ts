import t from "tap";
import {
  NBD_HANDSHAKE_MS_MAX,
  NBD_HANDSHAKES_MAX,
  NBD_OPTION_BYTES_MAX,
  NBD_STOP_HANDSHAKE_MS,
} from "../../../src/base/limits.js";
import { MemoryDevice } from "../../../src/volume/memory.js";
import {
  CMD,
  hex,
  infoData,
  metaData,
  type NbdClient,
  OPT,
  option,
  request,
  u16,
  u32,
} from "../../kit/nbd-client.js";
import { NbdStage } from "../../kit/nbd-stage.js";

const ACK = 1;
const ERR = { unsup: 0x80000001, invalid: 0x80000003, unknown: 0x80000006, shutdown: 0x80000007 };

function stageOf(anyName = false) {
  const stage = new NbdStage();
  const first = new MemoryDevice(stage.arena, { sizeBytes: 1 << 20, blockBytes: 512 });
  const second = new MemoryDevice(stage.arena, { sizeBytes: 1 << 16, readOnly: true });
  const server = stage.serve({
    exports: [
      { name: "first", description: "the first", device: first },
      { name: "zweite Ä", device: second },
    ],
    anyName,
  });
  return { stage, server };
}
/** A client that has greeted and sent its flags. */
function greeted(stage: NbdStage, flags = 3): NbdClient {
  const client = stage.connect();
  client.take(18);
  return client.send(u32(flags));
}
const concluding = (client: NbdClient) => client.optionReplies().at(-1)!.type;

t.test("the answer to each option, in a fresh session", async (t) => {
  const rows: [string, Buffer, number][] = [
    ["LIST with data", option(OPT.list, Buffer.from("x")), ERR.invalid],
    ["PEEK_EXPORT", option(OPT.peek, Buffer.from("first")), ERR.unsup],
    ["STARTTLS", option(OPT.startTls), ERR.unsup],
    ["STRUCTURED_REPLY with data", option(OPT.structured, u32(1)), ERR.invalid],
    ["STRUCTURED_REPLY", option(OPT.structured), ACK],
    ["EXTENDED_HEADERS", option(OPT.extended), ERR.unsup],
    ["option 12", option(12, Buffer.alloc(1000)), ERR.unsup],
    ["option 2^32 − 1", option(0xffffffff), ERR.unsup],
    ["the largest data there may be", option(99, Buffer.alloc(NBD_OPTION_BYTES_MAX)), ERR.unsup],
    ["INFO without data", option(OPT.info), ERR.invalid],
    ["INFO, name longer than the data", option(OPT.info, hex("00000002 61 0000")), ERR.invalid],
    ["INFO, name of 2^32 − 1", option(OPT.info, hex("ffffffff 61 0000")), ERR.invalid],
    ["INFO, more types than data", option(OPT.info, hex("00000000 0002 0003")), ERR.invalid],
    ["INFO, fewer types than data", option(OPT.info, hex("00000000 0001 0003 0001")), ERR.invalid],
    ["INFO of 4097 bytes", option(OPT.info, infoData("x".repeat(4097))), ERR.invalid],
    ["INFO of an unknown name", option(OPT.info, infoData("third")), ERR.unknown],
    ["GO of an unknown name", option(OPT.go, infoData("third", [3])), ERR.unknown],
    ["INFO", option(OPT.info, infoData("first")), ACK],
    ["INFO of unknown types", option(OPT.info, infoData("", [77, 0xffff])), ACK],
    ["LIST_META without structured", option(OPT.listMeta, metaData("first", [])), ERR.invalid],
    ["SET_META without structured", option(OPT.setMeta, metaData("first", [])), ERR.invalid],
    ["ABORT with data", option(OPT.abort, Buffer.from("bye")), ACK],
  ];
  for (const [title, bytes, answer] of rows) {
    const { stage } = stageOf();
    const client = greeted(stage).send(bytes);
    const last = client.optionReplies().at(-1)!;
    t.equal(last.type, answer, title);
    t.equal(last.option, bytes.readUInt32BE(8), `${title}: names the option`);
    t.equal(client.pending, 0);
    const ended = title.startsWith("ABORT");
    t.equal(client.isClosed, ended, `${title}: goes on`);
    if (!ended) t.equal(concluding(client.send(option(OPT.list))), ACK, `${title}: in step`);
  }
});

t.test("what cannot be answered ends the connection, with one note", async (t) => {
  const rows: [string, number, Buffer][] = [
    ["unknown client flags", 4, Buffer.alloc(0)],
    ["all client flags", 0xffffffff, Buffer.alloc(0)],
    ["a wrong option magic", 3, Buffer.from("IHAVEOPX00000000")],
    ["oldstyle garbage", 3, Buffer.alloc(100, 0xff)],
    ["too much option data", 3, Buffer.concat([option(OPT.info).subarray(0, 12), u32(65537)])],
    ["EXPORT_NAME of an unknown export", 3, option(OPT.exportName, Buffer.from("third"))],
    ["EXPORT_NAME beyond 4096", 3, option(OPT.exportName, Buffer.alloc(4097, 0x78))],
    ["an option without fixed newstyle", 0, option(OPT.list)],
  ];
  for (const [title, flags, bytes] of rows) {
    const { stage } = stageOf();
    const baseline = stage.arena.allocations;
    const client = greeted(stage, flags).send(bytes);
    t.equal(client.pending, 0, title);
    t.equal(client.isClosed, true, `${title}: closed`);
    const faults = stage.notes.filter((note) => note.event === "nbd.fault");
    t.equal(faults.length, 1, `${title}: one note`);
    t.ok(faults[0]!.text.startsWith("TRIVET_E_NBD_PROTOCOL: "), `${title}: with its code`);
    t.equal(stage.arena.allocations, baseline, `${title}: no memory is kept`);
  }
});

t.test("LIST names every export", async (t) => {
  const { stage } = stageOf();
  const replies = greeted(stage).send(option(OPT.list)).optionReplies();
  t.same(
    replies.map(({ type, data }) => [type, data.toString("utf8", 4)]),
    [
      [2, "firstthe first"],
      [2, "zweite Ä"],
      [ACK, ""],
    ],
  );
  t.equal(replies[1]!.data.readUInt32BE(0), 9, "lengths count bytes");
});

t.test("the empty name is the first export, and says so", async (t) => {
  const { stage } = stageOf();
  const replies = greeted(stage)
    .send(option(OPT.info, infoData("", [1, 3])))
    .optionReplies();
  t.same(
    replies.map(({ data }) => data.toString("hex")),
    ["00000000000000100000056d", "00016669727374", "0003000002000000100000400000", ""],
  );
});

t.test("a read-only export says so and offers nothing that writes", async (t) => {
  const { stage } = stageOf();
  const [info] = greeted(stage)
    .send(option(OPT.info, infoData("zweite Ä")))
    .optionReplies();
  t.equal(info!.data.readUInt16BE(10), 0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0100 | 0x0400);
});

t.test("an unknown name gets the default export where that is wanted", async (t) => {
  const { stage } = stageOf(true);
  const replies = greeted(stage)
    .send(option(OPT.go, infoData("rustnbd", [1])))
    .optionReplies();
  t.equal(replies[1]!.data.toString("utf8", 2), "first");
});

t.test("INFO and then GO agree (trap 11)", async (t) => {
  const { stage } = stageOf();
  const client = greeted(stage).send(option(OPT.structured));
  client.optionReplies();
  const ask = infoData("first", [0, 1, 2, 3]);
  const info = client.send(option(OPT.info, ask)).optionReplies();
  const go = client.send(option(OPT.go, ask)).optionReplies();
  t.same(
    go.map(({ type, data }) => [type, data]),
    info.map(({ type, data }) => [type, data]),
  );
});

t.test("DF is offered by the session, not by the export (trap 10)", async (t) => {
  const { stage } = stageOf();
  const client = greeted(stage);
  const flags = () =>
    client
      .send(option(OPT.info, infoData("first")))
      .optionReplies()[0]!
      .data.readUInt16BE(10);
  t.equal(flags() & 0x80, 0);
  client.send(option(OPT.structured)).optionReplies();
  t.equal(flags() & 0x80, 0x80);
});

t.test("metadata contexts: what LIST shows and SET selects", async (t) => {
  const rows: [number, Buffer, string[], number][] = [
    [OPT.listMeta, metaData("first", []), ["0 base:allocation"], ACK],
    [OPT.listMeta, metaData("first", ["base:"]), ["0 base:allocation"], ACK],
    [OPT.listMeta, metaData("first", ["base:allocation"]), ["0 base:allocation"], ACK],
    [OPT.listMeta, metaData("first", ["qemu:", "x-foo:bar"]), [], ACK],
    [OPT.listMeta, metaData("third", []), [], ERR.unknown],
    [OPT.setMeta, metaData("first", []), [], ACK],
    [OPT.setMeta, metaData("first", ["base:"]), [], ACK],
    [OPT.setMeta, metaData("first", ["qemu:x", "base:allocation"]), ["1 base:allocation"], ACK],
    [OPT.setMeta, metaData("third", ["base:allocation"]), [], ERR.unknown],
    [OPT.setMeta, hex("00000001 61"), [], ERR.invalid],
    [OPT.setMeta, hex("00000000 00000001 00000005 61626364"), [], ERR.invalid],
    [OPT.setMeta, hex("00000000 ffffffff"), [], ERR.invalid],
    [OPT.setMeta, hex("00000000 00000000 00"), [], ERR.invalid],
    [OPT.listMeta, Buffer.alloc(0), [], ERR.invalid],
  ];
  for (const [code, data, shown, answer] of rows) {
    const { stage } = stageOf();
    const client = greeted(stage).send(option(OPT.structured));
    client.optionReplies();
    const replies = client.send(option(code, data)).optionReplies();
    const title = `${code} ${data.toString("latin1")}`;
    t.equal(replies.at(-1)!.type, answer, title);
    t.same(
      replies
        .slice(0, -1)
        .map((one) => `${one.data.readUInt32BE(0)} ${one.data.toString("utf8", 4)}`),
      shown,
      title,
    );
  }
});

t.test("a selection is lost by a failed SET and by another name (trap 12)", async (t) => {
  const status = request({ command: CMD.status, length: 4096 });
  const select = option(OPT.setMeta, metaData("first", ["base:allocation"]));
  const rows: [string, Buffer[], string, number][] = [
    ["kept", [select], "first", 0],
    ["failed SET", [select, option(OPT.setMeta, metaData("third", []))], "first", 22],
    ["malformed SET", [select, option(OPT.setMeta, hex("00"))], "first", 22],
    ["empty SET", [select, option(OPT.setMeta, metaData("first", []))], "first", 22],
    ["another export", [select], "zweite Ä", 22],
    ["LIST in between", [select, option(OPT.listMeta, metaData("first", []))], "first", 0],
  ];
  for (const [title, options, name, error] of rows) {
    const { stage } = stageOf();
    const client = greeted(stage).send(option(OPT.structured));
    client.optionReplies();
    for (const one of options) client.send(one).optionReplies();
    t.equal(concluding(client.send(option(OPT.go, infoData(name)))), ACK);
    client.send(status);
    const chunk = client.chunk();
    t.equal(chunk.type === 5 ? 0 : chunk.payload.readUInt32BE(0), error, title);
  }
});

t.test("a selection holds for EXPORT_NAME, too", async (t) => {
  const { stage } = stageOf();
  const client = greeted(stage).send(option(OPT.structured));
  client.optionReplies();
  client.send(option(OPT.setMeta, metaData("first", ["base:allocation"]))).optionReplies();
  client.send(option(OPT.exportName, Buffer.from("first")));
  t.equal(client.take(10).readUInt16BE(8), 0x05ed);
  client.send(request({ command: CMD.status, length: 512 }));
  t.equal(client.chunk().type, 5);
});

t.test("a client that does not get on is cut off", async (t) => {
  const { stage, server } = stageOf();
  const silent = stage.connect();
  const halfway = greeted(stage).send(option(OPT.go).subarray(0, 10));
  const done = stage.connect().negotiate();
  stage.world.advance(NBD_HANDSHAKE_MS_MAX - 1);
  t.equal(silent.isClosed || halfway.isClosed, false);
  stage.world.advance(2);
  t.equal(silent.isClosed && halfway.isClosed, true);
  t.equal(done.isClosed, false, "the time limit ends with the handshake");
  t.equal(stage.notes.filter((one) => one.text.startsWith("TRIVET_E_NBD_TIMEOUT")).length, 2);
  t.equal(server.clients.length, 1);
});

t.test("many silent sockets lock nobody out: the oldest makes room", async (t) => {
  const { stage, server } = stageOf();
  const user = stage.connect().negotiate();
  const silent = Array.from({ length: NBD_HANDSHAKES_MAX + 5 }, () => stage.connect());
  stage.world.settle();
  t.equal(silent.filter((one) => one.isClosed).length, 5);
  t.ok(silent.slice(0, 5).every((one) => one.isClosed));
  t.equal(user.isClosed, false);
  t.equal(server.clients.length, NBD_HANDSHAKES_MAX + 1);
});

t.test("beyond the limit of connections clients are turned away", async (t) => {
  const stage = new NbdStage();
  const device = new MemoryDevice(stage.arena, { sizeBytes: 4096 });
  const server = stage.serve({ exports: [{ name: "", device }], connectionsMax: 2 });
  const clients = [0, 1].map(() => stage.connect().negotiate());
  const third = stage.connect();
  t.equal(third.pending, 0);
  t.equal(third.isClosed, true);
  t.equal(server.statistics().refused, 1);
  clients[0]!.send(request({ command: CMD.disc }));
  stage.world.settle();
  stage.connect().negotiate();
  t.equal(server.clients.length, 2);
});

t.test("while the server stops, options get ERR_SHUTDOWN and ABORT its ACK", async (t) => {
  const { stage, server } = stageOf();
  const one = greeted(stage);
  const two = greeted(stage);
  const three = greeted(stage);
  stage.world.settle();
  let stopped = false;
  server.stop(() => {
    stopped = true;
  });
  t.equal(concluding(one.send(option(OPT.go, infoData("first")))), ERR.shutdown);
  t.equal(concluding(one.send(option(12))), ERR.shutdown);
  t.equal(concluding(one.send(option(OPT.abort))), ACK);
  three.send(option(OPT.exportName, Buffer.from("first")));
  stage.world.settle();
  t.same([one.isClosed, two.isClosed, three.isClosed], [true, false, true]);
  t.equal(stopped, false);
  stage.world.advance(NBD_STOP_HANDSHAKE_MS);
  t.equal(two.isClosed, true);
  t.equal(stopped, true);
  const late = stage.connect();
  t.equal(late.pending, 0);
  t.equal(late.isClosed, true);
});

t.test("a client that asks and asks and does not read is paused", async (t) => {
  const stage = new NbdStage();
  const device = new MemoryDevice(stage.arena, { sizeBytes: 4096 });
  stage.serve({ exports: [{ name: "", description: "x".repeat(4000), device }] });
  const client = stage.connect({ windowBytes: 10_000 });
  client.take(18);
  client.stream.pause();
  client.send(u32(3));
  const asked = 2000;
  for (let i = 0; i < asked; i++) client.send(option(OPT.list));
  stage.world.settle();
  const used = stage.arena.allocations;
  t.ok(used < 600, `${used} answers are queued at most`);
  client.stream.resume();
  let answered = 0;
  while (client.pending > 0) answered += client.optionReplies().length / 2;
  t.equal(answered, asked);
});

t.test("EXPORT_NAME pads unless told otherwise, GO never (trap 6)", async (t) => {
  for (const [flags, padding] of [
    [1, 124],
    [3, 0],
  ] as const) {
    const { stage } = stageOf();
    const client = greeted(stage, flags).send(option(OPT.exportName, Buffer.from("first")));
    t.same(client.takeAll(), Buffer.concat([hex("0000000000100000 056d"), Buffer.alloc(padding)]));
    const other = greeted(stage, flags).send(option(OPT.go, infoData("first")));
    other.optionReplies();
    t.equal(other.pending, 0);
  }
  t.equal(u16(0x56d).toString("hex"), "056d");
});
