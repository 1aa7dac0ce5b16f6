import type { Fault } from "../base/fault.js";
import type { Message } from "../crucible/messages.js";
import type { AckFrame } from "../crucible/replies.js";
import type { Address } from "../ports/stream.js";
import { Activation } from "./activation.js";
import { Ending } from "./ending.js";
import type { Engine } from "./engine.js";
import { type Done, Members } from "./members.js";
import type { Phase, Terms, Versions } from "./negotiation.js";
import type { UpstairsOptions, UpstairsPorts } from "./options.js";
import { regionProblem } from "./region-check.js";
import { type ReplaceAnswer, replace } from "./replacing.js";
import type { ReplicaOwner } from "./replica.js";
import { Returning } from "./returning.js";
import { Takeover } from "./takeover.js";

// Three replicas become a volume, and stay one. Here events of the replicas are given to the part that decides about them; jobs are the
// engine's.
//
//   idle ── activate ──► activating ── `activation` ──► active ── stop ──► stopping ──► ended
//                            │                            │  ▲                            ▲
//                            │                            └──┘ `returning`                │
//                            └── permanent error, stop ─── `takeover`, `ending` ──────────┘

export class Membership implements ReplicaOwner {
  readonly members: Members;
  readonly engine: Engine;
  readonly activation: Activation;
  readonly ending: Ending;
  readonly #returning: Returning;
  readonly #takeover: Takeover;

  constructor(
    options: UpstairsOptions,
    ports: UpstairsPorts,
    onSuperseded: (fault: Fault) => void,
  ) {
    this.members = new Members(options, ports, this, {
      givenUp: (index, fault, pauseMs) => this.#returning.giveUp(index, fault, pauseMs),
      dropConnection: (index, fault) => this.#returning.dropConnection(index, fault),
      repairStarted: (index) => this.#returning.repairStarted(index),
      repaired: (index) => this.#returning.repaired(index),
      repairFailed: (index, fault) => this.#returning.repairFailed(index, fault),
    });
    this.engine = this.members.engine;
    this.ending = new Ending(this.members, onSuperseded);
    this.activation = new Activation(this.members, this.ending);
    this.#returning = new Returning(this.members, this.activation, this.ending);
    this.activation.onActive = () => this.#returning.offerAll();
    this.#takeover = new Takeover(this.members, this.ending);
  }

  activate(then: Done): void {
    this.activation.activate(then);
  }
  stop(then: Done): void {
    this.ending.stop(then);
  }
  abandon(then: Done): void {
    this.ending.abandon(then);
  }
  replace(from: Address, to: Address, acceptsForeign: boolean): ReplaceAnswer {
    return replace(this.members, from, to, acceptsForeign);
  }

  // ReplicaOwner: the handshake

  terms(index: number): Terms {
    const { members } = this;
    const { mode, region, partOf } = members.replicas[index]!;
    return {
      upstairsId: members.ids.upstairsId,
      sessionId: members.ids.sessionId,
      generation: members.generation,
      readOnly: members.readOnly,
      mode,
      tookPart: region !== null && region.uuid === partOf,
      inDoubt: members.isInDoubt,
      hasFlushed: (flushNumber) => members.engine.core.hasFlushed(flushNumber),
      extentCount: region?.extentCount ?? 0,
      regionProblem: (told) =>
        regionProblem(
          told,
          index,
          members.replicas.map((other) => other.region),
          members.options.geometry ?? members.register.before?.geometry ?? undefined,
          mode,
        ),
    };
  }
  versionsTold(index: number, versions: Versions): void {
    this.#returning.versionsTold(index, versions);
  }
  mayReplay(index: number): void {
    this.#returning.mayReplay(index);
  }
  repairAnswered(index: number, message: Message): void {
    this.activation.reconciling.answered(index, message);
  }
  refused(index: number, fault: Fault): void {
    this.#returning.refused(index, fault);
  }
  superseded(index: number, fault: Fault): void {
    this.#takeover.told(index, fault);
  }
  promotionRefused(index: number): void {
    this.#takeover.promotionRefused(index);
  }
  lost(index: number, phase: Phase, fault: Fault): void {
    this.#returning.lost(index, phase, fault);
  }

  // ReplicaOwner: jobs

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
}
