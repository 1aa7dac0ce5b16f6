import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { extentLayout } from "../../src/region/layout.js";
import type { FakeDisk } from "../kit/disk.js";
import { prng } from "../kit/world.js";
import { xxh } from "../unit/store/rig.js";
import { type Chooser, type Op, RecordedDisk, type Unit } from "./disk.js";
import { changeLater, definitionIn, diskOf, type Found, openDisk, type Refusal } from "./open.js";
import { Promises, type Replacement } from "./promises.js";
import { type Call, type Contents, Kind, type Moment, type Recording } from "./recording.js";

export interface Plan {
  readonly seed: number;
  /** Random states drawn at each moment at which something is not synced. */
  readonly draws: number;
  /** Stops after so many states that differ. */
  readonly most?: number;
  readonly lies?: (call: Call, disk: RecordedDisk) => boolean;
  /** Of the states, this part is also written to, closed and opened again. */
  readonly later?: number;
  /** Sees every new state. */
  readonly visit?: (state: Contents, at: number) => void;
}
export interface Outcome {
  /** States that differ in at least one byte or name. */
  readonly states: number;
  /** All that were looked at. */
  readonly looked: number;
  readonly promises: Promises;
  /** What the first bad state was; null: there is none. */
  readonly wrong: string | null;
}

type Result = Found | Refusal;
const NO_REGION = "TRIVET_E_REGION_MISSING";

/**
 * Replays a recording, and after each moment cuts the power in many ways. Each state is opened by the code that `region run` opens
 * with, and what is found is held against what had been promised by then.
 */
export class Explorer {
  readonly #recording: Recording;
  readonly #plan: Plan;
  readonly #chance: () => number;
  readonly #disk: RecordedDisk;
  readonly #promises: Promises;
  readonly #opened = new Map<bigint, Result>();
  #looked = 0;
  #wrong: string | null = null;

  constructor(recording: Recording, region: RegionDefinition, plan: Plan) {
    this.#recording = recording;
    this.#plan = plan;
    this.#chance = prng(plan.seed);
    this.#disk = diskFor(recording, region, plan.lies);
    this.#promises = new Promises(region);
  }

