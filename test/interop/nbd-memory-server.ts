import { parseArgs } from "node:util";
import type { EngineName } from "../../src/host/native.js";
import { openHost } from "../../src/host/open.js";
import type { ListenOptions } from "../../src/host/sockets.js";
import { NbdServer } from "../../src/nbd/server.js";
import { MemoryDevice } from "../../src/volume/memory.js";
import { UnalignedDevice } from "../../src/volume/unaligned.js";

// Memory exports as a program: "blocks" (the default, 4096-byte blocks through the unaligned layer), "sectors" (the
// same device, announced as 512-byte sectors), "bytes" (no alignment at all) and "fixed" (read-only). With --tcp it
// prints its addresses; SIGTERM stops it.

const MIB = 1024 * 1024;
const { values } = parseArgs({
  options: {
    size: { type: "string", default: "64" },
    socket: { type: "string" },
    tcp: { type: "boolean", default: false },
    engine: { type: "string", default: "auto" },
  },
});

const sizeBytes = Number(values.size) * MIB;
const host = openHost({
  arenaBytes: 2 * sizeBytes + 256 * MIB,
  engine: values.engine as EngineName | "auto",
});
const { arena } = host;
const blocks = new UnalignedDevice(arena, new MemoryDevice(arena, { sizeBytes, blockBytes: 4096 }));
const bytes = new MemoryDevice(arena, { sizeBytes });
const fixed = new MemoryDevice(arena, { sizeBytes: MIB, readOnly: true });
const notes = (level: string, event: string, text: string): void => {
  if (level === "warn" || level === "error") process.stderr.write(`${level} ${event} ${text}\n`);
};
const server = new NbdServer(
  { arena, clock: host.clock, notes },
  {
    exports: [
      { name: "blocks", device: blocks, blockBytes: 4096 },
      { name: "sectors", device: blocks, blockBytes: 4096, minimumBytes: 512 },
      { name: "bytes", description: "any offset and length", device: bytes },
      { name: "fixed", device: fixed },
    ],
    readBytesMax: 128 * MIB,
  },
);
const wanted: ListenOptions[] = [];
if (process.env.LISTEN_FDS === "1") wanted.push({ kind: "inherited", descriptor: 3 });
if (values.tcp) wanted.push({ kind: "tcp", host: "127.0.0.1", port: 0 });
if (values.socket !== undefined) wanted.push({ kind: "unix", path: values.socket });
const listeners = await Promise.all(
  wanted.map((one) => host.listen(one, (stream) => server.accept(stream))),
);
if (values.tcp)
  process.stdout.write(
    `${JSON.stringify({ addresses: listeners.map((listener) => listener.address) })}\n`,
  );
process.once("SIGTERM", async () => {
  for (const listener of listeners) listener.close();
  await new Promise<void>((resolve) => server.stop(resolve));
  await host.close();
});
