// Writes build/bin/*: one small launcher per command name. They find the compiled program by their own
// place, also through symbolic links, so that /usr/local/bin may link to them.
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const NAMES = ["trivet", "crucible-nbd-server", "crucible-downstairs"];

const launcher = (name) => `#!/bin/sh
# Starts ${name} with the Node that is found first, or the one that TRIVET_NODE names.
here=$(dirname "$(readlink -f "$0")")
exec "\${TRIVET_NODE:-node}" --enable-source-maps "$here/../../dist/src/app/${name}.js" "$@"
`;

export function writeLaunchers(root) {
  const folder = join(root, "build/bin");
  mkdirSync(folder, { recursive: true });
  for (const name of NAMES) {
    const path = join(folder, name);
    const text = launcher(name);
    if (existsSync(path) && readFileSync(path, "utf8") === text) continue;
    writeFileSync(path, text);
    chmodSync(path, 0o755);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeLaunchers(join(dirname(fileURLToPath(import.meta.url)), ".."));
}