  run(): Outcome {
    const { moments } = this.#recording;
    const most = this.#plan.most ?? Number.POSITIVE_INFINITY;
    for (const [at, moment] of moments.entries()) {
      if (this.#wrong !== null || this.#opened.size >= most) break;
      this.#disk.apply(moment, at);
      this.#compare(moment);
      this.#promises.apply(moment, (one) => replacements(one, this.#recording, this.#disk));
      this.#cutHere(at, moment);
    }
    const { size: states } = this.#opened;
    return { states, looked: this.#looked, promises: this.#promises, wrong: this.#wrong };
  }

  /** What the recording makes of the directory must be what was there. */
  #compare({ call }: Moment): void {
    const seen = this.#recording.seen.get(call.path);
    if (call.kind !== Kind.marker || seen === undefined) return;
    const problem = difference(this.#disk.current(), seen, this.#recording.directory);
    if (problem !== null) throw new Error(`at "${call.path}" the recording is wrong: ${problem}`);
  }
  #cutHere(at: number, moment: Moment): void {
    // Nothing is on its way that was not, and nothing was promised.
    if (moment.call.kind === Kind.receive || moment.call.kind === Kind.close) return;
    const all: Chooser = { keeps: (op) => op.end !== NEVER, keepsChange: () => true };
    this.#look(at, "all that was written", all);
    const units = this.#disk.units();
    if (units.length === 0) return;
    this.#look(at, "only what was synced", { keeps: () => false, keepsChange: () => false });
    const few = units.length <= EACH_MAX ? units : this.#some(units, EACH_MAX);
    for (const unit of few) {
      this.#look(at, "all but one", { keeps: (op) => op !== unit, keepsChange: (c) => c !== unit });
      this.#look(at, "only one", { keeps: (op) => op === unit, keepsChange: (c) => c === unit });
    }
    if (moment.call.kind === Kind.send || moment.call.kind === Kind.marker) return;
    for (let i = 0; i < this.#plan.draws; i++) this.#look(at, `draw ${i}`, this.#random());
  }
  #some(units: readonly Unit[], count: number): Unit[] {
    return Array.from({ length: count }, () => units[Math.floor(this.#chance() * units.length)]!);
  }
  /** Whole writes that are there or not; some of them torn; sometimes every sector by itself. */
  #random(): Chooser {
    const likely = [0.1, 0.5, 0.9][Math.floor(this.#chance() * 3)]!;
    const torn = [0, 0.3, 1][Math.floor(this.#chance() * 3)]!;
    const fates = new Map<Op, boolean | null>();
    return {
      keeps: (op) => {
        let fate = fates.get(op);
        if (fate === undefined) {
          fate = this.#chance() < torn ? null : this.#chance() < likely;
          fates.set(op, fate);
        }
        return fate ?? this.#chance() < 0.5;
      },
      keepsChange: () => this.#chance() < likely,
    };
  }

  #look(at: number, what: string, chooser: Chooser): void {
    if (this.#wrong !== null) return;
    const state = this.#disk.cut(chooser);
    this.#looked += 1;
    const name = nameOf(state);
    let result = this.#opened.get(name);
    if (result === undefined) {
      this.#plan.visit?.(state, at);
      result = this.#open(state);
      this.#opened.set(name, result);
    }
    const complaint = this.#judge(result);
    if (complaint !== null)
      this.#wrong = `seed ${this.#plan.seed}, moment ${at} (${describe(this.#recording, at)}), ${what}: ${complaint}`;
  }
  #open(state: Contents): Result {
    const settles = [...state.keys()].some((path) => path.endsWith(".replace"));
    if (!settles) {
      const found = openDisk(diskOf(state, "/r"));
      if ("code" in found || this.#chance() > (this.#plan.later ?? LATER_PART)) return found;
      const change = changeLater(diskOf(state, "/r"), found);
      return change === null ? found : { code: "a change", text: change };
    }
    // A repair is finished while opening: there the power may be cut once more.
    const left: FakeDisk[] = [];
    const result = openDisk(diskOf(state, "/r"), (disk) => {
      if (left.length < AGAIN_MAX && this.#chance() < 0.3) left.push(disk.cut(this.#chance));
    });
    if ("code" in result) return result;
    for (const disk of left) {
      const again = openDisk(disk);
      if ("code" in again) return again;
      if (again.keys.some((key, i) => key !== result.keys[i]))
        return { code: "a difference", text: "opened again it is another region" };
    }
    return result;
  }
  #judge(result: Result): string | null {
    if (!("code" in result)) return this.#promises.complaint(result);
    if (result.code === NO_REGION && !this.#promises.exists) return null;
    return `${result.code}: ${result.text}`;
  }
}
const NEVER = Number.POSITIVE_INFINITY;
/** Of what is not synced, so many are left out and kept alone. */
const EACH_MAX = 12;
const AGAIN_MAX = 6;
const LATER_PART = 0.3;

/** Extents that come in the place of others: by a rename to X.replace, and by an import as it has ended. */
function replacements(
  { call, isEnd }: Moment,
  recording: Recording,
  disk: RecordedDisk,
): readonly Replacement[] {
  if (call.kind === Kind.marker && call.path === "importing") {
    const found = opened(diskOf([...recording.seen.values()].at(-1)!, `${recording.directory}/r`));
    return found.extents.map((_, extent) => ({ extent, found }));
  }
  const name = /\/([0-9A-F]{3})\.replace$/.exec(call.to)?.[1];
  if (name === undefined || call.kind !== Kind.rename || !isEnd) return [];
  // It is opened in the place of X.
  const contents = disk.current();
  const path = call.to.slice(recording.directory.length);
  const state: Contents = new Map();
  for (const [file, bytes] of contents)
    if (!/\.(copy|replace|completed)/.test(file)) state.set(file, bytes);
  state.set(path.slice(0, -".replace".length), contents.get(`${path}/${name}`)!);
  return [{ extent: Number.parseInt(name, 16), found: opened(diskOf(state, "/r")) }];
}
function opened(disk: FakeDisk): Found {
  const found = openDisk(disk);
  if ("code" in found) throw new Error(`what replaces others does not open: ${found.text}`);
  return found;
}

/** What may be found at one moment. */
export function promisesAt(recording: Recording, region: RegionDefinition, at: number): Promises {
  const promises = new Promises(region);
  const disk = diskFor(recording, region);
  for (const [i, moment] of recording.moments.slice(0, at + 1).entries()) {
    disk.apply(moment, i);
    promises.apply(moment, (one) => replacements(one, recording, disk));
  }
  return promises;
}
function diskFor(
  recording: Recording,
  region: RegionDefinition,
  lies?: Plan["lies"],
): RecordedDisk {
  const { blockBytes, dataBytes } = extentLayout(region);
  return new RecordedDisk(recording, { blockBytes, dataBytes }, lies);
}

export const explore = (recording: Recording, region: RegionDefinition, plan: Plan): Outcome =>
  new Explorer(recording, region, plan).run();

function nameOf(state: Contents): bigint {
  let name = 0n;
  // Order does not matter.
  for (const [path, bytes] of state) name ^= xxh.h64Raw(bytes ?? Buffer.alloc(0), xxh.h64(path));
  return name;
}

/** The first difference between two trees; null: none. */
export function difference(made: Contents, seen: Contents, directory: string): string | null {
  for (const path of seen.keys())
    if (!made.has(path.slice(directory.length))) return `${path} was not recorded`;
  for (const [path, bytes] of made) {
    const actual = seen.get(directory + path);
    if (actual === undefined) return `${path} is not there`;
    if ((actual === null) !== (bytes === null)) return `${path} is of another kind`;
    if (actual === null || bytes === null || actual.equals(bytes)) continue;
    let at = 0;
    while (actual[at] === bytes[at]) at += 1;
    return `${path} differs at ${at}, sizes ${actual.length} and ${bytes.length}`;
  }
  return null;
}

const WORDS = Object.fromEntries(Object.entries(Kind).map(([word, kind]) => [kind, word]));
/** The moments that led to one, newest last. */
export function describe(recording: Recording, at: number): string {
  const { moments, directory } = recording;
  return moments
    .slice(Math.max(0, at - 5), at + 1)
    .map(({ call, isEnd }) => {
      const path = call.path.replace(directory, "");
      const where = call.kind === Kind.write ? `${call.number}+${call.data.length}` : path;
      return `${WORDS[call.kind]} ${call.fd >= 0 ? `${call.fd} ` : ""}${where} ${isEnd ? "ends" : "begins"}`;
    })
    .join("; ");
}

export const regionIn = (recording: Recording): RegionDefinition => {
  const last = [...recording.seen.values()].at(-1)!;
  return definitionIn(last, `${recording.directory}/r`)!;
};
