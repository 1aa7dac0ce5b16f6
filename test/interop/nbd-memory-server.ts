import { parseArgs } from "node:util";
import { serveNbd } from "../../src/app/nbd-listen.js";
import type { EngineName } from "../../src/host/native.js";
import { openHost } from "../../src/host/open.js";
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
const service = await serveNbd(host, {
  exports: [
    { name: "blocks", device: blocks, blockBytes: 4096 },
    { name: "sectors", device: blocks, blockBytes: 4096, minimumBytes: 512 },
    { name: "bytes", description: "any offset and length", device: bytes },
    { name: "fixed", device: fixed },
  ],
  readBytesMax: 128 * MIB,
  activation: process.env,
  tcp: values.tcp ? [{ host: "127.0.0.1", port: 0 }] : [],
  unix: values.socket === undefined ? [] : [{ path: values.socket }],
  notes: (level, event, text) => {
    if (level === "warn" || level === "error") process.stderr.write(`${level} ${event} ${text}\n`);
  },
});
if (values.tcp) process.stdout.write(`${JSON.stringify({ addresses: service.addresses })}\n`);
process.once("SIGTERM", async () => {
  await service.stop();
  await host.close();
});
