import { Fault } from "../base/fault.js";
import { NIL_UUID } from "../base/ids.js";
import { invariant, unreachable } from "../base/invariant.js";
import {
  ARENA_RESERVE_SHARE,
  BACKLOG_BYTES_MAX,
  COMPOSE_BYTES_MAX,
  INBOX_BYTES,
  LINGER_MS,
  SILENCE_MS_MAX,
} from "../base/limits.js";
import { type FrameOwner, FrameReceiver, PAUSE, REFUSE } from "../crucible/frame-receiver.js";
import {
  decode,
  encodedBytes,
  encodeInto,
  KINDS,
  type Message,
  TAG,
} from "../crucible/messages.js";
import { SessionIds } from "../crucible/session-ids.js";
import { MESSAGE_VERSION } from "../crucible/version.js";
import type { Address, Cancel, Stream, StreamHandler } from "../ports/stream.js";
import type { Activation, Claimant } from "./activation.js";
import type { Identity } from "./identity.js";
import { hasIds, JobIntake, jobKindOf, SnapshotRefused } from "./job-intake.js";
import { JobRunner } from "./job-runner.js";
import type { JobKind } from "./job-table.js";
import { type Effect, granted, isNegotiation, type State, start, step } from "./negotiation.js";
import type { Outlet } from "./outlet.js";
import type { Service } from "./service.js";

/** Reasons to receive nothing for a while: bits. */
const Pause = { memory: 1, backlog: 2, promoting: 4 } as const;

const RUOK_BYTES = 8;

/** What a session needs besides the region. */
export interface SessionHost {
  readonly activation: Activation;
  repairAddress(stream: Stream): Address;
  /** Last call: the connection and all that it held are gone. */
  gone(session: Session): void;
}

/**
 * One connection of a region: frames in, negotiation, jobs, answers out. Its states are those of
 * `negotiation`; besides, it is `over` from the moment when its last word was said.
 *
 * Whatever arrives here throws nothing but a Fault, which ends this connection and no other.
 */
export class Session implements StreamHandler, FrameOwner, Claimant, Outlet {
  readonly stream: Stream;
  readonly #service: Service;
  readonly #host: SessionHost;
  readonly #receiver: FrameReceiver;
  readonly #runner: JobRunner;
  readonly #intake: JobIntake;
  #state: State = start;
  #who: Identity | undefined;
  #ids = new SessionIds(NIL_UUID, NIL_UUID);
  /** The region is claimed, or held, by this connection. */
  #claims = false;
  /** A negotiation message that came while the promotion is under way. */
  #held: Message | undefined;
  #paused = 0;
  #heard = false;
  #heardMs: number;
  #timer: Cancel;
  #over = false;

  constructor(service: Service, host: SessionHost, stream: Stream) {
    this.stream = stream;
    this.#service = service;
    this.#host = host;
    this.#receiver = new FrameReceiver(stream, service.arena, this);
    this.#runner = new JobRunner(service, this);
    this.#intake = new JobIntake(service, this.#runner.queue);
    this.#heardMs = service.clock.nowMs();
    this.#timer = service.clock.after(SILENCE_MS_MAX, () => this.#checkSilence());
    stream.start(this);
  }

