import { gunzipSync } from "node:zlib";
import xxhash from "xxhash-wasm";
import type { Fault } from "../../../src/base/fault.js";
import type { RepairPeer } from "../../../src/downstairs/region-store.js";
import { openStore } from "../../../src/downstairs/store/open.js";
import type { Store } from "../../../src/downstairs/store/store.js";
import { extentPath } from "../../../src/region/layout.js";
import { FakeArena } from "../../kit/arena.js";
import { FakeDisk } from "../../kit/disk.js";
import { FakeFiles, type FilesOptions } from "../../kit/files.js";
import { DIRECTORY, freshDisk } from "../../kit/fresh-disk.js";
import { FakeHasher } from "../../kit/hasher.js";
import { World } from "../../kit/world.js";

export { DIRECTORY, freshDisk };
export const xxh = await xxhash();

/** Contents of a .tar.gz: names without the first directory. */
export function untar(archive: Buffer): Map<string, Buffer> {
  const bytes = gunzipSync(archive);
  const files = new Map<string, Buffer>();
  for (let at = 0; at + 512 <= bytes.length && bytes[at] !== 0; ) {
    const text = (from: number, length: number): string =>
      bytes.toString("latin1", at + from, at + from + length).replace(/\0.*$/s, "");
    const size = Number.parseInt(text(124, 12), 8);
    const name = text(0, 100).replace(/^[^/]*\//, "");
    if (text(156, 1) === "0") files.set(name, bytes.subarray(at + 512, at + 512 + size));
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}
export function diskOf(files: ReadonlyMap<string, Buffer>): FakeDisk {
  const disk = new FakeDisk();
  for (const [name, bytes] of files) disk.put(`${DIRECTORY}/${name}`, bytes);
  return disk;
}

export type Value = { readonly data: Buffer; readonly context: Buffer };

/** A plain block with its context as a Write carries it. */
export function plain(data: Buffer): Value {
  const context = Buffer.alloc(9);
  context.writeBigUInt64LE(xxh.h64Raw(data));
  return { data, context };
}
/** An "encrypted" one: the data is taken for ciphertext. */
export function sealed(data: Buffer, nonceAndTag: Buffer): Value {
  const context = Buffer.alloc(37);
  context.writeBigUInt64LE(xxh.create64().update(nonceAndTag).update(data).digest());
  context[8] = 1;
  nonceAndTag.copy(context, 9);
  return { data, context };
}
/** A ReadBlockContext as the store should answer it for a value; undefined: never written. */
export function readForm(value: Value | undefined): Buffer {
  if (value === undefined) return Buffer.alloc(4);
  const plainOne = value.context[8] === 0;
  const head = Buffer.from([plainOne ? 2 : 1, 0, 0, 0]);
  return Buffer.concat([head, value.context.subarray(plainOne ? 0 : 9, plainOne ? 8 : 37)]);
}

export type RigOptions = FilesOptions & {
  readonly seed?: number;
  readonly arenaBytes?: number;
  /** Instead of a new one. */
  readonly arena?: FakeArena;
  readonly readOnly?: boolean;
  readonly heldBytesMax?: number;
  readonly peer?: RepairPeer;
};

const NO_PEER: RepairPeer = {
  files: (_source, _extent, then) => then(null, []),
  fetch: (_source, _extent, _type, _path, then) => then(null),
  ready: (_source, _extent, then) => then(null, false),
};

/** A store over a disk in memory, spoken to in plain calls that return when the answer is there. */
export class Rig {
  readonly world: World;
  readonly arena: FakeArena;
  readonly files: FakeFiles;
  readonly notes: string[] = [];
  fault: Fault | null = null;
  #store: Store | null = null;
  #tag = 0;

  constructor(disk: FakeDisk, options: RigOptions = {}) {
    this.world = new World(options.seed ?? 1);
    this.arena = options.arena ?? new FakeArena(options.arenaBytes ?? 4 * 1024 * 1024);
    this.files = new FakeFiles(this.world, this.arena, disk, options);
    const { world, arena, files } = this;
    const parts = {
      arena,
      io: files,
      tree: files,
      hasher: new FakeHasher(arena, xxh),
      clock: world,
      notes: (_: string, event: string, text: string) => {
        this.notes.push(`${event} ${text}`);
      },
      peer: options.peer ?? NO_PEER,
    };
    const max = options.heldBytesMax;
    openStore(
      parts,
      {
        directory: DIRECTORY,
        readOnly: options.readOnly ?? false,
        ...(max === undefined ? {} : { heldBytesMax: max }),
      },
      (fault, store) => {
        this.fault = fault;
        this.#store = store;
      },
    );
  }
  /** Opened, or it throws the fault. */
  static open(disk: FakeDisk, options: RigOptions = {}): Rig {
    const rig = new Rig(disk, options);
    rig.world.advance(60_000);
    if (rig.fault !== null) throw rig.fault;
    return rig;
  }
  get isOpen(): boolean {
    return this.#store !== null;
  }
  get store(): Store {
    if (this.#store === null) throw this.fault ?? new Error("the store is not open yet");
    return this.#store;
  }

  /** Puts values as a frame into the arena and submits them. `then` gets the answer. */
  submitWrite(
    start: number,
    values: readonly Value[],
    unwrittenOnly: boolean,
    then: (fault: Fault | null) => void,
  ): void {
    const contexts = Buffer.concat(values.map((value) => value.context));
    const data = Buffer.concat(values.map((value) => value.data));
    const head = 40 + (this.#tag++ % 7);
    const frameAt = this.arena.alloc(head + contexts.length + data.length);
    if (frameAt < 0) throw new Error("the arena of the test is too small");
    contexts.copy(this.arena.bytes, frameAt + head);
    data.copy(this.arena.bytes, frameAt + head + contexts.length);
    this.store.write(
      start,
      values.length,
      frameAt + head,
      frameAt + head + contexts.length,
      frameAt,
      unwrittenOnly,
      {
        storeDone: (_, fault) => {
          if (fault !== null) this.arena.free(frameAt);
          then(fault);
        },
      },
      0,
    );
  }
  submitRead(
    start: number,
    count: number,
    then: (fault: Fault | null, blocks: { data: Buffer; context: Buffer }[]) => void,
  ): void {
    const { blockSize } = this.store.definition;
    const contextsAt = this.arena.alloc(32 * Math.max(1, count));
    const dataAt = this.arena.alloc(blockSize * Math.max(1, count));
    if (contextsAt < 0 || dataAt < 0) throw new Error("the arena of the test is too small");
    const done = (_: number, fault: Fault | null, bytes: number): void => {
      const blocks = [];
      let at = contextsAt;
      for (let i = 0; i < count && fault === null; i++) {
        const length = [4, 32, 12][this.arena.bytes[at]!]!;
        const from = dataAt + i * blockSize;
        blocks.push({
          data: Buffer.from(this.arena.bytes.subarray(from, from + blockSize)),
          context: Buffer.from(this.arena.bytes.subarray(at, at + length)),
        });
        at += length;
      }
      if (fault === null && at !== contextsAt + bytes) throw new Error("length of the contexts");
      this.arena.free(contextsAt);
      this.arena.free(dataAt);
      then(fault, blocks);
    };
    this.store.read(start, count, contextsAt, dataAt, { storeDone: done }, 0);
  }

  write(start: number, values: readonly Value[], unwrittenOnly = false): Fault | null {
    return this.wait((then) => this.submitWrite(start, values, unwrittenOnly, then));
  }
  read(start: number, count: number): { data: Buffer; context: Buffer }[] {
    let got: { data: Buffer; context: Buffer }[] = [];
    const fault = this.wait((then) =>
      this.submitRead(start, count, (found, blocks) => {
        got = blocks;
        then(found);
      }),
    );
    if (fault !== null) throw fault;
    return got;
  }
  flush(flushNumber: number, generation = 1n, limit = -1): Fault | null {
    return this.wait((then) =>
      this.store.flush(flushNumber, generation, limit, { storeDone: (_, fault) => then(fault) }, 0),
    );
  }
  close(): Fault | null {
    return this.wait((then) => this.store.close(then));
  }
  /** Runs the world until the answer is there; refuses an answer that comes before the call returned. */
  wait(run: (then: (fault: Fault | null) => void) => void): Fault | null {
    const answers: (Fault | null)[] = [];
    const count = (): number => answers.length;
    run((fault) => {
      answers.push(fault);
    });
    if (count() !== 0) throw new Error("answered before the call returned");
    for (let i = 0; i < 10_000 && count() === 0; i++) this.world.advance(1);
    if (count() !== 1) throw new Error(`${answers.length} answers`);
    return answers[0]!;
  }

  /** The whole region through reads, as an image. */
  image(): Buffer {
    const { extentSize, extentCount } = this.store.definition;
    const parts = [];
    for (let extent = 0; extent < extentCount; extent++)
      for (const block of this.read(extent * extentSize, extentSize)) parts.push(block.data);
    return Buffer.concat(parts);
  }
  file(extent: number): Buffer {
    return this.files.disk.get(`${DIRECTORY}/${extentPath(extent)}`)!;
  }
}
