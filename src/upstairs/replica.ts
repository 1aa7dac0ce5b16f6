import { Fault } from "../base/fault.js";
import type { Uuid } from "../base/ids.js";
import { FRAME_BYTES_MIN } from "../base/limits.js";
import { FrameReceiver, PAUSE, REFUSE } from "../crucible/frame-receiver.js";
import { countAt, JOB_AT } from "../crucible/layout.js";
import {
  decode,
  encodedBytes,
  encodeInto,
  KINDS,
  type Message,
  TAG,
} from "../crucible/messages.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import { AckFrame } from "../crucible/replies.js";
import type { SessionIds } from "../crucible/session-ids.js";
import type { Address, Cancel, Stream, StreamHandler } from "../ports/stream.js";
import { hello, judge, type Mode, type Phase, type Terms, type Versions } from "./negotiation.js";
import type { Tuning, UpstairsPorts } from "./options.js";
import type { RepairAddress } from "./reconcile.js";

// One downstairs as the upstairs meets it: dialling again and again, one connection at a time, its handshake, pings and silence. It
// passes jobs' replies through without looking into them. Which mode it comes back in, and what happens with three of
// them, its owner decides.
//
//   parked ── dial ──► dialling ── connected ──► one connection, through the phases of `negotiation` ──┐
//                        ▲  │ failed                                                                  │ closed
//                        │  ▼                                                                         ▼
//                        └─ pause: 1 s, doubling to 10 s; 1 s again after a handshake that was completed

export interface ReplicaOwner {
  terms(index: number): Terms;
  /** Mode offline and trusted: jobs may be sent again from now on. */
  mayReplay(index: number): void;
  /** The handshake is complete, and this is what its extents hold. */
  versionsTold(index: number, versions: Versions): void;
  /** A permanent error; the connection is being closed. */
  refused(index: number, fault: Fault): void;
  superseded(index: number, fault: Fault): void;
  /** The peer closed the connection in an orderly way right after PromoteToActive. */
  promotionRefused(index: number): void;
  repairAnswered(index: number, message: Message): void;
  /** The connection ended in this phase; nothing touches its memory any more. Redialling is the replica's, unless parked. */
  lost(index: number, phase: Phase, fault: Fault): void;

  // Jobs, while active or being repaired.
  acked(index: number, frame: AckFrame): void;
  placeAnswer(index: number, jobId: number, frameBytes: number): number;
  answered(index: number, at: number, frameBytes: number): void;
  sent(tag: number): void;
}

const ACKS: ReadonlySet<number> = new Set([
  TAG.WriteAck,
  TAG.FlushAck,
  TAG.BarrierAck,
  TAG.WriteUnwrittenAck,
  TAG.ExtentLiveCloseAck,
  TAG.ExtentLiveRepairAckId,
  TAG.ExtentLiveAckId,
  TAG.ErrorReport,
]);
const HANDSHAKE: ReadonlySet<Phase> = new Set([
  "start",
  "waitForPromote",
  "waitForRegionInfo",
  "getExtentVersions",
]);
/** A downstairs that copies an extent does nothing else, not even answer pings (wire reference 11, trap 23). */
const PATIENCE_FACTOR = 4;

export class Replica implements StreamHandler {
  readonly index: number;
  mode: Mode = "new";
  phase: Phase = "waitConnect";
  region: RegionDefinition | null = null;
  versions: Versions | null = null;
  /** Announced with every YesItsMe, forgotten with the connection. */
  repairAddress: RepairAddress | null = null;
  /** What went wrong last; for the status. */
  trouble: Fault | null = null;
  /** Why it was given up, until it is repaired. */
  givenUpFor: Fault | null = null;
  refusals = 0;
  refusedSinceMs = 0;
  connections = 0;
  lastHeardMs = 0;
  foreignReplies = 0;
  /** A repair step is with it: it may be silent for longer. */
  isRepairing = false;
  /** The next dial comes without a pause. */
  isHasty = false;
  /** The next dial comes after this long at the earliest. */
  leastPauseMs = 0;
  /** Why the region that answers there is not used. */
  refused: Fault | null = null;
  /** A region at this address that holds foreign data may be written over. */
  acceptsForeign = false;
  /** The region with which it took part in this session. */
  partOf: Uuid | null = null;

