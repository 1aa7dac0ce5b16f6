import type { Fault } from "../base/fault.js";
import type { Uuid } from "../base/ids.js";
import type { Then } from "../ports/files.js";
import type { Identity } from "./identity.js";

// Who may do I/O on a region (downstairs reference 5.4, wire reference 5.2). Records belong to connections, not
// to upstairs ids: a refused or vanished rival with our id must not unseat the one that is active.
//
//   read-write:   nobody ─► promoting ─► active        a rival that wins restarts at promoting;
//                    ▲_________|___________|           the loser is told and closed at once
//
// Promoting lasts until every operation of the loser has ended in the store and all closed extents are
// open again: after that nothing of the loser can reach the disk.

export interface Claimant {
  readonly identity: Identity;
  /** From now on it is the active one. */
  promoted(): void;
  /** Extents could not be opened; the claim is over. */
  notPromoted(fault: Fault): void;
  /** Another one took over; the claim is over. */
  superseded(by: Identity): void;
}

/** Read-write: whether a claim beats the connection that holds the region. */
export function beats(claim: Identity, holder: Identity): boolean {
  if (claim.generation !== holder.generation) return claim.generation > holder.generation;
  return claim.upstairsId === holder.upstairsId && claim.sessionId === holder.sessionId;
}

export interface Activation {
  /** False: refused, and nothing has changed. Otherwise one of the claimant's methods is called later or now. */
  claim(claimant: Claimant): boolean;
  /** The connection is gone or ends. */
  leave(claimant: Claimant): void;
  /** No operation is in progress in the store. */
  idle(): void;
}

/** At most one active upstairs. */
export class ReadWriteActivation implements Activation {
  readonly #busy: () => boolean;
  readonly #reopenAll: (then: Then) => void;
  #holder: Claimant | undefined;
  #promoting = false;
  #reopening = false;

  /** `busy`: an operation of any connection is in progress in the store. */
  constructor(busy: () => boolean, reopenAll: (then: Then) => void) {
    this.#busy = busy;
    this.#reopenAll = reopenAll;
  }

  claim(claimant: Claimant): boolean {
    const holder = this.#holder;
    if (holder !== undefined && !beats(claimant.identity, holder.identity)) return false;
    this.#holder = claimant;
    this.#promoting = true;
    holder?.superseded(claimant.identity);
    this.idle();
    return true;
  }

  leave(claimant: Claimant): void {
    if (this.#holder !== claimant) return;
    this.#holder = undefined;
    this.#promoting = false;
  }

  idle(): void {
    if (!this.#promoting || this.#reopening || this.#busy()) return;
    const claimant = this.#holder!;
    this.#reopening = true;
    this.#reopenAll((fault) => {
      this.#reopening = false;
      if (this.#holder !== claimant) return this.idle();
      this.#promoting = false;
      if (fault === null) return claimant.promoted();
      this.#holder = undefined;
      claimant.notPromoted(fault);
    });
  }
}

/** Any number of active upstairs, one connection for each upstairs id; the latest wins whatever its generation. */
export class ReadOnlyActivation implements Activation {
  readonly #holders = new Map<Uuid, Claimant>();

  claim(claimant: Claimant): boolean {
    const { upstairsId } = claimant.identity;
    const holder = this.#holders.get(upstairsId);
    this.#holders.set(upstairsId, claimant);
    holder?.superseded(claimant.identity);
    claimant.promoted();
    return true;
  }
  leave(claimant: Claimant): void {
    const { upstairsId } = claimant.identity;
    if (this.#holders.get(upstairsId) === claimant) this.#holders.delete(upstairsId);
  }
  idle(): void {}
}
