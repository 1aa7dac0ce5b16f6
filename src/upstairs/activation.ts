import { Fault } from "../base/fault.js";
import type { FlushNumber, Generation } from "../base/ids.js";
import { errorText } from "../crucible/error.js";
import type { Message } from "../crucible/messages.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import type { Cancel } from "../ports/stream.js";
import type { Ending } from "./ending.js";
import { chooseGeneration, raiseGeneration, tooLow } from "./generation.js";
import type { Done, Members } from "./members.js";
import type { Versions } from "./negotiation.js";
import { type Comparison, compare, Reconciliation } from "./reconcile.js";
import type { Replica } from "./replica.js";
import { resumeProblem } from "./resume.js";
import { waitNote } from "./wait-note.js";

// From a set of replicas to a volume in use: the generation is chosen, replicas are waited for, compared, made equal, joined.
//
//   activating: waiting ── three in WaitQuorum ──► compare ─┬─ equal ────────────────────────► active
//                  ▲                                        └─► reconciling ── all equal ──►
//                  └────────── somebody left, an error ────────────┘

export class Activation {
  reconciliation: Reconciliation | null = null;
  reconciliations = 0;

  readonly #members: Members;
  readonly #ending: Ending;
  #activated: Done | null = null;
  #wasRaised = false;
  #comparison: Comparison | null = null;
  /** What reconciliation flushed with, in this session; null: there was none. */
  #reconciledWith: Generation | null = null;
  #waitTimer: Cancel | null = null;

  constructor(members: Members, ending: Ending) {
    this.#members = members;
    this.#ending = ending;
    ending.onEnd = (reason) => {
      this.#stopWaiting();
      this.#answer(reason);
    };
  }

