import type { FaultScene } from "./fault-scene.js";

export function networkFault(
  scene: FaultScene,
  kind: "cut" | "stall" | "slow" | "dropGuest",
): void {
  const { network, world, guests } = scene.parts;
  if (kind === "dropGuest") {
    scene.happened(kind, () => "a guest goes away");
    guests.dropOne();
    return;
  }
  const host = scene.host((one) => one.isRunning) ?? scene.parts.hosts[0]!;
  const replica = scene.replica(() => true)!;
  const toGuests = !scene.isContested && scene.chance() < 0.15;
  const one = host.machine.name;
  const other = toGuests ? guests.machine : replica.machine.name;
  const who = `${host.name} and ${toGuests ? "guests" : replica.name}`;
  if (kind === "cut") {
    scene.happened(kind, () => `connections between ${who} are cut`);
    network.cut(one, other);
    return;
  }
  const forMs = scene.duration();
  const ways = [network.way(one, other), network.way(other, one)];
  if (kind === "stall") {
    const affected = scene.chance() < 0.6 ? ways : [scene.pick(ways)];
    const how = affected.length === 2 ? "nothing passes" : "nothing passes in one direction";
    scene.happened(kind, () => `${how} between ${who} for ${forMs.toFixed(0)} ms`);
    for (const way of affected) way.stalledUntilMs = world.nowMs() + forMs;
    return;
  }
  const bytesPerMs = 10 ** (1 + 3 * scene.chance());
  const extraMs = scene.chance() * 20;
  scene.happened(
    kind,
    () => `${bytesPerMs.toFixed(0)} bytes/ms between ${who} for ${forMs.toFixed(0)} ms`,
  );
  for (const way of ways) {
    way.bytesPerMs = bytesPerMs;
    way.extraMs = extraMs;
  }
  world.after(forMs, () => {
    for (const way of ways) {
      way.bytesPerMs = Number.POSITIVE_INFINITY;
      way.extraMs = 0;
    }
  });
}
