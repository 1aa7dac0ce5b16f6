import { Fault } from "../base/fault.js";
import { errorText } from "../crucible/error.js";
import type { Message } from "../crucible/messages.js";
import type { Members } from "./members.js";
import { type Comparison, Reconciliation } from "./reconcile.js";

/** A reconciliation as it happens: one at a time, each step to those concerned, any error ends it for everybody in it. */
export class Reconciling {
  /** Null: none is going on. */
  steps: Reconciliation | null = null;
  count = 0;
  readonly #members: Members;
  #then: () => void = () => {};

  constructor(members: Members) {
    this.#members = members;
  }

  /** `places` are made equal as `found` says; `then` when they are. When it fails, they are lost and come back. */
  begin(found: Comparison, places: readonly number[], then: () => void): void {
    const members = this.#members;
    const { replicas } = members;
    members.note(
      "warn",
      "volume.reconcile",
      `${found.repairs.length} extents differ or were left in the middle of a write: making them equal`,
    );
    this.count += 1;
    this.#then = then;
    this.steps = new Reconciliation(
      found,
      replicas.map((replica) => replica.repairAddress),
      places,
    );
    for (const place of places) replicas[place]!.phase = "reconcile";
    this.#step();
  }

  #step(): void {
    const members = this.#members;
    const steps = this.steps!;
    if (steps.isDone) {
      this.steps = null;
      members.note("info", "volume.reconciled", "the regions are equal again");
      this.#then();
      return;
    }
    const { message, to } = steps.step();
    for (const index of to) {
      const replica = members.replicas[index]!;
      replica.isRepairing = true;
      replica.send(message);
    }
  }

  answered(index: number, message: Message): void {
    const { replicas } = this.#members;
    const { steps } = this;
    if (steps === null) return;
    if (message.kind === "ExtentError") {
      this.abort(
        new Fault(
          "TRIVET_E_RECONCILE",
          `${replicas[index]!.name}, extent ${message.extentId}: ${errorText(message.error)}`,
        ),
      );
      return;
    }
    if (message.kind !== "RepairAckId") return;
    const isFinished = steps.acknowledged(index, message.repairId);
    replicas[index]!.isRepairing = steps.isAwaited(index);
    if (isFinished) this.#step();
  }

  /** Everybody in it starts over; extents that are equal by then stay so (wire reference 7.4). */
  abort(fault: Fault): void {
    const members = this.#members;
    this.steps = null;
    members.note("error", "volume.reconcileFailed", `reconciliation failed: ${fault.message}`);
    for (const replica of members.replicas) if (replica.phase === "reconcile") replica.drop(fault);
  }
}
