import { type Call, type Contents, Kind, type Moment, type Recording } from "./recording.js";

// The disk under a recorded program: what its files show, what is certain to be on it, and what may be. A power
// cut leaves, of everything that no sync has covered, any part that a disk and a journal could have brought out:
//
// - sectors by themselves, each with the contents that it had after some of the writes to it (never a later one without
//   an earlier one, unless both were under way at the same time);
// - sizes of a file in their order, but whatever became of its sectors;
// - changes of a directory in their order, each directory and each file independent of all others. Only a sync of the directory
//   makes a name certain, which is less than ext4 or XFS promise.

/** A change of a file. `sizeAfter`: −1 when it leaves the size alone. */
export interface Op {
  readonly node: FileNode;
  readonly begin: number;
  end: number;
  readonly offset: number;
  data: Buffer;
  sizeAfter: number;
}
export interface Change {
  readonly node: DirectoryNode;
  readonly end: number;
  readonly entries: readonly (readonly [string, Node | null])[];
}
export type Unit = Op | Change;

/** Decides what a power cut leaves. Everything that is not decided here follows from the order of writes. */
export interface Chooser {
  /** `sector`: its first byte; −1: the size. */
  keeps(op: Op, sector: number): boolean;
  keepsChange(change: Change): boolean;
}

/** Disks write 512 bytes whole; blocks of a region are assumed to be written whole, for the format has no answer otherwise. */
const SECTOR_BYTES = 512;
export interface Grain {
  readonly blockBytes: number;
  readonly dataBytes: number;
}

export class FileNode {
  durable: Buffer = Buffer.alloc(0);
  current: Buffer = Buffer.alloc(0);
  ops: Op[] = [];

  copy(grain: Grain, chooser: Chooser): Buffer {
    if (this.ops.length === 0) return this.durable;
    let most = this.durable.length;
    let size = this.durable.length;
    for (const op of this.ops) {
      most = Math.max(most, op.offset + op.data.length);
      if (op.sizeAfter < 0) continue;
      most = Math.max(most, op.sizeAfter);
    }
    for (let i = this.ops.length - 1; i >= 0; i--) {
      const op = this.ops[i]!;
      if (op.sizeAfter < 0 || op.end === Number.POSITIVE_INFINITY || !chooser.keeps(op, -1))
        continue;
      size = op.sizeAfter;
      break;
    }
    const bytes = Buffer.alloc(most);
    this.durable.copy(bytes);
    this.#choose(grain, chooser, bytes);
    if (size <= most) return bytes.subarray(0, size);
    return Buffer.concat([bytes, Buffer.alloc(size - most)]);
  }
  #choose(grain: Grain, chooser: Chooser, bytes: Buffer): void {
    // From the last one back: what was kept decides about what must have been there before.
    const keptBegin = new Map<number, number>();
    const kept: [Op, number, number][] = [];
    for (let i = this.ops.length - 1; i >= 0; i--) {
      const op = this.ops[i]!;
      const last = op.offset + op.data.length;
      for (let at = op.offset; at < last; ) {
        const unit = at < grain.dataBytes ? grain.blockBytes : SECTOR_BYTES;
        const sector = Math.floor(at / unit) * unit;
        const next = Math.min(last, sector + unit);
        const later = keptBegin.get(sector) ?? -1;
        if (op.end < later || chooser.keeps(op, sector)) {
          kept.push([op, at, next]);
          keptBegin.set(sector, Math.max(later, op.begin));
        }
        at = next;
      }
    }
    for (let i = kept.length - 1; i >= 0; i--) {
      const [op, from, to] = kept[i]!;
      op.data.copy(bytes, from, from - op.offset, to - op.offset);
    }
  }

  begin(call: Call): void {
    const last = call.number + call.data.length;
    for (const other of this.ops)
      if (other.end === Number.POSITIVE_INFINITY)
        if (other.offset < last && call.number < other.offset + other.data.length)
          throw new Error(`two writes at ${call.number} are under way at the same time`);
    const { begin, number: offset, data } = call;
    const end = Number.POSITIVE_INFINITY;
    this.ops.push({ node: this, begin, end, offset, data, sizeAfter: -1 });
  }
  ended(call: Call, at: number, count: number): void {
    const op = this.ops.find((one) => one.begin === call.begin)!;
    op.end = at;
    op.data = op.data.subarray(0, count);
    const last = op.offset + count;
    if (last > this.current.length) {
      this.current = Buffer.concat([this.current, Buffer.alloc(last - this.current.length)]);
      op.sizeAfter = last;
    } else this.current = Buffer.from(this.current);
    op.data.copy(this.current, op.offset);
  }
  resized(begin: number, end: number, size: number): void {
    const cut = Math.max(0, this.current.length - size);
    const data = Buffer.alloc(cut);
    this.ops.push({ node: this, begin, end, offset: size, data, sizeAfter: size });
    const grown = Buffer.alloc(size);
    this.current.copy(grown);
    this.current = grown;
  }
  /** A sync that began at `begin` has succeeded. */
  synced(begin: number): void {
    const covered = this.ops.filter((op) => op.end < begin);
    if (covered.length === 0) return;
    this.ops = this.ops.filter((op) => op.end >= begin);
    let size = this.durable.length;
    let most = size;
    for (const op of covered) {
      most = Math.max(most, op.offset + op.data.length, op.sizeAfter);
      if (op.sizeAfter >= 0) size = op.sizeAfter;
    }
    const bytes = Buffer.alloc(most);
    this.durable.copy(bytes);
    for (const op of covered) op.data.copy(bytes, op.offset);
    this.durable = bytes.subarray(0, size);
  }
}

