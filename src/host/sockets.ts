import { lookup } from "node:dns";
import { lstatSync, type Stats, unlinkSync } from "node:fs";
import { isIP } from "node:net";
import { Fault } from "../base/fault.js";
import { invariant } from "../base/invariant.js";
import { INBOX_BYTES } from "../base/limits.js";
import type { Address, Cancel, Dialer, DialResult, Stream } from "../ports/stream.js";
import { type HostArena, noInbox } from "./arena.js";
import type { Driver, SlotOwner } from "./driver.js";
import { describe, ERRNO } from "./errno.js";
import { Request } from "./native.js";
import { SocketStream } from "./stream.js";

/** Where to listen. `mode`: permission bits of the socket file, default 0o660. `file`: that of a passed unix socket, when it is ours to remove. */
export type ListenOptions =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string; readonly mode?: number }
  | { readonly kind: "inherited"; readonly descriptor: number; readonly file?: string };

export interface Listener {
  /** "127.0.0.1:10809", "[::1]:3810" or "unix:/run/trivet/a.sock": what we really listen on. */
  readonly address: string;
  /** The TCP port, chosen by the system when 0 was asked for; 0 for others. */
  readonly port: number;
  /** No more connections; those that there are go on. Removes the socket file. */
  close(): void;
  /** No more connections are taken out of the queue, which stays open. The descriptor; −1: it is closed already. */
  detach(): number;
}

/** Accepting pauses this long when descriptors or memory run out. */
const ACCEPT_PAUSE_MS = 100;

/**
 * Makes and keeps all sockets of a host: it knows every live stream, so that closing the host can close
 * them all.
 */
export class Sockets implements Dialer {
  readonly #driver: Driver;
  readonly #arena: HostArena;
  readonly #streams = new Set<SocketStream>();
  readonly #listeners = new Set<SocketListener>();
  readonly #dials = new Set<Dial>();
  readonly #forget = (stream: SocketStream) => {
    this.#streams.delete(stream);
  };

  constructor(driver: Driver, arena: HostArena) {
    this.#driver = driver;
    this.#arena = arena;
  }
  get isIdle(): boolean {
    return this.#streams.size === 0 && this.#listeners.size === 0 && this.#dials.size === 0;
  }
  closeAll(): void {
    for (const listener of this.#listeners) listener.close();
    for (const dial of this.#dials) dial.cancel();
    for (const stream of this.#streams) stream.destroy();
  }

  /** Rejects with a Fault. Each stream must be started in the call that hands it over. */
  async listen(options: ListenOptions, onStream: (stream: Stream) => void): Promise<Listener> {
    const { native } = this.#driver;
    let slot: number;
    let shown: string;
    if (options.kind === "tcp") {
      shown = showAddress(options);
      const [address] = await resolve(options.host);
      slot = native.listenTcp(address!, options.port);
    } else if (options.kind === "unix") {
      shown = `unix:${options.path}`;
      slot = native.listenUnix(options.path, options.mode ?? 0o660);
    } else {
      shown = `inherited descriptor ${options.descriptor}`;
      slot = native.adopt(options.descriptor);
    }
    if (slot < 0) throw listenFault(shown, slot);
    const file =
      options.kind === "unix"
        ? options.path
        : options.kind === "inherited"
          ? options.file
          : undefined;
    const listener = new SocketListener(this.#driver, slot, file, {
      accepted: (accepted) => {
        const stream = this.#open(accepted);
        if (stream !== undefined) onStream(stream);
      },
      closed: () => this.#listeners.delete(listener),
    });
    this.#listeners.add(listener);
    return listener;
  }

  /** A connection that another process had. To be started in this turn. Throws a Fault. */
  adopt(descriptor: number): Stream {
    const slot = this.#driver.native.adoptStream(descriptor);
    if (slot < 0)
      throw new Fault(
        "TRIVET_E_CONNECTION",
        `descriptor ${descriptor} is no connection to go on with: ${describe(slot)}`,
        { errno: slot },
      );
    const stream = this.#open(slot);
    if (stream === undefined) throw noInbox();
    return stream;
  }

  /** A host that begins with "/" is the path of a unix socket. */
  dial(address: Address, timeoutMs: number, then: DialResult): Cancel {
    const dial = new Dial(this.#driver, address, timeoutMs, (fault, slot) => {
      this.#dials.delete(dial);
      if (fault !== null) return then(fault, null);
      const stream = this.#open(slot);
      then(stream === undefined ? noInbox() : null, stream ?? null);
    });
    this.#dials.add(dial);
    return {
      cancel: () => {
        this.#dials.delete(dial);
        dial.cancel();
      },
    };
  }

  /** Undefined, and the connection closed, when there is no memory for it. */
  #open(slot: number): SocketStream | undefined {
    const inbox = this.#arena.allocForStream(INBOX_BYTES);
    if (inbox < 0) {
      this.#driver.native.closeSlot(slot);
      this.#driver.poke();
      return undefined;
    }
    const stream = new SocketStream(this.#driver, this.#arena, slot, inbox, this.#forget);
    this.#streams.add(stream);
    return stream;
  }
}

