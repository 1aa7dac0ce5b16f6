import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { NbdClient } from "../acceptance/client.js";
import { freePort, Server, serveRegion, targetOptions } from "../kit/programs.js";
import { prng } from "../kit/world.js";
import { Client, type Source, Values } from "./client.js";
import type { Recording } from "./recording.js";
import { type RunOptions, type Shape, Stage } from "./stage.js";

// What is recorded: real programs, each scenario with a workload of its own.

const REPAIR_PORT_OFFSET = 4000;

/** Random writes with many under way, blocks written again and again, flushes of which some come while others are under way. */
class Load {
  readonly #client: Client;
  readonly #shape: Shape;
  readonly #values: Values;
  readonly #chance: () => number;
  readonly #number: () => number;

  constructor(
    client: Client,
    shape: Shape,
    values: Values,
    chance: () => number,
    number: () => number,
  ) {
    this.#client = client;
    this.#shape = shape;
    this.#values = values;
    this.#chance = chance;
    this.#number = number;
  }
  /** Rejects when the program dies. `extents`: only the first so many are written. */
  async run(steps: number, extents = this.#shape.extentCount): Promise<void> {
    const under: Promise<unknown>[] = [];
    const wait = async (): Promise<void> => {
      await Promise.all(under.splice(0));
    };
    for (let i = 0; i < steps; i++) {
      if (this.#chance() < 0.25) under.push(this.flush());
      else {
        const total = this.#shape.extentSize * extents;
        const start = Math.floor(this.#chance() * total);
        const most = this.#chance() < 0.2 ? 30 : 4;
        const count = Math.min(total - start, 1 + Math.floor(this.#chance() * most));
        const zeros = this.#chance() < 0.15 && this.#shape.encrypted !== true;
        const values = zeros ? this.#values.zeros(count) : this.#values.next(count);
        under.push(this.#client.write(start, values));
      }
      if (this.#chance() < 0.3) await wait();
    }
    await wait();
  }
  async flush(): Promise<void> {
    await this.#client.flush(this.#number());
  }
}

const succeeds = (work: Promise<unknown>): Promise<boolean> =>
  work.then(
    () => true,
    () => false,
  );

async function recorded(play: (stage: Stage) => Promise<void>): Promise<Recording> {
  const stage = new Stage();
  try {
    await play(stage);
    return stage.recording();
  } finally {
    stage.remove();
  }
}

/** Numbers and values that go on over several lives of a region. */
class History {
  readonly chance: () => number;
  readonly values: Values;
  readonly shape: Shape;
  #flush = 0;
  #generation = 0;
  constructor(shape: Shape, seed: number) {
    this.shape = shape;
    this.chance = prng(seed);
    this.values = new Values(shape.blockSize, shape.encrypted ?? false);
  }
  readonly flushNumber = (): number => ++this.#flush;
  dial(port: number): Promise<Client> {
    return Client.dial(port, ++this.#generation, this.shape.encrypted);
  }
  load(client: Client): Load {
    return new Load(client, this.shape, this.values, this.chance, this.flushNumber);
  }
}

/** A region is made, serves, is stopped in order, is killed before several syncs and at any moment, and serves again. */
export const work = (
  shape: Shape,
  seed: number,
  steps: number,
  options: RunOptions = {},
): Promise<Recording> =>
  recorded(async (stage) => {
    const history = new History(shape, seed);
    await stage.create(shape);
    stage.checkpoint();
    const deaths = [1, 2, 3].map(() => 1 + Math.floor(history.chance() * 12));
    for (const death of [0, ...deaths, 0]) {
      const life = death === 0 ? options : { ...options, dieAt: death + shape.extentCount };
      const { server, port } = await stage.serve(life);
      const client = await history.dial(port);
      const load = history.load(client);
      const lived = await succeeds(load.run(steps));
      if (death === 0) {
        if (!lived) throw new Error(`the program ended:\n${server.output}`);
        await load.flush();
        stage.checkpoint();
        // What is not flushed is written out by an orderly stop, and promised by nobody.
        await load.run(3);
        client.leave();
        server.child.kill("SIGTERM");
      } else if (lived) server.child.kill("SIGKILL");
      client.leave();
      await stage.ended(server);
    }
  });

/**
 * The cases that a sync is there for and chance seldom finds: a block of zeros into an extent that was never
 * written, and a block that is written again after a process died with its data in the page cache only.
 */
export const corners = (shape: Shape, options: RunOptions = {}): Promise<Recording> =>
  recorded(async (stage) => {
    const history = new History(shape, 1);
    await stage.create(shape);
    const { extentCount } = shape;
    // Per flush of one extent: contexts, data, metadata.
    const lives = [undefined, extentCount + 5, undefined];
    for (const dieAt of lives) {
      const { server, port } = await stage.serve(
        dieAt === undefined ? options : { ...options, dieAt },
      );
      const client = await history.dial(port);
      const flush = (): Promise<unknown> => client.flush(history.flushNumber());
      const lived = await succeeds(
        (async () => {
          if (dieAt === undefined) {
            await client.write(0, history.values.next(2));
            await flush();
            await client.write(shape.extentSize + 3, history.values.zeros(2));
            await flush();
          } else {
            await client.write(1, history.values.next(1));
            await flush();
            await client.write(0, history.values.next(3));
            await flush();
          }
        })(),
      );
      if (lived !== (dieAt === undefined)) throw new Error(`life ended wrongly:\n${server.output}`);
      client.leave();
      if (lived) server.child.kill("SIGTERM");
      await stage.ended(server);
    }
  });

/** Extents are replaced: by reconciliation, by live repair with writes to others under way, and with a death on the way. */
export const repair = (shape: Shape, seed: number, options: RunOptions = {}): Promise<Recording> =>
  recorded(async (stage) => {
    const history = new History(shape, seed);
    const { extentSize, extentCount } = shape;
    const beside = await stage.serveBeside("source", shape);
    const source: Source = { host: "127.0.0.1", port: beside.port + REPAIR_PORT_OFFSET };
    const helper = await history.dial(beside.port);
    const first = history.load(helper);
    for (let extent = 0; extent < extentCount; extent++)
      await helper.write(extent * extentSize, history.values.next(4));
    await first.run(10);
    await first.flush();
    // One source is dirty: then what comes must be recovered by hashing.
    await helper.write(extentSize + 5, history.values.next(2));
    for (let extent = 0; extent < extentCount; extent++) await helper.close(extent);

    await stage.create(shape);
    const inLife = async (
      dieAt: number | undefined,
      play: (client: Client, load: Load) => Promise<void>,
    ): Promise<void> => {
      const life = dieAt === undefined ? options : { ...options, dieAt: extentCount + dieAt };
      const { server, port } = await stage.serve(life);
      const client = await history.dial(port);
      const lived = await succeeds(play(client, history.load(client)));
      if (dieAt === undefined && !lived) throw new Error(`the program ended:\n${server.output}`);
      client.leave();
      server.child.kill(dieAt === undefined ? "SIGTERM" : "SIGKILL");
      await stage.ended(server);
    };
    await inLife(undefined, async (client, load) => {
      await load.run(8);
      await load.flush();
      await client.reconcile(0, source);
      stage.checkpoint();
      const last = extentCount - 1;
      await Promise.all([client.liveRepair(last, source), load.run(8, last)]);
      await load.flush();
      await client.reconcile(1, source);
      await load.run(5);
      await load.flush();
    });
    // The fetched file is synced, then the extent that it was copied over.
    for (const dieAt of [1, 2])
      await inLife(dieAt, (client) => client.reconcile(dieAt % extentCount, source));
    await inLife(undefined, async (_, load) => {
      await load.run(5);
      await load.flush();
    });
    helper.leave();
    await beside.server.stop();
  });

/** A region becomes a copy of one that is served read-only. */
export const clone = (shape: Shape, seed: number): Promise<Recording> =>
  recorded(async (stage) => {
    const history = new History(shape, seed);
    const writer = await stage.serveBeside("source", shape);
    const client = await history.dial(writer.port);
    const load = history.load(client);
    await load.run(12);
    await load.flush();
    await client.write(2, history.values.next(3));
    client.leave();
    await writer.server.stop();
    const { server, port } = await serveRegion(writer.path, "--mode", "ro");
    await stage.create(shape);
    const source = `127.0.0.1:${port + REPAIR_PORT_OFFSET}`;
    await stage.record("crucible-downstairs", "clone", "--data", stage.region, "--source", source);
    stage.mark("cloned");
    stage.checkpoint();
    await server.stop();
  });

/** The recorded downstairs is one of three under a real server, which replays, reconciles and repairs as it sees fit. */
export const served = (shape: Shape, seed: number, options: RunOptions = {}): Promise<Recording> =>
  recorded(async (stage) => {
    const chance = prng(seed);
    await stage.create(shape);
    let mine = await stage.serve(options);
    const others = await Promise.all(["b", "c"].map((name) => stage.serveBeside(name, shape)));
    const nbdPort = await freePort();
    const targets = [mine, ...others].map(({ port }) => `127.0.0.1:${port}`);
    const start = async (...more: string[]): Promise<{ server: Server; client: NbdClient }> => {
      const where = ["--address", `127.0.0.1:${nbdPort}`, "--state-dir", stage.beside("state")];
      const memory = ["--arena", "64M"];
      const args = ["serve", ...targetOptions(targets), ...where, ...memory, ...more];
      const server = new Server("trivet", args);
      await server.says(/serving \d/);
      return { server, client: await NbdClient.connect({ port: nbdPort }) };
    };
    let { server, client } = await start();
    let serial = 0;
    const work = async (steps: number): Promise<void> => {
      const under: Promise<void>[] = [];
      const total = shape.extentSize * shape.extentCount;
      for (let i = 0; i < steps; i++) {
        if (chance() < 0.2) under.push(client.flush());
        const first = Math.floor(chance() * total);
        const count = Math.min(total - first, 1 + Math.floor(chance() * 6));
        const data = Buffer.alloc(count * shape.blockSize, `write ${++serial} `);
        if (chance() < 0.4) await Promise.all(under.splice(0));
        under.push(client.write(first * shape.blockSize, data));
      }
      await Promise.all(under);
    };
    await work(20);
    for (const both of [false, true]) {
      // Killed by itself it gets what it missed; killed with the server, it is made equal before anybody is let in.
      mine.server.child.kill("SIGKILL");
      if (both) server.child.kill("SIGKILL");
      await stage.ended(mine.server);
      if (both) await server.ended();
      else await work(10);
      mine = await stage.serve({ ...options, port: mine.port });
      if (both) ({ server, client } = await start());
      else await server.says(/"replica\.replay"/);
      await work(15);
      await client.flush();
    }
    // The others start without it, and when it comes back it is repaired while clients go on.
    mine.server.child.kill("SIGKILL");
    await stage.ended(mine.server);
    client.close();
    await server.stop();
    ({ server, client } = await start("--degraded-after", "1s"));
    await work(15);
    mine = await stage.serve({ ...options, port: mine.port });
    const repaired = server.says(/"repair\.done"/);
    for (let isDone = false; !isDone; ) {
      await work(3);
      isDone = await Promise.race([repaired.then(() => true), sleep(50).then(() => false)]);
    }
    await client.flush();
    client.close();
    await server.stop();
    mine.server.child.kill("SIGTERM");
    await stage.ended(mine.server);
    for (const other of others) await other.server.stop();
  });

/** A region is filled from an image: until that has ended it is fresh, or none. */
export const imported = (shape: Shape, seed: number): Promise<Recording> =>
  recorded(async (stage) => {
    const image = stage.beside("image");
    const total = shape.blockSize * shape.extentSize * shape.extentCount;
    writeFileSync(image, Buffer.alloc(total - 700, `image ${seed} `));
    await stage.create(shape);
    stage.mark("importing");
    await stage.record("trivet", "region", "import", stage.region, image);
    stage.mark("imported");
    stage.checkpoint();
  });
