import { Fault, type FaultCode } from "../base/fault.js";
import type { FlushNumber, Generation } from "../base/ids.js";
import type { Cancel } from "../ports/stream.js";
import type { Ending } from "./ending.js";
import type { Candidate } from "./evidence.js";
import { chooseGeneration, raiseGeneration, tooLow } from "./generation.js";
import type { Done, Members } from "./members.js";
import { highestGeneration, type Phase, type Versions } from "./negotiation.js";
import { Opening } from "./opening.js";
import { assess } from "./quorum.js";
import { compare } from "./reconcile.js";
import { Reconciling } from "./reconciling.js";
import type { Replica } from "./replica.js";
import { resumeProblem } from "./resume.js";
import { waitNote } from "./wait-note.js";

// From a set of replicas to a volume in use: the generation is chosen, replicas are waited for, compared, made equal, joined.
//
//   activating: waiting ── `quorum` says that they may start ──► compare ─┬─ equal ─────► `opening` ──► active
//                  ▲                                                      └─► `reconciling` ──┘
//                  └──────────────── somebody left, an error ──────────────────────┘

/** Faults of one replica, that a volume with two others can do without. */
const REPLICA_FAULTS: ReadonlySet<FaultCode> = new Set<FaultCode>([
  "TRIVET_E_READ_ONLY_MISMATCH",
  "TRIVET_E_ENCRYPTED_MISMATCH",
  "TRIVET_E_GEOMETRY_MISMATCH",
  "TRIVET_E_SAME_REGION",
  "TRIVET_E_PROTOCOL",
]);

/** Slots keep the low 16 bits of flush numbers, and salvage compares these: the steps leave them in order. */
const FLUSH_STEP = 2 ** 16;

/** No clock gives a generation above it. */
const BELIEVABLE = 2n ** 40n;

export class Activation {
  readonly reconciling: Reconciling;
  /** Why those that are there are not enough; null: only because they are too few. */
  why: string | null = null;
  /** Called when the volume is in use, before whoever activated it is told. */
  onActive: () => void = () => {};

  readonly #members: Members;
  readonly #ending: Ending;
  readonly #opening: Opening;
  #activated: Done | null = null;
  #wasRaised = false;
  /** What reconciliation flushed with, in this session; null: there was none. */
  #reconciledWith: Generation | null = null;
  #waitTimer: Cancel | null = null;
  /** Runs while two could start, and the third is given time. */
  #patience: Cancel | null = null;

