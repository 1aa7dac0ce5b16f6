import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import type { Fault } from "../../src/base/fault.js";
import { type Host, openHost } from "../../src/host/open.js";
import type { ListenOptions } from "../../src/host/sockets.js";
import type { Address, Stream } from "../../src/ports/stream.js";
import { until } from "../kit/until.js";
import { detachContract } from "../unit/host/detach-contract.js";
import { streamContract } from "../unit/host/stream-contract.js";

const MIB = 1024 * 1024;

async function pairOf(
  host: Host,
  where: ListenOptions,
): Promise<{ pair: () => Promise<[Stream, Stream]>; close: () => void }> {
  const accepted: ((stream: Stream) => void)[] = [];
  const listener = await host.listen(where, (stream) => accepted.shift()!(stream));
  const address: Address =
    where.kind === "unix"
      ? { host: where.path, port: 0 }
      : { host: where.kind === "tcp" ? where.host : "", port: listener.port };
  return {
    close: () => listener.close(),
    // Both ends are handed over inside the same turn in which they are started: hence the deferred start.
    pair: () =>
      new Promise((done, fail) => {
        let near: Stream | undefined;
        let far: Stream | undefined;
        const both = () => {
          if (near !== undefined && far !== undefined) done([near, far]);
        };
        accepted.push((stream) => {
          far = stream;
          both();
        });
        host.dialer.dial(address, 5000, (fault: Fault | null, stream) => {
          if (stream === null) return fail(fault);
          near = stream;
          both();
        });
      }),
  };
}

for (const engine of ["ring", "plain"] as const)
  for (const kind of ["tcp", "tcp6", "unix"] as const)
    t.test(`${engine}, ${kind}`, async (t) => {
      const host = openHost({ arenaBytes: 64 * MIB, engine });
      const directory = mkdtempSync(join(tmpdir(), "trivet-"));
      const where: ListenOptions =
        kind === "unix"
          ? { kind, path: join(directory, "a.sock") }
          : { kind: "tcp", host: kind === "tcp" ? "127.0.0.1" : "::1", port: 0 };
      const maker = await pairOf(host, where);
      const free = { payload: host.arena.freeBytes, streams: host.arena.streamBytesFree };
      t.teardown(() => rmSync(directory, { recursive: true }));
      const contract = { arena: host.arena, pair: maker.pair, until };
      streamContract(t, contract);
      detachContract(t, contract, (_, { descriptor }) => host.adopt(descriptor));
      t.test("all memory came back", async (t) => {
        t.equal(host.arena.freeBytes, free.payload);
        t.equal(host.arena.streamBytesFree, free.streams);
        maker.close();
        await host.close();
      });
    });