  #address: Address;
  readonly #ports: UpstairsPorts;
  readonly #tuning: Tuning;
  readonly #ids: SessionIds;
  readonly #owner: ReplicaOwner;
  readonly #ack = new AckFrame();
  #stream: Stream | null = null;
  #receiver: FrameReceiver | null = null;
  #dialing: Cancel | null = null;
  #timer: Cancel | null = null;
  #heard = false;
  /** When the last message of the handshake was sent. */
  #askedMs = 0;
  #failures = 0;
  #isParked = true;
  /** Why we ended the connection; null while it was not us. */
  #reason: Fault | null = null;
  /** Memory for a frame of the handshake that is larger than an inbox. */
  #controlAt = -1;

  constructor(
    index: number,
    address: Address,
    ports: UpstairsPorts,
    tuning: Tuning,
    ids: SessionIds,
    owner: ReplicaOwner,
  ) {
    this.index = index;
    this.#address = address;
    this.#ports = ports;
    this.#tuning = tuning;
    this.#ids = ids;
    this.#owner = owner;
  }

  get address(): Address {
    return this.#address;
  }
  get stream(): Stream | null {
    return this.#stream;
  }
  get isConnected(): boolean {
    return this.#stream !== null;
  }
  get name(): string {
    return `replica ${this.index} (${this.address.host}:${this.address.port})`;
  }

  /** Dials now, whatever pause was running; ends a connection that there is, first. */
  dial(): void {
    this.#isParked = false;
    this.#failures = 0;
    if (this.#stream !== null) return;
    this.#timer?.cancel();
    this.#timer = null;
    if (this.#dialing === null) this.#dial();
  }
  /** From now on it is somewhere else: the connection ends, and the next one goes there at once. */
  redirect(address: Address, fault: Fault): void {
    this.#address = address;
    this.refused = null;
    this.refusals = 0;
    this.leastPauseMs = 0;
    this.#failures = 0;
    if (this.#isParked) return;
    if (this.#stream !== null) {
      this.isHasty = true;
      this.drop(fault);
      return;
    }
    this.#dialing?.cancel();
    this.#dialing = null;
    this.dial();
  }
  /** Ends the connection in an orderly way and does not dial again. */
  park(): void {
    this.#stopDialing();
    if (this.#stream === null) return;
    this.#reason ??= new Fault("TRIVET_E_CONNECTION", "the volume was stopped");
    this.#receiver!.stop();
    this.#stream.end();
  }
  /** Ends the connection now; what is queued is not sent. With `again`, it is dialled anew after a pause. */
  drop(fault: Fault, again = true): void {
    if (!again) this.#stopDialing();
    if (this.#stream === null) return;
    this.#reason ??= fault;
    this.#receiver!.stop();
    this.#stream.destroy();
  }
  #stopDialing(): void {
    this.#isParked = true;
    this.#dialing?.cancel();
    this.#dialing = null;
    if (this.#stream === null) {
      this.#timer?.cancel();
      this.#timer = null;
    }
  }

  #dial(): void {
    const { dialer, notes } = this.#ports;
    this.#dialing = dialer.dial(this.address, this.#tuning.dialTimeoutMs, (fault, stream) => {
      this.#dialing = null;
      if (stream === null) {
        const first = this.trouble === null;
        this.trouble = fault;
        notes(
          first ? "warn" : "debug",
          "replica.unreachable",
          `${this.name} cannot be reached: ${fault?.message}`,
          { replica: this.index },
        );
        this.#redialLater();
        return;
      }
      this.#connected(stream);
    });
  }
  #redialLater(): void {
    if (this.#isParked) return;
    const { redialFirstMs, redialMs } = this.#tuning;
    const usualMs = Math.min(redialMs, redialFirstMs * 2 ** this.#failures);
    const nextMs = this.isHasty ? 0 : this.refusals > 0 ? redialMs : usualMs;
    const pauseMs = Math.max(nextMs, this.leastPauseMs);
    this.isHasty = false;
    this.leastPauseMs = 0;
    this.#failures += 1;
    this.#timer = this.#ports.clock.after(pauseMs, () => {
      this.#timer = null;
      this.#dial();
    });
  }

