import type { XXHashAPI } from "xxhash-wasm";
import { openStore } from "../../src/downstairs/store/open.js";
import type { Store } from "../../src/downstairs/store/store.js";
import { FakeArena } from "../kit/arena.js";
import { FakeFiles } from "../kit/files.js";
import { DIRECTORY } from "../kit/fresh-disk.js";
import { FakeHasher } from "../kit/hasher.js";
import { World } from "../kit/world.js";
import type { ReplicaBox } from "./replica.js";

/** After an orderly end the three regions hold the same, block by block with its hash, and the numbers agree. */
export function compareReplicas(replicas: readonly ReplicaBox[], hash: XXHashAPI): string[] {
  const broken: string[] = [];
  const found = replicas.map((replica) => contents(replica, hash, broken));
  const [first] = found;
  for (const [index, other] of found.entries()) {
    if (first === undefined || other === undefined) continue;
    for (let i = 0; i < first.length; i++) {
      if (first[i] === other[i]) continue;
      broken.push(
        `${replicas[index]!.name} differs from ${replicas[0]!.name}: ${other[i]} instead of ${first[i]}`,
      );
      break;
    }
  }
  return broken;
}

function contents(replica: ReplicaBox, hash: XXHashAPI, broken: string[]): string[] | undefined {
  const world = new World();
  const arena = new FakeArena(2 * 1024 * 1024);
  const files = new FakeFiles(world, arena, replica.disk, { latencyMs: 0 });
  const hasher = new FakeHasher(arena, hash);
  const opened: (Store | null)[] = [];
  const peer = { files() {}, fetch() {}, ready() {} };
  openStore(
    { arena, io: files, tree: files, hasher, clock: world, notes: () => {}, peer },
    { directory: DIRECTORY, readOnly: true },
    (fault, store) => {
      if (fault !== null) broken.push(`${replica.name} does not open: ${fault.line}`);
      opened.push(store);
    },
  );
  world.settle();
  const store = opened[0];
  if (store === null || store === undefined) return undefined;
  const { extentCount, extentSize, blockSize } = store.definition;
  const lines: string[] = [];
  const contextsAt = arena.alloc(32 * extentSize);
  const dataAt = arena.alloc(blockSize * extentSize);
  for (let extent = 0; extent < extentCount; extent++) {
    const dirty = store.isDirty(extent);
    if (dirty) broken.push(`${replica.name}, extent ${extent} is dirty after an orderly stop`);
    lines.push(`extent ${extent} ${store.generation(extent)}/${store.flushNumber(extent)}`);
    store.read(
      extent * extentSize,
      extentSize,
      contextsAt,
      dataAt,
      {
        storeDone: (_, fault) => {
          if (fault !== null) broken.push(`${replica.name}, extent ${extent}: ${fault.line}`);
          let at = contextsAt;
          for (let i = 0; i < extentSize; i++) {
            const length = [4, 32, 12][arena.bytes[at]!]!;
            const data = arena.bytes.subarray(dataAt + i * blockSize, dataAt + (i + 1) * blockSize);
            const digest = hash.h64Raw(data);
            if (length === 12 && arena.view.getBigUint64(at + 4, true) !== digest)
              broken.push(`${replica.name}, extent ${extent}, block ${i}: hash does not fit`);
            lines.push(
              `extent ${extent}, block ${i}: ${length === 4 ? "unwritten" : ""} ${digest}`,
            );
            at += length;
          }
        },
      },
      0,
    );
    world.settle();
  }
  return lines;
}
