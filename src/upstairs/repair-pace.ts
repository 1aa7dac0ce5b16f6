/**
 * When repair may go on to the next extent. Two rules, and the later moment counts:
 *
 * guest first   After each extent repair rests for as long as that one took, if the guest asked for anything meanwhile. So it has the
 *               replicas to itself for half of the time at least, and keeps half of its throughput even if repair stopped it
 *               altogether; and repair goes on for half of the time however much the guest asks.
 * rate          Bytes copied are paid for at `bytesPerSecond`. An extent costs its whole size for each replica that it is copied
 *               to, because so much travels; one that was only confirmed costs nothing. 0: no limit.
 *
 * Neither holds up an extent that a write waits for: that is decided by the caller, and the bytes are paid for afterwards.
 */
export class RepairPace {
  bytesPerSecond: number;
  #paidUntilMs = 0;
  #restUntilMs = 0;
  /** What the last extent cost, so that a new rate counts for it at once. */
  #lastBytes = 0;
  #lastMs = 0;

  constructor(bytesPerSecond: number) {
    this.bytesPerSecond = bytesPerSecond;
  }

  /** An extent is finished that was begun at `startedMs`. */
  extentDone(startedMs: number, nowMs: number, bytes: number, guestAsked: boolean): void {
    this.#restUntilMs = guestAsked ? nowMs + (nowMs - startedMs) : nowMs;
    this.#lastMs = Math.max(this.#paidUntilMs, startedMs);
    this.#lastBytes = bytes;
    this.#pay();
  }
  setRate(bytesPerSecond: number): void {
    this.bytesPerSecond = bytesPerSecond;
    this.#pay();
  }
  #pay(): void {
    const ms = this.bytesPerSecond > 0 ? (this.#lastBytes * 1000) / this.bytesPerSecond : 0;
    this.#paidUntilMs = this.#lastMs + ms;
  }

  /** The earliest moment for the next one. */
  get nextMs(): number {
    return Math.max(this.#paidUntilMs, this.#restUntilMs);
  }
}
