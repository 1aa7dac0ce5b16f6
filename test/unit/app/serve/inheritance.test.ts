import { createHash } from "node:crypto";
import t from "tap";
import {
  descriptorsOf,
  inheritanceBytes,
  readInheritance,
} from "../../../../src/app/serve/inheritance.js";
import { Fault } from "../../../../src/base/fault.js";
import { noise } from "../../host/stream-contract.js";

// What one server tells the next, as bytes: from whatever version, whole or not.

const session = (
  descriptor: number,
  attachment: string | null,
  received: Uint8Array,
  unsent: Uint8Array,
) => ({
  descriptor,
  state: {
    exportName: "photos",
    sizeBytes: 2 ** 40,
    minimumBytes: 512,
    payloadBytesMax: 2 ** 25,
    offers: 0x16d,
    structured: true,
    allocation: false,
    attachment,
    received,
    unsent,
  },
});
const LEFT = {
  listeners: [
    { key: "tcp:127.0.0.1:10809", file: null, descriptor: 20 },
    { key: "control:/run/x.control", file: "/run/x.control", descriptor: 21 },
  ],
  clients: [
    session(30, "00112233445566778899aabbccddeeff", noise(100_000, 1), new Uint8Array(0)),
    session(31, null, new Uint8Array(0), noise(16, 2)),
  ],
  log: { path: "/run/x.log", descriptor: 40 },
};
type Left = ReturnType<ReturnType<typeof readInheritance>["with"]>;
/** Comparable, and short when it differs. */
const plain = ({ listeners, clients, log }: Left) => ({
  listeners,
  log,
  clients: clients.map(({ descriptor, state }) => ({
    descriptor,
    state: { ...state, received: digest(state.received), unsent: digest(state.unsent) },
  })),
});
const digest = (bytes: Uint8Array): string =>
  `${bytes.length} ${createHash("sha256").update(bytes).digest("hex")}`;

t.test("the next one reads what the one before told", async (t) => {
  const bytes = inheritanceBytes("photos", LEFT);
  t.same(descriptorsOf(LEFT), [20, 21, 30, 31, 40]);
  const told = readInheritance(bytes, "photos");
  t.equal(told.descriptors, 5);
  t.same(plain(told.with(descriptorsOf(LEFT))), plain(LEFT));
  const without = readInheritance(inheritanceBytes("photos", { ...LEFT, log: null }), "photos");
  t.equal(without.descriptors, 4);
  t.equal(without.with([1, 2, 3, 4]).log, null);
  t.same(told.inodes, []);
  t.same(readInheritance(inheritanceBytes("photos", LEFT, [5, 6, 7]), "photos").inodes, [5, 6, 7]);
});

t.test("between versions that tell of attachments and those before them", async (t) => {
  const before = LEFT.clients.map(({ descriptor, state: { attachment: _, ...state } }) => ({
    descriptor,
    state,
  }));
  const bytes = inheritanceBytes("photos", { ...LEFT, clients: before as typeof LEFT.clients });
  t.equal(Buffer.from(bytes).includes("attachment"), false);
  const { clients } = readInheritance(bytes, "photos").with(descriptorsOf(LEFT));
  t.same(
    clients.map(({ state: { attachment } }) => attachment),
    [null, null],
  );
  // One that knows nothing of them understands this number, and passes over what it does not know.
  t.ok(Buffer.from(inheritanceBytes("photos", LEFT)).includes("version\x01"));
});

t.test("descriptors that are gone meanwhile", async (t) => {
  const told = readInheritance(inheritanceBytes("photos", LEFT), "photos");
  const left = told.with([undefined, 21, undefined, 31, 40]);
  t.same(
    left.listeners.map(({ descriptor }) => descriptor),
    [21],
  );
  t.same(plain(left).clients, plain(LEFT).clients.slice(1));
  t.throws(() => told.with([20, 21, 30, 31]), Fault, "the log is not one of them");
});

t.test("what is not whole, not ours, or used up is none", async (t) => {
  const bytes = inheritanceBytes("photos", LEFT);
  const refused = (wrong: Uint8Array, volume = "photos"): string => {
    try {
      readInheritance(wrong, volume);
      return "taken";
    } catch (error) {
      return error instanceof Fault ? error.message : `${error}`;
    }
  };
  t.ok(/it is about the volume photos, and this is music/.test(refused(bytes, "music")));
  const used = Uint8Array.from(bytes).fill(0, 0, 8);
  t.ok(/it was taken already, or is none/.test(refused(used)));
  const later = Buffer.from(bytes);
  later[later.indexOf("version") + 7] = 2;
  t.ok(/another version/.test(refused(later)));
  const ends = [...Array.from({ length: 700 }, (_, i) => i), bytes.length - 1];
  t.same(
    ends.filter((end) => !/cannot be used/.test(refused(bytes.subarray(0, end)))),
    [],
  );
  const longer = Buffer.concat([bytes, Buffer.from([0])]);
  t.ok(/bytes follow, expected/.test(refused(longer)));
  for (let seed = 0; seed < 300; seed++) {
    const damaged = Buffer.from(bytes);
    const at = 8 + (seed % 500);
    damaged[at] = (damaged[at]! + 1 + seed) % 256;
    // Whatever it is taken for, nothing but a Fault is thrown.
    t.ok(/cannot be used|taken/.test(refused(damaged)), `byte ${at}`);
  }
});
