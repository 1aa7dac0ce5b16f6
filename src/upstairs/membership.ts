import { Fault } from "../base/fault.js";
import type { FlushNumber, Generation, JobId } from "../base/ids.js";
import { errorText } from "../crucible/error.js";
import type { Message } from "../crucible/messages.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import type { AckFrame } from "../crucible/replies.js";
import { SessionIds } from "../crucible/session-ids.js";
import type { Cancel } from "../ports/stream.js";
import { Engine } from "./engine.js";
import { chooseGeneration, raiseGeneration, tooLow } from "./generation.js";
import type { Phase, Terms, Versions } from "./negotiation.js";
import { TUNING, type Tuning, type UpstairsOptions, type UpstairsPorts } from "./options.js";
import { type Comparison, compare, Reconciliation } from "./reconcile.js";
import { whoRefuses } from "./refusals.js";
import { regionProblem } from "./region-check.js";
import { Replica, type ReplicaOwner } from "./replica.js";
import { waitNote } from "./wait-note.js";

// Three replicas become a volume, and stay one. Owns the volume's state, the mode in which each replica comes back, the generation,
// reconciliation, and the verdict that somebody else has taken over. Jobs are the engine's.
//
//   idle ── activate ──► activating ── three in WaitQuorum, equal or made equal ──► active ── stop ──► stopping ──► ended
//                            │                                                        │                              ▲
//                            └── permanent error, superseded, stop ──────────────────┴── superseded ────────────────┘

export type VolumeState = "idle" | "activating" | "active" | "stopping" | "ended";
export type Done = (fault: Fault | null) => void;

export class Membership implements ReplicaOwner {
  readonly replicas: readonly Replica[];
  readonly engine: Engine;
  readonly ids: SessionIds;
  state: VolumeState = "idle";
  generation = 0n as Generation;
  /** Why it ended; null: it was asked to. */
  ending: Fault | null = null;
  reconciliation: Reconciliation | null = null;
  reconciliations = 0;

  readonly #ports: UpstairsPorts;
  readonly #options: UpstairsOptions;
  readonly #tuning: Tuning;
  readonly #onSuperseded: (fault: Fault) => void;
  #activated: Done | null = null;
  #stopped: Done | null = null;
  #wasRaised = false;
  #comparison: Comparison | null = null;
  /** What reconciliation flushed with, in this session; null: there was none. */
  #reconciledWith: Generation | null = null;
  #waitTimer: Cancel | null = null;
  #stopTimer: Cancel | null = null;

  constructor(
    options: UpstairsOptions,
    ports: UpstairsPorts,
    onSuperseded: (fault: Fault) => void,
  ) {
    this.#options = options;
    this.#ports = ports;
    this.#onSuperseded = onSuperseded;
    this.#tuning = { ...TUNING, ...options.tuning };
    this.ids = new SessionIds(options.upstairsId, ports.random.uuid());
    this.engine = new Engine(ports, this.#tuning, this.ids, options.ack === "buffered", {
      givenUp: (index, fault) => this.#giveUp(index, fault),
      dropConnection: (index, fault) => this.#dropConnection(index, fault),
    });
    this.replicas = options.targets.map(
      (address, index) => new Replica(index, address, ports, this.#tuning, this.ids, this),
    );
  }

  get readOnly(): boolean {
    return this.#options.readOnly === true;
  }

  // Activation