  #connected(stream: Stream): void {
    this.#stream = stream;
    this.#receiver = new FrameReceiver(stream, this.#ports.arena, this);
    this.#reason = null;
    this.#heard = false;
    this.lastHeardMs = this.#ports.clock.nowMs();
    this.connections += 1;
    this.phase = "start";
    stream.start(this);
    this.#timer = this.#ports.clock.after(this.#tuning.pingMs, this.#onTick);
    this.send(hello(this.#owner.terms(this.index)));
  }

  /** The handshake was completed: the next loss is redialled quickly again. */
  settled(phase: Phase): void {
    this.phase = phase;
    this.#failures = 0;
    this.trouble = null;
    this.refused = null;
    if (phase !== "active") return;
    this.partOf = this.region!.uuid;
    this.acceptsForeign = false;
  }

  /** The volume begins without it: only repair brings it in. */
  leaveOut(): void {
    this.mode = "faulted";
    if (this.phase === "waitQuorum") this.phase = "liveRepairReady";
  }

  send(message: Message): void {
    this.#askedMs = this.#ports.clock.nowMs();
    const at = this.#stream!.compose(encodedBytes(message));
    encodeInto(message, this.#ports.arena.bytes, at);
  }

  /** Every `pingMs` while connected: looks whether anything was heard since the last time, and pings. */
  #tick(): void {
    const { clock } = this.#ports;
    const { pingMs, silenceMs } = this.#tuning;
    const nowMs = clock.nowMs();
    if (this.#heard) {
      this.#heard = false;
      this.lastHeardMs = nowMs;
    }
    const patienceMs = this.isRepairing ? silenceMs * PATIENCE_FACTOR : silenceMs;
    if (nowMs - this.lastHeardMs >= patienceMs) {
      this.drop(
        new Fault("TRIVET_E_TIMEOUT", `${this.name} was silent for ${Math.round(patienceMs)} ms`),
      );
      return;
    }
    // Pings are answered by one who will never answer the handshake, too.
    if (HANDSHAKE.has(this.phase) && nowMs - this.#askedMs >= silenceMs) {
      this.drop(
        new Fault(
          "TRIVET_E_TIMEOUT",
          `${this.name} did not go on with the handshake (${this.phase})`,
        ),
      );
      return;
    }
    this.#ping();
    this.#timer = clock.after(pingMs, this.#onTick);
  }
  readonly #onTick = (): void => this.#tick();
  #ping(): void {
    const { view } = this.#ports.arena;
    const at = this.#stream!.compose(FRAME_BYTES_MIN);
    view.setUint32(at, FRAME_BYTES_MIN, true);
    view.setUint32(at + 4, TAG.Ruok, true);
  }

  // StreamHandler

  received(at: number, end: number): number {
    return this.#receiver!.received(at, end);
  }
  filled(): void {
    this.#receiver!.filled();
  }
  sent(tag: number): void {
    this.#owner.sent(tag);
  }
  drained(): void {}
  closed(fault: Fault | null): void {
    // What a frame was being received into is either the handshake's or a read's, and the read is asked again.
    this.#receiver!.closed();
    this.#freeControl();
    this.#timer?.cancel();
    this.#timer = null;
    this.#stream = null;
    this.#receiver = null;
    const { phase } = this;
    const wasRefused = phase === "waitForPromote" && fault === null && this.#reason === null;
    const reason =
      this.#reason ??
      fault ??
      new Fault("TRIVET_E_CONNECTION", `${this.name} closed the connection`);
    this.#reason = null;
    this.phase = "waitConnect";
    this.versions = null;
    this.repairAddress = null;
    this.isRepairing = false;
    this.trouble = reason;
    if (wasRefused) {
      if (this.refusals === 0) this.refusedSinceMs = this.#ports.clock.nowMs();
      this.refusals += 1;
    }
    this.#redialLater();
    this.#owner.lost(this.index, phase, reason);
    if (wasRefused) this.#owner.promotionRefused(this.index);
  }

