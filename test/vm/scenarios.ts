import { setTimeout as sleep } from "node:timers/promises";
import { type Client, DEVICE, DISCONNECT, IS_GONE } from "./clients.js";
import type { Kernel } from "./kernels.js";
import { oddStates } from "./odd-states.js";
import { oneHost } from "./one-host.js";
import type { Stage, StageOptions, Verdict } from "./stage.js";
import { boot, killed, late, reboots, shutdown, upgrade } from "./systems.js";

// What happens to a volume that a kernel has mounted. Most scenarios bring a stage to where everything runs again; the
// judgement that follows is the same for all of these. Whole systems judge themselves.

export interface Scenario {
  readonly name: string;
  /** One line, for people. */
  readonly about: string;
  /** Which clients it makes sense with: those that reconnect, those that do not, or both; what our units use. */
  readonly clients: "all" | "reconnecting" | "stock" | "units";
  readonly stage?: StageOptions;
  /** A file of the tree without which it is left out. */
  readonly needs?: string;
  /** Whether the writers may see errors: only where the device is lost by design. */
  readonly errors?: boolean;
  /** The longest call that is accepted. Emulation is slow: this is to tell a stall from a hang. */
  readonly stallMs: number;
  readonly play:
    | ((stage: Stage) => Promise<void>)
    | { readonly system: (kernel: Kernel, rounds: number) => Promise<Verdict> };
}

/** Whether a client may take part. */
export function suits({ clients }: Scenario, client: Client): boolean {
  if (clients === "all") return true;
  if (clients === "units") return client.name === "trivet-attach";
  return (clients === "reconnecting") === client.reconnects;
}

/** A healthy volume under emulation on two busy processors. */
const SLOW_MS = 20_000;
/** A replica that says nothing is given up after 11 s. */
const SILENCE_MS = 11_000;
/** The kernel sends again what was under way when a server died at its next tick. */
const KERNEL_TICK_MS = 30_000;
const OUTAGE_MS = 3000;
/** A whole system, which does much besides, on the same two processors. */
const SYSTEM_MS = 60_000;

async function loseReplica(stage: Stage, i: number, awayMs: number): Promise<void> {
  await stage.rig.downstairs[i]?.stop("SIGKILL");
  await sleep(awayMs);
  await stage.progress();
  await stage.rig.startDownstairs(i);
  await stage.healthy();
  await stage.progress();
}

async function killServer(stage: Stage): Promise<void> {
  await stage.rig.server?.stop("SIGKILL");
  await sleep(OUTAGE_MS);
  await stage.startServer();
}

