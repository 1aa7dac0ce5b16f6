import { setTimeout as sleep } from "node:timers/promises";
import { TRIVET } from "./installation.js";
import type { Kernel } from "./kernels.js";
import type { Verdict } from "./stage.js";
import { System } from "./system.js";
import {
  BEFORE_IS_THERE,
  explained,
  DEVICE as LINK,
  MOUNT,
  START_TIMEOUT_MS,
  STOP_TIMEOUT_MS,
  UNITS,
  VOLUME,
} from "./template.js";

// What a person can run into with `trivet attach` and `trivet detach` on a whole system: what they are told, and that they get out of it
// again in the way that README.md describes.

/** A second volume, in the memory of the guest, whose content nobody wants. */
const SCRATCH = "127.0.0.1:10900";
const OUT = "/run/odd.out";
/** How long requests wait for a server in the case in which none comes. */
const DEAD_S = 10;
/** Nothing but waiting for a server is asked of the kernel for so long: its own steps are of 30 s. */
const PATIENCE_MS = 120_000;

class Odd {
  readonly system: System;

  constructor(system: System) {
    this.system = system;
  }
  must(command: string, timeoutMs = START_TIMEOUT_MS): Promise<string> {
    return explained(this.system.guest, this.system.guest.must(command, timeoutMs));
  }
  /** Runs a command and complains when its status, or what it said, is not what is expected. */
  async says(command: string, status: number, pattern: RegExp): Promise<void> {
    const outcome = await this.system.guest.run(command, START_TIMEOUT_MS);
    if (outcome.status !== status || !pattern.test(outcome.output))
      this.system.complain(
        `${command}: ${pattern} with ${status} was expected, not ${outcome.status}:\n${outcome.output}`,
      );
  }
  /** Answers the device. */
  async attach(...words: readonly string[]): Promise<string> {
    const output = await this.must(`${TRIVET} attach ${words.join(" ")} --json`);
    const { device } = JSON.parse(output.split("\n").at(-1)!) as { device: string };
    return device;
  }
  async detach(what: string): Promise<void> {
    await this.must(`${TRIVET} detach ${what}`);
  }
  /** Of whatever is attached. */
  async isHeld(what: string, pattern: RegExp): Promise<void> {
    await this.says(`${TRIVET} detach ${what}`, 4, pattern);
  }
}

async function inUse(odd: Odd): Promise<void> {
  await odd.says(`${TRIVET} attach ${VOLUME}`, 0, /photos is attached as \/dev\/nbd\d+ already/);
  await odd.says(
    `${TRIVET} attach ${VOLUME} /dev/nbd9`,
    4,
    /TRIVET_E_ATTACHED.*as \/dev\/nbd\d+ on/,
  );
  await odd.isHeld(VOLUME, /TRIVET_E_DEVICE_BUSY: .*is mounted on \/srv\/photos/);
  const asNobody = "runuser -u nobody -- ";
  await odd.says(`${asNobody}${TRIVET} detach ${VOLUME}`, 4, /TRIVET_E_PERMISSION/);
  await odd.says(`${asNobody}${TRIVET} attach ${SCRATCH}`, 4, /TRIVET_E_PERMISSION/);
}