  constructor(members: Members, ending: Ending) {
    this.#members = members;
    this.#ending = ending;
    this.reconciling = new Reconciling(members);
    this.#opening = new Opening(members, (fault) => ending.end(fault));
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
    // Also after an orderly stop that left its clients for the next start: only a death leaves writes.
    const { generation, writes } = resume;
    this.#members.note(
      writes.length === 0 ? "info" : "warn",
      "volume.resume",
      `this server goes on where the one before it ended with generation ${generation}: its own is ${generation + 1n}, and ${writes.length} writes from the log are written again`,
    );
  }

  readonly #noteWaiting = (): void => {
    const { ports, tuning, replicas } = this.#members;
    this.#waitTimer = ports.clock.after(tuning.waitNoteMs, this.#noteWaiting);
    const { level, event, text } = waitNote(
      replicas,
      this.reconciling.steps,
      this.why,
      this.#members.degradedAfterMs,
    );
    this.#members.note(level, event, text);
  };
  #stopWaiting(): void {
    this.#waitTimer?.cancel();
    this.#waitTimer = null;
    this.#stopPatience();
  }
  #answer(fault: Fault | null): void {
    const then = this.#activated;
    this.#activated = null;
    then?.(fault);
  }

  /** A replica of mode new told what its extents hold. */
  arrived(replica: Replica, versions: Versions): void {
    replica.settled("waitQuorum");
    replica.versions = versions;
    if (this.#members.readOnly) this.#joinReadOnly(replica);
    else this.#consider();
  }
  /** A replica left while the volume was not in use yet. */
  left(replica: Replica, phase: Phase, fault: Fault): void {
    if (phase === "reconcile" && this.reconciling.steps !== null)
      this.reconciling.abort(
        new Fault("TRIVET_E_RECONCILE", `${replica.name} left: ${fault.message}`),
      );
    this.#consider();
  }
  /**
   * What answers there will not do. Where the volume was never started before that is a mistake of whoever set it up, who should hear of
   * it; later a volume does without one such replica.
   */
  refused(fault: Fault): void {
    const { mayDegrade, register, replicas } = this.#members;
    const isBearable = REPLICA_FAULTS.has(fault.code) && mayDegrade && register.before !== null;
    if (isBearable && replicas.filter((replica) => replica.refused !== null).length < 2) return;
    this.#ending.end(fault);
  }

  /** Read-only: the first one there will do, the others join (wire reference 9.3). */
  #joinReadOnly(replica: Replica): void {
    const members = this.#members;
    const opening = this.#opening;
    if (members.state === "activating" && !opening.open(replica.region!, 0 as FlushNumber)) return;
    if (members.state !== "activating" && members.state !== "active") return;
    opening.join(replica);
    this.#finish();
  }

  #candidates(): readonly (Candidate | null)[] {
    return this.#members.replicas.map((replica) =>
      replica.phase === "waitQuorum"
        ? { uuid: replica.region!.uuid, versions: replica.versions! }
        : null,
    );
  }

  /** Somebody came or left, or the time that the third is given is over: can it start with those that are there? */
  #consider(isOver = false): void {
    const members = this.#members;
    const { state, readOnly, options, mayDegrade, register, ports } = members;
    if (state !== "activating" || readOnly) return;
    if (this.#opening.isOpen || this.reconciling.steps !== null) return;
    const quorum = assess(this.#candidates(), {
      record: register.before,
      accept: options.accept ?? {},
      mayDegrade,
    });
    this.why = quorum.do === "wait" ? quorum.why : null;
    if (quorum.do === "refuse") {
      this.#ending.end(quorum.fault);
      return;
    }
    if (quorum.do === "start" && (isOver || !quorum.isPatient)) {
      this.#begin(quorum.members, quorum.sources);
      return;
    }
    if (quorum.do === "wait") {
      this.#stopPatience();
      return;
    }
    this.#patience ??= ports.clock.after(members.degradedAfterMs!, () => {
      this.#patience = null;
      this.#consider(true);
    });
  }
  #stopPatience(): void {
    this.#patience?.cancel();
    this.#patience = null;
  }

  #begin(places: readonly number[], sources: readonly number[]): void {
    const members = this.#members;
    const { replicas, generation, ports } = members;
    const { journal } = ports;
    this.#stopPatience();
    const takesPart = (place: number): boolean => places.includes(place);
    const problem = this.#resumeProblem(places, sources);
    if (problem !== null) {
      this.#ending.end(problem);
      return;
    }
    let found = compare(
      replicas.map((replica) => (takesPart(replica.index) ? replica.versions : null)),
      sources,
    );
    const highestSeen = (found.generation - 1n) as Generation;
    // An attempt of ours that failed has left its generation on some of them. That is no reason to go above it.
    if (found.generation - 1n === this.#reconciledWith)
      found = { ...found, generation: this.#reconciledWith };
    // Whoever is left out may carry flushes that nobody else knows of, and another host may have our generation. Their numbers must not
    // come up again for other data.
    found = { ...found, flushNumber: this.#apart(found.flushNumber) as FlushNumber };
    const needed = this.#above(found.generation, places);
    if (generation < needed) {
      this.#raise(needed);
      return;
    }
    journal.activated({
      highestSeen,
      reconciledWith: found.repairs.length > 0 ? found.generation : null,
      firstFlush: found.flushNumber,
      regions: replicas.map(({ index, region }) => (takesPart(index) ? region!.uuid : null)),
      blockBytes: replicas[places[0]!]!.region!.blockSize,
    });
    const open = (): void => this.#opening.begin(found, places, sources, () => this.#finish());
    if (found.repairs.length === 0) {
      open();
      return;
    }
    this.#reconciledWith = found.generation;
    this.reconciling.begin(found, places, open);
  }
  /**
   * Also above whatever the one that is left out carries: nothing says now that it is ours, but to a host that knows it those with the
   * lower numbers would be the older ones.
   */
  #above(needed: Generation, places: readonly number[]): Generation {
    const { replicas, options } = this.#members;
    if (options.generation.kind !== "clock") return needed;
    let least = needed;
    for (const { index, phase, versions } of replicas) {
      if (places.includes(index) || phase !== "waitQuorum") continue;
      const theirs = highestGeneration(versions!) + 1n;
      if (theirs > least && theirs < BELIEVABLE) least = theirs as Generation;
    }
    return least;
  }
  #resumeProblem(places: readonly number[], sources: readonly number[]): Fault | null {
    const { replicas, ports } = this.#members;
    const { resume } = ports.journal;
    if (resume === null) return null;
    const participants = places.map((place) => {
      const { name, region, versions } = replicas[place]!;
      return { name, region: region!, versions: versions!, isSource: sources.includes(place) };
    });
    return resumeProblem(resume, participants);
  }
  #apart(flushNumber: number): number {
    const { ports, tuning } = this.#members;
    return flushNumber + FLUSH_STEP * Math.floor(ports.random.chance() * tuning.flushSteps);
  }

  /** The regions know a higher generation. From a clock: well above theirs, once, and everybody is asked again with it. */
  #raise(needed: Generation): void {
    const members = this.#members;
    const before = members.generation;
    if (this.#wasRaised) {
      this.#ending.end(tooLow(before, needed));
      return;
    }
    // A clock that is wrong may be wrong by more than these two know.
    const areAll = members.replicas.every(({ phase }) => phase === "waitQuorum");
    if (members.options.generation.kind === "clock" && !areAll) {
      this.why = `the regions carry generation ${needed - 1n}, this machine's clock gave ${before}: with a clock that is behind, all three are needed. Check the clock, or give --gen`;
      members.note("warn", "volume.waiting", this.why);
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

  // The end of it

  #finish(): void {
    const members = this.#members;
    if (members.state !== "activating") return;
    members.state = "active";
    this.#stopWaiting();
    members.note(
      "info",
      "volume.active",
      `the volume is active with generation ${members.generation}`,
    );
    this.onActive();
    this.#answer(null);
  }
}
