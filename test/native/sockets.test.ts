import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { Fault } from "../../src/base/fault.js";
import { BACKLOG_BYTES_MAX } from "../../src/base/limits.js";
import { type Host, openHost } from "../../src/host/open.js";
import type { Stream } from "../../src/ports/stream.js";
import { until } from "../kit/until.js";
import { Recorder } from "../unit/host/recorder.js";
import { noise } from "../unit/host/stream-contract.js";

const MIB = 1024 * 1024;
const LOOPBACK = { kind: "tcp", host: "127.0.0.1", port: 0 } as const;

/** A server that never comes to accepting. */
const DEAF = `
  const server = require("net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
    require("fs").writeSync(1, String(server.address().port));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });`;
function descriptors(): number {
  return fs.readdirSync("/proc/self/fd").length;
}
function dial(host: Host, address: { host: string; port: number }, ms = 5000): Promise<Recorder> {
  return new Promise((done, fail) => {
    let returned = false;
    host.dialer.dial(address, ms, (fault, stream) => {
      if (!returned) fail(new Error("called back too early"));
      else if (stream === null) fail(fault);
      else done(new Recorder(stream, host.arena));
    });
    returned = true;
  });
}
function foreign(port: number): Promise<net.Socket> {
  return new Promise((done, fail) => {
    const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () =>
      done(socket),
    );
    socket.on("error", fail);
  });
}

