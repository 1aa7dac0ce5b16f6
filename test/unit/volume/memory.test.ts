import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import type { DeviceClient } from "../../../src/ports/device.js";
import { MemoryDevice } from "../../../src/volume/memory.js";
import { FakeArena } from "../../kit/arena.js";

t.test("it begins with zeros, and keeps and zeroes what it is told", async (t) => {
  const arena = new FakeArena();
  const device = new MemoryDevice(arena, { sizeBytes: 100_000 });
  let place = -1;
  const client: DeviceClient = {
    deviceDone: (_tag, status, at, hold) => {
      t.same([status, hold], [0, -1]);
      place = at;
    },
    deviceRoom() {},
  };
  const read = (offset: number, length: number) => {
    device.read(offset, length, client, 1);
    return arena.bytes.subarray(place, place + length);
  };
  t.ok(read(0, 100_000).every((byte) => byte === 0));
  const at = device.place(500);
  arena.bytes.fill(7, at, at + 10);
  device.write(500, 10, at, 0, client, 2);
  t.same([...read(499, 12)], [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0]);
  device.writeZeroes(503, 2, 0, client, 3);
  t.same([...read(500, 10)], [7, 7, 7, 0, 0, 7, 7, 7, 7, 7]);
  device.trim(0, 100_000, 0, client, 4);
  device.flush(client, 5);
  device.close();
  t.equal(arena.allocations, 0);
});

t.test("an arena that is too small is a fault with a code", async (t) => {
  const arena = new FakeArena(1 << 20);
  try {
    new MemoryDevice(arena, { sizeBytes: 2 << 20 });
    t.fail("it does not fit");
  } catch (error) {
    t.ok(error instanceof Fault);
    t.equal((error as Fault).code, "TRIVET_E_MEMORY");
  }
});