  get ids(): SessionIds {
    return this.#ids;
  }
  get identity(): Identity {
    invariant(this.#who !== undefined, "whoever claims a region has introduced itself");
    return this.#who;
  }
  /** For those who look: where the negotiation stands, and the jobs held. */
  get status(): { readonly state: State["at"]; readonly jobs: number; readonly running: number } {
    const { queue } = this.#runner;
    return { state: this.#state.at, jobs: queue.count, running: queue.running };
  }

  /** The service stops. */
  end(): void {
    if (!this.#over) this.#end();
  }

  // What the stream calls.

  received(at: number, end: number): number {
    const used = this.#receiver.received(at, end);
    this.#hear();
    return used;
  }
  filled(): void {
    this.#receiver.filled();
    this.#hear();
  }
  sent(tag: number): void {
    this.#runner.reads.sent(tag);
  }
  drained(): void {
    this.#resume(Pause.backlog);
  }
  closed(fault: Fault | null): void {
    const { arena, notes } = this.#service;
    if (!this.#over) {
      notes("info", "downstairs.connection.closed", `${this.stream.peer} is gone`, {
        peer: this.stream.peer,
        state: this.#state.at,
        fault: fault?.message,
      });
      this.#stop();
    }
    const unfilled = this.#receiver.closed();
    if (unfilled >= 0) arena.free(unfilled);
    this.#timer.cancel();
    this.#host.gone(this);
  }

  // What the receiver calls.

  place(_tag: number, frameBytes: number): number {
    const { arena, memoryBytes } = this.#service;
    const reserve = memoryBytes / ARENA_RESERVE_SHARE;
    if (frameBytes > memoryBytes / 2) return REFUSE;
    const at = arena.freeBytes - frameBytes < reserve ? -1 : arena.alloc(frameBytes);
    if (at >= 0) return at;
    if ((this.#paused & Pause.memory) === 0) {
      this.#paused |= Pause.memory;
      arena.whenFreed(() => this.#resume(Pause.memory));
    }
    return PAUSE;
  }

  frame(tag: number, at: number, frameBytes: number, owned: boolean): void {
    this.#heard = true;
    let kept = false;
    try {
      kept = this.#frame(tag, at, frameBytes);
    } finally {
      if (owned && !kept) this.#service.arena.free(at);
    }
    // Answers that nobody takes must not pile up; data of reads has a limit of its own.
    const { queuedBytes } = this.stream;
    if (queuedBytes > BACKLOG_BYTES_MAX && !this.#over)
      if (queuedBytes - this.#runner.reads.replies.bytes > BACKLOG_BYTES_MAX)
        this.#pause(Pause.backlog);
  }

  bad(fault: Fault): void {
    this.endFor(fault);
  }

  // What jobs call.

  say(message: Message): void {
    if (this.#over) return;
    const { arena } = this.#service;
    const length = encodedBytes(message);
    if (length <= COMPOSE_BYTES_MAX) {
      encodeInto(message, arena.bytes, this.stream.compose(length));
      return;
    }
    const at = arena.alloc(length);
    if (at < 0) {
      this.endFor(new Fault("TRIVET_E_MEMORY", `no room for ${message.kind} of ${length} bytes`));
      return;
    }
    encodeInto(message, arena.bytes, at);
    this.stream.attach(at, length, this.#runner.reads.replies.add(at, length));
  }

  endFor(fault: Fault): void {
    if (this.#over) return;
    this.#service.statistics.faults += 1;
    this.#service.notes("warn", "downstairs.connection.ended", fault.line, {
      peer: this.stream.peer,
      state: this.#state.at,
    });
    this.#end();
  }

  // What the activation calls.

  promoted(): void {
    const { notes, statistics } = this.#service;
    const { upstairsId, sessionId, generation } = this.identity;
    statistics.promotions += 1;
    notes("info", "downstairs.active", `${this.stream.peer} is active`, {
      peer: this.stream.peer,
      upstairs: upstairsId,
      session: sessionId,
      generation,
    });
    this.#state = granted(this.#state);
    this.say({ kind: "YouAreNowActive", upstairsId, sessionId, generation });
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) this.#negotiate(held);
    this.#resume(Pause.promoting);
  }

  notPromoted(fault: Fault): void {
    this.#claims = false;
    this.endFor(fault);
  }

  superseded(by: Identity): void {
    this.#claims = false;
    this.#service.statistics.takeovers += 1;
    this.#service.notes("info", "downstairs.superseded", `${this.stream.peer} is superseded`, {
      peer: this.stream.peer,
      upstairs: by.upstairsId,
      session: by.sessionId,
      generation: by.generation,
    });
    this.say({
      kind: "YouAreNoLongerActive",
      newUpstairsId: by.upstairsId,
      newSessionId: by.sessionId,
      newGeneration: by.generation,
    });
    this.#end();
  }

  /** True: the frame's memory belongs to a job now. */
  #frame(tag: number, at: number, frameBytes: number): boolean {
    const { arena } = this.#service;
    if (tag === TAG.Ruok) {
      // Eight bytes that need no encoder.
      const to = this.stream.compose(RUOK_BYTES);
      arena.view.setUint32(to, RUOK_BYTES, true);
      arena.view.setUint32(to + 4, TAG.Imok, true);
      return false;
    }
    if (this.#state.at === "running") return this.#request(tag, at, frameBytes);
    if (isNegotiation(tag)) {
      if (frameBytes > INBOX_BYTES)
        throw new Fault("TRIVET_E_FRAME", `${KINDS[tag]} of ${frameBytes} bytes`);
      this.#negotiate(decode(arena.bytes, at, frameBytes));
      return false;
    }
    // Checked like any other, as far as that is cheap, then ignored.
    if (frameBytes <= INBOX_BYTES) decode(arena.bytes, at, frameBytes);
    this.#service.notes("debug", "downstairs.ignored", `${KINDS[tag]} before its time`, {
      peer: this.stream.peer,
      state: this.#state.at,
    });
    return false;
  }

  #request(tag: number, at: number, frameBytes: number): boolean {
    const kind = jobKindOf(tag);
    if (kind === undefined) throw new Fault("TRIVET_E_PROTOCOL", `${KINDS[tag]} in state running`);
    if (hasIds(kind) && !this.#ids.matches(this.#service.arena, at)) {
      this.#sayWrongId(at);
      return false;
    }
    try {
      return this.#intake.take(kind as JobKind, at, frameBytes);
    } catch (error) {
      if (error instanceof SnapshotRefused) this.#sayNoSnapshot(error);
      throw error;
    }
  }

  /** The message is dropped; the connection stays. */
  #sayWrongId(at: number): void {
    const { upstairsId, sessionId } = this.#ids;
    // Text form without hyphens, of the upstairs id after its length field.
    const theirs = this.#service.arena.bytes.toString("hex", at + 16, at + 32);
    const expectedId = theirs === upstairsId.replaceAll("-", "") ? sessionId : upstairsId;
    this.say({ kind: "UuidMismatch", expectedId });
  }

  #sayNoSnapshot({ jobId, message: text }: SnapshotRefused): void {
    const { upstairsId, sessionId } = this.#ids;
    const error = { kind: "SnapshotFailed", text } as const;
    this.say({ kind: "ErrorReport", upstairsId, sessionId, jobId, error });
  }

