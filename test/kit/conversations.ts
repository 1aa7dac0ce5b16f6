import type { FlushNumber } from "../../src/base/ids.js";
import { decode, type Message, type MessageOf } from "../../src/crucible/messages.js";
import type { Tuning } from "../../src/upstairs/options.js";
import { type Line, wireLines } from "./recordings.js";
import { hashApi, type ModelReplica, regionOf } from "./replica.js";
import { Stage } from "./upstairs-stage.js";
import { World } from "./world.js";

// Plays what guests did in the recordings to our upstairs, on models that begin in the recorded state, and compares
// what it sends on each connection, in order and in content, with what the original sent. Meant differences:
//
// * session ids and pings (their number depends on time);
// * a read goes to one replica, is not replayed and not named to the others;
// * dependencies that the replica has acknowledged already are not named;
// * flush numbers are one higher after a reconciliation, which used the first itself;
// * no flush when nothing was written since the last one (the original also flushes after reads).

const hash = await hashApi();

export interface Said {
  readonly link: number;
  readonly conn: number;
  readonly message: Message;
  /** Jobs acknowledged on this connection before. */
  readonly acked: ReadonlySet<number>;
  /** The same on any connection: how far the guest may have been told. */
  readonly ackedAnywhere: ReadonlySet<number>;
}
export type Recorded = { said: Said[]; answers: Map<string, Message>; lines: Line[] };
export type Job = MessageOf<"Write"> | MessageOf<"ReadRequest"> | MessageOf<"Flush">;

function recorded(name: string): Recorded {
  const lines = wireLines(name);
  const said: Said[] = [];
  const answers = new Map<string, Message>();
  const acked = new Map<number, Set<number>>();
  for (const line of lines) {
    if (line.hex === undefined) continue;
    const message = decode(Buffer.from(line.hex, "hex"));
    const { conn, link } = line as { conn: number; link: number };
    const done = acked.get(conn) ?? new Set<number>();
    acked.set(conn, done);
    if (line.dir === "u2d")
      said.push({
        link,
        conn,
        message,
        acked: new Set(done),
        ackedAnywhere: new Set([...acked.values()].flatMap((ids) => [...ids])),
      });
    else {
      if ("jobId" in message && message.kind !== "ErrorReport") done.add(message.jobId);
      if (!answers.has(`${link} ${message.kind}`)) answers.set(`${link} ${message.kind}`, message);
    }
  }
  return { said, answers, lines };
}

function restore(replica: ModelReplica, versions: MessageOf<"ExtentVersions">): void {
  for (const [index, extent] of replica.extents.entries()) {
    extent.generation = versions.generations[index]!;
    extent.flushNumber = versions.flushNumbers[index]!;
    extent.dirty = versions.dirty[index] === 1;
  }
}

export function stageFor(
  name: string,
  tuning: Partial<Tuning> = {},
): { stage: Stage; was: Recorded } {
  const was = recorded(name);
  const hello = was.said.find(({ message }) => message.kind === "HereIAm")!
    .message as MessageOf<"HereIAm">;
  const info = was.answers.get("0 RegionInfo") as MessageOf<"RegionInfo"> | undefined;
  const region = { ...(info?.region ?? regionOf(0)) } as Partial<ReturnType<typeof regionOf>>;
  delete (region as { uuid?: unknown }).uuid;
  const stage = new Stage(new World(1), hash, {
    upstairs: { generation: { kind: "given", value: hello.generation } },
    tuning: { autoFlushMs: 1e9, flushSteps: 1, ...tuning },
    region,
    arenaBytes: 64 * 1024 * 1024,
  });
  for (const [index, replica] of stage.replicas.entries()) {
    const versions = was.answers.get(`${index} ExtentVersions`);
    if (versions !== undefined) restore(replica, versions as MessageOf<"ExtentVersions">);
  }
  return { stage, was };
}

/** What guests asked for, in order. */
export function jobsOf(was: Recorded): Job[] {
  const jobs = new Map<number, Job>();
  const own = finalFlush(was);
  for (const { message } of was.said)
    if (message.kind === "Write" || message.kind === "ReadRequest" || message.kind === "Flush")
      if (!jobs.has(message.jobId) && message.jobId !== own) jobs.set(message.jobId, message);
  return [...jobs.values()].sort((a, b) => a.jobId - b.jobId);
}

/** The flush that ended a live repair, which no guest asked for. */
export function finalFlush(was: Recorded): number | undefined {
  const last = was.said.findLastIndex(({ message }) => message.kind === "ExtentLiveReopen");
  if (last < 0) return undefined;
  const flush = was.said.slice(last).find(({ message }) => message.kind === "Flush")!;
  return (flush.message as Job).jobId;
}

