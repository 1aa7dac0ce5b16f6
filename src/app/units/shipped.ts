import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Fault } from "../../base/fault.js";

// What the folder `systemd/` has for a host, and where it goes. The sources name the program at /opt/trivet; what is installed names it where it is.

/** Where the program lies, seen from the compiled file (dist/src/app/units). */
export const PROGRAM_ROOT = fileURLToPath(new URL("../../../..", import.meta.url)).replace(
  /\/$/,
  "",
);
const SOURCE_PROGRAM = "/opt/trivet";

/** Every tool of systemd, udev and kmod looks here after /etc and before /usr/lib: the place of what an administrator installs. */
const LIB = "usr/local/lib";
const UNITS = [
  "trivet.slice",
  "trivet@.service",
  "trivet@.socket",
  "trivet-attach@.service",
  "trivet-region@.service",
];
const OTHERS = [
  "modprobe.d/trivet.conf",
  "modules-load.d/trivet.conf",
  "sysusers.d/trivet.conf",
  "tmpfiles.d/trivet.conf",
  "udev/rules.d/61-trivet.rules",
];

/** The list of what was installed, for whoever takes it away. */
export const MANIFEST_PATH = `${LIB}/trivet/units.json`;
export const UNIT_FOLDER = `${LIB}/systemd/system`;

export interface ShippedFile {
  /** Below the prefix, without a slash in front. */
  readonly path: string;
  readonly text: string;
}

export interface Place {
  /** The folder that holds build/ and systemd/, as services will see it. */
  readonly program: string;
  /** The Node that services shall start; undefined: the one that they find by themselves. */
  readonly node: string | undefined;
}

/** Every file with its text for this place, in an order that does not change. */
export function shippedFiles(place: Place, from = join(PROGRAM_ROOT, "systemd")): ShippedFile[] {
  const read = (name: string): string => render(readFileSync(join(from, name), "utf8"), place);
  return [
    ...UNITS.map((name) => ({ path: `${UNIT_FOLDER}/${name}`, text: read(name) })),
    ...OTHERS.map((name) => ({ path: `${LIB}/${name}`, text: read(name) })),
  ];
}

/** Names of the sources, for a check that none is forgotten. */
export const SOURCE_NAMES: readonly string[] = [...UNITS, ...OTHERS];

function render(text: string, { program, node }: Place): string {
  const placed = text.replaceAll(`${SOURCE_PROGRAM}/`, `${program}/`);
  if (node === undefined) return placed;
  return placed.replace(/^\[Service\]$/m, `[Service]\nEnvironment=TRIVET_NODE=${node}`);
}

/** A path that needs no quoting in a unit. Throws a Fault for any other. */
export function plainPath(what: string, path: string): string {
  if (/^\/[\w./+@-]+$/.test(path)) return path;
  throw new Fault(
    "TRIVET_E_UNITS_PLACE",
    `${what} is ${JSON.stringify(path)}, and units need an absolute path of letters, digits and . _ + @ - /`,
  );
}
