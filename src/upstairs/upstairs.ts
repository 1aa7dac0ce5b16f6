import type { Fault } from "../base/fault.js";
import type { BlockDevice, DeviceClient } from "../ports/device.js";
import type { Address } from "../ports/stream.js";
import type { Engine } from "./engine.js";
import type { Done } from "./members.js";
import { Membership } from "./membership.js";
import type { UpstairsOptions, UpstairsPorts } from "./options.js";
import type { ReplaceAnswer } from "./replacing.js";
import type { Scrubbing, ScrubOptions, ScrubStatus } from "./scrub-status.js";
import { type UpstairsStatus, upstairsStatus } from "./status.js";

export interface UpstairsEvents {
  /**
   * Another host has taken the volume over. Called once; every request unanswered has ended with DeviceStatus.shutdown,
   * later ones do at once, and nothing is ever written again.
   */
  superseded(fault: Fault): void;
}

/**
 * A volume on three downstairs as a block device. Requests are served from the moment `activate` answered without a fault until
 * `stop` is called. The README of this folder describes what it promises and how.
 */
export class Upstairs implements BlockDevice, Scrubbing {
  readonly volatile = true;
  readonly #membership: Membership;
  readonly #engine: Engine;
  readonly #ports: UpstairsPorts;

  constructor(options: UpstairsOptions, ports: UpstairsPorts, events: UpstairsEvents) {
    this.#ports = ports;
    this.#membership = new Membership(options, ports, (fault) => events.superseded(fault));
    this.#engine = this.#membership.engine;
  }

  /**
   * Connects, makes the replicas equal, and answers once: with null when requests are served, or with what makes that impossible. What
   * may pass (a downstairs that is not there yet, another version) is waited for, as long as it takes.
   */
  activate(then: Done): void {
    this.#membership.activate(then);
  }
  /** Finishes what was asked for, flushes everywhere, closes. The fault, if any, says what could not be done. */
  stop(then: Done): void {
    this.#membership.stop(then);
  }
  /**
   * Ends at once, as the death of the process would: nothing is flushed, and the write log keeps what a successor has to write again. Also
   * while it stops, and then `then` of `stop` is not called.
   */
  abandon(then: (fault: Fault | null) => void): void {
    this.#membership.abandon(then);
  }
  /**
   * From now on the replica at `from` is at `to`, with the same region or another one, which is repaired. `acceptsForeign`: also with one
   * that holds data of something else.
   */
  replace(from: Address, to: Address, acceptsForeign = false): ReplaceAnswer {
    return this.#membership.replace(from, to, acceptsForeign);
  }
  status(): UpstairsStatus {
    return upstairsStatus(this.#membership, this.#ports.clock.nowMs());
  }

  scrub(options: ScrubOptions, then: Done): void {
    this.#engine.scrub.begin(options, then);
  }
  get scrubStatus(): ScrubStatus | null {
    return this.#engine.scrub.status;
  }
  stopScrub(): boolean {
    return this.#engine.scrub.stop();
  }
  /** Bytes per second that live repair copies at most from now on; 0: no limit. */
  setRepairRate(bytesPerSecond: number): void {
    this.#engine.setRepairRate(bytesPerSecond);
  }
  setScrubRate(bytesPerSecond: number): boolean {
    return this.#engine.scrub.setRate(bytesPerSecond);
  }

  /** 0 before activation. */
  get sizeBytes(): number {
    return this.#engine.core.sizeBytes;
  }
  get blockBytes(): number {
    return this.#engine.core.blockBytes;
  }
  get readOnly(): boolean {
    return this.#membership.members.readOnly;
  }
  place(_offset: number, length: number, client: DeviceClient): number {
    return this.#engine.place(length, client);
  }
  unplace(at: number): void {
    this.#engine.unplace(at);
  }
  read(offset: number, length: number, client: DeviceClient, tag: number): void {
    this.#engine.read(offset, length, client, tag);
  }
  write(
    offset: number,
    length: number,
    at: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    this.#engine.write(offset, length, at, flags, client, tag);
  }
  writeZeroes(
    offset: number,
    length: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    this.#engine.writeZeroes(offset, length, flags, client, tag);
  }
  trim(offset: number, length: number, _flags: number, client: DeviceClient, tag: number): void {
    this.#engine.trim(offset, length, client, tag);
  }
  flush(client: DeviceClient, tag: number): void {
    this.#engine.flush(client, tag);
  }
  release(hold: number): void {
    this.#engine.release(hold);
  }
}