for (const engine of ["ring", "plain"] as const)
  t.test(engine, async (t) => {
    const host = openHost({ arenaBytes: 64 * MIB, engine });
    const { arena } = host;
    const directory = fs.mkdtempSync(join(tmpdir(), "trivet-"));
    const accepted: Recorder[] = [];
    const listener = await host.listen(LOOPBACK, (stream) => {
      accepted.push(new Recorder(stream, arena));
    });
    const address = { host: "127.0.0.1", port: listener.port };
    const newest = async (count: number): Promise<Recorder> => {
      await until("accepted", () => accepted.length === count);
      return accepted.at(-1)!;
    };
    t.teardown(async () => {
      await host.close();
      fs.rmSync(directory, { recursive: true });
    });

    t.test("thousands of connections leave nothing behind", async (t) => {
      const before = { files: descriptors(), streams: arena.streamBytesFree };
      let opened = 0;
      let closed = 0;
      const many = await host.listen(LOOPBACK, (stream: Stream) => {
        opened += 1;
        const recorder = new Recorder(stream, arena);
        recorder.compose(Buffer.alloc(100));
        if (opened % 3 === 0) recorder.quietly(() => stream.destroy());
        if (opened % 3 === 1) recorder.quietly(() => stream.end());
      });
      for (let batch = 0; batch < 40; batch++) {
        const dialed = await Promise.all(
          Array.from({ length: 50 }, () => dial(host, { host: "127.0.0.1", port: many.port })),
        );
        dialed.forEach((one, i) => {
          one.compose(Buffer.alloc(200));
          if (i % 2 === 0) one.quietly(() => one.stream.destroy());
          else one.quietly(() => one.stream.end());
        });
        await until("all closed", () => dialed.every((one) => one.isClosed));
        closed += dialed.length;
      }
      many.close();
      t.equal(closed, 2000);
      t.equal(opened, 2000);
      await until("descriptors given back", () => descriptors() === before.files - 0);
      await until("memory given back", () => arena.streamBytesFree === before.streams);
      t.equal(arena.streamBytesFree, before.streams);
    });

    t.test(
      "a reader that never reads: the backlog grows here, is seen, and is dropped",
      async (t) => {
        const count = accepted.length;
        const socket = await foreign(listener.port);
        socket.pause();
        const server = await newest(count + 1);
        const block = arena.alloc(8 * MIB);
        for (let tag = 0; tag < 4; tag++) server.attach(block, 8 * MIB, tag);
        await new Promise((next) => setTimeout(next, 50));
        t.ok(server.stream.queuedBytes > BACKLOG_BYTES_MAX, "most is still here");
        t.ok(server.sentTags.length < 4);
        server.quietly(() => server.stream.destroy());
        await until("closed", () => server.isClosed);
        t.equal(server.sentTags.length, 4);
        arena.free(block);
        socket.destroy();
      },
    );

    t.test("drained is told when a slow reader has caught up", async (t) => {
      const count = accepted.length;
      const socket = await foreign(listener.port);
      socket.pause();
      const server = await newest(count + 1);
      const block = arena.alloc(8 * MIB);
      noise(8 * MIB, 4).copy(arena.bytes, block);
      server.attach(block, 8 * MIB, 1);
      server.attach(block, 8 * MIB, 2);
      await new Promise((next) => setTimeout(next, 30));
      t.equal(server.drains, 0);
      let got = 0;
      socket.on("data", (data) => {
        got += data.length;
      });
      socket.resume();
      await until("all of it", () => got === 16 * MIB);
      await until("drained", () => server.drains === 1);
      t.same(server.sentTags, [1, 2]);
      socket.destroy();
      await until("closed", () => server.isClosed);
      arena.free(block);
    });

    t.test("half-close: what is queued still arrives, then the end", async (t) => {
      const count = accepted.length;
      const socket = await foreign(listener.port);
      const server = await newest(count + 1);
      let got = 0;
      let ended = false;
      const block = arena.alloc(8 * MIB);
      server.onReceived = (bytes) => {
        server.stream.attach(block, 8 * MIB, 9);
        return bytes.length;
      };
      socket.pause();
      socket.end("request");
      await until("request", () => server.receivedBytes === 7);
      socket.on("data", (data) => {
        got += data.length;
      });
      socket.on("end", () => {
        ended = true;
      });
      socket.resume();
      await until("both ended", () => server.isClosed && ended);
      t.equal(got, 8 * MIB);
      t.equal(server.ends[0], null);
      arena.free(block);
    });

    t.test(
      "a reset in the middle of a payload is a fault, and the memory comes back",
      async (t) => {
        const count = accepted.length;
        const socket = await foreign(listener.port);
        const server = await newest(count + 1);
        const target = arena.alloc(MIB);
        server.onReceived = (bytes) => {
          server.stream.receiveInto(target, MIB);
          return bytes.length;
        };
        socket.write("h");
        await until("header", () => server.receivedBytes === 1);
        socket.write(Buffer.alloc(1000));
        await new Promise((next) => setTimeout(next, 10));
        socket.resetAndDestroy();
        await until("closed", () => server.isClosed);
        t.equal(server.ends[0]?.code, "TRIVET_E_CONNECTION");
        t.ok(server.ends[0]?.message.includes("ECONNRESET"));
        t.equal(server.fills, 0);
        arena.free(target);
      },
    );

    t.test("a peer's last words are read although sending to it fails already", async (t) => {
      const other = await host.listen(LOOPBACK, (stream) => {
        const one = new Recorder(stream, arena);
        one.compose(Buffer.from("goodbye"));
        one.quietly(() => stream.end());
      });
      const client = await dial(host, { host: "127.0.0.1", port: other.port });
      client.quietly(() => client.stream.pause());
      await new Promise((next) => setTimeout(next, 30));
      client.quietly(() => client.stream.resume());
      const block = arena.alloc(4 * MIB);
      for (let tag = 0; tag < 3; tag++) client.attach(block, 4 * MIB, tag);
      await until("closed", () => client.isClosed);
      t.equal(client.allReceived.toString(), "goodbye");
      t.equal(client.sentTags.length, 3);
      arena.free(block);
      other.close();
    });

    t.test("bytes one at a time from a foreign sender, with a payload among them", async (t) => {
      const count = accepted.length;
      const socket = await foreign(listener.port);
      socket.setNoDelay(true);
      const server = await newest(count + 1);
      const target = arena.alloc(4096);
      const payload = noise(40, 6);
      server.onReceived = (bytes) => {
        if (bytes.length < 4) return 0;
        if (server.fills === 0) server.stream.receiveInto(target, 40);
        return 4;
      };
      for (const byte of Buffer.concat([Buffer.from("head"), payload, Buffer.from("tail")])) {
        socket.write(Buffer.from([byte]));
        await new Promise((next) => setImmediate(next));
      }
      await until("both messages", () => server.receivedBytes === 8);
      t.ok(arena.bytes.subarray(target, target + 40).equals(payload));
      t.equal(server.allReceived.toString(), "headtail");
      socket.destroy();
      await until("closed", () => server.isClosed);
      arena.free(target);
    });

    t.test("names of both ends", async (t) => {
      const client = await dial(host, address);
      t.equal(client.stream.peer, `127.0.0.1:${listener.port}`);
      const server = accepted.at(-1)!;
      t.equal(server.stream.peer, client.stream.local);
      t.equal(server.stream.local, client.stream.peer);
      client.quietly(() => client.stream.destroy());
      await until("closed", () => client.isClosed);
      const path = join(directory, "named.sock");
      let peer = "";
      const named = await host.listen({ kind: "unix", path, mode: 0o600 }, (stream) => {
        peer = stream.peer;
        new Recorder(stream, arena);
      });
      t.equal(named.address, `unix:${path}`);
      t.equal(fs.statSync(path).mode & 0o777, 0o600);
      const local = await dial(host, { host: path, port: 0 });
      await until("accepted", () => peer !== "");
      t.equal(peer, `unix:pid ${process.pid}`);
      t.equal(local.stream.peer, `unix:${path}`);
      named.close();
      t.equal(fs.existsSync(path), false);
      local.quietly(() => local.stream.destroy());
      await until("closed", () => local.isClosed);
    });

    t.test("listening that fails says why", async (t) => {
      const code = async (run: () => Promise<unknown>): Promise<string> => {
        try {
          await run();
        } catch (error) {
          t.ok(error instanceof Fault);
          return (error as Fault).code;
        }
        return "nothing";
      };
      const nothing = () => {};
      const { port } = listener;
      t.equal(
        await code(() => host.listen({ ...LOOPBACK, port }, nothing)),
        "TRIVET_E_ADDRESS_IN_USE",
      );
      const away = { kind: "tcp", host: "192.0.2.1", port: 0 } as const;
      t.equal(await code(() => host.listen(away, nothing)), "TRIVET_E_LISTEN");
      const path = join(directory, "used.sock");
      const used = await host.listen({ kind: "unix", path }, nothing);
      t.equal(
        await code(() => host.listen({ kind: "unix", path }, nothing)),
        "TRIVET_E_ADDRESS_IN_USE",
      );
      used.close();
      fs.writeFileSync(path, "a file");
      t.equal(await code(() => host.listen({ kind: "unix", path }, nothing)), "TRIVET_E_LISTEN");
      t.equal(fs.readFileSync(path, "utf8"), "a file");
      const long = join(directory, "x".repeat(108));
      t.equal(
        await code(() => host.listen({ kind: "unix", path: long }, nothing)),
        "TRIVET_E_LISTEN",
      );
      const inherited = { kind: "inherited", descriptor: 0 } as const;
      t.equal(await code(() => host.listen(inherited, nothing)), "TRIVET_E_LISTEN");
      // A socket file whose owner has died is replaced.
      const stale = join(directory, "stale.sock");
      const script = `require("net").createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, "SIGKILL"))`;
      spawnSync(process.execPath, ["-e", script]);
      t.ok(fs.existsSync(stale));
      const fresh = await host.listen({ kind: "unix", path: stale }, nothing);
      fresh.close();
    });

    t.test("dialing: names, refusals, patience, cancelling", async (t) => {
      const client = await dial(host, { host: "localhost", port: listener.port });
      client.quietly(() => client.stream.destroy());
      await until("closed", () => client.isClosed);
      const code = async (where: { host: string; port: number }, ms = 5000) => {
        try {
          await dial(host, where, ms);
        } catch (error) {
          return (error as Fault).code;
        }
        return "nothing";
      };
      const spare = await host.listen(LOOPBACK, () => {});
      spare.close();
      t.equal(await code({ host: "127.0.0.1", port: spare.port }), "TRIVET_E_DIAL");
      t.equal(await code({ host: join(directory, "none.sock"), port: 0 }), "TRIVET_E_DIAL");
      t.equal(await code({ host: "127.0.0.1", port: 99_999 }), "TRIVET_E_DIAL");
      t.equal(await code({ host: "no-such-name.invalid", port: 1 }), "TRIVET_E_DIAL");
      // A process that accepts nobody answers nothing once its queue is full: patience decides.
      const deaf = spawn(process.execPath, ["-e", DEAF], { stdio: ["ignore", "pipe", "inherit"] });
      const [line] = (await once(deaf.stdout, "data")) as [Buffer];
      const port = Number(line);
      const waiting = [await dial(host, { host: "127.0.0.1", port })];
      waiting.push(await dial(host, { host: "127.0.0.1", port }));
      t.equal(await code({ host: "127.0.0.1", port }, 100), "TRIVET_E_TIMEOUT");
      deaf.kill("SIGKILL");
      await until("closed by its death", () => waiting.every((one) => one.isClosed));
      const before = descriptors();
      let called = 0;
      for (let i = 0; i < 20; i++)
        host.dialer
          .dial(address, 5000, () => {
            called += 1;
          })
          .cancel();
      await new Promise((next) => setTimeout(next, 50));
      t.equal(called, 0);
      await until("nothing stays open", () => descriptors() <= before);
    });

    t.test("no memory for a connection: it is refused, the others go on", async (t) => {
      const small = openHost({ arenaBytes: MIB, streamBytes: 256 * 1024, engine });
      const held: Recorder[] = [];
      const where = await small.listen(LOOPBACK, (stream) => {
        held.push(new Recorder(stream, small.arena));
      });
      const sockets: net.Socket[] = [];
      let refused = 0;
      for (let i = 0; i < 8; i++) {
        const socket = await foreign(where.port);
        socket.on("close", () => {
          refused += 1;
        });
        socket.on("error", () => {});
        socket.on("end", () => socket.end());
        socket.resume();
        sockets.push(socket);
      }
      await until("each has its answer", () => refused + held.length === 8);
      t.ok(held.length >= 2 && held.length <= 4);
      // One of them sends more than there is memory to compose: it is given up.
      const greedy = held[0]!;
      for (let i = 0; i < 64; i++) greedy.compose(Buffer.alloc(16_384));
      await until("given up", () => greedy.isClosed);
      t.equal(greedy.ends[0]?.code, "TRIVET_E_MEMORY");
      held[1]!.compose(Buffer.from("alive"));
      await until("still alive", () => held[1]!.stream.queuedBytes === 0);
      await small.close();
      t.ok(
        held.every((one) => one.isClosed),
        "closing the host closes every stream",
      );
      for (const socket of sockets) socket.destroy();
    });
  });

