import { showBytes } from "../progress.js";

export interface Running {
  readonly folder: string;
  readonly sizeBytes: number;
  readonly blockSize: number;
  /** "127.0.0.1:10809". */
  readonly address: string;
  readonly host: string;
  readonly port: number;
  readonly socket: string | undefined;
  readonly pids: readonly number[];
}

/** What to type next. */
export function guide(running: Running): string {
  const uri = `nbd://${running.address}`;
  const lines = [
    "",
    `A volume of ${showBytes(running.sizeBytes)} on three replicas is served at ${uri}`,
    `Data: ${running.folder} (region0, region1, region2; each with a log beside it)`,
    "",
    "In another terminal:",
    `  nbdinfo ${uri}`,
    `  qemu-img info ${uri}`,
    `  nbdcopy --progress disk.img ${uri}            # an image of at most ${showBytes(running.sizeBytes)} into the volume`,
    `  nbdcopy --progress ${uri} copy.img            # and out of it`,
    `  fio --name=try --ioengine=nbd --uri=${uri} --rw=randwrite --bs=4k --iodepth=16 --size=64m --verify=crc32c`,
    "",
    "As a disk with a file system, as root:",
    "  modprobe nbd",
    `  nbd-client -b ${Math.max(512, running.blockSize)} ${running.host} ${running.port} /dev/nbd0`,
    "  mkfs.ext4 /dev/nbd0 && mount /dev/nbd0 /mnt",
    "  umount /mnt && nbd-client -d /dev/nbd0              # before you stop this program",
    "",
    "Without root:",
    `  mkdir m && nbdfuse m ${uri} &                 # m/nbd is the volume; fusermount3 -u m ends it`,
    "",
    "See a replica fail while you write; it comes back after 3 s:",
    `  kill -9 ${running.pids[1] ?? running.pids[0]}        # or any of ${running.pids.join(", ")}`,
    "",
    "All three replicas are on this machine: enough to try things out, but nothing here survives its disk.",
    "ctrl-C stops everything in order; the next start goes on with the same data.",
  ];
  if (running.socket !== undefined) {
    lines.splice(2, 0, `and at nbd+unix:///?socket=${running.socket}`);
  }
  return lines.join("\n");
}
