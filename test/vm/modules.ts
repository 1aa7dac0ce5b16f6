import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

// Kernel modules in the order in which insmod takes them. Packages hold no modules.dep (depmod makes it at
// installation), but each module names what it needs.

export interface Module {
  readonly name: string;
  /** As insmod wants it: not compressed. */
  readonly data: Buffer;
}

const plain = (name: string): string => name.replaceAll("-", "_");
const nameOf = (path: string): string => plain(basename(path).replace(/\.ko(\.\w+)?$/, ""));

function content(path: string): Buffer {
  const tool = path.endsWith(".xz") ? "xz" : path.endsWith(".zst") ? "zstd" : undefined;
  if (tool === undefined) return readFileSync(path);
  return execFileSync(tool, ["-dc", path], { maxBuffer: 1 << 28 });
}

/** Names in the module's `depends=` line; modules without one need nothing. */
export function needs(data: Buffer): string[] {
  const at = data.indexOf("\0depends=");
  if (at < 0) return [];
  const from = at + "\0depends=".length;
  const text = data.toString("latin1", from, data.indexOf(0, from));
  return text === "" ? [] : text.split(",").map(plain);
}

/** `folder`: lib/modules/VERSION of an unpacked package. What is built into the kernel is left out. */
export function inOrder(folder: string, wanted: readonly string[]): Module[] {
  const builtIn = new Set(
    readFileSync(join(folder, "modules.builtin"), "utf8").split("\n").map(nameOf),
  );
  const paths = new Map<string, string>();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true }))
    if (/\.ko(\.\w+)?$/.test(entry.name))
      paths.set(nameOf(entry.name), join(entry.parentPath, entry.name));

  const found = new Map<string, Module>();
  const take = (name: string): void => {
    if (found.has(name) || builtIn.has(name)) return;
    const path = paths.get(name);
    if (path === undefined) throw new Error(`this kernel has no module ${name}`);
    const data = content(path);
    for (const other of needs(data)) take(other);
    found.set(name, { name, data });
  };
  for (const name of wanted) take(plain(name));
  return [...found.values()];
}
