import type { StatusReport } from "../../src/control/report.js";
import { DOCUMENTED, SOCKET } from "./documented.js";
import type { Sheet } from "./page.js";
import { type Host, type Stage, within } from "./stage.js";
import type { Writer } from "./writer.js";

// What is played, in this order: each act begins with what the one before has left.

export interface Act {
  readonly title: string;
  play(stage: Stage, sheet: Sheet): Promise<void>;
}

/** Because of one replica that does nothing, when the other two are good: src/upstairs/README.md, "Patience". */
const STALL_PROMISED_MS = 11_000;
/** Six servers, a writer and whatever else this machine does. */
const STALL_MARGIN_MS = 2_000;
/** A ping is not answered: the box is missed, though not given up yet. */
const MISSED_MS = 7_000;
/** A superseded server has to dial again, and to be refused more than once. */
const FENCED_MS = 180_000;
const REPAIR_MS = 300_000;

const SUPERSEDED = 10;

/** The writer's part of a sheet, at the end of an act through which one writer lived. */
function account(sheet: Sheet, writer: Writer): void {
  sheet.stallMs = Math.max(sheet.stallMs, writer.takeLongestMs());
  sheet.errors += writer.errors.length;
  if (writer.errors.length > 0) sheet.wrong.push(`the writer saw: ${writer.errors[0]}`);
  if (sheet.stallMs > STALL_PROMISED_MS + STALL_MARGIN_MS)
    sheet.wrong.push(`a request took longer than the ${STALL_PROMISED_MS} ms that are promised`);
}

/** How a replica has become equal to the others again. */
function cameBack(index: number, before: StatusReport, after: StatusReport): string {
  const [was, is] = [before.replicas[index]!, after.replicas[index]!];
  const last = after.repair?.last;
  const isNew = last?.took_ms !== before.repair?.last?.took_ms;
  if (isNew && last?.complete && last.targets.includes(index))
    return `repaired: ${last.repaired} extents copied, ${last.confirmed} were equal, in ${Math.round(last.took_ms / 1000)} s`;
  const replays = (is.counts.replays ?? 0) - (was.counts.replays ?? 0);
  if (replays > 0) return "replayed: what it missed was sent again on a new connection";
  return "caught up on the connection that it had";
}

const deploy: Act = {
  title: "Deployed from zero, healthy",
  async play(stage, sheet) {
    const [a] = stage.hosts;
    for (const box of stage.boxes) {
      const typed = await stage.deploy(box);
      if (sheet.done.length === 0) sheet.done.push(...typed.map((one) => `"${one}"`));
    }
    for (const host of stage.hosts) stage.configure(host, false);
    await stage.serve(a);
    sheet.done.push(`each box with its own address; "${DOCUMENTED.serve}" on host A`);
    const writer = await stage.write(a, "gentle");
    writer.takeLongestMs();
    await stage.progress(500);
    sheet.status.push(await stage.status(a));
    if (!sheet.status[0]!.startsWith("0: ")) sheet.wrong.push("the status is not well");
    sheet.found.push(`${writer.writes} writes, ${writer.flushes} flushes, ${writer.reads} reads`);
    sheet.found.push(`over NBD on ${SOCKET} in host A`);
    account(sheet, writer);
  },
};

const unplugged: Act = {
  title: "Box 2: cable pulled for some seconds, under light load",
  async play(stage, sheet) {
    const [a] = stage.hosts;
    const box = stage.boxes[1]!.machine;
    const before = await stage.report(a);
    const silentMs = async (): Promise<number> => {
      const { silent_ms: ms } = (await stage.report(a)).replicas[1]!;
      return ms ?? Number.POSITIVE_INFINITY;
    };
    stage.network.unplug(box.name);
    await stage.until("a ping is missed", async () => (await silentMs()) >= MISSED_MS);
    sheet.status.push(`meanwhile ${await stage.status(a)}`);
    stage.network.plug(box.name);
    await stage.until("the box is heard", async () => (await silentMs()) < MISSED_MS, 120_000);
    await stage.well(a);
    await stage.progress(100);
    sheet.done.push(`link down until nothing was heard of it for ${MISSED_MS} ms, then up`);
    sheet.found.push(cameBack(1, before, await stage.report(a)));
    sheet.status.push(`then ${await stage.status(a)}`);
    account(sheet, stage.writer!);
  },
};

