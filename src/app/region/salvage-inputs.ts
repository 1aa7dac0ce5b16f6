import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../../base/fault.js";
import { REGION_CONFIG_BYTES_MAX } from "../../base/limits.js";
import type { RegionDefinition } from "../../crucible/region-definition.js";
import { parseRegionConfig } from "../../region/config.js";
import { checkGeometry, type Geometry } from "../../region/geometry.js";
import { guessGeometry } from "../../region/guess-geometry.js";
import { extentLayout, SQLITE_SUFFIX } from "../../region/layout.js";
import { sqliteFault } from "../../region/sqlite.js";
import { usage } from "../cli/usage.js";
import { parseCount } from "../cli/values.js";
import { asFault } from "../report.js";
import { configPath } from "./directory.js";

// What the directories named for salvage are: which of them say what they hold, and whether they belong together.

export interface SalvageInput {
  /** As typed. */
  readonly directory: string;
  /** Where it really is. */
  readonly path: string;
  readonly definition: RegionDefinition | undefined;
  /** Why there is no definition. */
  readonly problem: string | undefined;
  readonly found: FoundExtents;
}

export interface FoundExtents {
  readonly count: number;
  readonly highest: number;
  /** The length that most of the files have; 0: there are none. */
  readonly usualBytes: number;
  readonly lengths: ReadonlySet<number>;
}

export async function examineDirectories(directories: readonly string[]): Promise<SalvageInput[]> {
  const inputs: SalvageInput[] = [];
  for (const directory of directories) {
    if (!existsSync(directory)) {
      throw new Fault("TRIVET_E_REGION_MISSING", `there is no directory ${directory}`);
    }
    if (!statSync(directory).isDirectory()) {
      throw new Fault("TRIVET_E_REGION_MISSING", `${directory} is no directory`);
    }
    const path = realpathSync(directory);
    const twin = inputs.find((input) => input.path === path);
    if (twin !== undefined) throw usage(`${twin.directory} and ${directory} are one directory`);
    const found = await findExtents(directory);
    inputs.push({ directory, path, found, ...describe(directory) });
  }
  if (inputs.every(({ found }) => found.count === 0)) {
    throw new Fault(
      "TRIVET_E_SALVAGE_NOTHING",
      `${directories.join(", ")}: there is not one extent file`,
    );
  }
  return inputs;
}

function describe(directory: string): Pick<SalvageInput, "definition" | "problem"> {
  const path = configPath(directory);
  try {
    const { size } = statSync(path);
    if (!statSync(path).isFile() || size > REGION_CONFIG_BYTES_MAX) {
      return { definition: undefined, problem: "region.json is no ordinary small file" };
    }
    const definition = parseRegionConfig(readFileSync(path, "utf8"), "region.json");
    return { definition, problem: undefined };
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    const why = isMissing ? "region.json is missing" : asFault(error)?.message;
    if (why === undefined) throw error;
    return { definition: undefined, problem: why };
  }
}

const TOP = /^[0-9A-F]{2}$/;
const NAME = /^[0-9A-F]{3}$/;

/** Looks at the names of all extent files, whatever region.json says. An unreadable folder counts as empty. */
async function findExtents(directory: string): Promise<FoundExtents> {
  const sizes = new Map<number, number>();
  let count = 0;
  let highest = -1;
  const names = async (path: string, pattern: RegExp): Promise<string[]> => {
    const all = await readdir(path).catch(() => [] as string[]);
    const old = all.find((name) => NAME.test(name.slice(0, 3)) && name.slice(3) === SQLITE_SUFFIX);
    if (old !== undefined && pattern === NAME) {
      const number = Number.parseInt(path.slice(-6).replace("/", "") + old.slice(0, 3), 16);
      throw sqliteFault(directory, number);
    }
    return all.filter((name) => pattern.test(name));
  };
  for (const top of await names(directory, TOP)) {
    for (const middle of await names(join(directory, top), /^[0-9A-F]{3}$/)) {
      const folder = join(directory, top, middle);
      for (const name of await names(folder, NAME)) {
        const number = Number.parseInt(top + middle + name, 16);
        count += 1;
        highest = Math.max(highest, number);
        const size = (await stat(join(folder, name)).catch(() => undefined))?.size ?? 0;
        sizes.set(size, (sizes.get(size) ?? 0) + 1);
      }
    }
  }
  const usual = [...sizes].filter(([size]) => size > 0).sort((a, b) => b[1] - a[1])[0];
  return { count, highest, usualBytes: usual?.[0] ?? 0, lengths: new Set(sizes.keys()) };
}