interface ListenerEvents {
  accepted(slot: number): void;
  closed(): void;
}

class SocketListener implements Listener, SlotOwner {
  readonly address: string;
  readonly port: number;
  readonly #driver: Driver;
  readonly #slot: number;
  readonly #file: string | undefined;
  readonly #made: Stats | undefined;
  readonly #events: ListenerEvents;
  #retry: NodeJS.Timeout | undefined;
  #open = true;

  constructor(driver: Driver, slot: number, file: string | undefined, events: ListenerEvents) {
    this.#driver = driver;
    this.#slot = slot;
    this.#file = file;
    this.#made = file === undefined ? undefined : lstatSync(file, { throwIfNoEntry: false });
    this.#events = events;
    this.address = driver.native.local(slot);
    this.port = this.address.startsWith("unix:") ? 0 : Number(this.address.split(":").at(-1));
    driver.own(slot, this);
  }
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    clearTimeout(this.#retry);
    this.#driver.native.closeSlot(this.#slot);
    this.#driver.poke();
    if (this.#file !== undefined) this.#removeFile(this.#file);
  }
  detach(): number {
    if (!this.#open) return -1;
    this.#open = false;
    clearTimeout(this.#retry);
    const [descriptor] = this.#driver.native.detach(this.#slot);
    this.#driver.poke();
    return descriptor;
  }
  /** Only when it is still ours: a successor may have put its own there. */
  #removeFile(file: string): void {
    try {
      const now = lstatSync(file, { throwIfNoEntry: false });
      if (now?.ino === this.#made?.ino && now?.dev === this.#made?.dev) unlinkSync(file);
    } catch {
      // Somebody else's business by now: the next start removes what is stale.
    }
  }
  slotAccepted(result: number): void {
    if (result >= 0) {
      if (this.#open) this.#events.accepted(result);
      else this.#driver.native.closeSlot(result);
      return;
    }
    if (!this.#open) return;
    this.#retry = setTimeout(() => {
      this.#driver.wantTurn({
        turn: () => {},
        stage: () => {
          if (!this.#driver.roomForRow) return false;
          this.#driver.row(Request.accept, this.#slot, 0, 0);
          return true;
        },
      });
    }, ACCEPT_PAUSE_MS);
  }
  slotClosed(): void {
    this.#events.closed();
  }
  slotReceived(): void {
    invariant(false, "a listener receives nothing");
  }
  slotSent(): void {
    invariant(false, "a listener sends nothing");
  }
  slotConnected(): void {
    invariant(false, "a listener does not connect");
  }
}

/** One attempt to reach an address: its names' addresses in order, until one answers or time is up. */
class Dial implements SlotOwner {
  readonly #driver: Driver;
  readonly #address: Address;
  readonly #shown: string;
  readonly #timer: NodeJS.Timeout;
  #then: ((fault: Fault | null, slot: number) => void) | undefined;
  #candidates: string[] = [];
  #slot = -1;

  constructor(
    driver: Driver,
    address: Address,
    timeoutMs: number,
    then: (fault: Fault | null, slot: number) => void,
  ) {
    this.#driver = driver;
    this.#address = address;
    this.#shown = showAddress(address);
    this.#then = then;
    this.#timer = setTimeout(() => this.#fail(ERRNO.timedOut), timeoutMs);
    if (address.host.startsWith("/")) {
      this.#candidates = [address.host];
      setImmediate(() => this.#next(ERRNO.invalid));
    } else {
      resolve(address.host).then(
        (candidates) => {
          this.#candidates = candidates;
          this.#next(ERRNO.invalid);
        },
        (fault: Fault) => this.#finish(fault, -1),
      );
    }
  }
  cancel(): void {
    this.#then = undefined;
    clearTimeout(this.#timer);
    this.#closeSlot();
  }

  /** `last`: why the candidate before did not do. */
  #next(last: number): void {
    if (this.#then === undefined) return;
    const { native } = this.#driver;
    let error = last;
    for (;;) {
      const host = this.#candidates.shift();
      if (host === undefined) {
        this.#fail(error);
        return;
      }
      const slot = host.startsWith("/")
        ? native.connectUnix(host)
        : native.connectTcp(host, this.#address.port);
      if (slot >= 0) {
        this.#slot = slot;
        this.#driver.own(slot, this);
        return;
      }
      error = slot;
    }
  }
  slotConnected(result: number): void {
    if (this.#then === undefined) return;
    if (result < 0) {
      this.#closeSlot();
      this.#next(result);
      return;
    }
    const slot = this.#slot;
    this.#slot = -1;
    this.#driver.disown(slot);
    this.#finish(null, slot);
  }
  slotClosed(): void {}
  slotReceived(): void {
    invariant(false, "nothing is received before a stream is made");
  }
  slotSent(): void {
    invariant(false, "nothing is sent before a stream is made");
  }
  slotAccepted(): void {
    invariant(false, "a connecting socket accepts nobody");
  }
  #closeSlot(): void {
    if (this.#slot < 0) return;
    this.#driver.native.closeSlot(this.#slot);
    this.#driver.poke();
    this.#slot = -1;
  }
  #fail(result: number): void {
    const code = result === ERRNO.timedOut ? "TRIVET_E_TIMEOUT" : "TRIVET_E_DIAL";
    const detail = `${this.#shown} cannot be reached: ${describe(result)}`;
    this.#finish(new Fault(code, detail, { errno: result }), -1);
  }
  #finish(fault: Fault | null, slot: number): void {
    const then = this.#then;
    this.#then = undefined;
    clearTimeout(this.#timer);
    this.#closeSlot();
    then?.(fault, slot);
  }
}

function showAddress(address: Address): string {
  if (address.host.startsWith("/")) return `unix:${address.host}`;
  return isIP(address.host) === 6
    ? `[${address.host}]:${address.port}`
    : `${address.host}:${address.port}`;
}

/** Literals as they are; names by the system's resolver, at least one address. */
function resolve(host: string): Promise<string[]> {
  if (isIP(host) !== 0) return Promise.resolve([host]);
  return new Promise((done, fail) => {
    lookup(host, { all: true }, (error, found) => {
      if (error === null && found.length > 0) done(found.map((one) => one.address));
      else fail(new Fault("TRIVET_E_DIAL", `the name ${host} has no address`));
    });
  });
}

function listenFault(shown: string, result: number): Fault {
  const detail = `cannot listen on ${shown}: ${describe(result)}`;
  if (result === ERRNO.addressInUse)
    return new Fault("TRIVET_E_ADDRESS_IN_USE", detail, { errno: result });
  if (result === ERRNO.permission || result === ERRNO.notPermitted)
    return new Fault("TRIVET_E_PERMISSION", detail, { errno: result });
  return new Fault("TRIVET_E_LISTEN", detail, { errno: result });
}