  activate(then: Done): void {
    if (this.state !== "idle") {
      then(this.ending ?? new Fault("TRIVET_E_USAGE", "the volume is activated once"));
      return;
    }
    if (this.replicas.length !== 3) {
      then(
        new Fault("TRIVET_E_CONFIG", `a volume has three targets, ${this.replicas.length} given`),
      );
      return;
    }
    this.state = "activating";
    this.#activated = then;
    chooseGeneration(this.#options.generation, this.#ports.clock, (fault, generation) => {
      if (this.state !== "activating") return;
      if (fault !== null) {
        this.#end(fault);
        return;
      }
      this.generation = generation;
      for (const replica of this.replicas) replica.dial();
      this.#waitTimer = this.#ports.clock.after(this.#tuning.waitNoteMs, this.#noteWaiting);
    });
  }

  readonly #noteWaiting = (): void => {
    this.#waitTimer = this.#ports.clock.after(this.#tuning.waitNoteMs, this.#noteWaiting);
    const { level, event, text } = waitNote(this.replicas, this.reconciliation);
    this.#note(level, event, text);
  };

  terms(index: number): Terms {
    const replica = this.replicas[index]!;
    return {
      upstairsId: this.ids.upstairsId,
      sessionId: this.ids.sessionId,
      generation: this.generation,
      readOnly: this.readOnly,
      mode: replica.mode,
      inDoubt: this.#isInDoubt,
      extentCount: replica.region?.extentCount ?? 0,
      regionProblem: (region) =>
        regionProblem(
          region,
          index,
          this.replicas.map((other) => other.region),
          this.#options.geometry,
          replica.mode,
        ),
    };
  }
  /**
   * Nobody can have become active while two replicas stayed with us: whoever tries needs two, and those that we are connected to
   * would have told us. With fewer, somebody may have come and gone.
   */
  get #isInDoubt(): boolean {
    return !this.readOnly && this.engine.core.activeCount < 2;
  }

  versionsTold(index: number, versions: Versions): void {
    const replica = this.replicas[index]!;
    if (replica.mode === "offline") {
      this.#resume(replica);
      return;
    }
    if (replica.mode !== "new") {
      replica.settled("liveRepairReady");
      this.#note(
        "warn",
        "replica.needsRepair",
        `${replica.name} is back, but has missed too much to be caught up by replay: it needs repair. The volume goes on with the other two; a restart of the server repairs it`,
        index,
      );
      return;
    }
    replica.settled("waitQuorum");
    replica.versions = versions;
    if (this.readOnly) this.#joinReadOnly(replica);
    else if (this.state === "activating" && this.replicas.every((r) => r.phase === "waitQuorum"))
      this.#quorum();
  }

  /** Read-only: the first one there will do, the others join (wire reference 9.3). */
  #joinReadOnly(replica: Replica): void {
    if (this.state === "activating" && !this.#open(replica.region!, 0 as FlushNumber)) return;
    if (this.state !== "activating" && this.state !== "active") return;
    this.#join(replica);
    this.#finishActivation();
  }

  #quorum(): void {
    let found = compare(this.replicas.map((replica) => replica.versions!));
    // An attempt of ours that failed has left its generation on some of them. That is no reason to go above it.
    if (found.generation - 1n === this.#reconciledWith)
      found = { ...found, generation: this.#reconciledWith };
    this.#comparison = found;
    if (this.generation < found.generation) {
      this.#raise(found.generation);
      return;
    }
    if (found.repairs.length === 0) {
      this.#becomeActive();
      return;
    }
    this.#note(
      "warn",
      "volume.reconcile",
      `${found.repairs.length} extents differ or were left in the middle of a write: making them equal`,
    );
    this.reconciliations += 1;
    this.#reconciledWith = found.generation;
    this.reconciliation = new Reconciliation(
      found,
      this.replicas.map((replica) => replica.repairAddress!),
    );
    for (const replica of this.replicas) replica.phase = "reconcile";
    this.#reconcileStep();
  }

  /** The regions know a higher generation. From a clock: theirs + 1, once, and everybody is asked again with it. */
  #raise(needed: Generation): void {
    const before = this.generation;
    if (this.#wasRaised) {
      this.#end(tooLow(before, needed));
      return;
    }
    this.#wasRaised = true;
    raiseGeneration(this.#options.generation, before, needed, (fault, generation) => {
      if (this.state !== "activating") return;
      if (fault !== null) {
        this.#end(fault);
        return;
      }
      this.#note(
        "warn",
        "volume.generation",
        `the regions carry generation ${needed - 1n}, this machine's clock gave ${before}: going on with ${generation}. Check the clock`,
      );
      this.generation = generation;
      const reason = new Fault("TRIVET_E_CONNECTION", "asked again with a higher generation");
      for (const replica of this.replicas) {
        replica.isHasty = true;
        replica.drop(reason);
      }
    });
  }

  #reconcileStep(): void {
    const steps = this.reconciliation!;
    if (steps.isDone) {
      this.reconciliation = null;
      this.#note("info", "volume.reconciled", "the three regions are equal again");
      this.#becomeActive();
      return;
    }
    const { message, to } = steps.step();
    for (const index of to) {
      const replica = this.replicas[index]!;
      replica.isRepairing = true;
      replica.send(message);
    }
  }

  repairAnswered(index: number, message: Message): void {
    const steps = this.reconciliation;
    if (steps === null) return;
    if (message.kind === "ExtentError") {
      this.#abortReconciliation(
        new Fault(
          "TRIVET_E_RECONCILE",
          `${this.replicas[index]!.name}, extent ${message.extentId}: ${errorText(message.error)}`,
        ),
      );
      return;
    }
    if (message.kind !== "RepairAckId") return;
    const finished = steps.acknowledged(index, message.repairId);
    this.replicas[index]!.isRepairing = steps.isAwaited(index);
    if (finished) this.#reconcileStep();
  }

  /** Everybody in it starts over; extents that are equal by then stay so (wire reference 7.4). */
  #abortReconciliation(fault: Fault): void {
    this.reconciliation = null;
    this.#note("error", "volume.reconcileFailed", `reconciliation failed: ${fault.message}`);
    for (const replica of this.replicas) if (replica.phase === "reconcile") replica.drop(fault);
  }

  #becomeActive(): void {
    const { flushNumber } = this.#comparison!;
    if (!this.#open(this.replicas[0]!.region!, flushNumber)) return;
    for (const replica of this.replicas) this.#join(replica);
    this.#finishActivation();
  }
  #open(region: RegionDefinition, flushNumber: FlushNumber): boolean {
    const fault = this.engine.open(region, this.generation, flushNumber, this.readOnly);
    if (fault !== null) this.#end(fault);
    return fault === null;
  }
  #join(replica: Replica): void {
    replica.settled("active");
    this.engine.joined(replica.index, replica.stream!);
    this.#note("info", "replica.active", `${replica.name} is active`, replica.index);
  }
  #finishActivation(): void {
    if (this.state !== "activating") return;
    this.state = "active";
    this.#stopWaiting();
    this.#note("info", "volume.active", `the volume is active with generation ${this.generation}`);
    const then = this.#activated;
    this.#activated = null;
    then?.(null);
  }
  #stopWaiting(): void {
    this.#waitTimer?.cancel();
    this.#waitTimer = null;
  }

  // Coming and going while active

  mayReplay(index: number): void {
    const replica = this.replicas[index]!;
    const { lastFlush } = this.engine.core.lanes[index]!;
    const lastFlushJob = lastFlush < 0 ? null : (lastFlush as JobId);
    replica.send({ kind: "LastFlush", lastFlushJob });
    this.#resume(replica);
  }
  /** After ExtentVersionsPlease too a downstairs takes jobs, with nothing known as done, which is all that our dependencies need. */
  #resume(replica: Replica): void {
    const { index } = replica;
    replica.settled("active");
    const { heldJobs } = this.engine.core.lanes[index]!;
    this.#note(
      "info",
      "replica.replay",
      `${replica.name} is back; ${heldJobs} jobs are sent again`,
      index,
    );
    this.engine.resumed(index, replica.stream!);
  }

  lost(index: number, phase: Phase, fault: Fault): void {
    const replica = this.replicas[index]!;
    this.engine.lost(index);
    if (this.state === "ended") {
      this.#checkClosed();
      return;
    }
    this.#note(
      "warn",
      "replica.lost",
      `the connection to ${replica.name} ended (${phase}): ${fault.message}`,
      index,
    );
    if (phase === "reconcile" && this.reconciliation !== null)
      this.#abortReconciliation(
        new Fault("TRIVET_E_RECONCILE", `${replica.name} left: ${fault.message}`),
      );
    if (phase === "active" && replica.mode === "new") replica.mode = "offline";
    if (replica.mode === "new") replica.region = null;
    const { core } = this.engine;
    if (this.state === "stopping" && core.canDoWithout(core.lanes[index]!))
      this.#giveUp(
        index,
        new Fault("TRIVET_E_CONNECTION", `${replica.name} left while the volume stops`),
      );
    if (replica.mode === "offline" && !core.replayPossible)
      this.#giveUp(
        index,
        new Fault(
          "TRIVET_E_CONNECTION",
          `${replica.name} left after a barrier had freed what it would have to be sent again`,
        ),
      );
  }

  #giveUp(index: number, fault: Fault): void {
    const replica = this.replicas[index]!;
    if (replica.mode === "faulted") return;
    replica.mode = "faulted";
    replica.drop(fault);
    this.engine.giveUp(index);
    this.#note(
      "error",
      "replica.faulted",
      `${fault.message}. The volume goes on with two replicas; a restart of the server repairs the third`,
      index,
    );
  }
  #dropConnection(index: number, fault: Fault): void {
    this.#note("error", "replica.failed", `${fault.message}; its connection is tried anew`, index);
    this.replicas[index]!.drop(fault);
  }

  refused(index: number, fault: Fault): void {
    if (this.state === "activating") {
      this.#end(fault);
      return;
    }
    this.#note("error", "replica.refused", fault.line, index);
  }

  // Being superseded

  superseded(fault: Fault): void {
    if (this.state !== "ended") this.#end(fault);
  }

  /**
   * A downstairs refuses to promote by closing the connection without a word (wire reference 5.2), which a broken network may
   * do as well. Refusals count only when orderly and in answer to PromoteToActive, and only two replicas together
   * make a verdict; while two others are with us nobody can have taken over.
   */
  promotionRefused(index: number): void {
    const isActive = this.state === "active";
    if (!isActive && this.state !== "activating") return;
    const replica = this.replicas[index]!;
    this.#note(
      "warn",
      "replica.promotionRefused",
      `${replica.name} closed the connection when asked to promote generation ${this.generation}: another host may be active there with a higher one`,
      index,
    );
    if (isActive && !this.#isInDoubt) return;
    const nowMs = this.#ports.clock.nowMs();
    const refusing = whoRefuses(this.replicas, isActive, nowMs, this.#tuning);
    if (refusing.length < 2) return;
    const whom = refusing.map((other) => other.name).join(" and ");
    this.superseded(
      new Fault(
        "TRIVET_E_SUPERSEDED",
        `${whom} refuse generation ${this.generation}: another host is active with a higher one`,
      ),
    );
  }

  // The end

  stop(then: Done): void {
    if (this.state === "idle" || this.state === "ended") {
      this.state = "ended";
      this.#stopped = then;
      this.#checkClosed();
      return;
    }
    this.#stopped = then;
    if (this.state === "activating") {
      this.#end(null);
      return;
    }
    if (this.state === "stopping") return;
    this.state = "stopping";
    this.#stopTimer = this.#ports.clock.after(this.#tuning.stopMs, () =>
      this.#end(
        new Fault(
          "TRIVET_E_TIMEOUT",
          `the last flush was not acknowledged within ${this.#tuning.stopMs} ms`,
        ),
      ),
    );
    this.engine.drain(() => {
      this.state = "ended";
      for (const replica of this.replicas) replica.park();
      this.#checkClosed();
    });
  }

  /** Nothing is sent any more, and everything unanswered fails. `null`: on request, before the volume was active. */
  #end(fault: Fault | null): void {
    const wasActive = this.state === "active";
    this.state = "ended";
    this.ending = fault;
    this.#stopWaiting();
    const reason = fault ?? new Fault("TRIVET_E_CONNECTION", "the volume was stopped");
    for (const replica of this.replicas) replica.drop(reason, false);
    this.engine.fail();
    const then = this.#activated;
    this.#activated = null;
    if (fault !== null) this.#note("error", "volume.ended", fault.line);
    then?.(reason);
    if (wasActive && fault?.code === "TRIVET_E_SUPERSEDED") this.#onSuperseded(fault);
    this.#checkClosed();
  }

  #checkClosed(): void {
    if (this.state !== "ended" || this.replicas.some((replica) => replica.isConnected)) return;
    this.#stopTimer?.cancel();
    this.#stopTimer = null;
    this.engine.dispose();
    const then = this.#stopped;
    this.#stopped = null;
    then?.(this.ending);
  }

  // Jobs

  acked(index: number, frame: AckFrame): void {
    this.engine.acked(index, frame);
  }
  placeAnswer(index: number, jobId: number, frameBytes: number): number {
    return this.engine.placeAnswer(index, jobId, frameBytes);
  }
  answered(index: number, at: number, frameBytes: number): void {
    this.engine.answered(index, at, frameBytes);
  }
  sent(tag: number): void {
    this.engine.sent(tag);
  }

  #note(level: "info" | "warn" | "error", event: string, text: string, replica?: number): void {
    this.#ports.notes(level, event, text, replica === undefined ? {} : { replica });
  }
}
