import { spawnSync } from "node:child_process";

// A switch with cables to machines, all of them network namespaces. Nothing of it is in the namespace of this machine, so neither its addresses
// nor its packet filters matter, and the addresses of the documentation can be used as they are.

/** What was asked for cannot be done on this machine. */
export class Unable extends Error {}

const BRIDGE = "switch";
const INSIDE = "eth0";
const KILL_TRIES = 250;
const KILL_LOOK_MS = 20;
/** Names of interfaces are at most 15 bytes, those of machines are shorter. */
const portOf = (machine: string): string => `to-${machine}`;

function ip(...args: readonly string[]): string {
  const { error, status, stdout, stderr } = spawnSync("ip", args, { encoding: "utf8" });
  if ((error as NodeJS.ErrnoException | undefined)?.code === "ENOENT")
    throw new Unable("the program ip is missing: apt-get install iproute2");
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr.trim()}`);
  return stdout;
}

export class Network {
  readonly #prefix: string;
  readonly #switch: string;
  readonly #machines = new Set<string>();

  private constructor(prefix: string) {
    this.#prefix = prefix;
    this.#switch = `${prefix}-switch`;
  }

  /** Throws Unable where namespaces cannot be made. */
  static open(prefix: string): Network {
    if (process.getuid?.() !== 0)
      throw new Unable("network namespaces take root: run this as root, or with sudo");
    const network = new Network(prefix);
    const name = network.#switch;
    try {
      ip("netns", "add", name);
      ip("-n", name, "link", "add", BRIDGE, "type", "bridge");
      ip("-n", name, "link", "set", BRIDGE, "up");
    } catch (error) {
      network.close();
      if (error instanceof Unable) throw error;
      throw new Unable(`network namespaces cannot be made here: ${(error as Error).message}`);
    }
    return network;
  }

  namespaceOf(machine: string): string {
    return `${this.#prefix}-${machine}`;
  }

  /** A namespace with one interface, plugged in. `address`: "10.0.0.1". */
  add(machine: string, address: string): void {
    const namespace = this.namespaceOf(machine);
    const port = portOf(machine);
    ip("netns", "add", namespace);
    this.#machines.add(machine);
    ip("-n", namespace, "link", "set", "lo", "up");
    const peer = ["peer", "name", INSIDE, "netns", namespace];
    ip("-n", this.#switch, "link", "add", port, "type", "veth", ...peer);
    this.plug(machine);
    this.forward(machine);
    ip("-n", namespace, "addr", "add", `${address}/24`, "dev", INSIDE);
    ip("-n", namespace, "link", "set", INSIDE, "up");
  }
  /** The cable is pulled: the machine sees that its link is down. */
  unplug(machine: string): void {
    ip("-n", this.#switch, "link", "set", portOf(machine), "down");
  }
  plug(machine: string): void {
    ip("-n", this.#switch, "link", "set", portOf(machine), "up");
  }
  /** The switch drops whatever comes from the machine or goes to it: links stay up, and nobody is told. */
  drop(machine: string): void {
    ip("-n", this.#switch, "link", "set", portOf(machine), "nomaster");
  }
  forward(machine: string): void {
    ip("-n", this.#switch, "link", "set", portOf(machine), "master", BRIDGE);
  }

  /** Every process of a machine, at once; none is left when it returns. */
  kill(machine: string): void {
    for (let tries = 0; tries < KILL_TRIES; tries++) {
      const pids = ip("netns", "pids", this.namespaceOf(machine)).split("\n").filter(Boolean);
      if (pids.length === 0) return;
      for (const pid of pids.map(Number)) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // It has ended by itself.
        }
      }
      // Nothing else can be done meanwhile, also when this process is about to end.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, KILL_LOOK_MS);
    }
    throw new Error(`processes of ${machine} do not die`);
  }
  /** With all its processes. */
  remove(machine: string): void {
    this.kill(machine);
    ip("netns", "del", this.namespaceOf(machine));
    this.#machines.delete(machine);
  }
  /** Everything, as far as it was made. */
  close(): void {
    const named = new Set(
      ip("netns", "list")
        .split("\n")
        .map((line) => line.split(" ")[0]),
    );
    for (const machine of [...this.#machines])
      if (named.has(this.namespaceOf(machine))) this.remove(machine);
    if (named.has(this.#switch)) ip("netns", "del", this.#switch);
  }
}
