import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Rig } from "../acceptance/rig.js";
import { BLOCK_SIZE, type Client, EXPORT } from "./clients.js";
import { debianImage, layer } from "./debian.js";
import { makeInstallation, TRIVET, WRITER } from "./installation.js";
import type { Kernel } from "./kernels.js";
import { HOST, Machine } from "./machine.js";
import type { Verdict } from "./stage.js";
import { total, Writer, type WriterPlan } from "./writers.js";

// A whole Debian with systemd whose volume is served, attached and mounted by units; its replicas are here. It is started again under load, is
// switched off under load, and starts with its network unplugged. What ran at the end of one start is judged in the next.

const GEOMETRY = { blockSize: BLOCK_SIZE, extentSize: 256, extentCount: 128 };
const MOUNT = "/srv/photos";
const RESTARTS = Number(process.env.ROUNDS ?? 1);
const START_TIMEOUT_MS = 300_000;
const STOP_TIMEOUT_MS = 240_000;
const PROGRAM = `/opt/${TRIVET}`;
const UNITS = "/etc/systemd/system";
/** What must not be said while a host stops, or by its kernel. */
const TROUBLE =
  /^.*(?:Failed unmounting|I\/O error|blocked for more|target is busy|Timed out|A stop job is running).*$/gm;
/** The kernel says so when a file system was not unmounted. */
const RECOVERED = /nbd\d+\): (?:recovery complete|.*orphan)/;

/** What makes the volume a mounted device: units of Debian with nbd-client, or ours. */
interface Way {
  readonly device: string;
  set(guest: Machine): Promise<void>;
  /** Units to enable, and to start by hand once. */
  readonly units: readonly string[];
  readonly mount: string;
  readonly detach: string;
}

const put = (guest: Machine, path: string, lines: readonly string[]): Promise<string> =>
  guest.must(
    `mkdir -p $(dirname ${path}); printf '%s\\n' ${lines.map((l) => `'${l}'`).join(" ")} >${path}`,
  );

const stock: Way = {
  device: "/dev/nbd0",
  units: ["trivet@photos"],
  mount: "nbd@nbd0",
  detach: "systemctl stop nbd@nbd0",
  set: async (guest) => {
    await put(guest, "/etc/nbdtab", [
      `nbd0 /run/trivet/photos/nbd.sock ${EXPORT} unix,bs=${BLOCK_SIZE}`,
    ]);
    await put(guest, `${UNITS}/nbd@nbd0.service.d/volume.conf`, [
      "[Unit]",
      "Wants=trivet@photos.service modprobe@nbd.service",
      "After=trivet@photos.service modprobe@nbd.service",
    ]);
    const options =
      "_netdev,nofail,x-systemd.requires=nbd@nbd0.service,x-systemd.after=trivet@photos.service";
    await guest.must(
      `echo /dev/nbd0 ${MOUNT} ext4 ${options},x-systemd.device-timeout=600 0 0 >>/etc/fstab`,
    );
  },
};
const ours: Way = {
  device: "/dev/trivet/photos",
  units: ["trivet@photos", "trivet-attach@photos"],
  mount: "srv-photos.mount",
  detach: "systemctl stop trivet-attach@photos",
  set: async (guest) => {
    await guest.must(`cp /opt/trivet/systemd/examples/srv-photos.mount ${UNITS}/`);
    await guest.must("systemctl daemon-reload && systemctl enable srv-photos.mount");
  },
};

class Boots {
  readonly rig = new Rig();
  readonly #way: Way;
  readonly #kernel: Kernel;
  readonly #writers: Writer[] = [];
  readonly #wrong: string[] = [];
  #guest: Machine | undefined;

