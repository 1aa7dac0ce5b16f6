import { randomUUID } from "node:crypto";
import { accessSync, closeSync, constants, mkdirSync, openSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { Fault } from "../../base/fault.js";
import type { Uuid } from "../../base/ids.js";
import { HostFileTree } from "../../host/files.js";
import type { Notes } from "../../ports/notes.js";
import { DATABASE_VERSION } from "../../region/config.js";
import { chooseGeometry } from "../../region/geometry.js";
import type { Input, Shell } from "../cli/command.js";
import { parseAddress, parseSize, showAddress } from "../cli/values.js";
import { Lifetime } from "../lifetime.js";
import { processLog } from "../logging.js";
import { createRegion } from "../region/create.js";
import { isRegion } from "../region/directory.js";
import { BLOCK_BYTES_DEFAULT, parseBlockSize } from "../region/options.js";
import { readWriteLog } from "../serve/log-place.js";
import { type Serving, serve } from "../serve/serve.js";
import { defaultSettings, parseEngine, readControl } from "../serve/settings.js";
import { guide } from "./guide.js";
import { choosePorts, type DemoPlan, readPlan, writePlan } from "./plan.js";
import { Replica } from "./replica.js";

const SIZE_DEFAULT = "1G";
const LOOPBACK = "127.0.0.1";
const EXPORT_NAME = "demo";

/**
 * Three regions, three downstairs as processes of their own, and the server in this one. Resolves after an orderly
 * stop: the server first, so that everything is flushed, then the replicas.
 */
export async function demo(input: Input, shell: Shell): Promise<void> {
  const folder = resolve(input.text("dir") ?? defaultFolder(shell.env));
  const engine = parseEngine("--engine", input.text("engine") ?? "auto");
  const address = input.text("address");
  const socket = input.text("socket");
  const listen =
    address === undefined ? undefined : parseAddress("--address", address, { anyPort: true });
  mkdirSync(folder, { recursive: true });
  const unlock = lockFolder(folder);
  const log = processLog(shell.style, "info", true);
  const lifetime = new Lifetime();
  const replicas: Replica[] = [];
  try {
    const plan = await prepare(folder, input);
    for (const [i, port] of plan.ports.entries()) {
      replicas.push(new Replica(i, regionPath(folder, i), port, engine, log.notes));
    }
    const started = Promise.all(replicas.map((replica) => replica.start()));
    if ((await lifetime.until(started)) === undefined) return;
    const targets = plan.ports.map((port) => ({ host: LOOPBACK, port }));
    const base = defaultSettings({ kind: "targets", targets }, shell.env);
    const settings = {
      ...base,
      volume: EXPORT_NAME,
      control: readControl(undefined, shell.env, EXPORT_NAME),
      // Each folder is a volume of its own.
      writeLog: readWriteLog(undefined, shell.env, `demo ${folder}`),
      exportName: EXPORT_NAME,
      stateFolder: join(folder, "state"),
      addresses: listen === undefined ? base.addresses : [listen],
      listensExplicitly: true,
      sockets: socket === undefined ? [] : [resolve(socket)],
      engine,
    };
    const ready = (serving: Serving): void => {
      const host = settings.addresses[0]!.host;
      const where = { host, port: serving.port };
      shell.print(
        guide({
          folder,
          sizeBytes: serving.sizeBytes,
          blockSize: plan.blockSize,
          address: showAddress(where),
          ...where,
          socket: settings.sockets[0],
          pids: replicas.map((replica) => replica.pid),
        }),
      );
    };
    // What the guide says about a single machine need not be said three times more.
    const notes: Notes = (level, event, text, fields) => {
      if (event !== "volume.single-point-of-failure") log.notes(level, event, text, fields);
    };
    await serve(settings, shell, { notes, lifetime, ready });
  } finally {
    await Promise.all(replicas.map((replica) => replica.stop()));
    await log.flush();
    lifetime.dispose();
    unlock();
  }
}

const regionPath = (folder: string, index: number): string => join(folder, `region${index}`);

/** Finds what an earlier demo left, or makes it. */
async function prepare(folder: string, input: Input): Promise<DemoPlan> {
  const size = input.text("size");
  const block = input.text("block-size");
  const old = readPlan(folder);
  const sizeWanted = size === undefined ? undefined : parseSize("--size", size);
  const blockWanted = block === undefined ? undefined : parseBlockSize(block);
  const blockSize = blockWanted ?? old?.blockSize ?? BLOCK_BYTES_DEFAULT;
  const geometry = chooseGeometry(
    sizeWanted ?? old?.sizeBytes ?? parseSize("--size", SIZE_DEFAULT),
    blockSize,
  );
  const sizeBytes = geometry.blockSize * geometry.extentSize * geometry.extentCount;
  if (old !== undefined && (old.sizeBytes !== sizeBytes || old.blockSize !== blockSize)) {
    throw new Fault(
      "TRIVET_E_REGION_RESIZE",
      `${folder} holds a demo of ${old.sizeBytes} bytes in blocks of ${old.blockSize}, not ${sizeBytes} in blocks of ${blockSize}: leave --size and --block-size out, or name another --dir`,
    );
  }
  for (let i = 0; i < 3; i++) {
    const directory = regionPath(folder, i);
    if (isRegion(directory)) continue;
    if (old !== undefined) {
      throw new Fault(
        "TRIVET_E_REGION_MISSING",
        `${directory} is gone, and the other replicas of this demo are not: name another --dir, or remove ${folder} to begin anew`,
      );
    }
    await createRegion(directory, {
      ...geometry,
      uuid: randomUUID() as Uuid,
      encrypted: false,
      databaseReadVersion: DATABASE_VERSION,
      databaseWriteVersion: DATABASE_VERSION,
    });
  }
  const plan = { sizeBytes, blockSize, ports: await choosePorts(old?.ports ?? []) };
  await writePlan(folder, plan);
  return plan;
}

/** Two demos in one directory would fight for its regions. */
function lockFolder(folder: string): () => void {
  const path = join(folder, "demo.lock");
  const file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o644);
  if (!new HostFileTree().lock(file)) {
    closeSync(file);
    throw new Fault("TRIVET_E_REGION_LOCKED", `another demo runs in ${folder}`);
  }
  return () => closeSync(file);
}

/** Below the home directory where there is one to write to; otherwise here. */
function defaultFolder(env: Readonly<Record<string, string | undefined>>): string {
  const home = env.HOME ?? "";
  const data = env.XDG_DATA_HOME || (home === "" ? "" : join(home, ".local/share"));
  try {
    if (data !== "" && statSync(home === "" ? data : home).isDirectory()) {
      accessSync(home === "" ? data : home, constants.W_OK);
      return join(data, "trivet-demo");
    }
  } catch {
    // No home to speak of: a service, a container.
  }
  return "trivet-demo";
}
