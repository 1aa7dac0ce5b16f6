import type { XXHashAPI } from "xxhash-wasm";
import { KeptHost, type KeptOptions, KeptVolume, type Life } from "./kept.js";
import { KeptJudge } from "./kept-judge.js";
import { World } from "./world.js";

export interface KeptStorm extends KeptOptions {
  readonly seed: number;
  /** Events of each life until it is killed: fixed numbers, or up to one. */
  readonly killAt?: readonly number[];
  readonly killBefore?: number;
  readonly lives?: number;
  readonly mishaps?: number;
  /** Not killed: the volume is abandoned, for a successor in the same moment. */
  readonly abandons?: boolean;
}

export interface KeptOutcome {
  readonly broken: string[];
  readonly judge: KeptJudge;
  readonly resumed: number;
  readonly reissued: number;
  /** Killed before they had finished what their predecessors left. */
  readonly killedEarly: number;
}

const BLOCK_BYTES = 512;
const RESTART_MS = 1_100;

/** Server after server on one host, each killed in the middle of whatever it does; what was broken, in words. */
export function keptStorm(hash: XXHashAPI, options: KeptStorm): KeptOutcome {
  const world = new World(options.seed);
  const volume = new KeptVolume(world, hash, options);
  const host = new KeptHost(volume);
  const { region } = volume.replicas[0]!;
  const blocks = region.extentCount * region.extentSize;
  const judge = new KeptJudge(blocks, BLOCK_BYTES);
  const broken: string[] = [];
  const below = (n: number): number => Math.floor(world.chance() * n);
  let resumed = 0;
  let reissued = 0;
  let killedEarly = 0;

  const load = (life: Life): void => {
    const { guest } = life;
    const count = 1 + below(world.chance() < 0.2 ? 40 : 4);
    const start = below(blocks - count);
    const kind = world.chance();
    if (kind < 0.75) judge.write(guest, start, count, world.chance() < 0.05);
    else if (kind < 0.82) judge.zeroes(guest, start, count);
    else if (kind < 0.95) guest.read(start * BLOCK_BYTES, count * BLOCK_BYTES);
    else guest.flush();
    if (world.chance() < (options.mishaps ?? 0)) mishap(volume);
    world.advance(world.chance() * (world.chance() < 0.1 ? 50 : 2));
  };

  const end = (life: Life): void => {
    if (options.abandons === true) life.abandon();
    else life.kill();
  };

  let isJudged = true;
  const lives = options.lives ?? 4;
  for (let number = 0; number < lives; number++) {
    const life = host.start();
    if (life.journal.resume !== null) resumed += 1;
    reissued += life.journal.resume?.writes.length ?? 0;
    const killAt = options.killAt?.[number] ?? 1 + below(options.killBefore ?? 3000);
    let events = 0;
    world.onEvent = () => {
      events += 1;
      if (events === killAt) end(life);
    };
    life.pass(60_000, () => life.activated !== undefined || !life.isAlive);
    if (life.isAlive && life.activated !== null) {
      broken.push(`life ${number} was not activated: ${life.activated?.line ?? "no answer"}`);
      break;
    }
    if (!life.isAlive) killedEarly += 1;
    else if (!isJudged || number === 0) {
      // Read before anything is written, and not counted among the events.
      world.onEvent = null;
      judge.judge(readAll(life, blocks));
      isJudged = true;
      world.onEvent = () => {
        events += 1;
        if (events >= killAt) end(life);
      };
      judge.watch(life.guest);
    }
    while (life.isAlive && events < 100_000) load(life);
    world.onEvent = null;
    isJudged = false;
    for (const replica of volume.replicas) if (replica.isDown) replica.start();
    world.advance(RESTART_MS);
  }
  if (broken.length === 0) {
    const life = host.start();
    resumed += life.journal.resume === null ? 0 : 1;
    reissued += life.journal.resume?.writes.length ?? 0;
    if (life.up() !== null) broken.push(`the last life: ${life.activated?.line ?? "no answer"}`);
    else {
      judge.judge(readAll(life, blocks));
      if (life.stop() !== null) broken.push("it did not stop");
      if (host.memory !== null) broken.push("an orderly stop left a log");
      const images = volume.replicas.map((replica) => replica.image());
      if (images.some((image) => !image.equals(images[0]!))) broken.push("the replicas differ");
      if (life.arena.allocations > 0) broken.push(`${life.arena.allocations} allocations are left`);
    }
  }
  broken.push(...judge.broken, ...volume.violations);
  return { broken, judge, resumed, reissued, killedEarly };
}

/** All of the volume, as a guest reads it. */
export function readAll(life: Life, blocks: number): Buffer {
  const tag = life.guest.read(0, blocks * BLOCK_BYTES);
  life.pass(20_000, () => life.guest.answers.has(tag));
  return life.guest.answers.get(tag)?.data ?? Buffer.alloc(blocks * BLOCK_BYTES, 0xee);
}

function mishap({ world, replicas, unreachable }: KeptVolume): void {
  const index = Math.floor(world.chance() * 3);
  const replica = replicas[index]!;
  const forMs = world.chance() * 200;
  const kind = world.chance();
  if (kind < 0.4) replica.cut();
  else if (kind < 0.8) {
    replica.crash(world.chance() < 0.5);
    world.after(forMs, () => replica.start());
  } else {
    unreachable.add(index);
    replica.cut();
    world.after(forMs, () => unreachable.delete(index));
  }
}