  // FrameOwner

  place(tag: number, frameBytes: number, headAt: number, headBytes: number): number {
    const { arena } = this.#ports;
    if (tag === TAG.ReadResponse && this.phase === "active") {
      if (headBytes < JOB_AT + 8 || !this.#ids.matches(arena, headAt)) return REFUSE;
      const jobId = countAt(arena.view, headAt + JOB_AT);
      return this.#owner.placeAnswer(this.index, jobId, frameBytes);
    }
    if (tag !== TAG.ExtentVersions || this.phase !== "getExtentVersions") return REFUSE;
    // Three lists of 8, 8 and 1 bytes per extent.
    if (frameBytes > FRAME_BYTES_MIN + 3 * 8 + 17 * (this.region?.extentCount ?? 0)) return REFUSE;
    this.#controlAt = arena.alloc(frameBytes);
    if (this.#controlAt >= 0) return this.#controlAt;
    const receiver = this.#receiver!;
    arena.whenFreed(() => receiver.resume());
    return PAUSE;
  }

  frame(tag: number, at: number, frameBytes: number, owned: boolean): void {
    this.#heard = true;
    const { phase } = this;
    if (phase === "active" && tag === TAG.ReadResponse) {
      this.#owner.answered(this.index, at, frameBytes);
      return;
    }
    if ((phase === "active" || phase === "liveRepair") && ACKS.has(tag)) {
      const ack = this.#ack;
      ack.read(this.#ports.arena, at, frameBytes);
      if (this.#ids.matches(this.#ports.arena, at)) this.#owner.acked(this.index, ack);
      else this.#foreign(tag);
      return;
    }
    const message = decode(this.#ports.arena.bytes, at, frameBytes);
    if (owned) this.#freeControl();
    this.#handle(message);
  }
  bad(fault: Fault): void {
    this.drop(new Fault(fault.code, `${this.name}: ${fault.message}`, { cause: fault }));
  }

  #foreign(tag: number): void {
    this.foreignReplies += 1;
    if (this.foreignReplies > 1) return;
    this.#ports.notes(
      "warn",
      "replica.foreign",
      `${this.name} sent ${KINDS[tag]} for another session; it is ignored`,
      { replica: this.index },
    );
  }
  #freeControl(): void {
    if (this.#controlAt < 0) return;
    this.#ports.arena.free(this.#controlAt);
    this.#controlAt = -1;
  }

  #handle(message: Message): void {
    if (message.kind === "RepairAckId" || message.kind === "ExtentError") {
      this.#owner.repairAnswered(this.index, message);
      return;
    }
    const verdict = judge(this.phase, message, this.#owner.terms(this.index));
    switch (verdict.do) {
      case "ignore":
        return;
      case "send":
        if (message.kind === "YesItsMe") this.repairAddress = message.repairAddress;
        else this.refusals = 0;
        this.phase = verdict.phase;
        this.send(verdict.message);
        return;
      case "region":
        this.region = verdict.region;
        this.phase = verdict.phase;
        if (verdict.message === null) this.#owner.mayReplay(this.index);
        else this.send(verdict.message);
        return;
      case "versions":
        this.versions = verdict.versions;
        this.#owner.versionsTold(this.index, verdict.versions);
        return;
      case "drop":
        this.drop(this.#named(verdict.fault));
        return;
      case "refuse": {
        const fault = this.#named(verdict.fault);
        this.drop(fault);
        this.#owner.refused(this.index, fault);
        return;
      }
      case "superseded": {
        const fault = this.#named(verdict.fault);
        this.drop(fault);
        this.#owner.superseded(this.index, fault);
        return;
      }
    }
  }
  #named(fault: Fault): Fault {
    return new Fault(fault.code, `${this.name}: ${fault.message}`);
  }
}
