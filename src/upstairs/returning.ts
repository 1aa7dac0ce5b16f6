import { Fault } from "../base/fault.js";
import type { JobId } from "../base/ids.js";
import type { Activation } from "./activation.js";
import type { Ending } from "./ending.js";
import type { RegionClass } from "./evidence.js";
import type { Members } from "./members.js";
import type { Phase, Versions } from "./negotiation.js";
import { foreignWords } from "./quorum.js";
import type { Replica } from "./replica.js";

const WHY_REPAIR: Readonly<Record<RegionClass, string>> = {
  ours: "has missed too much to be caught up by replay: it needs repair",
  former: "is a former region of this volume: it needs repair",
  empty: "is empty: it is made equal to the other two",
  foreign: "holds foreign data, which is given up: it is made equal to the other two",
};

/** Replicas that come and go while the volume is in use: how each one comes back is its mode. */
export class Returning {
  readonly #members: Members;
  readonly #activation: Activation;
  readonly #ending: Ending;

  constructor(members: Members, activation: Activation, ending: Ending) {
    this.#members = members;
    this.#activation = activation;
    this.#ending = ending;
  }

  versionsTold(index: number, versions: Versions): void {
    const members = this.#members;
    const replica = members.replicas[index]!;
    if (replica.mode === "offline") {
      this.#resume(replica);
      return;
    }
    if (replica.mode === "new") {
      this.#activation.arrived(replica, versions);
      return;
    }
    replica.phase = "liveRepairReady";
    replica.versions = versions;
    this.#offer(replica);
  }

  /** The volume is in use: whoever stands ready for repair may be repaired. */
  offerAll(): void {
    for (const replica of this.#members.replicas)
      if (replica.phase === "liveRepairReady") this.#offer(replica);
  }
  /** Is this region one that may be written over? Then it takes its place, and the engine repairs it. */
  #offer(replica: Replica): void {
    const members = this.#members;
    const { register, options, engine } = members;
    const { index, name } = replica;
    if (members.state !== "active") return;
    const candidate = { uuid: replica.region!.uuid, versions: replica.versions! };
    const what = register.classOf(candidate);
    const mayTake = options.accept?.foreign === true || replica.acceptsForeign;
    if (what === "foreign" && !mayTake) {
      const fault = new Fault("TRIVET_E_REGION_FOREIGN", foreignWords(index, candidate));
      replica.region = null;
      replica.drop(fault);
      this.refused(index, fault);
      return;
    }
    replica.settled("liveRepairReady");
    const { connections } = replica;
    register.takesPlace(index, candidate.uuid, () => {
      if (replica.connections !== connections || replica.phase !== "liveRepairReady") return;
      if (members.state !== "active") return;
      members.note("warn", "replica.needsRepair", `${name} ${WHY_REPAIR[what]}`, index);
      // Numbers of another volume may look like ours, and mean nothing.
      const numbers = what === "foreign" ? "foreign" : "known";
      engine.readyForRepair(index, replica.stream!, replica.repairAddress, numbers);
    });
  }

  // Repair, as the engine does it

  repairStarted(index: number): void {
    const replica = this.#members.replicas[index]!;
    replica.phase = "liveRepair";
    replica.isRepairing = true;
  }
  repaired(index: number): void {
    const replica = this.#members.replicas[index]!;
    replica.settled("active");
    replica.isRepairing = false;
    replica.givenUpFor = null;
    replica.mode = "new";
    this.#members.register.caughtUp(index);
    this.#members.ports.journal.joined(index, replica.region!.uuid);
  }
  repairFailed(index: number, fault: Fault): void {
    this.#members.replicas[index]!.drop(fault);
  }

  mayReplay(index: number): void {
    const { replicas, engine } = this.#members;
    const replica = replicas[index]!;
    const { lastFlush } = engine.core.lanes[index]!;
    const lastFlushJob = lastFlush < 0 ? null : (lastFlush as JobId);
    replica.send({ kind: "LastFlush", lastFlushJob });
    this.#resume(replica);
  }
  /** After ExtentVersionsPlease too a downstairs takes jobs, with nothing known as done, which is all that our dependencies need. */
  #resume(replica: Replica): void {
    const members = this.#members;
    const { index } = replica;
    replica.settled("active");
    const { heldJobs } = members.engine.core.lanes[index]!;
    members.note(
      "info",
      "replica.replay",
      `${replica.name} is back; ${heldJobs} jobs are sent again`,
      index,
    );
    members.engine.resumed(index, replica.stream!, replica.repairAddress);
  }

  lost(index: number, phase: Phase, fault: Fault): void {
    const members = this.#members;
    const { engine } = members;
    const { core } = engine;
    const replica = members.replicas[index]!;
    engine.lost(index);
    if (members.state === "ended") {
      this.#ending.checkClosed();
      return;
    }
    members.note(
      "warn",
      "replica.lost",
      `the connection to ${replica.name} ended (${phase}): ${fault.message}`,
      index,
    );
    if (phase === "active" && replica.mode === "new") replica.mode = "offline";
    if (replica.mode === "new") {
      replica.region = null;
      this.#activation.left(replica, phase, fault);
    }
    if (members.state === "stopping" && core.canDoWithout(core.lanes[index]!))
      this.giveUp(
        index,
        new Fault("TRIVET_E_CONNECTION", `${replica.name} left while the volume stops`),
      );
    // The last two are never given up: somebody has to know what the volume holds.
    if (replica.mode === "offline" && !core.replayPossible && core.canDoWithout(core.lanes[index]!))
      this.giveUp(
        index,
        new Fault(
          "TRIVET_E_CONNECTION",
          `${replica.name} left after a barrier had freed what it would have to be sent again`,
        ),
      );
  }

  /** It is not dialled before `pauseMs`. */
  giveUp(index: number, fault: Fault, pauseMs = 0): void {
    const members = this.#members;
    const replica = members.replicas[index]!;
    if (replica.mode === "faulted") return;
    replica.mode = "faulted";
    replica.givenUpFor = fault;
    replica.leastPauseMs = pauseMs;
    replica.drop(fault);
    members.engine.giveUp(index);
    members.register.fellBehind(index);
    members.note(
      "error",
      "replica.faulted",
      `${fault.message}. The volume goes on with two replicas; the third is repaired when it is back`,
      index,
    );
  }
  dropConnection(index: number, fault: Fault): void {
    const members = this.#members;
    members.note(
      "error",
      "replica.failed",
      `${fault.message}; its connection is tried anew`,
      index,
    );
    members.replicas[index]!.drop(fault);
  }

  /** What answers there will not do, and trying again would not help. */
  refused(index: number, fault: Fault): void {
    const members = this.#members;
    const { core } = members.engine;
    const replica = members.replicas[index]!;
    const isNews = replica.refused?.message !== fault.message;
    replica.refused = fault;
    replica.leastPauseMs = members.tuning.refusedMs;
    if (isNews) members.note("error", "replica.refused", fault.line, index);
    if (replica.mode === "new") this.#activation.refused(fault);
    else if (fault.code === "TRIVET_E_REGION_CHANGED" && core.canDoWithout(core.lanes[index]!)) {
      // What it was is gone from there. What is there now may be repaired, if it may be written over.
      replica.leastPauseMs = 0;
      this.giveUp(index, fault);
    }
  }
}
