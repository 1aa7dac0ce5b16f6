import { Fault } from "../base/fault.js";
import { invariant } from "../base/invariant.js";
import { FRAME_BYTES_MAX, FRAME_BYTES_MIN, INBOX_BYTES } from "../base/limits.js";
import type { Stream } from "../ports/stream.js";
import type { Memory } from "./layout.js";
import { FRAME_BYTES_MIN_BY_TAG, TAG, TAG_END } from "./messages.js";

// Splits what a stream receives into frames. It owns the place in the stream and nothing else: memory for large frames
// is the owner's. Lengths are checked before anybody is asked for memory. It never looks into a frame
// beyond length and tag, and never sends.
//
//            ┌──────────── a whole small frame: owner.frame ───────────┐
//            ▼                                                         │
//   ──► splitting ── head of a bulk frame: owner.place ──► filling ── filled: owner.frame
//        │   ▲  │
//        │   │  └── no room (PAUSE), or pause() ──► paused ── resume() ──► splitting
//        │   └───────────────────────────────────────────────────────────┘
//        └── bad length or tag: owner.bad; or stop() ──► stopped (what still arrives is dropped)

/** Answer of `place`: there is no room now. The owner calls `resume` when it is worth asking again. */
export const PAUSE = -1;
/** Answer of `place`: such a frame is not wanted here; the connection is at fault. */
export const REFUSE = -2;

/** Bytes of a frame that `place` may look at: through the result and count of a ReadResponse. */
export const PLACE_HEAD_BYTES = 80;

export interface FrameOwner {
  /**
   * Where to put a frame of `frameBytes`: Write, WriteUnwritten and ReadResponse always, others when they are larger than an
   * inbox. Its first min(frameBytes, PLACE_HEAD_BYTES) bytes lie at `headAt` during the call (`headBytes` of it are there), and a
   * frame is never shorter than its tag allows, so that job ids can be read. Returns an address with room for all of the frame,
   * PAUSE or REFUSE. After PAUSE the same frame is asked for again.
   */
  place(tag: number, frameBytes: number, headAt: number, headBytes: number): number;
  /**
   * A whole frame. `owned`: it lies where `place` said, and is the owner's. Otherwise it lies in the inbox and is gone when
   * the call returns. A Fault thrown here ends in `bad`; memory that was the owner's stays so.
   */
  frame(tag: number, at: number, frameBytes: number, owned: boolean): void;
  /** The bytes are no Crucible frames. Called at most once; nothing is called afterwards. The owner destroys the stream. */
  bad(fault: Fault): void;
}

const isBulk = (tag: number): boolean =>
  tag === TAG.Write || tag === TAG.WriteUnwritten || tag === TAG.ReadResponse;

export class FrameReceiver {
  readonly #stream: Stream;
  readonly #memory: Memory;
  readonly #owner: FrameOwner;
  /** The frame that is being received into the owner's memory; −1: none. */
  #placedAt = -1;
  #placedTag = 0;
  #placedBytes = 0;
  #paused = false;
  #stopped = false;
  /** In `received`: pausing waits for its end, so that a pause and a resume in one go leave the stream alone. */
  #splitting = false;
  /** `resume` was called while the owner was being asked for room. */
  #resumed = false;

  constructor(stream: Stream, memory: Memory, owner: FrameOwner) {
    this.#stream = stream;
    this.#memory = memory;
    this.#owner = owner;
  }

  /** No frame is delivered until `resume`, except one that is being received into the owner's memory. */
  pause(): void {
    if (this.#paused || this.#stopped) return;
    this.#paused = true;
    if (!this.#splitting) this.#stream.pause();
  }

  resume(): void {
    this.#resumed = true;
    if (!this.#paused || this.#stopped) return;
    this.#paused = false;
    if (!this.#splitting) this.#stream.resume();
  }

  /** Call it when the stream is destroyed: the owner is not called again, whatever still arrives. */
  stop(): void {
    this.#stopped = true;
  }

  /**
   * For the stream's handler of the same name. Returns, once, the address from `place` whose frame was never delivered and
   * which is now the owner's to free; −1: none. Until then the stream may still write there.
   */
  closed(): number {
    this.#stopped = true;
    const at = this.#placedAt;
    this.#placedAt = -1;
    return at;
  }

  /** For the stream's handler of the same name. */
  received(at: number, end: number): number {
    invariant(!this.#splitting, "a stream does not present bytes while it does so");
    if (this.#stopped) return end - at;
    this.#splitting = true;
    let next = at;
    try {
      while (!this.#paused && !this.#stopped) {
        const used = this.#take(next, end);
        if (used === 0) break;
        next += used;
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#splitting = false;
    }
    if (this.#stopped) return end - at;
    if (this.#paused) this.#stream.pause();
    return next - at;
  }

  /** For the stream's handler of the same name. */
  filled(): void {
    if (this.#stopped) return;
    const at = this.#placedAt;
    invariant(at >= 0, "a frame was being received");
    this.#placedAt = -1;
    try {
      this.#owner.frame(this.#placedTag, at, this.#placedBytes, true);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Deals with the frame at `at`; returns the bytes consumed, 0 when it has to wait. */
  #take(at: number, end: number): number {
    const have = end - at;
    if (have < FRAME_BYTES_MIN) return 0;
    const { view } = this.#memory;
    const length = view.getUint32(at, true);
    const tag = view.getUint32(at + 4, true);
    this.#check(length, tag);
    if (isBulk(tag) || length > INBOX_BYTES) return this.#takeLarge(at, have, tag, length);
    if (have < length) return 0;
    this.#owner.frame(tag, at, length, false);
    return length;
  }

  #takeLarge(at: number, have: number, tag: number, length: number): number {
    if (have < Math.min(length, PLACE_HEAD_BYTES)) return 0;
    const place = this.#ask(tag, length, at, Math.min(have, length));
    if (place === REFUSE)
      throw new Fault("TRIVET_E_FRAME", `message ${tag} of ${length} bytes is not expected`);
    if (place === PAUSE) {
      this.#paused = true;
      return 0;
    }
    invariant(place >= 0, "place gives an address, PAUSE or REFUSE");
    if (this.#stopped || have < length) {
      this.#placedAt = place;
      this.#placedTag = tag;
      this.#placedBytes = length;
      if (!this.#stopped) this.#stream.receiveInto(place, length);
      return 0;
    }
    this.#memory.bytes.copyWithin(place, at, at + length);
    this.#owner.frame(tag, place, length, true);
    return length;
  }

  /** Room that came up while the owner was saying no is asked for at once: its `resume` will not come again. */
  #ask(tag: number, length: number, at: number, headBytes: number): number {
    for (;;) {
      this.#resumed = false;
      const place = this.#owner.place(tag, length, at, headBytes);
      if (place !== PAUSE || !this.#resumed || this.#stopped) return place;
    }
  }

  #check(length: number, tag: number): void {
    if (length < FRAME_BYTES_MIN || length > FRAME_BYTES_MAX)
      throw new Fault("TRIVET_E_FRAME", `a frame of ${length} bytes`);
    if (tag >= TAG_END) throw new Fault("TRIVET_E_FRAME", `message ${tag} is unknown`);
    const min = FRAME_BYTES_MIN_BY_TAG[tag]!;
    if (length < min)
      throw new Fault(
        "TRIVET_E_FRAME",
        `message ${tag} of ${length} bytes, at least ${min} are needed`,
      );
  }

  #fail(error: unknown): void {
    if (!(error instanceof Fault)) throw error;
    if (this.#stopped) return;
    this.#stopped = true;
    this.#owner.bad(error);
  }
}
