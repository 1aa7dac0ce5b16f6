import { extentLayout, extentPath } from "../../src/region/layout.js";
import { FileNode } from "../kit/disk.js";
import { EIO, ENOSPC } from "../kit/files.js";
import { DIRECTORY } from "../kit/fresh-disk.js";
import type { FaultScene } from "./fault-scene.js";

export function replicaFault(
  scene: FaultScene,
  kind: "killReplica" | "cutPower" | "restartReplica" | "loseRegion" | "blackout",
): void {
  const { world, replicas } = scene.parts;
  if (kind === "blackout") {
    blackout(scene);
    return;
  }
  if (kind === "loseRegion") {
    if (scene.mayLose() === null) return;
    const replica = scene.pick(replicas);
    scene.happened(kind, () => `${replica.name} loses its region; an empty one takes its place`);
    scene.lost(replica);
    replica.kill("reset");
    replica.emptied();
    world.after(scene.duration(), () => replica.start());
    return;
  }
  const replica = scene.replica((one) => one.process !== null);
  if (replica === null) return;
  const forMs = scene.chance() < 0.4 ? 10 : scene.duration();
  const start = (): void => {
    if (replica.machine.isPowered) replica.start();
  };
  if (kind === "cutPower") {
    // After a failed sync nobody knows what the disk has, and the page cache hides it (store README).
    if (replica.trouble.hasFailedSync) return;
    scene.happened(kind, () => `${replica.name} loses its power for ${forMs.toFixed(0)} ms`);
    replica.powerCut();
    world.after(forMs, () => {
      if (!replica.machine.isPowered) replica.powerOn();
    });
  } else if (kind === "killReplica") {
    const how = scene.pick(["end", "reset"] as const);
    scene.happened(kind, () => `${replica.name} is killed (${how}) for ${forMs.toFixed(0)} ms`);
    replica.kill(how);
    world.after(forMs, start);
  } else {
    scene.happened(kind, () => `${replica.name} is stopped for an upgrade`);
    replica.stop(() => world.after(forMs, start));
  }
}

/** All lose their power, and come back one by one. */
function blackout(scene: FaultScene): void {
  const { world, replicas, hosts } = scene.parts;
  if (replicas.some(({ trouble }) => trouble.hasFailedSync)) return;
  scene.happened("blackout", () => "the power fails everywhere");
  const served = hosts.filter((host) => host.isRunning);
  for (const host of hosts) host.powerCut();
  const last = scene.pick(replicas);
  for (const replica of replicas) {
    if (replica.machine.isPowered) replica.powerCut();
    const forMs = scene.duration() * (replica === last ? 3 : 1);
    world.after(forMs, () => {
      if (!replica.machine.isPowered) replica.powerOn();
    });
  }
  world.after(scene.duration(), () => {
    for (const host of hosts) host.powerOn();
    if (!hosts.some((host) => host.isRunning)) (served[0] ?? hosts[0]!).start();
  });
}

export function diskFault(
  scene: FaultScene,
  kind: "diskStall" | "diskErrors" | "diskFull" | "rot" | "misdirect",
): void {
  const { world, replicas } = scene.parts;
  if (kind === "rot" || kind === "misdirect") {
    damage(scene, kind);
    return;
  }
  const replica = scene.replica(({ trouble }) => trouble.failing === 0);
  if (replica === null) return;
  const { trouble } = replica;
  const forMs = scene.duration();
  if (kind === "diskStall") {
    scene.happened(kind, () => `the disk of ${replica.name} stalls for ${forMs.toFixed(0)} ms`);
    trouble.stalledUntilMs = world.nowMs() + forMs;
    return;
  }
  // One failing disk at a time: a block that nobody can read is an error to the guest, too.
  if (replicas.some((one) => one.trouble.failing > 0)) return;
  trouble.errno = kind === "diskFull" ? ENOSPC : EIO;
  trouble.failing = scene.pick([0.05, 0.5, 1]);
  scene.happened(
    kind,
    () => `the disk of ${replica.name} answers ${trouble.errno} for ${forMs.toFixed(0)} ms`,
  );
  world.after(forMs, () => {
    trouble.failing = 0;
  });
}

/** Blocks and their contexts change by themselves, or a write of blocks lands elsewhere in its file; always of the same replica. */
function damage(scene: FaultScene, kind: "rot" | "misdirect"): void {
  const replica = scene.parts.replicas[scene.rotten]!;
  const { region, disk, trouble } = replica;
  const layout = extentLayout(region);
  if (kind === "misdirect") {
    const block = Math.floor(scene.chance() * layout.blocks);
    trouble.misdirectBelow = layout.dataBytes;
    trouble.misdirectTo = block * layout.blockBytes;
    scene.happened(kind, () => `the next write of ${replica.name} lands at block ${block}`);
    return;
  }
  const extent = Math.floor(scene.chance() * region.extentCount);
  const offset = Math.floor(scene.chance() * layout.bitmapAt);
  const mask = 1 << Math.floor(scene.chance() * 8);
  const node = disk.find(`${DIRECTORY}/${extentPath(extent)}`);
  if (node instanceof FileNode && node.flip(offset, mask))
    scene.happened(kind, () => `a bit of ${replica.name} flips: extent ${extent}, byte ${offset}`);
}