export class DirectoryNode {
  current = new Map<string, Node>();
  durable = new Map<string, Node>();
  changes: Change[] = [];

  change(at: number, entries: Change["entries"]): void {
    this.changes.push({ node: this, end: at, entries });
    apply(this.current, entries);
  }
  synced(begin: number): void {
    while (this.changes.length > 0 && this.changes[0]!.end < begin)
      apply(this.durable, this.changes.shift()!.entries);
  }
  copy(chooser: Chooser): Map<string, Node> {
    if (this.changes.length === 0) return this.durable;
    let count = this.changes.length;
    while (count > 0 && !chooser.keepsChange(this.changes[count - 1]!)) count -= 1;
    const entries = new Map(this.durable);
    for (const change of this.changes.slice(0, count)) apply(entries, change.entries);
    return entries;
  }
}
type Node = FileNode | DirectoryNode;

function apply(map: Map<string, Node>, entries: Change["entries"]): void {
  for (const [name, node] of entries) {
    if (node === null) map.delete(name);
    else map.set(name, node);
  }
}

const O_CREAT = 0o100;
const O_TRUNC = 0o1000;

/** Replays a recording, moment by moment. */
export class RecordedDisk {
  readonly #root = new DirectoryNode();
  readonly #recording: Recording;
  readonly #grain: Grain;
  readonly #open = new Map<string, Node>();
  /** Begun and not ended, except writes, which their files know. */
  readonly #pending = new Set<Call>();
  /** True for a sync that is to be taken for one that did nothing. */
  readonly #lies: (call: Call, disk: RecordedDisk) => boolean;

  constructor(
    recording: Recording,
    grain: Grain,
    lies: (call: Call, disk: RecordedDisk) => boolean = () => false,
  ) {
    this.#recording = recording;
    this.#grain = grain;
    this.#lies = lies;
  }