/** A device with nothing on it that anybody needs: other blocks, swap, device mapper, programs, nbd-client. */
async function scratch(odd: Odd, photos: string): Promise<void> {
  const { guest } = odd.system;
  const serve = `${TRIVET} serve --memory 64M --block-size 4096 --address ${SCRATCH} --control none`;
  await odd.says(`${TRIVET} attach ${SCRATCH}`, 5, /TRIVET_E_DIAL.*refused/);
  await odd.must(`systemd-run -q --unit=scratch -p Restart=always ${serve}`);
  await guest.until(
    `busybox nc -z 127.0.0.1 10900 || busybox nc 127.0.0.1 10900 </dev/null | grep -q NBD`,
    PATIENCE_MS,
    1000,
  );
  await odd.says(
    `${TRIVET} attach ${SCRATCH} ${photos}`,
    4,
    /TRIVET_E_DEVICE_BUSY.*is attached to photos/,
  );

  let device = await odd.attach(SCRATCH, "--block-size", "512");
  await odd.must(`printf 'label: gpt\\n,\\n' | sfdisk -q --no-reread ${device} 2>&1`);
  await odd.detach(SCRATCH);
  await odd.says(
    `${TRIVET} attach ${SCRATCH}`,
    3,
    /TRIVET_E_BLOCK_SIZE.*\(GPT\).*blocks of 512 bytes; with 4096/,
  );
  device = await odd.attach(SCRATCH, "--block-size", "512");
  await odd.says(`sfdisk -d ${device}`, 0, /label: gpt/);
  await odd.must(`dd if=/dev/zero of=${device} bs=1M count=1 oflag=direct 2>&1`);
  await odd.detach(device);

  device = await odd.attach(SCRATCH);
  await odd.must(`mkswap ${device} && swapon ${device}`);
  await odd.isHeld(SCRATCH, /TRIVET_E_DEVICE_BUSY.*is used as swap/);
  await odd.must(`swapoff ${device}`);
  await odd.must(`echo "0 8192 linear ${device} 0" | dmsetup create odd`);
  await odd.isHeld(device, /TRIVET_E_DEVICE_BUSY.*is held by/);
  await odd.must("dmsetup remove odd");
  await odd.must(`systemd-run -q --unit=reader sh -c 'exec sleep 1000 <${device}'`);
  await guest.until(`ls -l /proc/$(systemctl show -P MainPID reader)/fd | grep -q ${device}`);
  await odd.isHeld(SCRATCH, /TRIVET_E_DEVICE_BUSY.*is open in sleep \(process \d+\)/);
  await odd.must("systemctl stop reader");
  await odd.detach(SCRATCH);

  // What nbd-client attached and somebody uses, is refused, and can be taken over as it is.
  await odd.must(
    "nbd-client 127.0.0.1 10900 /dev/nbd7 -b 4096 && mkfs.ext4 -q /dev/nbd7 && mount /dev/nbd7 /mnt",
  );
  await odd.says(`${TRIVET} attach ${SCRATCH} /dev/nbd7`, 4, /TRIVET_E_DEVICE_BUSY.*--adopt/);
  if ((await odd.attach(SCRATCH, "/dev/nbd7", "--adopt")) !== "/dev/nbd7")
    odd.system.complain("another device was adopted than the one that was named");
  await odd.must("umount /mnt");
  await odd.detach(SCRATCH);
  await odd.must("systemctl stop scratch", STOP_TIMEOUT_MS);
}

async function withoutModule(odd: Odd): Promise<void> {
  const away = "/etc/modprobe.d/odd.conf";
  await odd.must(`rmmod nbd && echo 'install nbd /bin/false' >${away}`);
  for (const verb of ["attach", "detach"])
    await odd.says(`${TRIVET} ${verb} ${VOLUME}`, 4, /TRIVET_E_NO_NBD.*module nbd is not loaded/);
  await odd.must(`rm ${away}`);
}

/** All replicas away when the server starts: attaching waits and says for what. */
async function notActive(odd: Odd): Promise<void> {
  const { guest, rig } = odd.system;
  await odd.must(`systemctl stop ${UNITS.server}`, STOP_TIMEOUT_MS);
  await rig.stopAll();
  await odd.must(`systemctl start --no-block ${UNITS.server}`);
  const isAsked = `${TRIVET} status ${VOLUME}; [ $? -eq 9 ]`;
  await explained(guest, guest.until(isAsked, PATIENCE_MS, 1000));
  const attaching = guest.run(`${TRIVET} attach ${VOLUME} >${OUT} 2>&1`, START_TIMEOUT_MS);
  const waits = `grep -q 'not active yet: .*; waiting' ${OUT} || { cat ${OUT}; false; }`;
  await explained(guest, guest.until(waits, PATIENCE_MS, 1000));
  await rig.startAll();
  const { status } = await attaching;
  await odd.says(`cat ${OUT}`, 0, /photos is active\n[\s\S]*photos is attached as \/dev\/nbd\d+:/);
  if (status !== 0) odd.system.complain(`attaching ended with ${status}`);
  await odd.must(`${BEFORE_AFTER_MOUNT}; umount ${MOUNT}`);
  await odd.detach(VOLUME);
}
const BEFORE_AFTER_MOUNT = `mount ${LINK} ${MOUNT} && ${BEFORE_IS_THERE}`;