const cutOff: Act = {
  title: "Box 2: cut off in silence until it is given up, under heavy load",
  async play(stage, sheet) {
    const [a] = stage.hosts;
    const box = stage.boxes[1]!.machine;
    await stage.stopWriter();
    const writer = await stage.write(a, "hard");
    await stage.progress(500);
    writer.takeLongestMs();
    const before = await stage.report(a);
    stage.network.drop(box.name);
    const isFaulted = async (): Promise<boolean> =>
      (await stage.report(a)).replicas[1]!.state === "faulted";
    await stage.until("it is given up", isFaulted, 120_000);
    await stage.progress(500);
    sheet.status.push(`meanwhile ${await stage.status(a)}`);
    stage.network.forward(box.name);
    await stage.well(a, REPAIR_MS);
    sheet.done.push(
      "the switch dropped all that came from it or went to it, links up; then no more",
    );
    sheet.found.push(cameBack(1, before, await stage.report(a)));
    sheet.status.push(`then ${await stage.status(a)}`);
    account(sheet, writer);
  },
};

/** A host takes the volume over from one that is gone. What that one's writer was promised has to be there. */
async function takeOver(
  stage: Stage,
  sheet: Sheet,
  lost: Writer,
  heir: Host,
  half: boolean,
): Promise<void> {
  const { book } = stage;
  await stage.serve(heir);
  lost.part();
  const image = await stage.read(heir);
  const promised = book.flushed.filter((id) => id > 0).length;
  const complaints = book.check(image, book.flushed);
  sheet.wrong.push(...complaints);
  if (complaints.length === 0)
    sheet.found.push(`all ${promised} blocks that a flush covered are there`);
  const { blocks, older } = book.unflushed(image);
  sheet.found.push(
    `of ${blocks} blocks acknowledged and not flushed ${blocks - older} are, which nobody promised`,
  );
  book.settle(image);
  const writer = await stage.write(heir, "hard", half);
  sheet.stall = "takeover";
  sheet.stallMs = writer.firstAnswerMs - lost.lastAnswerMs;
  writer.takeLongestMs();
  await stage.progress(500);
  await stage.well(heir);
  const { generation } = await stage.report(heir);
  sheet.found.push(`generation ${generation}`);
  sheet.errors += writer.errors.length;
}

const dies: Act = {
  title: "Host A dies (kill -9 of all its processes), host B takes over",
  async play(stage, sheet) {
    const [a, b] = stage.hosts;
    const writer = stage.writer!;
    const { generation } = await stage.report(a);
    stage.writer = undefined;
    await a.machine.kill();
    sheet.done.push(`killed under load; "${DOCUMENTED.serve}" on host B`);
    await takeOver(stage, sheet, writer, b, false);
    sheet.found.push(`after ${generation} of host A`);
    sheet.status.push(`host B ${await stage.status(b)}`);
  },
};

/** A server that must not have the volume ends by itself. */
async function fenced(stage: Stage, sheet: Sheet, host: Host, name: string): Promise<void> {
  const server = host.server!;
  const started = performance.now();
  const status = await within(FENCED_MS, `the end of ${name}'s server`, server.exited);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const line = server.output.split("\n").find((one) => one.includes("TRIVET_E_SUPERSEDED"));
  if (status !== SUPERSEDED) sheet.wrong.push(`${name}'s server ended with ${status}`);
  if (line === undefined) sheet.wrong.push(`${name}'s server did not say TRIVET_E_SUPERSEDED`);
  sheet.found.push(
    `${name}'s server ended with ${status}, TRIVET_E_SUPERSEDED, after ${seconds} s`,
  );
  const aside = stage.logsAside(host);
  sheet.found.push(`${aside.length} write log put aside on ${name}`);
  sheet.status.push(`${name} ${await stage.status(host)}`);
}

const comesBack: Act = {
  title: "Host A comes back (its server is started again) and stays fenced",
  async play(stage, sheet) {
    const [a, b] = stage.hosts;
    const writer = stage.writer!;
    writer.takeLongestMs();
    stage.start(a);
    sheet.done.push(
      `"${DOCUMENTED.serve}" on host A, as its unit does; it finds the log that it left`,
    );
    await fenced(stage, sheet, a, "host A");
    if (stage.logsAside(a).length === 0) sheet.wrong.push("host A's write log was not put aside");
    await stage.progress(500);
    const { health } = await stage.report(b);
    if (health !== "ok") sheet.wrong.push(`host B is ${health}`);
    sheet.status.push(`host B ${await stage.status(b)}`);
    account(sheet, writer);
  },
};