  /** What a program sees, by path below the directory of the recording. */
  current(): Contents {
    return walk(
      this.#root,
      (node) => node.current,
      (node) => node.current,
    );
  }
  cut(chooser: Chooser): Contents {
    return walk(
      this.#root,
      (node) => node.copy(chooser),
      (node) => node.copy(this.#grain, chooser),
    );
  }
  /** What no sync has covered yet. */
  units(): Unit[] {
    const found: Unit[] = [];
    const seen = new Set<Node>();
    const visit = (node: Node): void => {
      if (seen.has(node)) return;
      seen.add(node);
      if (node instanceof FileNode) {
        found.push(...node.ops);
        return;
      }
      found.push(...node.changes);
      // Also what has lost its name, but perhaps not on the disk.
      for (const child of [...node.current.values(), ...node.durable.values()]) visit(child);
    };
    visit(this.#root);
    return found;
  }
  nodeOf(call: Call): Node | undefined {
    return this.#open.get(`${call.process}.${call.fd}`);
  }
  /** Name of an open file or directory; undefined when it has lost it. */
  pathOf(wanted: Node, below = "", node: Node = this.#root): string | undefined {
    if (node === wanted) return below;
    if (node instanceof FileNode) return undefined;
    for (const [name, child] of node.current) {
      const found = this.pathOf(wanted, `${below}/${name}`, child);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  apply(moment: Moment, at: number): void {
    const { call, isEnd } = moment;
    const isWrite = call.kind === Kind.write;
    if (call.kind === Kind.send || call.kind === Kind.receive) return;
    if (call.kind === Kind.marker) this.#marked(call, at);
    else if (call.kind === Kind.close) this.#open.delete(`${call.process}.${call.fd}`);
    else if (isWrite && !isEnd) this.#file(call).begin(call);
    else if (isWrite) this.#file(call).ended(call, at, Math.max(0, call.result));
    else if (!isEnd) this.#pending.add(call);
    else {
      this.#pending.delete(call);
      if (call.result >= 0) this.#happened(call, at);
    }
  }
  #happened(call: Call, at: number): void {
    switch (call.kind) {
      case Kind.open:
        this.#opened(call, at);
        return;
      case Kind.truncate:
        this.#file(call).resized(call.begin, at, call.number);
        return;
      case Kind.sync:
        if (!this.#lies(call, this)) this.nodeOf(call)?.synced(call.begin);
        return;
      case Kind.syncAll:
        if (!this.#lies(call, this)) this.#syncAll(this.#root, call.begin);
        return;
      case Kind.makeDirectory: {
        const { parent, name } = this.#parent(call.path);
        parent.change(at, [[name, new DirectoryNode()]]);
        return;
      }
      case Kind.unlink:
      case Kind.removeDirectory: {
        const { parent, name } = this.#parent(call.path);
        parent.change(at, [[name, null]]);
        return;
      }
      case Kind.rename: {
        const from = this.#parent(call.path);
        const to = this.#parent(call.to);
        const node = from.parent.current.get(from.name);
        if (node === undefined || from.parent !== to.parent)
          throw new Error(`cannot follow the renaming of ${call.path} to ${call.to}`);
        from.parent.change(at, [
          [from.name, null],
          [to.name, node],
        ]);
        return;
      }
      default:
        throw new Error(`cannot replay a call of kind ${call.kind}`);
    }
  }
  #opened(call: Call, at: number): void {
    const path = this.#below(call.path);
    let node = this.#find(path);
    if (node === undefined && (call.flags & O_CREAT) !== 0) {
      const { parent, name } = this.#parent(call.path);
      node = new FileNode();
      parent.change(at, [[name, node]]);
    }
    if (node === undefined) throw new Error(`${path} was opened, but never made`);
    if ((call.flags & O_TRUNC) !== 0 && node instanceof FileNode && node.current.length > 0)
      node.resized(call.begin, at, 0);
    if (call.result >= 0) this.#open.set(`${call.process}.${call.result}`, node);
  }
  #syncAll(node: Node, begin: number): void {
    node.synced(begin);
    if (node instanceof DirectoryNode)
      for (const child of node.current.values()) this.#syncAll(child, begin);
  }

  /** `exit N`: the process is gone. Of what it had begun the page cache has what is seen now. */
  #marked(call: Call, at: number): void {
    const process = /^exit (\d+)/.exec(call.path)?.[1];
    if (process === undefined) return;
    const seen = this.#recording.seen.get(call.path);
    if (seen === undefined) throw new Error(`nobody looked at the end of process ${process}`);
    const visit = (node: Node, path: string): void => {
      if (node instanceof DirectoryNode) {
        for (const [name, child] of node.current) visit(child, `${path}/${name}`);
        return;
      }
      for (const op of node.ops) {
        if (op.end !== Number.POSITIVE_INFINITY) continue;
        const actual = seen.get(path)?.subarray(op.offset, op.offset + op.data.length);
        if (actual !== undefined) op.data = Buffer.from(actual);
        node.ended({ ...call, begin: op.begin }, at, op.data.length);
      }
    };
    visit(this.#root, this.#recording.directory);
    for (const open of [...this.#pending]) {
      if (`${open.process}` !== process) continue;
      this.#pending.delete(open);
      open.end = at;
      if (this.#hasHappened(open, seen)) this.#happened({ ...open, result: -1 }, at);
    }
    for (const name of [...this.#open.keys()])
      if (name.startsWith(`${process}.`)) this.#open.delete(name);
  }
  #hasHappened(call: Call, seen: Contents): boolean {
    if (call.kind === Kind.makeDirectory) return seen.has(call.path);
    if (call.kind === Kind.unlink || call.kind === Kind.removeDirectory)
      return !seen.has(call.path) && this.#find(this.#below(call.path)) !== undefined;
    if (call.kind === Kind.rename) return !seen.has(call.path);
    if (call.kind === Kind.truncate)
      return (
        seen.get(this.#recording.directory + this.pathOf(this.#file(call)))?.length === call.number
      );
    if (call.kind === Kind.open && (call.flags & O_CREAT) !== 0)
      return (
        seen.has(call.path) && ((call.flags & O_TRUNC) === 0 || seen.get(call.path)?.length === 0)
      );
    return false;
  }

  #file(call: Call): FileNode {
    const node = this.nodeOf(call);
    if (!(node instanceof FileNode)) throw new Error(`descriptor ${call.fd} is no open file`);
    return node;
  }
  #below(path: string): string {
    return path.slice(this.#recording.directory.length);
  }
  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of path.split("/"))
      if (name !== "") node = node instanceof DirectoryNode ? node.current.get(name) : undefined;
    return node;
  }
  #parent(full: string): { parent: DirectoryNode; name: string } {
    const path = this.#below(full);
    const cut = path.lastIndexOf("/");
    const parent = this.#find(path.slice(0, cut));
    if (!(parent instanceof DirectoryNode)) throw new Error(`${full} is in no known directory`);
    return { parent, name: path.slice(cut + 1) };
  }
}

function walk(
  root: DirectoryNode,
  entries: (node: DirectoryNode) => Map<string, Node>,
  bytes: (node: FileNode) => Buffer,
): Contents {
  const found: Contents = new Map();
  const visit = (node: DirectoryNode, path: string): void => {
    for (const [name, child] of entries(node)) {
      const inner = `${path}/${name}`;
      if (child instanceof FileNode) found.set(inner, bytes(child));
      else {
        found.set(inner, null);
        visit(child, inner);
      }
    }
  };
  visit(root, "");
  return found;
}