export const SCENARIOS: readonly Scenario[] = [
  {
    name: "replica-loss",
    about: "a replica is killed under load, and comes back",
    clients: "all",
    stallMs: SLOW_MS,
    play: async (stage) => {
      await stage.load();
      await loseReplica(stage, 1, 2000);
    },
  },
  {
    name: "each-replica",
    about: "each replica in turn is killed and comes back; blocks are discarded meanwhile",
    clients: "all",
    stallMs: SLOW_MS,
    play: async (stage) => {
      await stage.load();
      for (const i of [0, 1, 2]) {
        await stage.guest.must(`dd if=/dev/urandom of=/mnt/fill bs=1M count=${8 + i} 2>&1; sync`);
        const trimming = stage.guest.must("rm /mnt/fill; sync; fstrim /mnt");
        await loseReplica(stage, i, 1000);
        await trimming;
      }
    },
  },
  {
    name: "two-replicas",
    about: "two replicas are killed: everything waits until one is back",
    clients: "all",
    stallMs: SLOW_MS + 15_000,
    play: async (stage) => {
      await stage.load();
      for (const i of [0, 2]) await stage.rig.downstairs[i]?.stop("SIGKILL");
      await sleep(5000);
      for (const i of [0, 2]) await stage.rig.startDownstairs(i);
      await stage.progress();
    },
  },
  {
    name: "network-cut",
    about: "the network to a replica is cut without a word, and mended",
    clients: "all",
    stage: { proxies: true },
    stallMs: SLOW_MS + SILENCE_MS,
    play: async (stage) => {
      await stage.load();
      const proxy = stage.proxies[2]!;
      proxy.mode = "stalled";
      await sleep(SILENCE_MS + 4000);
      await stage.progress();
      proxy.mode = "open";
      await stage.healthy();
      await stage.progress();
    },
  },
  {
    name: "server-frozen",
    about: "the server is stopped for 8 s, and goes on",
    clients: "all",
    stallMs: SLOW_MS + 8000,
    play: async (stage) => {
      await stage.load();
      stage.rig.server?.child.kill("SIGSTOP");
      await sleep(8000);
      stage.rig.server?.child.kill("SIGCONT");
      await stage.progress();
    },
  },
  {
    name: "hand-over",
    about: "five times another process takes the server's place under load",
    clients: "all",
    needs: "src/app/control/restart-command.ts",
    stallMs: SLOW_MS,
    play: async (stage) => {
      await stage.load();
      for (let round = 0; round < 5; round++) {
        await stage.handOver();
        await stage.progress();
      }
    },
  },
  {
    name: "memory",
    about: "a small guest whose memory is full of dirty data loses a replica",
    clients: "all",
    stage: { memory: 192 },
    // What is written directly queues behind the flood.
    stallMs: 60_000,
    play: async (stage) => {
      await stage.load();
      await stage.guest.must(
        "echo 80 >/proc/sys/vm/dirty_ratio; echo 70 >/proc/sys/vm/dirty_background_ratio",
      );
      const flood = stage.guest.must(
        "for i in 1 2 3; do dd if=/dev/zero of=/mnt/flood$i bs=1M count=24 2>&1 || exit 1; done; sync",
        240_000,
      );
      flood.catch(() => {});
      await sleep(1000);
      await loseReplica(stage, 0, 2000);
      await flood;
    },
  },
  {
    name: "between-mounts",
    about: "unmounted, detached, server restarted in order, attached, mounted: three times",
    clients: "all",
    stallMs: SLOW_MS,
    play: async (stage) => {
      await stage.load();
      for (const round of [1, 2, 3]) {
        await stage.stopWriters();
        await stage.unmount();
        await stage.check();
        await stage.detach();
        const status = await stage.stopServer();
        if (status !== 0) throw new Error(`the server ended with ${status}`);
        await stage.startServer();
        await stage.attach();
        await stage.mount();
        await stage.write(`round${round}-`);
      }
    },
  },
  {
    name: "device-lost",
    about: "the server is killed and nobody reconnects: errors, but nothing acknowledged is lost",
    clients: "stock",
    errors: true,
    stallMs: SLOW_MS + KERNEL_TICK_MS,
    play: async (stage) => {
      await stage.load();
      await killServer(stage);
      await sleep(2000);
      // The device takes no more. What waits in it is let go by disconnecting, as an administrator would; it is
      // free for the next time when nobody has it open any more.
      await stage.guest.must(DISCONNECT);
      await stage.stopWriters();
      await stage.unmount();
      await stage.guest.until(IS_GONE);
      await stage.attach();
      // Once, for the journal; from then on there must be nothing to mend.
      const { status, output } = await stage.guest.run(`e2fsck -fp ${DEVICE}`);
      if (status > 1) throw new Error(`e2fsck ended with ${status}:\n${output}`);
      await stage.mount();
      await stage.write("after-");
    },
  },
  {
    name: "server-killed",
    about: "the server is killed under load and started again, three times",
    clients: "reconnecting",
    stallMs: SLOW_MS + OUTAGE_MS + KERNEL_TICK_MS,
    play: async (stage) => {
      await stage.load();
      for (let round = 0; round < 3; round++) {
        await killServer(stage);
        await stage.progress();
      }
    },
  },
  {
    name: "server-stuck",
    about:
      "the server is frozen with requests under way, then killed: the worst that a restart can be",
    clients: "reconnecting",
    stallMs: SLOW_MS + OUTAGE_MS + 2 * KERNEL_TICK_MS,
    play: async (stage) => {
      await stage.load();
      stage.rig.server?.child.kill("SIGSTOP");
      await sleep(500);
      await killServer(stage);
      await stage.progress(120_000);
    },
  },
  {
    name: "server-restart",
    about: "the server is stopped in order and started again under load",
    clients: "reconnecting",
    stallMs: SLOW_MS + OUTAGE_MS + KERNEL_TICK_MS,
    play: async (stage) => {
      await stage.load();
      for (let round = 0; round < 2; round++) {
        await stage.stopServer();
        await stage.startServer();
        await stage.progress();
      }
    },
  },
  {
    name: "all-killed",
    about: "the server and all replicas are killed under load, and started again",
    clients: "reconnecting",
    stallMs: SLOW_MS + OUTAGE_MS + 2 * KERNEL_TICK_MS,
    play: async (stage) => {
      await stage.load();
      await stage.rig.server?.stop("SIGKILL");
      for (const program of stage.rig.downstairs) await program?.stop("SIGKILL");
      await stage.rig.startAll();
      await stage.startServer();
      await stage.progress(120_000);
    },
  },
  {
    name: "unit-boot",
    about: "a Debian starts, and units serve, attach and mount the volume",
    clients: "units",
    stallMs: SYSTEM_MS,
    play: { system: boot },
  },
  {
    name: "unit-shutdown",
    about: "a Debian is switched off under load, with dirty data for the mounted device",
    clients: "units",
    stallMs: SYSTEM_MS,
    play: { system: shutdown },
  },
  {
    name: "unit-reboots",
    about: "a Debian is started again under load, ten times (--rounds)",
    clients: "units",
    stallMs: SYSTEM_MS,
    play: { system: reboots },
  },
  {
    name: "unit-late",
    about: "a Debian starts without network and replicas, which come later",
    clients: "units",
    stallMs: SYSTEM_MS,
    play: { system: late },
  },
  {
    name: "unit-upgrade",
    about: "systemctl restart, trivet restart and a new version while fio writes and verifies",
    clients: "units",
    stallMs: SYSTEM_MS + KERNEL_TICK_MS,
    play: { system: upgrade },
  },
  {
    name: "unit-killed",
    about: "systemd's server and supervising process are killed under load",
    clients: "units",
    stallMs: SYSTEM_MS + OUTAGE_MS + KERNEL_TICK_MS,
    play: { system: killed },
  },
  {
    name: "unit-odd",
    about: "what attach and detach refuse, wait for and get out of; a server that stays away",
    clients: "units",
    stallMs: SYSTEM_MS,
    play: { system: oddStates },
  },
  {
    name: "one-host",
    about:
      "server in 256 MiB, replicas and the device on a host whose memory is full of dirty data",
    clients: "units",
    // What is written directly queues behind the flood.
    stallMs: 240_000,
    play: { system: oneHost },
  },
];
