import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../test/kit/programs.js";

/** Something that fio can be pointed at. `parts`: the processes whose cost is reported, by role. */
export interface Target {
  readonly name: string;
  readonly uri: string;
  readonly parts: readonly { readonly role: string; readonly pid: number }[];
  stop(): Promise<void>;
}

const TRIVET = join(process.cwd(), "build", "bin", "trivet");

export async function nbdkit(name: string, args: readonly string[]): Promise<Target> {
  const port = await freePort();
  const child = spawn("nbdkit", ["-f", "-i", "127.0.0.1", "-p", `${port}`, ...args]);
  await listens(port, child);
  return target(name, port, [["server", child]]);
}

export async function trivetMemory(sizeBytes: number, extra: readonly string[]): Promise<Target> {
  const port = await freePort();
  const child = spawn(TRIVET, ["serve", "--memory", `${sizeBytes}`, ...at(port), ...extra]);
  await listens(port, child);
  return target("trivet memory", port, [["server", child]]);
}

/** Server and three downstairs on loopback, regions in `dir`. */
export async function trivetWhole(
  name: string,
  dir: string,
  sizeBytes: number,
  extra: readonly string[],
): Promise<Target> {
  mkdirSync(dir, { recursive: true });
  const parts: [string, ChildProcess][] = [];
  const targets: string[] = [];
  for (let i = 0; i < 3; i++) {
    const region = join(dir, `region${i}`);
    if (!existsSync(region)) {
      const size = ["--size", `${sizeBytes}`, "--block-size", "4096"];
      const made = spawnSync(TRIVET, ["region", "create", region, ...size], { encoding: "utf8" });
      if (made.status !== 0) throw new Error(made.stderr);
    }
    const port = await freePort();
    const address = ["--address", "127.0.0.1", "--port", `${port}`];
    const child = spawn(TRIVET, ["region", "run", region, ...address]);
    await listens(port, child);
    parts.push([i === 0 ? "downstairs" : "", child]);
    targets.push("--target", `127.0.0.1:${port}`);
  }
  const port = await freePort();
  const state = ["--state-dir", join(dir, "state")];
  const server = spawn(TRIVET, ["serve", ...targets, ...at(port), ...state, ...extra]);
  await listens(port, server);
  return target(name, port, [["server", server], ...parts]);
}

const at = (port: number): string[] => ["--address", `127.0.0.1:${port}`];

function target(name: string, port: number, children: readonly [string, ChildProcess][]): Target {
  return {
    name,
    uri: `nbd://127.0.0.1:${port}/`,
    parts: children.filter(([role]) => role !== "").map(([role, { pid }]) => ({ role, pid: pid! })),
    async stop() {
      for (const [, child] of children) {
        const gone = new Promise((resolve) => child.once("close", resolve));
        child.kill("SIGTERM");
        await gone;
      }
    },
  };
}

async function listens(port: number, child: ChildProcess): Promise<void> {
  let said = "";
  child.stdout?.on("data", (data) => {
    said = `${said}${data}`.slice(-4000);
  });
  child.stderr?.on("data", (data) => {
    said = `${said}${data}`.slice(-4000);
  });
  const until = Date.now() + 30_000;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`a target ended at once: ${said}`);
    if (Date.now() > until) throw new Error(`nothing listens on ${port}: ${said}`);
    const reached = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
    });
    if (reached) return;
    await sleep(50);
  }
}
