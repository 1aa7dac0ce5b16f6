import type { XXHashAPI } from "xxhash-wasm";
import { Judge } from "./upstairs-judge.js";
import { Stage } from "./upstairs-stage.js";
import { World } from "./world.js";

export interface Rot {
  readonly seed: number;
  readonly requests?: number;
  /** Replicas also die, and come back after they have missed too much. */
  readonly repairs?: boolean;
}

/**
 * With `repairs` a block may be lost: damaged on one replica, copied from there to another by repair, and the third away. Then it
 * is an error, and must never be wrong data.
 *
 * A seeded run on disks that flip bits and lose blocks, and replicas that answer late, while guests read and write and a scrub runs.
 * No block is damaged on two replicas at once, so nothing may be lost; what was broken, in words.
 */
export function rot(
  hash: XXHashAPI,
  { seed, requests = 300, repairs = false }: Rot,
): { broken: string[]; stage: Stage } {
  const world = new World(seed);
  const stage = new Stage(world, hash, {
    manner: { jobMs: 3 },
    links: { latencyMs: 0.5 },
    tuning: {
      redialFirstMs: 20,
      redialMs: 50,
      dialTimeoutMs: 100,
      badBlocksMax: 1e9,
      stallMs: 100,
      repairRetryMs: 10,
      repairRetryMsMax: 200,
      ...(repairs ? { offlineJobsMax: 10 } : {}),
    },
  });
  if (stage.activate() !== null) return { broken: ["no activation"], stage };
  const judge = new Judge(stage);
  const broken: string[] = [];
  const { onAnswer } = stage.guest;
  stage.guest.onAnswer = (tag, answer) => {
    onAnswer(tag, answer);
    if (answer.data !== null && !isIntact(answer.data)) broken.push(`read ${tag} got damaged data`);
  };
  const below = (n: number): number => Math.floor(world.chance() * n);
  makeLate(stage);
  let started = 0;
  let scrubs = 0;
  for (let i = 0; i < requests; i++) {
    const count = 1 + below(world.chance() < 0.3 ? 40 : 4);
    const start = below(160 - count);
    const kind = world.chance();
    if (kind < 0.35) judge.write(start, count);
    else if (kind < 0.95) judge.read(start, count);
    else judge.flush();
    if (world.chance() < 0.3) spoil(stage, below(3), below(160));
    if (world.chance() < 0.02) stage.replicas[below(3)]!.cut();
    if (repairs && world.chance() < 0.02) {
      const replica = stage.replicas[below(3)]!;
      replica.crash();
      world.after(world.chance() * 300, () => replica.start());
    }
    if (i % 100 === 50) {
      started += 1;
      stage.upstairs.scrub({ bytesPerSecond: 0 }, () => scrubs++);
    }
    if (world.chance() < 0.5) world.advance(world.chance() * (world.chance() < 0.1 ? 100 : 4));
  }
  const asked = stage.guest.nextTag - 1;
  const isCalm = (): boolean =>
    stage.guest.answers.size === asked &&
    stage.upstairs.status().replicas.every(({ phase }) => phase === "active");
  if (!stage.pass(20_000, isCalm))
    broken.push(`${asked - stage.guest.answers.size} requests were never answered`);
  // Whatever is left is found by one more walk.
  let isDone = false;
  stage.pass(20_000, () => scrubs === started);
  stage.upstairs.scrub({ bytesPerSecond: 0 }, () => {
    isDone = true;
  });
  if (!stage.pass(20_000, () => isDone)) broken.push("the scrub did not end");
  judge.flush();
  stage.pass(5000, () => stage.upstairs.status().jobs === 0);
  const wanted = judge.image();
  const lost = new Set(
    stage.notes.flatMap(({ event, fields }) =>
      event === "block.lost" ? [Number(fields?.start)] : [],
    ),
  );
  if (!repairs && lost.size > 0) broken.push(`${lost.size} blocks were lost`);
  for (const [index, replica] of stage.replicas.entries()) {
    const image = replica.image();
    for (let at = 0; at < wanted.length; at += 512)
      if (
        !lost.has(at / 512) &&
        !image.subarray(at, at + 512).equals(wanted.subarray(at, at + 512))
      )
        broken.push(`block ${at / 512} of replica ${index} differs in the end`);
  }
  if (stage.stop() !== null) broken.push("it did not stop");
  if (stage.arena.allocations > 0) broken.push(`${stage.arena.allocations} allocations are left`);
  const isForgiven = (line: string): boolean =>
    (lost.size > 0 && line.endsWith("ended with 1")) || wasKept(stage, line);
  broken.push(...[...judge.broken, ...stage.violations].filter((line) => !isForgiven(line)));
  return { broken, stage };
}

/** The judge's blocks hold one byte over and over behind the number of their write. */
function isIntact(data: Buffer): boolean {
  for (let at = 0; at < data.length; at += 512)
    if (!data.subarray(at + 4, at + 512).every((byte) => byte === data[at + 4])) return false;
  return true;
}

/** A job named before it came is a violation only if it never did: the rest of a repair that was given up is sent late. */
function wasKept(stage: Stage, line: string): boolean {
  const [, replica, id] = /^(\d): .* depends on (\d+), which cannot be met/.exec(line) ?? [];
  if (replica === undefined) return false;
  return stage.replicas[Number(replica)]!.heard.some(
    ({ message }) =>
      message.kind.startsWith("ExtentLive") && "jobId" in message && message.jobId === Number(id),
  );
}

/** Damages a block of one replica, when it is the same and good on all. */
function spoil(stage: Stage, index: number, block: number): void {
  const found = stage.replicas.map((replica) => replica.blocks.get(block));
  const { hash } = found[0] ?? {};
  if (hash === undefined) return;
  const isWhole = found.every(
    (one, i) => one?.hash === hash && stage.replicas[i]!.hashOf(one.data) === hash,
  );
  if (!isWhole) return;
  const replica = stage.replicas[index]!;
  const data = Buffer.from(found[0]!.data);
  // Not in the number of the write, by which the judge knows how far a replica is.
  data[100 + Math.floor(stage.world.chance() * 400)]! ^= 4;
  replica.blocks.set(block, { data, hash });
}

/** Some reads take long, a few very. */
function makeLate(stage: Stage): void {
  for (const { manner } of stage.replicas)
    manner.slowMs = ({ kind }) => {
      const chance = stage.world.chance();
      if (kind !== "ReadRequest" || chance > 0.1) return 0;
      return chance < 0.02 ? 300 : 60;
    };
}
