import { Fault } from "../../src/base/fault.js";
import { invariant } from "../../src/base/invariant.js";
import type { Arena } from "../../src/ports/arena.js";
import type { FileDone, FileIo, FileTree, OpenMode, Then } from "../../src/ports/files.js";
import { type DirectoryNode, FakeDisk, FileNode } from "./disk.js";
import type { World } from "./world.js";

export const ENOENT = -2;
export const EIO = -5;
export const EEXIST = -17;
export const EMFILE = -24;
export const ENOSPC = -28;
const WORDS: Record<number, string> = {
  [ENOENT]: "no such file or directory",
  [EIO]: "input/output error",
  [EEXIST]: "it exists already",
  [EMFILE]: "too many open files",
  [ENOSPC]: "no space left on device",
};

export type FileCall = {
  /** Counted from 0 over all calls. */
  readonly n: number;
  readonly op: keyof FileIo | Exclude<keyof FileTree, "close" | "lock">;
  readonly path: string;
  readonly offset: number;
  readonly length: number;
};

export interface FilesOptions {
  /** Longest time a call takes; the actual one is drawn, so calls overtake each other. */
  readonly latencyMs?: number;
  /** More time that a call takes. */
  readonly delay?: (call: FileCall) => number;
  /** Where a write goes instead of its offset. */
  readonly misdirect?: (call: FileCall) => number;
  /** −errno to make a call fail, 0 to let it be. A failing write or sync may have had a part of its effect. */
  readonly fail?: (call: FileCall) => number;
  /** A sync for which this answers true does nothing and reports success. */
  readonly lie?: (call: FileCall) => boolean;
  /** After each call had its effect, before its answer. */
  readonly after?: (call: FileCall) => void;
}

type Flight = { readonly node: FileNode; readonly offset: number; readonly bytes: () => Buffer };

/**
 * FileIo and FileTree over a FakeDisk and virtual time. Memory is read and written when a call takes effect, not when
 * it is made; using memory or descriptors too early or too late therefore shows.
 */
export class FakeFiles implements FileIo, FileTree {
  readonly disk: FakeDisk;
  readonly #world: World;
  readonly #arena: Arena;
  readonly #options: FilesOptions;
  readonly #open = new Map<
    number,
    { node: FileNode; path: string; busy: number; write: boolean }
  >();
  readonly #flights = new Set<Flight>();
  #calls = 0;
  #nextFile = 3;
  #dead = false;

  constructor(world: World, arena: Arena, disk = new FakeDisk(), options: FilesOptions = {}) {
    this.#world = world;
    this.#arena = arena;
    this.disk = disk;
    this.#options = options;
  }

  get calls(): number {
    return this.#calls;
  }
  get openFiles(): number {
    return this.#open.size;
  }

  /** The process dies: nothing is answered any more; writes under way may be in the page cache or not. */
  kill(): void {
    this.#dead = true;
    for (const { node, offset, bytes } of this.#flights)
      node.writeSome(offset, bytes(), () => this.#world.chance() < 0.5);
    this.#flights.clear();
    for (const open of this.#open.values()) this.#unlock(open);
    this.#open.clear();
  }
  // FileIo

  read(
    file: number,
    offset: number,
    at: number,
    length: number,
    done: FileDone,
    tag: number,
  ): void {
    const open = this.#use(file);
    this.#arena.bytes.fill(0xcd, at, at + length);
    this.#run("read", open.path, offset, length, (errno) => {
      open.busy -= 1;
      if (errno < 0) return () => done.fileDone(tag, errno);
      const count = Math.max(0, Math.min(length, open.node.size - offset));
      open.node.read(offset, count).copy(this.#arena.bytes, at);
      return () => done.fileDone(tag, count);
    });
  }
  write(
    file: number,
    offset: number,
    at: number,
    length: number,
    done: FileDone,
    tag: number,
  ): void {
    this.writeGather(file, offset, Float64Array.of(at, length), 1, done, tag, "write");
  }
  writeGather(
    file: number,
    offset: number,
    pieces: Float64Array,
    count: number,
    done: FileDone,
    tag: number,
    op: "write" | "writeGather" = "writeGather",
  ): void {
    invariant(count >= 1 && count <= 256, "pieces are few");
    const open = this.#use(file);
    invariant(open.write, `${open.path} is open for writing`);
    const list = pieces.slice(0, 2 * count);
    const bytes = (): Buffer =>
      Buffer.concat(
        Array.from({ length: count }, (_, i) =>
          this.#arena.bytes.subarray(list[2 * i]!, list[2 * i]! + list[2 * i + 1]!),
        ),
      );
    const flight = { node: open.node, offset, bytes };
    this.#flights.add(flight);
    const length = list.reduce((sum, value, i) => sum + (i % 2 === 1 ? value : 0), 0);
    this.#run(op, open.path, offset, length, (errno, call) => {
      open.busy -= 1;
      this.#flights.delete(flight);
      const goesTo = this.#options.misdirect?.(call) ?? offset;
      open.node.writeSome(goesTo, bytes(), () => errno >= 0 || this.#world.chance() < 0.5);
      return () => done.fileDone(tag, errno < 0 ? errno : length);
    });
  }
  sync(file: number, _dataOnly: boolean, done: FileDone, tag: number): void {
    const open = this.#use(file);
    const mark = open.node.mark();
    this.#run("sync", open.path, 0, 0, (errno, call) => {
      open.busy -= 1;
      if (errno < 0) open.node.syncFailed(mark);
      else if (this.#options.lie?.(call) !== true) open.node.synced(mark);
      return () => done.fileDone(tag, Math.min(errno, 0));
    });
  }

