import { existsSync, readFileSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { Fault } from "../../base/fault.js";
import { syncDirectory } from "../files.js";

/** The repair server of a downstairs listens this far above its data port. */
const REPAIR_PORT_OFFSET = 4000;
const PORT_MAX = 65535 - REPAIR_PORT_OFFSET;
const PORT_TRIES = 200;

/** What a demo keeps beside its regions, so that the next start finds its data and its ports again. */
export interface DemoPlan {
  readonly sizeBytes: number;
  readonly blockSize: number;
  readonly ports: readonly number[];
}

const planPath = (folder: string): string => join(folder, "demo.json");

export function readPlan(folder: string): DemoPlan | undefined {
  const path = planPath(folder);
  if (!existsSync(path)) return undefined;
  try {
    const json = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    const { size_bytes: sizeBytes, block_size: blockSize, ports } = json;
    if (
      typeof sizeBytes === "number" &&
      typeof blockSize === "number" &&
      Array.isArray(ports) &&
      ports.length === 3 &&
      ports.every((port) => Number.isInteger(port) && port > 0 && port <= PORT_MAX)
    ) {
      return { sizeBytes, blockSize, ports };
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new Fault(
    "TRIVET_E_CONFIG",
    `${path} is not what a demo writes; remove it to have it made anew`,
  );
}

export async function writePlan(folder: string, plan: DemoPlan): Promise<void> {
  const temporary = `${planPath(folder)}.new`;
  const file = await open(temporary, "w", 0o644);
  try {
    const { sizeBytes, blockSize, ports } = plan;
    const json = { size_bytes: sizeBytes, block_size: blockSize, ports };
    await file.writeFile(`${JSON.stringify(json, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, planPath(folder));
  await syncDirectory(folder);
}

const LOOPBACK = "127.0.0.1";

/** A free port is asked of the system; 0 lets it choose. Resolves with the port, undefined when it is taken. */
const tryPort = (port: number): Promise<number | undefined> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen(port, LOOPBACK, () => {
      const address = server.address();
      const found = typeof address === "object" && address !== null ? address.port : undefined;
      server.close(() => resolve(found));
    });
  });

const isUsable = async (port: number): Promise<boolean> =>
  (await tryPort(port)) !== undefined && (await tryPort(port + REPAIR_PORT_OFFSET)) !== undefined;

/** Keeps the ports that are still free, and replaces the others. */
export async function choosePorts(wanted: readonly number[]): Promise<number[]> {
  const ports: number[] = [];
  for (let i = 0; i < 3; i++) {
    const old = wanted[i];
    ports.push(old !== undefined && (await isUsable(old)) ? old : await newPort(ports));
  }
  return ports;
}

async function newPort(taken: readonly number[]): Promise<number> {
  for (let i = 0; i < PORT_TRIES; i++) {
    const port = await tryPort(0);
    if (port === undefined || port > PORT_MAX || taken.includes(port)) continue;
    if (taken.some((other) => Math.abs(other - port) === REPAIR_PORT_OFFSET)) continue;
    if (await isUsable(port)) return port;
  }
  throw new Fault("TRIVET_E_LISTEN", `no free pair of ports was found on ${LOOPBACK}`);
}
