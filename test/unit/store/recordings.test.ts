import { readFileSync } from "node:fs";
import t from "tap";
import { decode, type Message } from "../../../src/crucible/messages.js";
import { parseRegionConfig } from "../../../src/region/config.js";
import { extentLayout, extentPath } from "../../../src/region/layout.js";
import { GOLDEN, wireLines } from "../../kit/recordings.js";
import { freshDisk, Rig, untar, type Value } from "./rig.js";

// What the original did with the same messages. A link is comparable when its downstairs lived
// through the whole recording and its regions were fresh at the beginning.

type Job = Extract<Message, { jobId: unknown; dependencies: unknown }>;

/** Messages to one downstairs, and its answers to reads by job. */
function conversation(
  name: string,
  link: number,
): { jobs: Job[]; reads: Map<number, Message> } | null {
  const jobs: Job[] = [];
  const reads = new Map<number, Message>();
  let connections = 0;
  for (const line of wireLines(name)) {
    if (line.link !== link) continue;
    if (line.event === "open") connections += 1;
    if (line.hex === undefined || line.dir === undefined) continue;
    if (line.cut !== undefined) return null;
    const message = decode(Buffer.from(line.hex, "hex"));
    if (message.kind === "ReadResponse") reads.set(message.jobId, message);
    else if (line.dir === "u2d" && "dependencies" in message) jobs.push(message);
  }
  return connections === 1 ? { jobs, reads } : null;
}

function valuesOf(
  job: Extract<Job, { kind: "Write" | "WriteUnwritten" }>,
  blockSize: number,
): Value[] {
  return job.contexts.map(({ hash, encryption }, i) => {
    const context = Buffer.alloc(encryption === null ? 9 : 37);
    context.writeBigUInt64LE(hash);
    if (encryption !== null) {
      context[8] = 1;
      Buffer.from(encryption.nonce).copy(context, 9);
      Buffer.from(encryption.tag).copy(context, 21);
    }
    return { context, data: Buffer.from(job.data.subarray(i * blockSize, (i + 1) * blockSize)) };
  });
}

/** A ReadBlockContext as the codec has it. */
function contextOf(bytes: Buffer): object {
  if (bytes[0] === 0) return { kind: "Empty" };
  if (bytes[0] === 2) return { kind: "Unencrypted", hash: bytes.readBigUInt64LE(4) };
  return { kind: "Encrypted", nonce: bytes.subarray(4, 16), tag: bytes.subarray(16) };
}

/** Does the jobs, in an order that their dependencies allow; answers which extents had a block written twice between flushes. */
function perform(
  rig: Rig,
  jobs: readonly Job[],
  check: (job: Job, blocks: { data: Buffer; context: Buffer }[]) => void,
): Set<number> {
  const { blockSize, extentSize } = rig.store.definition;
  const rewritten = new Set<number>();
  const unflushed = new Set<number>();
  const ok = (fault: unknown): void => {
    if (fault !== null) throw fault;
  };
  const all = new Set(jobs.map((job) => job.jobId as number));
  const done = new Set<number>();
  let left = [...jobs];
  while (left.length > 0) {
    const job = left.find((one) => one.dependencies.every((id) => done.has(id) || !all.has(id)));
    if (job === undefined) throw new Error(`${left.length} jobs wait for each other`);
    left = left.filter((one) => one !== job);
    done.add(job.jobId);
    switch (job.kind) {
      case "Write":
      case "WriteUnwritten":
        for (let b = job.start as number; b < job.start + job.contexts.length; b++) {
          if (unflushed.has(b)) rewritten.add(Math.floor(b / extentSize));
          unflushed.add(b);
        }
        ok(rig.write(job.start, valuesOf(job, blockSize), job.kind === "WriteUnwritten"));
        rig.world.advance(100);
        break;
      case "ReadRequest":
        check(job, rig.read(job.start, Number(job.count)));
        break;
      case "Flush":
        ok(rig.flush(job.flushNumber, job.generation, job.extentLimit ?? -1));
        unflushed.clear();
        break;
      case "ExtentLiveFlushClose":
        ok(
          rig.wait((then) =>
            rig.store.flushExtent(job.extentId, job.flushNumber, job.generation, then),
          ),
        );
        ok(rig.wait((then) => rig.store.closeExtent(job.extentId, then)));
        break;
      case "ExtentLiveReopen":
        ok(rig.wait((then) => rig.store.reopenExtent(job.extentId, then)));
        break;
      case "ExtentLiveNoOp":
        break;
      default:
        throw new Error(`a ${job.kind} in this recording`);
    }
  }
  return rewritten;
}

const NAMES = [
  "activate-io-512",
  "activate-io-4096",
  "killed-dirty",
  "encrypted",
  "replay-after-reconnect",
  "live-repair",
  "live-repair-quiet",
];
/** Counts the syncs that the original needs before it may write a block again; we never need one. */
const BONUS_SYNCS_AT = 21;

for (const name of NAMES)
  t.test(`the same answers and files as the original: ${name}`, async (t) => {
    let compared = 0;
    for (let link = 0; link < 3; link++) {
      const talk = conversation(name, link);
      if (talk === null) continue;
      const files = untar(readFileSync(new URL(`regions/${name}/region${link}.tar.gz`, GOLDEN)));
      const region = parseRegionConfig(files.get("region.json")!.toString(), "region.json");
      const { metadataAt } = extentLayout(region);
      for (const eager of [false, true]) {
        // As it is meant, writes are collected until the flush; with no room for any, each is written out by itself,
        // as the original does, and then even the slots of blocks that are rewritten alternate alike.
        const rig = Rig.open(freshDisk(region), {
          arenaBytes: 64 * 1024 * 1024,
          ...(eager ? { heldBytesMax: 1 } : {}),
        });
        const rewritten = perform(rig, talk.jobs, (job, blocks) => {
          const recorded = talk.reads.get(job.jobId);
          if (recorded?.kind !== "ReadResponse") return;
          if (!recorded.result.ok) throw new Error("the original failed to read");
          const contexts = blocks.map(({ context }) => contextOf(context));
          t.same(contexts, recorded.result.contexts);
          t.ok(Buffer.concat(blocks.map((block) => block.data)).equals(recorded.data));
        });
        t.equal(rig.close(), null);
        for (let extent = 0; extent < region.extentCount; extent++) {
          const ours = rig.file(extent);
          const theirs = Buffer.from(files.get(extentPath(extent))!);
          if (!eager && rewritten.has(extent)) continue;
          if (rewritten.has(extent)) theirs.writeUInt32LE(0, metadataAt + BONUS_SYNCS_AT);
          compared += 1;
          if (!ours.equals(theirs)) {
            const at = ours.findIndex((byte, i) => byte !== theirs[i]);
            t.ok(
              false,
              `link ${link}, extent ${extent}, eager ${eager}: different from byte ${at} on`,
            );
          }
        }
      }
    }
    t.ok(compared > 0, `${compared} files compared`);
  });
