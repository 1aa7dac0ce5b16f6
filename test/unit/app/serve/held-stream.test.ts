import t from "tap";
import { HeldStream } from "../../../../src/app/serve/held-stream.js";
import { FakeArena } from "../../../kit/arena.js";
import { link } from "../../../kit/link.js";
import { World } from "../../../kit/world.js";
import { Recorder } from "../../host/recorder.js";
import { streamContract } from "../../host/stream-contract.js";

// A stream that was held back is held to the contract that every stream is held to.
t.test("after the hand-over", async (t) => {
  const world = new World(3);
  const arena = new FakeArena(64 * 1024 * 1024);
  streamContract(t, {
    arena,
    pair: async () => {
      const [a, b] = link(world, arena, arena, { latencyMs: 0.1, segmentBytes: 1400 });
      const held = [new HeldStream(a, () => {}), new HeldStream(b, () => {})] as const;
      world.advance(5);
      return [held[0], held[1]];
    },
    until: async (what, done) => {
      for (let i = 0; i < 10_000 && !done(); i++) world.advance(0.1);
      t.ok(done(), what);
    },
  });
});

t.test("who leaves while waiting is forgotten, and who speaks early is heard later", async (t) => {
  const world = new World(5);
  const arena = new FakeArena();
  const [a, b] = link(world, arena, arena, { latencyMs: 0.1, segmentBytes: 1400 });
  let gone = 0;
  const held = new HeldStream(a, () => {
    gone += 1;
  });
  const peer = new Recorder(b, arena);
  peer.compose(Buffer.from("hello"));
  world.advance(10);
  t.equal(gone, 0);
  const late = new Recorder(held, arena);
  world.advance(10);
  t.equal(late.allReceived.toString(), "hello");
  const [c, d] = link(world, arena, arena, { latencyMs: 0.1, segmentBytes: 1400 });
  new HeldStream(c, () => {
    gone += 1;
  });
  const leaving = new Recorder(d, arena);
  leaving.quietly(() => d.destroy());
  world.advance(10);
  t.equal(gone, 1);
});
