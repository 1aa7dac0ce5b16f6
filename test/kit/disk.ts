/** What a disk writes whole: 512 bytes, unless a disk is made with other sectors. */
const SECTOR = 512;
const ZEROS = Buffer.alloc(SECTOR);

/**
 * One sector of a file. `versions`: everything that may be on the disk, oldest first; the last one is what the
 * page cache shows. `dirty`: the kernel will write it at the next sync; after a failed sync it will not.
 */
type Sector = { versions: Buffer[]; dirty: boolean };

/**
 * A file whose every sector remembers what the disk may hold of it. The page cache writes sectors back whenever
 * it likes, each by itself: after a power cut a sector has any content it had since the last sync that covered it.
 */
export class FileNode {
  /** Whoever has the lock. */
  lockedBy: object | null = null;
  readonly #sectorBytes: number;
  readonly #zeros: Buffer;
  readonly #sectors = new Map<number, Sector>();
  #sizes: number[] = [0];

  constructor(sectorBytes: number) {
    this.#sectorBytes = sectorBytes;
    this.#zeros = Buffer.alloc(sectorBytes);
  }

  get size(): number {
    return this.#sizes.at(-1)!;
  }
  resize(sizeBytes: number): void {
    if (sizeBytes < this.size) {
      const first = Math.floor(sizeBytes / this.#sectorBytes);
      for (const index of this.#sectors.keys())
        if (index >= first) {
          const keep = Math.max(0, sizeBytes - index * this.#sectorBytes);
          this.#touch(index, (bytes) => bytes.fill(0, keep));
        }
    }
    this.#sizes.push(sizeBytes);
  }
  read(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    this.#each(offset, length, (index, from, count, at) => {
      const sector = this.#sectors.get(index);
      if (sector !== undefined) sector.versions.at(-1)!.copy(bytes, at, from, from + count);
    });
    return bytes;
  }
  /** Writes the parts in those sectors for which `choose` says so. */
  writeSome(offset: number, bytes: Buffer, choose: () => boolean): void {
    this.#each(offset, bytes.length, (index, from, count, at) => {
      if (choose()) this.#touch(index, (sector) => bytes.copy(sector, from, at, at + count));
    });
    if (offset + bytes.length > this.size) this.#sizes.push(offset + bytes.length);
  }
  #touch(index: number, change: (bytes: Buffer) => void): void {
    let sector = this.#sectors.get(index);
    if (sector === undefined) {
      sector = { versions: [this.#zeros], dirty: false };
      this.#sectors.set(index, sector);
    }
    const bytes = Buffer.from(sector.versions.at(-1)!);
    change(bytes);
    sector.versions.push(bytes);
    sector.dirty = true;
  }
  #each(
    offset: number,
    length: number,
    visit: (index: number, from: number, count: number, at: number) => void,
  ): void {
    for (let at = 0; at < length; ) {
      const index = Math.floor((offset + at) / this.#sectorBytes);
      const from = (offset + at) % this.#sectorBytes;
      const count = Math.min(this.#sectorBytes - from, length - at);
      visit(index, from, count, at);
      at += count;
    }
  }

  /** Bits that change by themselves, on a disk at rest. False: nothing was written there, or it was only just now. */
  flip(offset: number, mask: number): boolean {
    const sector = this.#sectors.get(Math.floor(offset / this.#sectorBytes));
    if (sector === undefined || sector.versions.length > 1) return false;
    const bytes = Buffer.from(sector.versions.at(-1)!);
    bytes[offset % this.#sectorBytes]! ^= mask;
    sector.versions[sector.versions.length - 1] = bytes;
    return true;
  }

  /** What a sync that begins now covers. */
  mark(): { sizes: number; sectors: Map<Sector, Buffer> } {
    const sectors = new Map<Sector, Buffer>();
    for (const sector of this.#sectors.values())
      if (sector.dirty) sectors.set(sector, sector.versions.at(-1)!);
    return { sizes: this.#sizes.length, sectors };
  }
  synced(mark: ReturnType<FileNode["mark"]>): void {
    this.#sizes.splice(0, Math.min(mark.sizes, this.#sizes.length) - 1);
    for (const [sector, version] of mark.sectors) {
      const index = sector.versions.indexOf(version);
      if (index > 0) sector.versions.splice(0, index);
      if (sector.versions.length === 1) sector.dirty = false;
    }
  }
  /** As Linux has it: the error is told once, and the pages count as clean, whatever the disk holds. */
  syncFailed(mark: ReturnType<FileNode["mark"]>): void {
    for (const [sector, version] of mark.sectors)
      if (sector.versions.at(-1) === version) sector.dirty = false;
  }
  cut(chance: () => number): FileNode {
    const node = new FileNode(this.#sectorBytes);
    node.#sizes = [this.#sizes[Math.floor(chance() * this.#sizes.length)]!];
    for (const [index, { versions }] of this.#sectors) {
      const version = versions[Math.floor(chance() * versions.length)]!;
      node.#sectors.set(index, { versions: [version], dirty: false });
    }
    return node;
  }
  copy(): FileNode {
    const node = new FileNode(this.#sectorBytes);
    node.#sizes = [...this.#sizes];
    for (const [index, { versions, dirty }] of this.#sectors)
      node.#sectors.set(index, { versions: [...versions], dirty });
    return node;
  }
}

type Entry = readonly [name: string, node: Node | null];
type Node = FileNode | DirectoryNode;

/** A directory: its changes reach the disk in order; a power cut keeps any first few of those not synced. */
export class DirectoryNode {
  readonly current = new Map<string, Node>();
  #durable = new Map<string, Node>();
  #pending: (readonly Entry[])[] = [];

  get(name: string): Node | undefined {
    return this.current.get(name);
  }
  /** One atomic change. */
  change(entries: readonly Entry[]): void {
    this.#pending.push(entries);
    apply(this.current, entries);
  }
  get pending(): number {
    return this.#pending.length;
  }
  synced(count: number): void {
    for (const entries of this.#pending.splice(0, count)) apply(this.#durable, entries);
  }
  cut(chance: () => number): DirectoryNode {
    const kept = new Map(this.#durable);
    const count = Math.floor(chance() * (this.#pending.length + 1));
    for (const entries of this.#pending.slice(0, count)) apply(kept, entries);
    return fresh(kept, (node) => node.cut(chance));
  }
  copy(): DirectoryNode {
    return fresh(this.current, (node) => node.copy());
  }
}

function fresh(entries: Map<string, Node>, copy: (node: Node) => Node): DirectoryNode {
  const node = new DirectoryNode();
  node.change([...entries].map(([name, child]) => [name, copy(child)] as const));
  node.synced(1);
  return node;
}
function apply(map: Map<string, Node>, entries: readonly Entry[]): void {
  for (const [name, node] of entries) {
    if (node === null) map.delete(name);
    else map.set(name, node);
  }
}

/** A file system in memory that knows what would be left of it without power. Paths are absolute. */
export class FakeDisk {
  #root = new DirectoryNode();
  readonly #sectorBytes: number;

  constructor(sectorBytes = SECTOR) {
    this.#sectorBytes = sectorBytes;
  }

  newFile(): FileNode {
    return new FileNode(this.#sectorBytes);
  }
  find(path: string): Node | undefined {
    let node: Node = this.#root;
    for (const name of path.split("/")) {
      if (name === "") continue;
      if (node instanceof FileNode) return undefined;
      const next = node.get(name);
      if (next === undefined) return undefined;
      node = next;
    }
    return node;
  }
  newDirectory(): DirectoryNode {
    return new DirectoryNode();
  }
  makeDirectories(path: string): DirectoryNode {
    let node = this.#root;
    for (const name of path.split("/")) {
      if (name === "") continue;
      const next = node.get(name) ?? new DirectoryNode();
      if (next instanceof FileNode) throw new Error(`${path} passes through a file`);
      if (node.get(name) === undefined) node.change([[name, next]]);
      node = next;
    }
    return node;
  }
  /** Puts a file there, durable, with the directories it needs. */
  put(path: string, bytes: Uint8Array): void {
    const cut = path.lastIndexOf("/");
    this.makeDirectories(path.slice(0, cut));
    const node = this.newFile();
    const buffer = Buffer.from(bytes);
    for (let at = 0; at < buffer.length; at += SECTOR) {
      const piece = buffer.subarray(at, at + SECTOR);
      if (!piece.equals(ZEROS.subarray(0, piece.length))) node.writeSome(at, piece, () => true);
    }
    node.resize(buffer.length);
    node.synced(node.mark());
    const parent = this.find(path.slice(0, cut)) as DirectoryNode;
    parent.change([[path.slice(cut + 1), node]]);
    this.settle();
  }
  /** What a program would read now; undefined when there is no such file. */
  get(path: string): Buffer | undefined {
    const node = this.find(path);
    return node instanceof FileNode ? node.read(0, node.size) : undefined;
  }
  /** Every name in the tree, directories with a slash at the end. */
  paths(below = "", node: Node = this.#root): string[] {
    if (node instanceof FileNode) return [below];
    const inner = [...node.current].flatMap(([name, child]) =>
      this.paths(`${below}/${name}`, child),
    );
    return below === "" ? inner.sort() : [`${below}/`, ...inner];
  }
  /** Directory changes so far are durable. */
  settle(node: Node = this.#root): void {
    if (node instanceof FileNode) return;
    node.synced(node.pending);
    for (const child of node.current.values()) this.settle(child);
  }
  /** What may be left when the power goes now. This disk goes on. */
  cut(chance: () => number): FakeDisk {
    const disk = new FakeDisk(this.#sectorBytes);
    disk.#root = this.#root.cut(chance);
    return disk;
  }
  copy(): FakeDisk {
    const disk = new FakeDisk(this.#sectorBytes);
    disk.#root = this.#root.copy();
    return disk;
  }
}