t.test("the arena in a file outlives the process that filled it", async (t) => {
  const directory = fs.mkdtempSync(join(tmpdir(), "trivet-"));
  const path = join(directory, "arena");
  const descriptor = fs.openSync(path, "w+");
  const backing = { path, descriptor, headBytes: 8192 };
  const options = { arenaBytes: MIB, streamBytes: MIB, backing };
  const first = openHost(options);
  const at = first.arena.alloc(4096);
  first.arena.bytes.write("acknowledged", at);
  Buffer.from(first.head).write("answered", first.headAt);
  t.equal(fs.statSync(path).size, MIB + 8192);
  await first.close();
  const second = openHost(options);
  t.equal(second.arena.bytes.toString("latin1", at, at + 12), "acknowledged");
  t.equal(
    Buffer.from(second.head).toString("latin1", second.headAt, second.headAt + 8),
    "answered",
  );
  const inbox = second.arena.allocForStream(4096);
  t.ok(inbox >= second.headAt + 8192, "the memory of streams is apart from it");
  await second.close();
  t.equal(
    fs.readFileSync(path).toString("latin1", 0, 8),
    "answered",
    "the head is first in the file",
  );
  t.equal(fs.readFileSync(path).toString("latin1", 8192 + at, 8192 + at + 12), "acknowledged");
  fs.closeSync(descriptor);
  t.throws(
    () => openHost({ ...options }),
    { code: "TRIVET_E_MEMORY" },
    "a descriptor that is closed",
  );
  t.throws(() => openHost({ arenaBytes: 1000 }), { code: "TRIVET_E_MEMORY" });
  t.throws(() => openHost({ arenaBytes: 2 ** 45 }), { code: "TRIVET_E_MEMORY" });
  fs.rmSync(directory, { recursive: true });
});
