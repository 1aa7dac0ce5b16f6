import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { isThere, kill } from "../acceptance/restart-scene.js";
import { Rig, trivet } from "../acceptance/rig.js";
import { until } from "../kit/until.js";
import { within } from "../kit/within.js";
import type { Incident } from "./incidents.js";
import { command, pause } from "./programs.js";

// The volume: a server and three downstairs on loopback, and what is done to them.

/** 1 GiB. */
const GEOMETRY = { blockSize: 4096, extentSize: 4096, extentCount: 64 };
const TRIVET = join(process.cwd(), "build", "bin", "trivet");
const START_MS = 60_000;

type Ack = "quorum" | "buffered";

export class Volume {
  readonly rig = new Rig();
  /** The server, which after a restart is no child of ours. */
  #server = 0;
  readonly #pids: number[] = [];
  #ack: Ack = "quorum";

  async start(): Promise<void> {
    await this.rig.create(GEOMETRY);
    await this.rig.startAll();
    await this.#serve();
  }
  async #serve(): Promise<void> {
    const program = await this.rig.serve(["--arena", "64M", "--ack", this.#ack]);
    this.#server = program.child.pid!;
    this.#pids.push(this.#server);
  }

  /** Resolves when all that it killed has been started again; not when the volume has recovered. */
  async suffer(incident: Incident): Promise<void> {
    this.assertAlive();
    if (incident.restart) return await this.#restart();
    const gone: Promise<unknown>[] = [];
    if (incident.server) gone.push(this.#killServer());
    for (const i of incident.replicas) gone.push(this.rig.downstairs[i]!.stop("SIGKILL"));
    await Promise.all(gone);
    const [serverMs = 0, ...replicaMs] = incident.deadMs;
    const back = incident.replicas.map(async (i, place) => {
      await pause(replicaMs[place]!);
      await this.rig.startDownstairs(i);
    });
    if (incident.server) {
      this.#ack = incident.ack;
      back.push(pause(serverMs).then(() => this.#serve()));
    }
    await within("the start after a kill", START_MS, Promise.all(back));
  }
  /** How many FLUSH requests this server has been sent. */
  async flushes(): Promise<number> {
    return JSON.parse(await this.#ask("status")).counts.flushes;
  }
  #ask(what: string): Promise<string> {
    const env = { ...process.env, RUNTIME_DIRECTORY: this.rig.runtime };
    return command(TRIVET, [what, "--json"], { env });
  }
  async #restart(): Promise<void> {
    const before = this.#server;
    const said = await this.#ask("restart");
    this.#server = JSON.parse(said).pid;
    this.#pids.push(this.#server);
    await until("the end of the server before", () => !isThere(before), START_MS);
  }
  /** From the moment of the call on nothing is written any more. */
  #killServer(): Promise<void> {
    const pid = this.#server;
    kill(pid, "SIGKILL");
    return until("the server's death", () => !isThere(pid), START_MS);
  }

  /** The host that the server runs on is without power, and some boxes with replicas may be, too: the write log was in memory. */
  async cut(replicas: readonly number[]): Promise<void> {
    this.assertAlive();
    const gone = this.#killServer();
    const others = replicas.map((i) => this.rig.downstairs[i]!.stop("SIGKILL"));
    await Promise.all([gone, ...others]);
    for (const name of readdirSync(this.rig.runtime))
      rmSync(join(this.rig.runtime, name), { recursive: true });
  }
  /** After a cut. */
  async resume(replicas: readonly number[], ack: Ack): Promise<void> {
    this.#ack = ack;
    const back = [...replicas.map((i) => this.rig.startDownstairs(i)), this.#serve()];
    await within("the start after a power cut", START_MS, Promise.all(back));
  }

  /** Nobody ends without being killed. */
  assertAlive(): void {
    if (!isThere(this.#server)) throw new Error("the server has ended");
    for (const [i, program] of this.rig.downstairs.entries())
      if (program!.child.exitCode !== null || program!.child.signalCode !== null)
        throw new Error(`replica ${i} has ended`);
  }

  /** Everything ends in order, and the three regions are valid and equal. */
  async finish(): Promise<void> {
    this.assertAlive();
    // A server that began with all three has them equal when it stops.
    await this.#stopServer();
    await this.#serve();
    await this.#stopServer();
    for (const [i, program] of this.rig.downstairs.entries()) {
      const status = await within(`replica ${i}'s end`, START_MS, program!.stop("SIGTERM"));
      if (status !== 0) throw new Error(`replica ${i} ended with ${status}`);
    }
    const images: string[] = [];
    for (const i of [0, 1, 2]) {
      const image = join(this.rig.dir, `image${i}`);
      trivet(["region", "verify", this.rig.region(i)]);
      trivet(["region", "export", this.rig.region(i), image]);
      images.push(image);
    }
    for (const other of images.slice(1)) await command("cmp", [images[0]!, other]);
  }
  async #stopServer(): Promise<void> {
    const pid = this.#server;
    kill(pid, "SIGTERM");
    await until("the server's end", () => !isThere(pid), START_MS);
  }

  /** What the programs have said last. */
  said(): string {
    const last = (name: string, output = ""): string =>
      `--- ${name}\n${output.split("\n").slice(-15).join("\n")}`;
    const { server, downstairs } = this.rig;
    return [
      last("server", server?.output),
      ...downstairs.map((program, i) => last(`replica ${i}`, program?.output)),
    ].join("\n");
  }
  /** Nothing of it runs any more. */
  async end(): Promise<void> {
    for (const pid of this.#pids) kill(pid, "SIGKILL");
    for (const program of this.rig.downstairs) await program?.stop("SIGKILL");
  }
  remove(): Promise<void> {
    return this.rig.remove();
  }
}
