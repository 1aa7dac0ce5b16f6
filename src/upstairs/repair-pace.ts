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
  #bytesPerSecond: number;
  #restUntilMs = 0;
  /** What is not paid for yet, as of a moment. */
  #debtBytes = 0;
  #asOfMs = 0;

  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  get bytesPerSecond(): number {
    return this.#bytesPerSecond;
  }
  setRate(bytesPerSecond: number, nowMs: number): void {
    this.#settle(nowMs);
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** An extent is finished that was begun at `startedMs`. */
  extentDone(startedMs: number, nowMs: number, bytes: number, guestAsked: boolean): void {
    this.#restUntilMs = guestAsked ? nowMs + (nowMs - startedMs) : nowMs;
    this.#settle(startedMs);
    this.#debtBytes += bytes;
  }
  #settle(atMs: number): void {
    if (atMs <= this.#asOfMs) return;
    const paid = ((atMs - this.#asOfMs) * this.#bytesPerSecond) / 1000;
    this.#debtBytes = this.#bytesPerSecond > 0 ? Math.max(0, this.#debtBytes - paid) : 0;
    this.#asOfMs = atMs;
  }

  /** The earliest moment for the next one. */
  get nextMs(): number {
    if (this.#bytesPerSecond === 0) return this.#restUntilMs;
    const paidMs = this.#asOfMs + (this.#debtBytes * 1000) / this.#bytesPerSecond;
    return Math.max(paidMs, this.#restUntilMs);
  }
}
