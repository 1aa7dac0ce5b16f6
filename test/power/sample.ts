import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { verifyRegion } from "../../src/app/region/verify.js";
import { withWorkspace } from "../../src/app/region/workspace.js";
import { makeFolder, removeFolder } from "../kit/folders.js";
import { Server } from "../kit/programs.js";
import { prng } from "../kit/world.js";
import { Client } from "./client.js";
import type { Contents, Recording } from "./recording.js";
import { promisesAt, regionIn } from "./states.js";

export interface Sampled {
  readonly state: Contents;
  readonly at: number;
}

/** Keeps `most` of the states that it is shown, any of them as likely as any other. */
export class Sample {
  readonly kept: Sampled[] = [];
  readonly #most: number;
  readonly #chance: () => number;
  #seen = 0;
  constructor(most: number, seed: number) {
    this.#most = most;
    this.#chance = prng(seed);
  }
  readonly visit = (state: Contents, at: number): void => {
    // Not yet a region.
    if (!state.has("/r/region.json")) return;
    this.#seen += 1;
    if (this.kept.length < this.#most) this.kept.push({ state, at });
    else {
      const place = Math.floor(this.#chance() * this.#seen);
      if (place < this.#most) this.kept[place] = { state, at };
    }
  };
}

/** Writes states to files, serves them all with the real program, reads every block as a peer would, stops it and verifies. */
export async function openForReal(
  recording: Recording,
  states: readonly Sampled[],
): Promise<string[]> {
  const folder = makeFolder();
  const region = regionIn(recording);
  const wrong: string[] = [];
  try {
    const directories = states.map(({ state }, i) => {
      for (const [path, bytes] of state) {
        const full = join(folder, `${i}`, path);
        mkdirSync(bytes === null ? full : dirname(full), { recursive: true });
        if (bytes !== null) writeFileSync(full, bytes);
      }
      return join(folder, `${i}`, "r");
    });
    const args = ["region", "run", ...directories, "--port", "0", "--arena", "1G"];
    const server = new Server("trivet", args);
    for (const [i, directory] of directories.entries()) {
      const said = await server.says(new RegExp(`${directory} is served on 127.0.0.1:(\\d+)`));
      const client = await Client.dial(Number(said[1]), 2 ** 40, region.encrypted);
      const keys: string[] = [];
      for (let extent = 0; extent < region.extentCount; extent++)
        keys.push(...(await client.read(extent * region.extentSize, region.extentSize)));
      const { at } = states[i]!;
      const found = { extents: client.extents, keys };
      const complaint = promisesAt(recording, region, at).complaint(found);
      if (complaint !== null) wrong.push(`moment ${at}: ${complaint}`);
      client.leave();
    }
    await server.stop();
    const silent = { advance() {}, done() {} };
    await withWorkspace(async (workspace) => {
      for (const [i, directory] of directories.entries()) {
        const bad = await verifyRegion(directory, region, workspace, 2, () => silent);
        for (const { file, reason } of bad)
          wrong.push(`moment ${states[i]!.at}: ${file}: ${reason}`);
      }
    });
  } finally {
    removeFolder(folder);
  }
  return wrong;
}