export function perform(stage: Stage, job: Job, waits: boolean): void {
  const { guest, world } = stage;
  const { blockSize } = stage.replicas[0]!.region;
  if (job.kind === "Write") guest.write(job.start * blockSize, Buffer.from(job.data));
  else if (job.kind === "ReadRequest") guest.read(job.start * blockSize, job.count * blockSize);
  else guest.flush();
  if (waits) world.advance(40);
}

/** By link, then by connection in order of opening: what was said, in a form that can be compared. */
export function ours(stage: Stage): Message[][][] {
  return stage.replicas.map((replica) => {
    const connections: Message[][] = [];
    for (const { conn, message } of replica.heard) {
      connections[conn] ??= [];
      connections[conn]?.push(message);
    }
    return connections.map((messages) => messages.filter(isCompared).map(plain));
  });
}
export function theirs(
  was: Recorded,
  newIds: ReadonlyMap<number, number>,
  replayed: ReadonlySet<number> = new Set(),
  replayOn = -1,
): Message[][][] {
  const reads = new Set(
    was.said.flatMap(({ message }) => (message.kind === "ReadRequest" ? [message.jobId] : [])),
  );
  /** Flushes that we left out before this job. */
  const skipped = (jobId: number): number =>
    jobsOf(was).filter((job) => job.kind === "Flush" && job.jobId < jobId && !newIds.has(job.jobId))
      .length;
  const higher = was.said.some(({ message }) => message.kind === "ExtentFlush") ? 1 : 0;
  return [0, 1, 2].map((link) => {
    const conns = [...new Set(was.said.filter((s) => s.link === link).map((s) => s.conn))];
    return conns.map((conn) =>
      was.said.flatMap((said) => {
        const { message } = said;
        if (said.conn !== conn || !isCompared(message)) return [];
        if (!("jobId" in message) || !("dependencies" in message)) {
          if (message.kind !== "LastFlush" || message.lastFlushJob === null)
            return [plain(message)];
          return [{ ...message, lastFlushJob: newIds.get(message.lastFlushJob)! } as Message];
        }
        const jobId = newIds.get(message.jobId);
        if (jobId === undefined) return [];
        const dependencies = message.dependencies.flatMap((id) => {
          // A replay is sent in one go, before anything is acknowledged.
          const isReplay = conn === replayOn && replayed.has(message.jobId);
          const isDone = !isReplay && said.acked.has(id);
          return reads.has(id) || isDone || !newIds.has(id) ? [] : [newIds.get(id)!];
        });
        const same = plain({ ...message, jobId, dependencies } as unknown as Message);
        if (same.kind !== "Flush" && same.kind !== "ExtentLiveFlushClose") return [same];
        const flushNumber = same.flushNumber - skipped(message.jobId) + higher;
        return [{ ...same, flushNumber: flushNumber as FlushNumber }];
      }),
    );
  });
}
const isCompared = ({ kind }: Message): boolean => kind !== "Ruok" && kind !== "ReadRequest";
function plain(message: Message): Message {
  const copy = { ...message } as Record<string, unknown>;
  if ("sessionId" in copy) copy.sessionId = "";
  if ("data" in copy) copy.data = hash.h64Raw(copy.data as Uint8Array);
  return copy as unknown as Message;
}

/** Performs all jobs, calling `before` each; our ids by theirs. */
export function play(
  stage: Stage,
  was: Recorded,
  before: (job: Job) => void = () => {},
): Map<number, number> {
  const newIds = new Map<number, number>();
  const jobs = jobsOf(was);
  for (const [i, job] of jobs.entries()) {
    before(job);
    const { nextJobId } = stage.upstairs.status();
    // The guest waited for this one if it was acknowledged when the next was sent.
    const next = was.said.find(({ message }) => message === jobs[i + 1]);
    perform(stage, job, next?.ackedAnywhere.has(job.jobId) !== false);
    if (stage.upstairs.status().nextJobId > nextJobId) newIds.set(job.jobId, nextJobId);
  }
  return newIds;
}

/** Each read of the recording was asked once, of one replica, with the same range. */
export function readsOf(stage: Stage): string[] {
  return stage.replicas
    .flatMap((replica) => replica.heard)
    .flatMap(({ message: m }) =>
      m.kind === "ReadRequest" ? [`${m.jobId}: ${m.start} ${m.count}`] : [],
    )
    .sort();
}
export function readsThen(was: Recorded, newIds: ReadonlyMap<number, number>): string[] {
  return jobsOf(was)
    .flatMap((job) =>
      job.kind === "ReadRequest" ? [`${newIds.get(job.jobId)}: ${job.start} ${job.count}`] : [],
    )
    .sort();
}