  constructor(kernel: Kernel, client: Client) {
    this.#kernel = kernel;
    this.#way = client.reconnects ? ours : stock;
  }
  get guest(): Machine {
    if (this.#guest === undefined) throw new Error("there is no guest");
    return this.#guest;
  }

  async prepare(): Promise<void> {
    await this.rig.create(GEOMETRY);
    await this.rig.startAll();
    layer(debianImage(this.#kernel), this.#disk);
    makeInstallation(join(this.rig.dir, "software"));
    await this.boot();
    await this.#install();
    await this.guest.must(`systemctl start ${this.#way.units.join(" ")}`, START_TIMEOUT_MS);
    if (this.#way === stock) await this.guest.must("systemctl start nbd@nbd0");
    await this.guest.must(`mkfs.ext4 -q -F ${this.#way.device}`);
    await this.guest.must(`systemctl start srv-photos.mount`);
    await this.mounted();
  }
  get #disk(): string {
    return join(this.rig.dir, "root.qcow2");
  }

  async #install(): Promise<void> {
    const { guest } = this;
    const targets = this.rig.ports.map((port) => `"${HOST}:${port}"`).join(", ");
    await put(guest, "/etc/trivet/photos.toml", [
      `target = [${targets}]`,
      `export = "${EXPORT}"`,
      'socket = "/run/trivet/photos/nbd.sock"',
      'arena = "64M"',
    ]);
    if (existsSync(join(process.cwd(), "src/app/units"))) {
      await guest.must(`${PROGRAM} install-units --program /opt/trivet --node /opt/node`);
    } else {
      await guest.must(`cp /opt/trivet/systemd/*.service ${UNITS}/`);
      await guest.must("systemd-sysusers /opt/trivet/systemd/sysusers.d/trivet.conf");
    }
    await this.#way.set(guest);
    await guest.must("systemctl daemon-reload");
    await guest.must(`systemctl enable ${this.#way.units.join(" ")}`);
    await guest.must("mkdir -p /var/lib/vm");
  }

  async boot(isUnplugged = false): Promise<void> {
    this.#guest = await Machine.boot(this.#kernel, {
      memory: 1024,
      disks: [this.#disk, join(this.rig.dir, "software")],
      isSystem: true,
      isUnplugged,
    });
  }
  /** Until units have mounted it; the file system must have been unmounted in order before. */
  async mounted(): Promise<void> {
    await this.guest.until(`mountpoint -q ${MOUNT}`, START_TIMEOUT_MS).catch(async (error) => {
      const { output } = await this.guest.run(
        "systemctl list-jobs; systemctl --failed; journalctl -b -n 60",
      );
      throw new Error(`${error.message}\n${output}`);
    });
    const said = RECOVERED.exec(await this.guest.must("dmesg"));
    if (said !== null) this.#wrong.push(`not unmounted in order: ${said[0]}`);
  }

  /** Judges what the writers of the last start left, and begins with new ones. */
  async load(name: string): Promise<void> {
    await this.#judge();
    for (const mode of ["direct", "buffered"] as const) {
      const plan: WriterPlan = {
        name: `${name}-${mode}`,
        path: `${MOUNT}/${name}-${mode}`,
        slots: 512,
        threads: 2,
        mode,
        results: "/var/lib/vm",
      };
      const writer = new Writer(this.guest, plan);
      await writer.startService(`/opt/${WRITER}`, MOUNT);
      this.#writers.push(writer);
      await writer.progress(40);
    }
  }
  async #judge(): Promise<void> {
    for (const writer of this.#writers.filter(({ isStopped }) => !isStopped)) {
      await writer.collect(this.guest);
      this.#wrong.push(...(await writer.examine(this.guest)));
    }
  }

  /** Ends the guest by a command of its own, under load. */
  async end(command: string): Promise<void> {
    // It need not come to an answer.
    this.guest.run(`${command} --no-block`).catch(() => {});
    await this.guest.ended(STOP_TIMEOUT_MS);
    const trouble = this.guest.console().match(TROUBLE);
    if (trouble !== null) this.#wrong.push(`while it stopped: ${trouble.slice(0, 3).join("; ")}`);
    await this.guest.kill();
    this.#guest = undefined;
  }

  async verdict(): Promise<Verdict> {
    await this.#judge();
    await this.guest.must("systemctl stop srv-photos.mount");
    const fsck = await this.guest.run(`e2fsck -fn ${this.#way.device}`);
    if (fsck.status !== 0) this.#wrong.push(`e2fsck ended with ${fsck.status}: ${fsck.output}`);
    await this.guest.must(this.#way.detach);
    await this.guest.must("systemctl stop trivet@photos", STOP_TIMEOUT_MS);
    await this.end("systemctl poweroff");
    await this.rig.stopAll();
    const [first, ...others] = this.rig.exports().map((path) => readFileSync(path));
    if (!others.every((image) => image.equals(first!))) this.#wrong.push("the regions differ");
    const compared = this.#writers.reduce((sum, { acknowledged }) => sum + acknowledged, 0);
    if (compared === 0) this.#wrong.push("nothing was acknowledged");
    const state = fsck.status === 0 ? "clean" : `status ${fsck.status}`;
    return { counts: total(this.#writers), fsck: state, compared, wrong: this.#wrong };
  }
  async close(): Promise<void> {
    await this.#guest?.kill();
    await this.rig.remove();
  }
}

export async function boots(kernel: Kernel, client: Client): Promise<Verdict> {
  const all = new Boots(kernel, client);
  try {
    await all.prepare();
    await all.load("first");
    for (let round = 0; round < RESTARTS; round++) {
      await all.end("systemctl reboot");
      await all.boot();
      await all.mounted();
      await all.load(`restart${round}`);
    }
    await all.end("systemctl poweroff");
    // It starts without its network, and the mount appears when there is one.
    await all.boot(true);
    await all.guest.until("systemctl is-active getty.target", START_TIMEOUT_MS);
    const early = await all.guest.run(`mountpoint -q ${MOUNT}`);
    if (early.status === 0) throw new Error("it was mounted without a network");
    await all.guest.plug(true);
    await all.mounted();
    return await all.verdict();
  } finally {
    await all.close();
  }
}