  // FileTree

  open(path: string, mode: OpenMode, then: (fault: Fault | null, file: number) => void): void {
    this.#run("open", path, 0, 0, (errno) => {
      if (errno < 0) return () => then(this.#fault(path, errno), -1);
      const { parent, name } = this.#parent(path);
      let node = parent?.get(name);
      if (mode === "create") {
        if (node !== undefined || parent === undefined)
          return () => then(this.#fault(path, parent === undefined ? ENOENT : EEXIST), -1);
        node = this.disk.newFile();
        parent.change([[name, node]]);
      }
      if (!(node instanceof FileNode)) return () => then(this.#fault(path, ENOENT), -1);
      const file = this.#nextFile++;
      this.#open.set(file, { node, path, busy: 0, write: mode !== "read" });
      return () => then(null, file);
    });
  }
  close(file: number): void {
    if (this.#dead) return;
    const open = this.#open.get(file);
    invariant(open !== undefined && open.busy === 0, `file ${file} is open and idle when closed`);
    this.#unlock(open);
    this.#open.delete(file);
  }
  lock(file: number): boolean {
    const open = this.#open.get(file)!;
    open.node.lockedBy ??= open;
    return open.node.lockedBy === open;
  }
  #unlock(open: { node: FileNode }): void {
    if (open.node.lockedBy === open) open.node.lockedBy = null;
  }
  sizeOf(path: string, then: (fault: Fault | null, sizeBytes: number) => void): void {
    this.#run("sizeOf", path, 0, 0, (errno) => {
      if (errno < 0) return () => then(this.#fault(path, errno), -1);
      const node = this.#node(path);
      const size = node instanceof FileNode ? node.size : node === undefined ? -1 : 4096;
      return () => then(null, size);
    });
  }
  setSize(file: number, sizeBytes: number, then: Then): void {
    const open = this.#use(file);
    this.#run("setSize", open.path, sizeBytes, 0, (errno) => {
      open.busy -= 1;
      if (errno >= 0) open.node.resize(sizeBytes);
      return () => then(errno < 0 ? this.#fault(open.path, errno) : null);
    });
  }
  list(path: string, then: (fault: Fault | null, names: readonly string[] | null) => void): void {
    this.#run("list", path, 0, 0, (errno) => {
      if (errno < 0) return () => then(this.#fault(path, errno), null);
      const node = this.#node(path);
      const names =
        node === undefined || node instanceof FileNode ? null : [...node.current.keys()].sort();
      return () => then(null, names);
    });
  }
  makeDirectory(path: string, parents: boolean, then: Then): void {
    this.#change("makeDirectory", path, then, () => {
      if (parents) {
        this.disk.makeDirectories(path);
        return 0;
      }
      const { parent, name } = this.#parent(path);
      if (parent === undefined) return ENOENT;
      if (parent.get(name) !== undefined) return EEXIST;
      parent.change([[name, this.disk.newDirectory()]]);
      return 0;
    });
  }
  rename(from: string, to: string, then: Then): void {
    this.#change("rename", from, then, () => {
      const source = this.#parent(from);
      const target = this.#parent(to);
      const node = source.parent?.get(source.name);
      if (node === undefined || source.parent === undefined) return ENOENT;
      invariant(source.parent === target.parent, "renames stay in one directory");
      const existing = target.parent.get(target.name);
      if (existing !== undefined && !(existing instanceof FileNode) && existing.current.size > 0)
        return EEXIST;
      source.parent.change([
        [source.name, null],
        [target.name, node],
      ]);
      return 0;
    });
  }
  copyOver(from: string, to: string, then: Then): void {
    // Four steps, each of which the power can cut: truncated, half copied, copied, synced.
    this.#change("copyOver", to, then, () => {
      const source = this.#node(from);
      const { parent, name } = this.#parent(to);
      if (!(source instanceof FileNode) || parent === undefined) return ENOENT;
      let target = parent.get(name);
      if (target === undefined) {
        target = this.disk.newFile();
        parent.change([[name, target]]);
      }
      if (!(target instanceof FileNode)) return EEXIST;
      const node = target;
      const copy = (part: number): void =>
        node.writeSome(0, source.read(0, Math.floor(source.size * part)), () => true);
      const step = (count: number, run: () => void, next: () => void): void =>
        this.#run("copyOver", `${to} step ${count}`, 0, 0, (errno) => {
          if (errno < 0) return () => then(this.#fault(to, errno));
          run();
          return next;
        });
      node.resize(0);
      step(
        2,
        () => copy(0.5),
        () =>
          step(
            3,
            () => {
              copy(1);
              node.resize(source.size);
            },
            () =>
              step(
                4,
                () => node.synced(node.mark()),
                () => then(null),
              ),
          ),
      );
      return 1;
    });
  }
  remove(path: string, then: Then): void {
    this.#change("remove", path, then, () => {
      const { parent, name } = this.#parent(path);
      const node = parent?.get(name);
      if (parent === undefined || node === undefined) return 0;
      if (node instanceof FileNode) {
        parent.change([[name, null]]);
        return 0;
      }
      node.change([...node.current.keys()].map((entry) => [entry, null]));
      this.#run("remove", `${path} itself`, 0, 0, (errno) => {
        if (errno >= 0) parent.change([[name, null]]);
        return () => then(errno < 0 ? this.#fault(path, errno) : null);
      });
      return 1;
    });
  }
  syncDirectory(path: string, then: Then): void {
    const node = this.#node(path);
    const mark = node === undefined || node instanceof FileNode ? 0 : node.pending;
    this.#change("syncDirectory", path, then, () => {
      if (node === undefined || node instanceof FileNode) return ENOENT;
      node.synced(mark);
      return 0;
    });
  }

  /** `change` answers 0, −errno, or 1 when it will answer itself. */
  #change(op: FileCall["op"], path: string, then: Then, change: () => number): void {
    this.#run(op, path, 0, 0, (errno) => {
      const result = errno < 0 ? errno : change();
      if (result > 0) return () => {};
      return () => then(result < 0 ? this.#fault(path, result) : null);
    });
  }
  #run(
    op: FileCall["op"],
    path: string,
    offset: number,
    length: number,
    effect: (errno: number, call: FileCall) => () => void,
  ): void {
    invariant(!this.#dead, "a dead process makes no calls");
    const call = { n: this.#calls++, op, path, offset, length };
    const errno = this.#options.fail?.(call) ?? 0;
    const latencyMs = this.#options.latencyMs ?? 1;
    const usualMs = latencyMs === 0 ? 0 : this.#world.chance() * latencyMs;
    this.#world.after(usualMs + (this.#options.delay?.(call) ?? 0), () => {
      if (this.#dead) return;
      const answer = effect(errno, call);
      this.#options.after?.(call);
      if (!this.#dead) answer();
    });
  }
  #use(file: number): { node: FileNode; path: string; busy: number; write: boolean } {
    const open = this.#open.get(file);
    invariant(open !== undefined, `file ${file} is open when used`);
    open.busy += 1;
    return open;
  }
  #node(path: string): FileNode | DirectoryNode | undefined {
    return this.disk.find(path);
  }
  #parent(path: string): { parent: DirectoryNode | undefined; name: string } {
    const cut = path.lastIndexOf("/");
    const parent = this.#node(path.slice(0, cut));
    return {
      parent: parent instanceof FileNode ? undefined : parent,
      name: path.slice(cut + 1),
    };
  }
  #fault(path: string, errno: number): Fault {
    const code = errno === EIO ? "TRIVET_E_IO" : "TRIVET_E_FILE";
    return new Fault(code, `${path}: ${WORDS[errno] ?? `error ${errno}`}`, { errno });
  }
}
