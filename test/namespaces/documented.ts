// The commands of README.md and systemd/README.md, word by word: only the size is another one, and each machine has its own address.

export const VOLUME = "photos";
export const PORT = 3810;

/** As they stand there; a test looks. */
export const DOCUMENTED = {
  create: "trivet region create /srv/trivet/photos --size 500G",
  run: "trivet region run /srv/trivet/photos --address 10.0.0.1 --port 3810",
  targets: 'target = ["10.0.0.1:3810", "10.0.0.2:3810", "10.0.0.3:3810"]',
  socket: 'socket = "/run/trivet/photos/nbd.sock"',
  serve: "trivet serve photos",
  status: "trivet status photos",
  replace: "trivet replace 10.0.0.3:3810 10.0.0.9:3810 photos --wait",
} as const;

/** Boxes by the addresses there; the fourth is the one that takes the place of the third. */
export const BOXES = [
  { name: "box1", address: "10.0.0.1" },
  { name: "box2", address: "10.0.0.2" },
  { name: "box3", address: "10.0.0.3" },
] as const;
export const FRESH_BOX = { name: "box4", address: "10.0.0.9" } as const;
export const HOSTS = [
  { name: "hostA", address: "10.0.0.11" },
  { name: "hostB", address: "10.0.0.12" },
] as const;

export const REGION = "/srv/trivet/photos";
export const CONFIG = "/etc/trivet/photos.toml";
/** The unit's RuntimeDirectory=. */
export const RUNTIME = "/run/trivet/photos";
export const SOCKET = `${RUNTIME}/nbd.sock`;
export const STATE = "/var/lib/trivet";

export const createCommand = (size: string): string => DOCUMENTED.create.replace("500G", size);
export const runCommand = (address: string): string => DOCUMENTED.run.replace("10.0.0.1", address);
/** The volume's file, on every host. */
export const config = (replaced: boolean): string => {
  const targets = replaced
    ? DOCUMENTED.targets.replace(BOXES[2].address, FRESH_BOX.address)
    : DOCUMENTED.targets;
  return `${targets}\n${DOCUMENTED.socket}\n`;
};
