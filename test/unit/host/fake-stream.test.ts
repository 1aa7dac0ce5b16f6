import t from "tap";
import { FakeArena } from "../../kit/arena.js";
import { type FakeStream, link } from "../../kit/link.js";
import { World } from "../../kit/world.js";
import { detachContract } from "./detach-contract.js";
import { type Maker, streamContract } from "./stream-contract.js";

// The simulated link is held to the contract that the sockets are held to.
for (const segmentBytes of [1400, 100_000])
  t.test(`segments of ${segmentBytes} bytes`, async (t) => {
    const world = new World(3);
    const arena = new FakeArena(64 * 1024 * 1024);
    const maker: Maker = {
      arena,
      pair: async () => link(world, arena, arena, { latencyMs: 0.1, segmentBytes }),
      until: async (what, done) => {
        for (let i = 0; i < 10_000 && !done(); i++) world.advance(0.1);
        t.ok(done(), what);
      },
    };
    streamContract(t, maker);
    detachContract(t, maker, (from) => (from as FakeStream).heir(arena));
  });