/** A server that stays away for longer than requests wait: errors, and the way back without and with it. */
async function awayForGood(odd: Odd): Promise<void> {
  const { guest } = odd.system;
  const stop = (): Promise<string> => odd.must(`systemctl stop ${UNITS.server}`, STOP_TIMEOUT_MS);
  const start = (): Promise<string> => odd.must(`systemctl start ${UNITS.server}`);
  // Bit 0 and 1 of its status: it mended something.
  const mend = `umount ${MOUNT}; fsck.ext4 -fp ${LINK}; [ $? -lt 4 ] && ${BEFORE_AFTER_MOUNT}`;

  const device = await odd.attach(VOLUME, "--dead-timeout", `${DEAD_S}s`);
  await odd.must(BEFORE_AFTER_MOUNT);
  await stop();
  await sleep((DEAD_S + 5) * 1000);
  const read = `dd if=${device} of=/dev/null bs=4096 count=1 skip=100 iflag=direct`;
  await odd.says(read, 1, /Input\/output error/);
  await start();
  await guest.until(`${read} 2>&1`, PATIENCE_MS, 1000);
  await odd.must(mend);
  await odd.must(`umount ${MOUNT}`);
  await odd.detach(VOLUME);

  // With the ten minutes that are the default: what waits is let go by force, at the price of what was not flushed.
  await odd.attach(VOLUME);
  await odd.must(BEFORE_AFTER_MOUNT);
  await stop();
  const writing = guest.run(
    `dd if=/dev/zero of=${MOUNT}/lost bs=4096 count=256 conv=fsync 2>&1`,
    STOP_TIMEOUT_MS,
  );
  await sleep(3000);
  await odd.isHeld(VOLUME, /TRIVET_E_DEVICE_BUSY.*is mounted on/);
  await odd.says(
    `${TRIVET} detach ${VOLUME} --force`,
    0,
    /^photos has no server any more.*it is mounted on \/srv\/photos$/,
  );
  const { status } = await writing;
  if (status === 0) odd.system.complain("what was detached by force took a write all the same");
  // systemd does so itself when the device's link goes.
  await guest.until(`umount ${MOUNT} 2>/dev/null; ! mountpoint -q ${MOUNT}`, PATIENCE_MS, 1000);
  await odd.says(`${TRIVET} detach ${VOLUME}`, 4, /TRIVET_E_NOT_ATTACHED/);
  await start();
  await odd.attach(VOLUME);
  await odd.must(mend);
  await odd.must(`umount ${MOUNT}`);
  await odd.detach(VOLUME);
}

export async function oddStates(kernel: Kernel): Promise<Verdict> {
  const system = await System.open(kernel, { hasErrors: true });
  try {
    await system.boot();
    await system.mounted();
    const odd = new Odd(system);
    const { guest } = system;
    const photos = await guest.must(`readlink -f ${LINK}`);
    await inUse(odd);
    await scratch(odd, photos);
    await odd.must(`systemctl stop ${UNITS.mount} ${UNITS.attachment}`, STOP_TIMEOUT_MS);
    await odd.says(`${TRIVET} detach ${VOLUME}`, 4, /TRIVET_E_NOT_ATTACHED: photos is not/);
    // It is mounted by hand from here on.
    await odd.must(`systemctl disable ${UNITS.mount}`);
    await withoutModule(odd);
    await notActive(odd);
    await awayForGood(odd);
    // After all this, everything as ever.
    await odd.must(`systemctl enable ${UNITS.mount} && systemctl start ${UNITS.attachment}`);
    await system.mounted();
    await system.load("after");
    return await system.verdict();
  } catch (error) {
    throw new Error([(error as Error).message, ...system.wrong].join("\n"));
  } finally {
    await system.close();
  }
}
