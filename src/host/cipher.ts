import { constants } from "node:os";
import { Fault } from "../base/fault.js";
import { invariant } from "../base/invariant.js";
import { SEAL_AT_ONCE_BYTES_MAX, SEAL_AT_ONCE_BYTES_MAX_PORTABLE } from "../base/limits.js";
import { type Cipher, type CipherDone, KEY_BYTES } from "../ports/cipher.js";
import type { Driver } from "./driver.js";
import { describe } from "./errno.js";
import { addon, type CipherName, type NativeKey } from "./native.js";

/**
 * The ciphers of a host. Small requests are carried out where they are asked for; of the others it keeps who is to be told, by the slot
 * that native threads answer under.
 */
export class Ciphers {
  readonly #driver: Driver;
  readonly #memory: Uint8Array;
  readonly #opened: HostCipher[] = [];
  readonly #done: (CipherDone | undefined)[] = [];
  readonly #tags: number[] = [];
  readonly #free: number[] = [];
  #inFlight = 0;

  /** `memory`: the whole arena. */
  constructor(driver: Driver, memory: Uint8Array) {
    this.#driver = driver;
    this.#memory = memory;
    driver.onCipherDone((slot, bad) => this.#finish(slot, bad));
  }

  /** Takes the key over: its bytes are zero afterwards. Throws TRIVET_E_NATIVE where encryption cannot be had. */
  open(key: Uint8Array, name: CipherName | "auto"): Cipher {
    invariant(key.length === KEY_BYTES, "a key has 32 bytes");
    const cipher = new HostCipher(this, this.#driver, this.#memory, openKey(key, name));
    this.#opened.push(cipher);
    return cipher;
  }
  closeAll(): void {
    for (const cipher of this.#opened) cipher.close();
    this.#opened.length = 0;
  }
  /** True when every request has been answered. */
  get isIdle(): boolean {
    return this.#inFlight === 0;
  }

  take(done: CipherDone, tag: number): number {
    const slot = this.#free.pop() ?? this.#done.length;
    this.#done[slot] = done;
    this.#tags[slot] = tag;
    this.#inFlight += 1;
    return slot;
  }
  /** What was asked for was refused at once. */
  untake(slot: number): void {
    this.#done[slot] = undefined;
    this.#free.push(slot);
    this.#inFlight -= 1;
  }
  #finish(slot: number, bad: number): void {
    const done = this.#done[slot];
    invariant(done !== undefined, "an answer names a request in flight");
    const tag = this.#tags[slot]!;
    this.untake(slot);
    done.cipherDone(tag, bad);
  }
}

class HostCipher implements Cipher {
  readonly atOnceBytesMax: number;
  readonly #ciphers: Ciphers;
  readonly #driver: Driver;
  readonly #memory: Uint8Array;
  readonly #key: NativeKey;

  constructor(ciphers: Ciphers, driver: Driver, memory: Uint8Array, key: NativeKey) {
    this.#ciphers = ciphers;
    this.#driver = driver;
    this.#memory = memory;
    this.#key = key;
    this.atOnceBytesMax =
      key.implementation === "portable" ? SEAL_AT_ONCE_BYTES_MAX_PORTABLE : SEAL_AT_ONCE_BYTES_MAX;
  }
  seal(
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
    hashAt: number,
  ): void {
    if (count > 0)
      this.#key.seal(this.#memory, from, to, blockBytes, count, rowAt, stride, hashAt, 1);
  }
  open(
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
  ): number {
    if (count === 0) return -1;
    return this.#key.open(this.#memory, from, to, blockBytes, count, rowAt, stride);
  }
  sealLater(
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
    hashAt: number,
    done: CipherDone,
    tag: number,
  ): void {
    const slot = this.#ciphers.take(done, tag);
    const { native } = this.#driver;
    try {
      native.sealLater(this.#key, from, to, blockBytes, count, rowAt, stride, hashAt, slot);
    } catch (error) {
      this.#ciphers.untake(slot);
      throw error;
    }
  }
  openLater(
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
    done: CipherDone,
    tag: number,
  ): void {
    const slot = this.#ciphers.take(done, tag);
    const { native } = this.#driver;
    try {
      native.openLater(this.#key, from, to, blockBytes, count, rowAt, stride, -1, slot);
    } catch (error) {
      this.#ciphers.untake(slot);
      throw error;
    }
  }
  close(): void {
    this.#key.wipe();
  }
}

function openKey(key: Uint8Array, name: CipherName | "auto"): NativeKey {
  const { Key } = addon();
  try {
    return new Key(key, name);
  } catch (error) {
    const errno = (error as { errno?: number }).errno ?? 0;
    const why = errno === -constants.errno.EIO ? "it fails at published values" : describe(errno);
    const detail = `encryption (${name}) cannot be had on this machine: ${why}`;
    throw new Fault("TRIVET_E_NATIVE", detail, { errno });
  } finally {
    key.fill(0);
  }
}
