import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import type { Generation, Uuid } from "../../../src/base/ids.js";
import {
  type Activation,
  beats,
  type Claimant,
  ReadOnlyActivation,
  ReadWriteActivation,
} from "../../../src/downstairs/activation.js";
import type { Identity } from "../../../src/downstairs/identity.js";
import type { Then } from "../../../src/ports/files.js";

const who = (upstairs: string, session: string, generation: bigint): Identity => ({
  upstairsId: upstairs as Uuid,
  sessionId: session as Uuid,
  generation: generation as Generation,
});

t.test("who beats whom", async (t) => {
  const holder = who("a", "1", 5n);
  for (const [claim, wins] of [
    [who("a", "1", 4n), false],
    [who("b", "2", 4n), false],
    [who("a", "1", 5n), true],
    [who("a", "2", 5n), false],
    [who("b", "1", 5n), false],
    [who("b", "2", 5n), false],
    [who("a", "1", 6n), true],
    [who("b", "2", 6n), true],
    [who("b", "2", 0n), false],
  ] as const)
    t.equal(
      beats(claim, holder),
      wins,
      `${claim.upstairsId}${claim.sessionId} ${claim.generation}`,
    );
});

class Peer implements Claimant {
  readonly identity: Identity;
  readonly heard: string[] = [];
  constructor(identity: Identity) {
    this.identity = identity;
  }
  promoted(): void {
    this.heard.push("promoted");
  }
  notPromoted(): void {
    this.heard.push("not promoted");
  }
  superseded(by: Identity): void {
    this.heard.push(`superseded by ${by.upstairsId} ${by.generation}`);
  }
}

function readWrite(): {
  activation: Activation;
  busy: (value: boolean) => void;
  reopens: Then[];
} {
  let isBusy = false;
  const reopens: Then[] = [];
  const activation = new ReadWriteActivation(
    () => isBusy,
    (then) => reopens.push(then),
  );
  return {
    activation,
    reopens,
    busy: (value) => {
      isBusy = value;
      if (!value) activation.idle();
    },
  };
}

t.test("promotion waits for the loser's work, then for the extents", async (t) => {
  const { activation, busy, reopens } = readWrite();
  const first = new Peer(who("a", "1", 5n));
  t.equal(activation.claim(first), true);
  reopens.shift()!(null);
  t.same(first.heard, ["promoted"]);
  busy(true);
  const second = new Peer(who("b", "2", 6n));
  t.equal(activation.claim(second), true);
  t.same(first.heard, ["promoted", "superseded by b 6"], "told at once");
  t.same(reopens, [], "an operation of the first may still write");
  busy(false);
  t.equal(reopens.length, 1);
  t.same(second.heard, []);
  reopens.shift()!(null);
  t.same(second.heard, ["promoted"]);
});

t.test("a rival that is refused, or goes, unseats nobody", async (t) => {
  const { activation, reopens } = readWrite();
  const holder = new Peer(who("a", "1", 5n));
  activation.claim(holder);
  reopens.shift()!(null);
  const sameIds = new Peer(who("a", "9", 5n));
  t.equal(activation.claim(sameIds), false);
  activation.leave(sameIds);
  t.equal(activation.claim(new Peer(who("b", "2", 1n))), false, "the holder is still there");
  t.same(holder.heard, ["promoted"]);
});

t.test("overtaken while promoting", async (t) => {
  const { activation, reopens } = readWrite();
  const first = new Peer(who("a", "1", 5n));
  const second = new Peer(who("b", "2", 6n));
  const third = new Peer(who("c", "3", 5n));
  activation.claim(first);
  activation.claim(second);
  t.equal(activation.claim(third), false);
  t.same(first.heard, ["superseded by b 6"]);
  reopens.shift()!(null);
  t.same(second.heard, [], "what was opened for the first does not count");
  reopens.shift()!(null);
  t.same(second.heard, ["promoted"]);
});

t.test("gone while promoting", async (t) => {
  const { activation, reopens } = readWrite();
  const first = new Peer(who("a", "1", 5n));
  activation.claim(first);
  activation.leave(first);
  reopens.shift()!(null);
  t.same(first.heard, []);
  const next = new Peer(who("b", "1", 1n));
  t.equal(activation.claim(next), true, "the region is free, any generation will do");
  reopens.shift()!(null);
  t.same(next.heard, ["promoted"]);
});

t.test("extents that do not open", async (t) => {
  const { activation, reopens } = readWrite();
  const first = new Peer(who("a", "1", 5n));
  activation.claim(first);
  reopens.shift()!(new Fault("TRIVET_E_IO", "no"));
  t.same(first.heard, ["not promoted"]);
  t.equal(activation.claim(new Peer(who("b", "1", 1n))), true);
});

t.test("read-only: one connection per upstairs, whatever its generation", async (t) => {
  const activation = new ReadOnlyActivation();
  const a = new Peer(who("a", "1", 5n));
  const b = new Peer(who("b", "2", 1n));
  const again = new Peer(who("a", "3", 1n));
  for (const peer of [a, b, again]) t.equal(activation.claim(peer), true);
  t.same(a.heard, ["promoted", "superseded by a 1"]);
  t.same(b.heard, ["promoted"]);
  activation.leave(a);
  t.same(again.heard, ["promoted"]);
  const last = new Peer(who("a", "4", 0n));
  activation.claim(last);
  t.same(
    again.heard,
    ["promoted", "superseded by a 0"],
    "the leaving of the first changed nothing",
  );
});