const same = (a: Geometry, b: Geometry): boolean =>
  a.blockSize === b.blockSize && a.extentSize === b.extentSize && a.extentCount === b.extentCount;
const show = (g: Geometry): string =>
  `${g.extentCount} extents of ${g.extentSize} blocks of ${g.blockSize} bytes`;

/** "4096,16384,160": block size, blocks per extent, number of extents. */
export function parseGeometry(text: string): Geometry {
  const parts = text.split(",");
  if (parts.length !== 3) {
    throw usage(
      `--geometry: "${text}" is no geometry; expected BLOCKSIZE,BLOCKS,EXTENTS, such as 4096,16384,160`,
    );
  }
  const [blockSize, extentSize, extentCount] = parts.map((part) =>
    parseCount("--geometry", part.trim(), 1, 2 ** 32 - 1),
  ) as [number, number, number];
  const geometry = { blockSize, extentSize, extentCount, shift: Math.log2(blockSize) };
  checkGeometry(geometry, "--geometry");
  return geometry;
}

/** One geometry for all, from whoever knows it. Those who contradict are refused by name. */
export function agreeOnGeometry(
  inputs: readonly SalvageInput[],
  given: Geometry | undefined,
): Geometry {
  const refuse = (what: string): never => {
    throw new Fault("TRIVET_E_SALVAGE_GEOMETRY", what);
  };
  const telling = inputs.flatMap(({ directory, definition }) =>
    definition === undefined ? [] : [{ directory, definition }],
  );
  const first = telling[0];
  const geometry = given ?? first?.definition;
  if (geometry === undefined) return refuse(`no region.json can be read${suggest(inputs)}`);
  const by = given === undefined ? `that of ${first!.directory}` : "--geometry";
  for (const { directory, definition } of telling) {
    if (!same(definition, geometry)) {
      refuse(
        `${directory} has ${show(definition)} by its region.json; ${by} says ${show(geometry)}`,
      );
    }
    if (first !== undefined && definition.encrypted !== first.definition.encrypted) {
      refuse(`of ${first.directory} and ${directory} one is encrypted and one is not`);
    }
  }
  if (given !== undefined) checkGiven(inputs, given, refuse);
  return geometry;
}

/** What was typed is compared with what lies there: a slip would make an image of garbage. */
function checkGiven(
  inputs: readonly SalvageInput[],
  given: Geometry,
  refuse: (what: string) => never,
): void {
  const { fileBytes } = extentLayout(given);
  const better = suggest(inputs);
  // Where every file is cut, nobody can say that it is wrong.
  if (better !== "" && !inputs.some(({ found }) => found.lengths.has(fileBytes))) {
    refuse(`--geometry means extent files of ${fileBytes} bytes${better}`);
  }
  const beyond = inputs.find(({ found }) => found.highest >= given.extentCount);
  if (beyond !== undefined) {
    refuse(
      `${beyond.directory} holds an extent ${beyond.found.highest}, but --geometry ends before that`,
    );
  }
}

function suggest(inputs: readonly SalvageInput[]): string {
  const extents = 1 + Math.max(...inputs.map(({ found }) => found.highest));
  for (const { directory, found } of inputs) {
    const [guess] = guessGeometry(found.usualBytes);
    if (guess !== undefined) {
      return `; the files in ${directory} have ${found.usualBytes} bytes, which fits --geometry ${guess.blockSize},${guess.extentSize},${extents}`;
    }
  }
  return "";
}
