import { Fault } from "../base/fault.js";
import type { Ending } from "./ending.js";
import type { Members } from "./members.js";
import { whoRefuses } from "./refusals.js";

/** The verdict that another host has taken the volume over. Whoever is superseded never writes again. */
export class Takeover {
  readonly #members: Members;
  readonly #ending: Ending;

  constructor(members: Members, ending: Ending) {
    this.#members = members;
    this.#ending = ending;
  }

  /**
   * A downstairs says so. One is enough, if it has a part in this session. One that was only about to be repaired may be another
   * volume's; whoever takes ours over takes two, so another will say so, too.
   */
  told(index: number, fault: Fault): void {
    const members = this.#members;
    const { mode, region, partOf, name } = members.replicas[index]!;
    const hasPart = mode === "new" || mode === "offline" || partOf === region?.uuid;
    if (hasPart) this.#superseded(fault);
    else
      members.note(
        "warn",
        "replica.taken",
        `the region at ${name} is used by somebody else: ${fault.message}`,
        index,
      );
  }
  #superseded(fault: Fault): void {
    if (this.#members.state !== "ended") this.#ending.end(fault);
  }

  /**
   * A downstairs refuses to promote by closing the connection without a word (wire reference 5.2), which a broken network may
   * do as well. Refusals count only when orderly and in answer to PromoteToActive, and only two replicas together
   * make a verdict; while two others are with us nobody can have taken over.
   */
  promotionRefused(index: number): void {
    const members = this.#members;
    const { state, generation, replicas } = members;
    const isActive = state === "active";
    if (!isActive && state !== "activating") return;
    const replica = replicas[index]!;
    members.note(
      "warn",
      "replica.promotionRefused",
      `${replica.name} closed the connection when asked to promote generation ${generation}: another host may be active there with a higher one`,
      index,
    );
    if (isActive && !members.isInDoubt) return;
    const nowMs = members.ports.clock.nowMs();
    const judges = replicas.filter(({ refused }) => refused === null);
    const { tuning, options } = members;
    const isAboveOurs = options.generation.kind === "clock" && options.generation.lastUsed > 0n;
    const refusalsMs = isAboveOurs ? tuning.refusalsClockMs : tuning.refusalsMs;
    const refusing = whoRefuses(judges, isActive, nowMs, { ...tuning, refusalsMs });
    if (refusing.length < 2) return;
    const whom = refusing.map((other) => other.name).join(" and ");
    this.#superseded(
      new Fault(
        "TRIVET_E_SUPERSEDED",
        `${whom} refuse generation ${generation}: another host is active with a higher one`,
      ),
    );
  }
}