const cutHost: Act = {
  title: "Host B is cut off while its processes run, host A takes over",
  async play(stage, sheet) {
    const [a, b] = stage.hosts;
    const writer = stage.writer!;
    const { generation } = await stage.report(b);
    stage.writer = undefined;
    stage.network.drop(b.machine.name);
    sheet.done.push(`the switch drops all of host B, links up; "${DOCUMENTED.serve}" on host A`);
    await takeOver(stage, sheet, writer, a, true);
    sheet.found.push(`after ${generation} of host B`);
    stage.cut = { writer, writes: writer.catchUp().writes };
    sheet.found.push(`${writer.open} requests wait in host B`);
    sheet.status.push(`host B ${await stage.status(b)}`, `host A ${await stage.status(a)}`);
  },
};

const mended: Act = {
  title: "Host B's link is mended: its old server stays fenced",
  async play(stage, sheet) {
    const [a, b] = stage.hosts;
    const { writer: old, writes } = stage.cut!;
    const writer = stage.writer!;
    writer.takeLongestMs();
    stage.network.forward(b.machine.name);
    sheet.done.push(
      "the switch forwards again; old server, old connections, old requests under way",
    );
    await fenced(stage, sheet, b, "host B");
    await within(30_000, "the end of host B's writer", old.program.exited);
    old.catchUp();
    if (old.writes !== writes)
      sheet.wrong.push(`host B acknowledged ${old.writes - writes} writes after it was superseded`);
    sheet.found.push(
      `of what host B's writer had asked 0 acknowledged, ${old.errors.length} ended with an error`,
    );
    await stage.progress(500);
    account(sheet, writer);
    sheet.status.push(`host A ${await stage.status(a)}`);
    await stage.stopWriter();
    const { book } = stage;
    sheet.wrong.push(...book.check(await stage.read(a), book.acknowledged));
    sheet.found.push(
      "the volume holds what host A found and wrote, in each block, and nothing of host B's since",
    );
  },
};

const replaced: Act = {
  title: "Box 3 is lost, and replaced by an empty one at a new address",
  async play(stage, sheet) {
    const [a] = stage.hosts;
    const writer = await stage.write(a, "hard");
    await stage.progress(500);
    writer.takeLongestMs();
    const before = await stage.report(a);
    const fresh = await stage.freshBox();
    const [, run] = await stage.deploy(fresh);
    sheet.done.push("all its processes killed, the box taken away", `on the new one "${run}"`);
    const text = await a.machine.must(DOCUMENTED.replace, REPAIR_MS);
    sheet.done.push(`"${DOCUMENTED.replace}": ${text.trim().split("\n").at(-1)}`);
    for (const host of stage.hosts) stage.configure(host, true);
    await stage.well(a, REPAIR_MS);
    await stage.progress(500);
    const after = await stage.report(a);
    sheet.found.push(cameBack(2, before, after));
    if (after.replicas[2]!.address !== "10.0.0.9:3810") sheet.wrong.push("it is not the new one");
    sheet.status.push(await stage.status(a));
    account(sheet, writer);
  },
};

const theEnd: Act = {
  title: "Everything stops in order, regions are verified and compared",
  async play(stage, sheet) {
    const [a] = stage.hosts;
    const writer = stage.writer!;
    await stage.stopWriter();
    account(sheet, writer);
    sheet.wrong.push(...(await stage.stop(a)));
    sheet.done.push('"trivet region verify" and "trivet region export" on each of the three boxes');
    const images = await stage.images();
    for (const [i, image] of images.entries())
      if (!image.equals(images[0]!)) sheet.wrong.push(`regions 1 and ${i + 1} differ`);
    const { book } = stage;
    sheet.wrong.push(...book.check(images[0]!, book.acknowledged));
    const blocks = book.acknowledged.filter((id) => id > 0).length;
    sheet.found.push(
      `all ended with 0; three equal regions without a bad block; all ${blocks} blocks ever acknowledged are as they must be`,
    );
  },
};

export const ACTS: readonly Act[] = [
  deploy,
  unplugged,
  cutOff,
  dies,
  comesBack,
  cutHost,
  mended,
  replaced,
  theEnd,
];
