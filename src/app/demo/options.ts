import type { OptionSpecs } from "../cli/command.js";

export const DEMO_OPTIONS: OptionSpecs = {
  dir: {
    value: "DIR",
    shownDefault: "~/.local/share/trivet-demo, or ./trivet-demo",
    help: "Where the three regions lie",
  },
  size: { value: "SIZE", shownDefault: "1G", help: "Size of the volume" },
  "block-size": { value: "BYTES", shownDefault: "4096", help: "Unit of addressing" },
  address: {
    value: "IP:PORT",
    shownDefault: "127.0.0.1:10809",
    help: "Listen here for NBD clients",
  },
  socket: { value: "PATH", help: "Listen on a unix socket, too" },
  engine: {
    value: "auto|ring|plain",
    shownDefault: "auto",
    help: "How the kernel is asked: by io_uring, or by plain system calls",
  },
};
