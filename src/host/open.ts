import { constants } from "node:buffer";
import { fstatSync } from "node:fs";
import { Fault } from "../base/fault.js";
import { STREAM_BYTES_TOTAL } from "../base/limits.js";
import type { Cipher } from "../ports/cipher.js";
import type { Clock } from "../ports/clock.js";
import type { FileIo, FileTree } from "../ports/files.js";
import type { Hasher } from "../ports/hasher.js";
import type { Random } from "../ports/random.js";
import type { Dialer, Stream } from "../ports/stream.js";
import { HostArena } from "./arena.js";
import { Ciphers } from "./cipher.js";
import { hostClock } from "./clock.js";
import { Driver } from "./driver.js";
import { describe } from "./errno.js";
import { HostFileIo } from "./file-io.js";
import { HostFileTree } from "./files.js";
import { NativeHasher } from "./hasher.js";
import { addon, type CipherName, type EngineName, type NativeCore } from "./native.js";
import { notifyManager } from "./notify.js";
import { hostRandom } from "./random.js";
import { type Listener, type ListenOptions, Sockets } from "./sockets.js";

export interface HostOptions {
  /** Memory for payload; a whole number of pages. Touched pages only cost memory. */
  readonly arenaBytes: number;
  /** "auto": io_uring where the kernel lets us, otherwise plain system calls. */
  readonly engine?: EngineName | "auto";
  /** A file for the payload to lie in, so that it outlives the process; all of it is reserved. Opened and locked by whoever gives it. */
  readonly backing?: ArenaBacking;
  /** Memory for inboxes and composed messages beside the payload. */
  readonly streamBytes?: number;
  /** Value of NOTIFY_SOCKET, when a service manager waits to hear from us. */
  readonly notifySocket?: string | undefined;
}

export interface ArenaBacking {
  readonly path: string;
  /** Has to stay open until the host is closed. */
  readonly descriptor: number;
  /** What the file holds before the payload; whole pages. */
  readonly headBytes: number;
}

/** The outside world, as ports. */
export interface Host {
  readonly arena: HostArena;
  /** The head of the backing; empty without one. Addresses of the arena do not reach it. */
  readonly head: ArrayBuffer;
  readonly headAt: number;
  readonly hasher: Hasher;
  readonly fileIo: FileIo;
  readonly files: FileTree;
  readonly clock: Clock;
  readonly random: Random;
  readonly dialer: Dialer;
  /** The engine that was chosen. */
  readonly engine: EngineName;
  /** Rejects with a Fault. Each stream must be started in the call that hands it over. */
  listen(options: ListenOptions, onStream: (stream: Stream) => void): Promise<Listener>;
  /** Goes on with a connection that another process had. To be started in this turn. Throws a Fault. */
  adopt(descriptor: number): Stream;
  /** Takes over a key of 32 bytes and leaves them zero. Wiped at `close` at the latest. Throws TRIVET_E_NATIVE. */
  cipher(key: Uint8Array, name?: CipherName | "auto"): Cipher;
  notify(text: string): void;
  /** Cuts every connection, waits for every operation, gives the memory back. Afterwards nothing may be used. */
  close(): Promise<void>;
}

/** Throws a Fault. Open it once per process, except in tests. The process stays alive until it is closed. */
export function openHost(options: HostOptions): Host {
  const native = openNative(options);
  const driver = new Driver(native);
  const headBytes = options.backing?.headBytes ?? 0;
  const arena = new HostArena(native, options.arenaBytes, headBytes);
  const sockets = new Sockets(driver, arena);
  const fileIo = new HostFileIo(driver);
  const ciphers = new Ciphers(driver, arena.bytes);
  let closing: Promise<void> | undefined;
  return {
    arena,
    head: native.arena,
    headAt: options.arenaBytes,
    hasher: new NativeHasher(native),
    fileIo,
    files: new HostFileTree(),
    clock: hostClock,
    random: hostRandom,
    dialer: sockets,
    engine: native.engine,
    listen: (where, onStream) => sockets.listen(where, onStream),
    adopt: (descriptor) => sockets.adopt(descriptor),
    cipher: (key, name = "auto") => ciphers.open(key, name),
    notify: (text) => {
      notifyManager(options.notifySocket, text);
    },
    close: () => {
      closing ??= close(driver, sockets, ciphers);
      return closing;
    },
  };
}

function openNative(options: HostOptions): NativeCore {
  const { backing } = options;
  const headBytes = backing?.headBytes ?? 0;
  const bytes = options.arenaBytes + headBytes + (options.streamBytes ?? STREAM_BYTES_TOTAL);
  if (!(options.arenaBytes > 0) || bytes % 4096 !== 0)
    throw new Fault("TRIVET_E_MEMORY", `an arena of ${bytes} bytes is not a whole number of pages`);
  if (bytes > constants.MAX_LENGTH)
    throw new Fault(
      "TRIVET_E_MEMORY",
      `an arena of ${bytes} bytes is more than this Node can address (${constants.MAX_LENGTH})`,
    );
  const { Core } = addon();
  try {
    const parts = backing === undefined ? null : { ...backing, bodyBytes: options.arenaBytes };
    const core = new Core(bytes, parts, options.engine ?? "auto");
    checkBacking(backing, headBytes + options.arenaBytes);
    return core;
  } catch (error) {
    if (error instanceof Fault) throw error;
    const errno = (error as { errno?: number }).errno ?? 0;
    const where = backing === undefined ? "" : ` in ${backing.path}`;
    const detail = `cannot set up ${bytes} bytes of memory${where} with the engine "${options.engine ?? "auto"}": ${describe(errno)}`;
    throw new Fault("TRIVET_E_MEMORY", detail, { errno, cause: error });
  }
}

/** A native part of before backings were known would take no notice of one, and nothing would outlive us. */
function checkBacking(backing: ArenaBacking | undefined, bytes: number): void {
  if (backing === undefined || fstatSync(backing.descriptor).size === bytes) return;
  throw new Fault(
    "TRIVET_E_NATIVE",
    `the native part is older than the rest and left ${backing.path} alone`,
  );
}

async function close(driver: Driver, sockets: Sockets, ciphers: Ciphers): Promise<void> {
  do {
    // What answers meanwhile may have opened something new.
    sockets.closeAll();
    await new Promise((next) => setImmediate(next));
  } while (!sockets.isIdle || !driver.filesIdle || !ciphers.isIdle);
  ciphers.closeAll();
  driver.close();
}
