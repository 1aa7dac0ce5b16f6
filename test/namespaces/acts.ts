import { DOCUMENTED, FRESH_BOX, PORT, SOCKET } from "./documented.js";
import { comesBack, cutLong, cutShort, dies } from "./hosts.js";
import { type Act, account, cameBack } from "./judge.js";

// What is played, in this order: each act begins with what the one before has left. Here those about boxes.

/** A ping is not answered: the box is missed, though not given up yet. */
const MISSED_MS = 7_000;
const REPAIR_MS = 300_000;

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

const replaced: Act = {
  title: "Box 3 is lost, and replaced by an empty one at a new address",
  async play(stage, sheet) {
    const [, b] = stage.hosts;
    const writer = stage.writer!;
    writer.takeLongestMs();
    const before = await stage.report(b);
    const fresh = await stage.freshBox();
    const [, run] = await stage.deploy(fresh);
    sheet.done.push("all its processes killed, the box taken away", `on the new one "${run}"`);
    const text = await b.machine.must(DOCUMENTED.replace, REPAIR_MS);
    sheet.done.push(`"${DOCUMENTED.replace}": ${text.trim().split("\n").at(-1)}`);
    for (const host of stage.hosts) stage.configure(host, true);
    await stage.well(b, REPAIR_MS);
    await stage.progress(500);
    const after = await stage.report(b);
    sheet.found.push(cameBack(2, before, after));
    if (after.replicas[2]!.address !== `${FRESH_BOX.address}:${PORT}`)
      sheet.wrong.push("it is not the new one");
    sheet.status.push(await stage.status(b));
    account(sheet, writer);
  },
};

const theEnd: Act = {
  title: "Everything stops in order, regions are verified and compared",
  async play(stage, sheet) {
    const [, b] = stage.hosts;
    const writer = stage.writer!;
    await stage.stopWriter();
    account(sheet, writer);
    sheet.wrong.push(...(await stage.stop(b)));
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
  cutShort,
  cutLong,
  replaced,
  theEnd,
];
