import type { FaultScene } from "./fault-scene.js";
import type { HostBox } from "./host.js";
import type { FaultKind } from "./plan.js";

/** Hosts that die, hosts that take over, clocks, and what operators do. */
export function hostFault(scene: FaultScene, kind: FaultKind): void {
  switch (kind) {
    case "clockJump":
      clockJump(scene);
      return;
    case "takeOver":
      takeOver(scene);
      return;
    case "replace":
      replace(scene);
      return;
    case "scrub": {
      const host = scene.host((one) => one.isServing);
      if (host === null) return;
      scene.happened(kind, () => `${host.name} scrubs`);
      host.life!.upstairs.scrub({ bytesPerSecond: scene.pick([0, 100_000]) }, (fault) =>
        scene.parts.trace.add(host.name, () => `scrubbed: ${fault?.line ?? "done"}`),
      );
      return;
    }
    default:
      endHost(scene, kind);
  }
}

function clockJump(scene: FaultScene): void {
  const host = scene.pick(scene.parts.hosts);
  const seconds = Math.floor((scene.chance() - 0.5) * 10 ** (1 + 4 * scene.chance()));
  scene.happened("clockJump", () => `the clock of ${host.name} jumps by ${seconds} s`);
  host.machine.clockOffset += seconds;
}

function takeOver(scene: FaultScene): void {
  if (scene.isContested) return;
  const host = scene.host((one) => one.process === null);
  if (host === null) return;
  scene.happened("takeOver", () => `${host.name} is started`);
  host.powerOn();
  host.start();
}

/** A replica moves to a new box with an empty region; the old one goes on for a while. */
function replace(scene: FaultScene): void {
  const { world, replicas, trace } = scene.parts;
  const host = scene.mayLose();
  if (host === null) return;
  const place = Math.floor(scene.chance() * 3);
  const old = replicas[place]!;
  const fresh = scene.parts.newBox(place);
  scene.happened("replace", () => `${old.name} is replaced by ${fresh.name}`);
  scene.lost(fresh);
  fresh.start();
  const answer = host.life!.upstairs.replace(old.data, fresh.data);
  trace.add(host.name, () => `replacing: ${typeof answer === "string" ? answer : answer.line}`);
  world.after(scene.duration(), () => old.kill());
}

function endHost(scene: FaultScene, kind: FaultKind): void {
  const { world, trace, hosts } = scene.parts;
  const running = hosts.filter((host) => host.isRunning);
  if (running.length === 0) return;
  // Whoever took over from somebody who does not know it yet stays.
  const host = running.length === 1 ? running[0]! : oldest(running);
  const forMs = 10 + (scene.chance() < 0.5 ? 0 : scene.duration());
  const restart = (): void => {
    if (!hosts.some((one) => one.isRunning)) host.start();
  };
  if (kind === "killHost") {
    const how = scene.pick(["end", "reset"] as const);
    scene.happened(kind, () => `${host.name} is killed (${how}) for ${forMs.toFixed(0)} ms`);
    host.kill(how);
    world.after(forMs, restart);
  } else if (kind === "cutHostPower") {
    scene.happened(kind, () => `${host.name} loses its power for ${forMs.toFixed(0)} ms`);
    host.powerCut();
    world.after(forMs, () => {
      host.powerOn();
      restart();
    });
  } else {
    scene.happened(kind, () => `${host.name} is restarted`);
    host.stop((fault) => {
      trace.add(host.name, () => `restarts ${fault?.line ?? ""}`);
      world.after(forMs, restart);
    });
  }
}
/** The one whose life began earlier, or has not begun. */
function oldest(running: readonly HostBox[]): HostBox {
  const began = (host: HostBox): number => host.life?.incarnation.life ?? Number.POSITIVE_INFINITY;
  return running.reduce((a, b) => (began(a) < began(b) ? a : b));
}
