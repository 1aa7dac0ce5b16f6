import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Machine } from "./machine.js";

// The ways in which a guest attaches the volume as /dev/nbd0. The stock client goes away after it attached: when
// the server dies, the device fails. With ours, something stays and reconnects.

export const EXPORT = "photos";
export const DEVICE = "/dev/nbd0";
export const BLOCK_SIZE = 4096;
/** How long the kernel waits for a server to come back, in seconds, and for an answer: for ever. */
const DEAD_TIMEOUT_S = 600;
const TIMEOUT_S = 0;

/** Seen from the guest. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface Client {
  readonly name: string;
  /** Whether the device outlives the server. */
  readonly reconnects: boolean;
  /** Programs that the guest needs besides those of every image. */
  programs(): readonly string[];
  attach(guest: Machine, server: Address): Promise<void>;
  detach(guest: Machine): Promise<void>;
}

/** Is never refused, also while the device is mounted. */
export const DISCONNECT = `nbd-client -d ${DEVICE}`;
/** Nobody has it open any more either. */
export const IS_GONE = "[ ! -e /sys/block/nbd0/pid ]";
const IS_ATTACHED = `[ "$(cat /sys/block/nbd0/size)" -gt 0 ] && [ -e /sys/block/nbd0/pid ]`;

async function attachByStock(guest: Machine, { host, port }: Address): Promise<void> {
  await guest.must(`nbd-client ${host} ${port} ${DEVICE} -N ${EXPORT} -b ${BLOCK_SIZE}`);
  await guest.until(IS_ATTACHED);
}
async function detachByStock(guest: Machine): Promise<void> {
  await guest.must(DISCONNECT);
  await guest.until(IS_GONE);
}

/** Our supervisor, when it is part of this tree; that it is part and was not built is an error. */
function supervisor(): string {
  const built = join(process.cwd(), "build", "native");
  const entry = existsSync(built)
    ? readdirSync(built, { recursive: true, withFileTypes: true }).find(
        (one) => one.isFile() && one.name === "trivet-attach",
      )
    : undefined;
  if (entry === undefined) throw new Error("trivet-attach is not built: npm run build");
  return join(entry.parentPath, entry.name);
}
export const hasSupervisor = (): boolean => existsSync(join(process.cwd(), "native", "attach"));

async function supervise(
  guest: Machine,
  { host, port }: Address,
  ...more: string[]
): Promise<void> {
  const words = [
    `trivet-attach run --server ${host}:${port} --export ${EXPORT} --device 0`,
    `--block-size ${BLOCK_SIZE} --timeout ${TIMEOUT_S} --dead-timeout ${DEAD_TIMEOUT_S}`,
    ...more,
  ];
  await guest.must(`${words.join(" ")} >/run/attach.log 2>&1 & echo $! >/run/attach.pid`);
  await guest.until(`grep -q .attached. /run/attach.log || { cat /run/attach.log; false; }`);
  await guest.until(IS_ATTACHED);
}
async function detachSupervised(guest: Machine): Promise<void> {
  await guest.must("trivet-attach disconnect 0");
  await guest.until(IS_GONE);
  // It ends by itself when the device is gone.
  await guest.until("[ ! -e /proc/$(cat /run/attach.pid) ]");
}

export const CLIENTS: readonly Client[] = [
  {
    name: "nbd-client",
    reconnects: false,
    programs: () => [],
    attach: attachByStock,
    detach: detachByStock,
  },
  {
    name: "adopted",
    reconnects: true,
    programs: () => [supervisor()],
    attach: async (guest, server) => {
      await attachByStock(guest, server);
      await supervise(guest, server, "--adopt");
    },
    detach: detachSupervised,
  },
  {
    name: "trivet-attach",
    reconnects: true,
    programs: () => [supervisor()],
    attach: (guest, server) => supervise(guest, server),
    detach: detachSupervised,
  },
];

/** Those that this tree has. */
export const clients = (): readonly Client[] =>
  CLIENTS.filter(({ reconnects }) => !reconnects || hasSupervisor());
