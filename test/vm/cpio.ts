// An initramfs as the kernel reads it: the "newc" form of cpio (kernel documentation, "initramfs buffer
// format"). Entries in the order given; a folder must come before what is in it.

export type Entry =
  | { readonly kind: "folder"; readonly path: string }
  | { readonly kind: "file"; readonly path: string; readonly mode: number; readonly data: Buffer }
  | { readonly kind: "link"; readonly path: string; readonly target: string }
  | {
      readonly kind: "device";
      readonly path: string;
      readonly major: number;
      readonly minor: number;
    };

const TYPE = { folder: 0o040000, file: 0o100000, link: 0o120000, device: 0o020000 } as const;
const TRAILER = "TRAILER!!!";

const padded = (data: Buffer): Buffer => {
  const rest = -data.length & 3;
  return rest === 0 ? data : Buffer.concat([data, Buffer.alloc(rest)]);
};

function record(
  name: string,
  inode: number,
  mode: number,
  data: Buffer,
  device: readonly [number, number] = [0, 0],
): Buffer[] {
  const links = name === TRAILER || (mode & TYPE.folder) === 0 ? 1 : 2;
  const text = Buffer.from(`${name}\0`);
  const numbers = [inode, mode, 0, 0, links, 0, data.length, 0, 0, ...device, text.length, 0];
  const head = `070701${numbers.map((n) => n.toString(16).padStart(8, "0")).join("")}`;
  return [padded(Buffer.concat([Buffer.from(head), text])), padded(data)];
}

/** The whole archive. Paths are relative, without a leading slash. */
export function archive(entries: readonly Entry[]): Buffer {
  const parts: Buffer[] = [];
  let inode = 1;
  for (const entry of entries) {
    const type = TYPE[entry.kind];
    const none = Buffer.alloc(0);
    if (entry.kind === "folder") parts.push(...record(entry.path, inode, type | 0o755, none));
    else if (entry.kind === "file")
      parts.push(...record(entry.path, inode, type | entry.mode, entry.data));
    else if (entry.kind === "link")
      parts.push(...record(entry.path, inode, type | 0o777, Buffer.from(entry.target)));
    else parts.push(...record(entry.path, inode, type | 0o600, none, [entry.major, entry.minor]));
    inode += 1;
  }
  parts.push(...record(TRAILER, 0, 0, Buffer.alloc(0)));
  return Buffer.concat(parts);
}
