import { Fault } from "../base/fault.js";
import type { Address } from "../ports/stream.js";
import type { Members } from "./members.js";
import type { Replica } from "./replica.js";

// A replica is put elsewhere, or another region in its place (wire reference 8.6). Decides whether that may be done now; the rest is what
// is done with any replica that missed something: it is dialled, looked at, and repaired.

/**
 * - started: it is being done; progress is in the status.
 * - startedAlready: it was asked for before, and is not complete.
 * - completedAlready: the new address is in use as it is.
 * - missing: nobody is at the old address.
 * A Fault: not now, or not at all.
 */
export type ReplaceAnswer = "started" | "startedAlready" | "completedAlready" | "missing" | Fault;

export function replace(
  members: Members,
  from: Address,
  to: Address,
  acceptsForeign: boolean,
): ReplaceAnswer {
  const { state, replicas } = members;
  const used = replicas.find(({ address }) => isSame(address, to));
  const replica = replicas.find(({ address }) => isSame(address, from));
  if (used !== undefined && replica !== undefined)
    return new Fault(
      "TRIVET_E_REPLACE",
      `${words(from)} and ${words(to)} both are replicas of this volume`,
    );
  if (used !== undefined) {
    const isUnderWay = used.mode === "replaced" || used.phase === "liveRepair";
    if (isUnderWay && acceptsForeign && !used.acceptsForeign) {
      // Said after the region there was refused: it is looked at again.
      used.acceptsForeign = true;
      used.refused = null;
      used.dial();
    }
    return isUnderWay ? "startedAlready" : "completedAlready";
  }
  if (replica === undefined) return "missing";
  if (state === "stopping" || state === "ended")
    return new Fault("TRIVET_E_REPLACE", "the volume is being stopped");
  const isInUse = members.engine.state === "running" && !members.readOnly;
  const other = isInUse ? replicas.find((one) => one !== replica && one.phase !== "active") : null;
  if (other)
    return new Fault(
      "TRIVET_E_REPLACE",
      `${other.name} is not in step (${other.phase}, ${other.mode}): the two that stay must be`,
    );
  move(members, replica, to, isInUse, acceptsForeign);
  return "started";
}

function move(
  members: Members,
  replica: Replica,
  to: Address,
  isInUse: boolean,
  acceptsForeign: boolean,
): void {
  const { engine, register } = members;
  const { index, name } = replica;
  members.note("warn", "replica.replaced", `${name} is replaced by ${words(to)}`, index);
  if (isInUse) replica.mode = "replaced";
  replica.acceptsForeign = acceptsForeign;
  replica.region = null;
  replica.redirect(to, new Fault("TRIVET_E_CONNECTION", `${name} was replaced by ${words(to)}`));
  if (isInUse) {
    engine.giveUp(index);
    register.fellBehind(index);
  }
  register.moved(members.targets);
}

const isSame = (a: Address, b: Address): boolean => a.host === b.host && a.port === b.port;
const words = ({ host, port }: Address): string => `${host}:${port}`;