  activate(then: Done): void {
    const members = this.#members;
    const { options, ports, tuning, replicas } = members;
    if (members.state !== "idle") {
      then(this.#ending.fault ?? new Fault("TRIVET_E_USAGE", "the volume is activated once"));
      return;
    }
    if (replicas.length !== 3) {
      then(new Fault("TRIVET_E_CONFIG", `a volume has three targets, ${replicas.length} given`));
      return;
    }
    members.state = "activating";
    this.#activated = then;
    chooseGeneration(options.generation, ports.clock, ports.journal, (fault, generation) => {
      if (members.state !== "activating") return;
      if (fault !== null) {
        this.#ending.end(fault);
        return;
      }
      members.generation = generation;
      this.#noteResume();
      for (const replica of replicas) replica.dial();
      this.#waitTimer = ports.clock.after(tuning.waitNoteMs, this.#noteWaiting);
    });
  }

  #noteResume(): void {
    const { resume } = this.#members.ports.journal;
    if (resume === null) return;
    this.#members.note(
      "warn",
      "volume.resume",
      `the server before this one died with generation ${resume.generation}: going on with ${resume.generation + 1n}, and ${resume.writes.length} writes from its log are written again`,
    );
  }

  readonly #noteWaiting = (): void => {
    const { ports, tuning, replicas } = this.#members;
    this.#waitTimer = ports.clock.after(tuning.waitNoteMs, this.#noteWaiting);
    const { level, event, text } = waitNote(replicas, this.reconciliation);
    this.#members.note(level, event, text);
  };
  #stopWaiting(): void {
    this.#waitTimer?.cancel();
    this.#waitTimer = null;
  }
  #answer(fault: Fault | null): void {
    const then = this.#activated;
    this.#activated = null;
    then?.(fault);
  }

  /** A replica of mode new told what its extents hold. */
  arrived(replica: Replica, versions: Versions): void {
    const { state, replicas, readOnly } = this.#members;
    replica.settled("waitQuorum");
    replica.versions = versions;
    if (readOnly) this.#joinReadOnly(replica);
    else if (state === "activating" && replicas.every((r) => r.phase === "waitQuorum"))
      this.#quorum();
  }

  /** Read-only: the first one there will do, the others join (wire reference 9.3). */
  #joinReadOnly(replica: Replica): void {
    const members = this.#members;
    if (members.state === "activating" && !this.#open(replica.region!, 0 as FlushNumber)) return;
    if (members.state !== "activating" && members.state !== "active") return;
    this.#join(replica);
    this.#finish();
  }

  #quorum(): void {
    const members = this.#members;
    const { replicas, generation, ports } = members;
    const { journal } = ports;
    const problem = journal.resume === null ? null : resumeProblem(journal.resume, replicas);
    if (problem !== null) {
      this.#ending.end(problem);
      return;
    }
    let found = compare(replicas.map((replica) => replica.versions!));
    const highestSeen = (found.generation - 1n) as Generation;
    // An attempt of ours that failed has left its generation on some of them. That is no reason to go above it.
    if (found.generation - 1n === this.#reconciledWith)
      found = { ...found, generation: this.#reconciledWith };
    this.#comparison = found;
    if (generation < found.generation) {
      this.#raise(found.generation);
      return;
    }
    journal.activated({
      highestSeen,
      regions: replicas.map((replica) => replica.region!.uuid),
      blockBytes: replicas[0]!.region!.blockSize,
    });
    if (found.repairs.length === 0) {
      this.#becomeActive();
      return;
    }
    members.note(
      "warn",
      "volume.reconcile",
      `${found.repairs.length} extents differ or were left in the middle of a write: making them equal`,
    );
    this.reconciliations += 1;
    this.#reconciledWith = found.generation;
    this.reconciliation = new Reconciliation(
      found,
      replicas.map((replica) => replica.repairAddress!),
    );
    for (const replica of replicas) replica.phase = "reconcile";
    this.#reconcileStep();
  }

  /** The regions know a higher generation. From a clock: theirs + 1, once, and everybody is asked again with it. */
  #raise(needed: Generation): void {
    const members = this.#members;
    const before = members.generation;
    if (this.#wasRaised) {
      this.#ending.end(tooLow(before, needed));
      return;
    }
    this.#wasRaised = true;
    const { options, ports } = members;
    raiseGeneration(options.generation, ports.journal, before, needed, (fault, generation) => {
      if (members.state !== "activating") return;
      if (fault !== null) {
        this.#ending.end(fault);
        return;
      }
      members.note(
        "warn",
        "volume.generation",
        `the regions carry generation ${needed - 1n}, this machine's clock gave ${before}: going on with ${generation}. Check the clock`,
      );
      members.generation = generation;
      const reason = new Fault("TRIVET_E_CONNECTION", "asked again with a higher generation");
      for (const replica of members.replicas) {
        replica.isHasty = true;
        replica.drop(reason);
      }
    });
  }

  // Reconciliation

  #reconcileStep(): void {
    const members = this.#members;
    const { replicas } = members;
    const steps = this.reconciliation!;
    if (steps.isDone) {
      this.reconciliation = null;
      members.note("info", "volume.reconciled", "the three regions are equal again");
      this.#becomeActive();
      return;
    }
    const { message, to } = steps.step();
    for (const index of to) {
      const replica = replicas[index]!;
      replica.isRepairing = true;
      replica.send(message);
    }
  }

  repairAnswered(index: number, message: Message): void {
    const { replicas } = this.#members;
    const steps = this.reconciliation;
    if (steps === null) return;
    if (message.kind === "ExtentError") {
      this.#abortReconciliation(
        new Fault(
          "TRIVET_E_RECONCILE",
          `${replicas[index]!.name}, extent ${message.extentId}: ${errorText(message.error)}`,
        ),
      );
      return;
    }
    if (message.kind !== "RepairAckId") return;
    const finished = steps.acknowledged(index, message.repairId);
    replicas[index]!.isRepairing = steps.isAwaited(index);
    if (finished) this.#reconcileStep();
  }

  /** A replica that took part in the reconciliation left. */
  leftReconciliation(replica: Replica, fault: Fault): void {
    if (this.reconciliation === null) return;
    this.#abortReconciliation(
      new Fault("TRIVET_E_RECONCILE", `${replica.name} left: ${fault.message}`),
    );
  }
  /** Everybody in it starts over; extents that are equal by then stay so (wire reference 7.4). */
  #abortReconciliation(fault: Fault): void {
    const members = this.#members;
    const { replicas } = members;
    this.reconciliation = null;
    members.note("error", "volume.reconcileFailed", `reconciliation failed: ${fault.message}`);
    for (const replica of replicas) if (replica.phase === "reconcile") replica.drop(fault);
  }

  // The end of it

  #becomeActive(): void {
    const { replicas } = this.#members;
    const { flushNumber } = this.#comparison!;
    if (!this.#open(replicas[0]!.region!, flushNumber)) return;
    for (const replica of replicas) this.#join(replica);
    this.#finish();
  }
  #open(region: RegionDefinition, flushNumber: FlushNumber): boolean {
    const { engine, generation, readOnly } = this.#members;
    const fault = engine.open(region, generation, flushNumber, readOnly);
    if (fault !== null) this.#ending.end(fault);
    return fault === null;
  }
  #join(replica: Replica): void {
    replica.settled("active");
    this.#members.engine.joined(replica.index, replica.stream!, replica.repairAddress);
    this.#members.note("info", "replica.active", `${replica.name} is active`, replica.index);
  }
  #finish(): void {
    const members = this.#members;
    if (members.state !== "activating") return;
    members.state = "active";
    this.#stopWaiting();
    const { resume } = members.ports.journal;
    if (resume === null || resume.writes.length === 0) {
      this.#active();
      return;
    }
    const fault = members.engine.reissue(resume.writes, () => {
      members.note("info", "volume.resumed", `${resume.writes.length} writes are written again`);
      this.#active();
    });
    if (fault !== null) this.#ending.end(fault);
  }
  #active(): void {
    const members = this.#members;
    members.note(
      "info",
      "volume.active",
      `the volume is active with generation ${members.generation}`,
    );
    this.#answer(null);
  }
}
