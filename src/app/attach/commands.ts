import type { Command } from "../cli/command.js";

// Tables only: the commands themselves are loaded when they are run.

export const ATTACH: Command = {
  name: "attach",
  summary: "make a volume a disk of this machine, /dev/nbdN, and keep it connected",
  operands: [
    { name: "NAME|ADDRESS", required: true },
    { name: "/dev/nbdN", required: false },
  ],
  options: {
    foreground: { short: "f", help: "Stay, and keep the device connected; for a service manager" },
    adopt: {
      help: "The device was attached by nbd-client: keep it, and make it reconnect from now on",
    },
    export: { value: "NAME", help: "Name of the export, when it is not the volume's" },
    "block-size": {
      value: "BYTES",
      shownDefault: "that of the volume, at most 4096",
      help: "512, 1024, 2048 or 4096; always the same for a volume with partitions",
    },
    timeout: {
      value: "TIME",
      shownDefault: "0s",
      help: "Give up a server that is silent for so long; 0s: never",
    },
    "dead-timeout": {
      value: "TIME",
      shownDefault: "10m",
      help: "How long requests wait while there is no server, before they fail",
    },
    "read-ahead": { value: "SIZE", shownDefault: "4M", help: "How far the kernel reads ahead" },
    "max-request": { value: "SIZE", shownDefault: "1M", help: "The largest request" },
    control: {
      value: "PATH",
      help: "Control socket of the server, when it is not where it usually is",
    },
    json: { help: "Print one JSON object, for scripts" },
  },
  details: [
    "NAME is a volume that trivet serve NAME serves on this host; ADDRESS an NBD server, HOST:PORT or unix:PATH.",
    "Without /dev/nbdN the first free device is taken. A volume that is not active yet is waited for. A volume that is",
    "attached already stays as it is; a second device for it is refused.",
    "",
    "A small process stays behind, whose notes are in the kernel's log: when the server is restarted, it connects the",
    "device again, and programs see a pause instead of an error. It needs root and the kernel's module nbd.",
    "",
    "Examples:",
    "  trivet attach photos",
    "  trivet attach photos /dev/nbd3",
    "  trivet attach 10.0.0.7:10809 --export photos",
  ],
  async run(input, shell) {
    const { attach } = await import("./attach.js");
    await attach(input, shell);
  },
};

export const DETACH: Command = {
  name: "detach",
  summary: "take a volume's disk off this machine again",
  operands: [{ name: "NAME|/dev/nbdN", required: true }],
  options: {
    force: {
      help: "Without bringing what was written to the server first, and whoever uses it; what waits fails, and that data is lost",
    },
  },
  details: [
    "Refused while the device is mounted, used as swap, held by LVM or the like, or open in a program; it says by what.",
    "What was written is brought to the server first. If the server does not come back, that waits for ever:",
    "programs that wait for the device cannot even be killed then. --force is the way out, and costs what was not flushed.",
    "",
    "Examples:",
    "  trivet detach photos",
    "  trivet detach /dev/nbd3 --force",
  ],
  async run(input, shell) {
    const { detach } = await import("./detach.js");
    await detach(input, shell);
  },
};
