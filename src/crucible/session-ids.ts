import type { Uuid } from "../base/ids.js";
import { Sink } from "../wire/cursor.js";
import { uuid } from "../wire/primitives.js";
import { IDS_AT, IDS_BYTES, type Memory } from "./layout.js";

/**
 * Upstairs id and session id as every frame of a job carries them (48 bytes at offset 8), made once per session, so that
 * frames are compared and written without touching text.
 */
export class SessionIds {
  readonly upstairsId: Uuid;
  readonly sessionId: Uuid;
  readonly #words = new Uint32Array(IDS_BYTES / 4);

  constructor(upstairsId: Uuid, sessionId: Uuid) {
    this.upstairsId = upstairsId;
    this.sessionId = sessionId;
    const pattern = Buffer.alloc(IDS_BYTES);
    const to = new Sink(pattern);
    uuid.write(upstairsId, to);
    uuid.write(sessionId, to);
    for (let i = 0; i < this.#words.length; i++) this.#words[i] = pattern.readUInt32LE(4 * i);
  }

  /** Whether the job frame at `at`, which has at least 56 bytes, carries these ids. */
  matches(memory: Memory, at: number): boolean {
    const { view } = memory;
    const words = this.#words;
    for (let i = 0; i < words.length; i++)
      if (view.getUint32(at + IDS_AT + 4 * i, true) !== words[i]) return false;
    return true;
  }

  /** Writes them into the job frame that begins at `at`. */
  put(memory: Memory, at: number): void {
    const { view } = memory;
    const words = this.#words;
    for (let i = 0; i < words.length; i++) view.setUint32(at + IDS_AT + 4 * i, words[i]!, true);
  }
}
