import { within } from "../kit/within.js";
import { DOCUMENTED } from "./documented.js";
import { type Act, account } from "./judge.js";
import { nowMs } from "./notes.js";
import type { Sheet } from "./page.js";
import type { Host, Stage } from "./stage.js";
import type { Writer } from "./writer.js";

// Acts about hosts: the volume goes from one to the other, and the one that lost it must not touch it again.

/** A superseded server has to dial again, and to be refused more than once. */
const FENCED_MS = 180_000;
/** 45 s without a frame, and a margin. */
const NOTICED_MS = 120_000;
const SUPERSEDED = 10;

/** A host takes the volume over from one that is gone. What that one's writer was promised has to be there. */
async function takeOver(stage: Stage, sheet: Sheet, lost: Writer, heir: Host, half: boolean) {
  const { book } = stage;
  await stage.serve(heir);
  sheet.takeoverMs = nowMs() - lost.catchUp().lastAnswerMs;
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
  await stage.progress(500);
  await stage.well(heir);
  return writer;
}

async function generations(stage: Stage, sheet: Sheet, before: string, heir: Host): Promise<void> {
  const { generation } = await stage.report(heir);
  sheet.found.push(`generation ${generation} after ${before}`);
  if (BigInt(generation) <= BigInt(before)) sheet.wrong.push("the generation is no newer one");
}

/** A server that must not have the volume ends by itself. */
async function fenced(stage: Stage, sheet: Sheet, host: Host, logsBefore: number): Promise<void> {
  const { name } = host.machine;
  const server = host.server!;
  const started = performance.now();
  const status = await within(`the end of ${name}'s server`, FENCED_MS, server.exited);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const hasSaid = server.output.includes("TRIVET_E_SUPERSEDED");
  const aside = stage.logsAside(host) - logsBefore;
  if (status !== SUPERSEDED) sheet.wrong.push(`${name}'s server ended with ${status}`);
  if (!hasSaid) sheet.wrong.push(`${name}'s server did not say TRIVET_E_SUPERSEDED`);
  if (aside !== 1) sheet.wrong.push(`${aside} write logs were put aside on ${name}`);
  const why = hasSaid ? ", TRIVET_E_SUPERSEDED" : "";
  sheet.found.push(
    `its server ended with ${status}${why}, after ${seconds} s; ${aside} write log put aside`,
  );
  sheet.status.push(`${name} ${await stage.status(host)}`);
}

export const dies: Act = {
  title: "Host A dies (kill -9 of all its processes), host B takes over",
  async play(stage, sheet) {
    const [a, b] = stage.hosts;
    const lost = stage.writer!;
    const { generation } = await stage.report(a);
    stage.writer = undefined;
    await a.machine.kill();
    sheet.done.push(`killed under load; "${DOCUMENTED.serve}" on host B`);
    const writer = await takeOver(stage, sheet, lost, b, false);
    await generations(stage, sheet, generation, b);
    sheet.status.push(`hostB ${await stage.status(b)}`);
    account(sheet, writer);
  },
};

export const comesBack: Act = {
  title: "Host A comes back (its server is started again) and stays fenced",
  async play(stage, sheet) {
    const [a, b] = stage.hosts;
    const writer = stage.writer!;
    writer.takeLongestMs();
    const logs = stage.logsAside(a);
    stage.start(a);
    sheet.done.push(
      `"${DOCUMENTED.serve}" on host A, as its unit does; it finds the log that it left`,
    );
    await fenced(stage, sheet, a, logs);
    await stage.progress(500);
    const { health } = await stage.report(b);
    if (health !== "ok") sheet.wrong.push(`host B is ${health}`);
    sheet.status.push(`hostB ${await stage.status(b)}`);
    account(sheet, writer);
  },
};

interface Cut {
  readonly title: string;
  readonly from: 0 | 1;
  /** What the host that is cut off does before its link is mended. */
  readonly until: "at once" | "noticed";
}

/** The switch drops a host whose processes run; the other takes over; the link is mended. */
const cutHost = ({ title, from, until }: Cut): Act => ({
  title,
  async play(stage, sheet) {
    const [lost, heir] = from === 0 ? stage.hosts : [stage.hosts[1], stage.hosts[0]];
    const { name } = lost.machine;
    const old = stage.writer!;
    const { generation } = await stage.report(lost);
    const logs = stage.logsAside(lost);
    stage.writer = undefined;
    stage.network.drop(name);
    const writer = await takeOver(stage, sheet, old, heir, true);
    await generations(stage, sheet, generation, heir);
    const { writes } = old.catchUp();
    if (until === "noticed")
      await stage.until(
        `${name} notices`,
        async () => (await stage.report(lost)).health === "down",
        NOTICED_MS,
      );
    const waiting = old.open;
    sheet.status.push(`${name} while cut off ${await stage.status(lost)}`);
    stage.network.forward(name);
    sheet.done.push(
      `the switch drops all of ${name}, links up, its processes run; "${DOCUMENTED.serve}" on ${heir.machine.name}; ${until === "noticed" ? "when the old server has noticed" : "soon"} the switch forwards again`,
    );
    await fenced(stage, sheet, lost, logs);
    await within(`the end of ${name}'s writer`, 30_000, old.program.exited);
    if (old.catchUp().writes !== writes)
      sheet.wrong.push(
        `${name} acknowledged ${old.writes - writes} writes after it was superseded`,
      );
    sheet.found.push(
      `of ${waiting} requests that waited in it ${old.writes - writes} were acknowledged, ${old.errors.length} ended with an error`,
    );
    await stage.progress(500);
    sheet.status.push(`${heir.machine.name} ${await stage.status(heir)}`);
    account(sheet, writer);
    await stage.stopWriter();
    const { book } = stage;
    const complaints = book.check(await stage.read(heir), book.acknowledged);
    sheet.wrong.push(...complaints);
    if (complaints.length === 0)
      sheet.found.push(`nothing of ${name}'s shows that ${heir.machine.name} had not found`);
    await stage.write(heir, "hard");
    await stage.progress(500);
  },
});

export const cutShort = cutHost({
  title: "Host B is cut off for seconds, host A takes over; the old server stays fenced",
  from: 1,
  until: "at once",
});
export const cutLong = cutHost({
  title: "Host A is cut off until it has noticed, host B takes over; the old server stays fenced",
  from: 0,
  until: "noticed",
});