  #negotiate(message: Message): void {
    if (this.#state.at === "promoting") {
      this.#held = message;
      this.#pause(Pause.promoting);
      return;
    }
    const { readOnly, definition } = this.#service.store;
    const { encrypted } = definition;
    const [state, effect] = step(this.#state, message, { readOnly, encrypted });
    this.#state = state;
    if (state.at !== "open") this.#who = state.who;
    this.#apply(effect);
  }

  #apply(effect: Effect): void {
    const { store, notes } = this.#service;
    switch (effect.do) {
      case "ignore":
        return;
      case "refuse":
        this.say(effect.reply);
        this.endFor(new Fault("TRIVET_E_PROTOCOL", `refused: ${effect.why}`));
        return;
      case "close":
        this.endFor(new Fault("TRIVET_E_PROTOCOL", effect.why));
        return;
      case "greet": {
        const repairAddress = this.#host.repairAddress(this.stream);
        this.say({ kind: "YesItsMe", version: MESSAGE_VERSION, repairAddress });
        return;
      }
      case "claim":
        if (effect.note !== undefined)
          notes("warn", "downstairs.generation", effect.note, { peer: this.stream.peer });
        this.#claim();
        return;
      case "describe":
        this.say({ kind: "RegionInfo", region: store.definition });
        return;
      case "run":
        if (effect.lastFlushJob !== null)
          this.#runner.queue.completed.replaceBy(effect.lastFlushJob);
        if (effect.versions) this.#sayVersions();
        return;
      default:
        unreachable(effect, "an effect of negotiation");
        return;
    }
  }

  #claim(): void {
    const { upstairsId, sessionId, generation } = this.identity;
    this.#ids = new SessionIds(upstairsId, sessionId);
    this.#claims = true;
    if (this.#host.activation.claim(this)) return;
    this.#claims = false;
    this.endFor(
      new Fault(
        "TRIVET_E_GENERATION_TOO_LOW",
        `promotion of ${upstairsId} with generation ${generation} is refused: another is active`,
      ),
    );
  }

  #sayVersions(): void {
    const { store } = this.#service;
    const { extentCount } = store.definition;
    const generations = new BigUint64Array(extentCount);
    const flushNumbers = new Float64Array(extentCount);
    const dirty = new Uint8Array(extentCount);
    for (let e = 0; e < extentCount; e++) {
      generations[e] = store.generation(e);
      flushNumbers[e] = store.flushNumber(e);
      dirty[e] = store.isDirty(e) ? 1 : 0;
    }
    this.say({ kind: "ExtentVersions", generations, flushNumbers, dirty });
  }

  #hear(): void {
    if (!this.#heard) return;
    this.#heard = false;
    this.#heardMs = this.#service.clock.nowMs();
  }

  #checkSilence(): void {
    const { clock } = this.#service;
    const quietMs = clock.nowMs() - this.#heardMs;
    if (quietMs < SILENCE_MS_MAX) {
      this.#timer = clock.after(SILENCE_MS_MAX - quietMs, () => this.#checkSilence());
      return;
    }
    const memory = (this.#paused & Pause.memory) !== 0 ? ", as there was no memory for one" : "";
    const detail = `no frame for ${Math.floor(quietMs / 1000)} s${memory}`;
    this.endFor(new Fault("TRIVET_E_TIMEOUT", detail));
  }

  #pause(why: number): void {
    this.#paused |= why;
    this.#receiver.pause();
  }
  #resume(why: number): void {
    this.#paused &= ~why;
    if (this.#paused === 0 && !this.#over) this.#receiver.resume();
  }

  #end(): void {
    this.#stop();
    this.stream.end();
    this.#timer = this.#service.clock.after(LINGER_MS, () => this.stream.destroy());
  }

  #stop(): void {
    this.#over = true;
    this.#receiver.stop();
    this.#timer.cancel();
    this.#runner.stop();
    if (this.#claims) this.#host.activation.leave(this);
    this.#claims = false;
  }
}
