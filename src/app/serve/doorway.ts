import { NBD_CONNECTIONS_MAX } from "../../base/limits.js";
import type { Host } from "../../host/open.js";
import type { Listener, ListenOptions } from "../../host/sockets.js";
import type { Address, Stream } from "../../ports/stream.js";
import { HeldStream } from "./held-stream.js";

/**
 * The listeners of a volume. They are bound before the volume is asked for, because asking throws out whoever has it:
 * a port that is taken must be found before that. Who connects meanwhile waits.
 *
 *   closed to visitors ──open(accept)──▶ open ──close()──▶ no listeners
 */
export class Doorway {
  readonly #listeners: Listener[] = [];
  readonly #waiting = new Set<HeldStream>();
  #accept: ((stream: Stream) => void) | undefined;

  /** "127.0.0.1:10809", "unix:/run/x.sock": what is really listened on. */
  get addresses(): readonly string[] {
    return this.#listeners.map((listener) => listener.address);
  }
  /** Of the first TCP listener; 0 when there is none. */
  get port(): number {
    return this.#listeners.find((listener) => listener.port > 0)?.port ?? 0;
  }

  /** Rejects with a Fault, and then listens nowhere. `descriptors` were passed by a service manager. */
  async bind(
    host: Host,
    addresses: readonly Address[],
    sockets: readonly string[],
    descriptors: readonly number[],
  ): Promise<void> {
    const wanted: ListenOptions[] = [
      ...descriptors.map((descriptor) => ({ kind: "inherited", descriptor }) as const),
      ...addresses.map((address) => ({ kind: "tcp", ...address }) as const),
      ...sockets.map((path) => ({ kind: "unix", path }) as const),
    ];
    try {
      for (const one of wanted) {
        this.#listeners.push(await host.listen(one, (stream) => this.#arrived(stream)));
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** From now on `accept` gets every stream, and those first that have waited. */
  open(accept: (stream: Stream) => void): void {
    this.#accept = accept;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const stream of waiting) accept(stream);
  }

  /** No more visitors; who still waits is sent away. */
  close(): void {
    for (const listener of this.#listeners.splice(0)) listener.close();
    for (const stream of this.#waiting) stream.destroy();
  }

  #arrived(stream: Stream): void {
    if (this.#accept !== undefined) {
      this.#accept(stream);
      return;
    }
    const held = new HeldStream(stream, () => this.#waiting.delete(held));
    if (this.#waiting.size >= NBD_CONNECTIONS_MAX) held.destroy();
    else this.#waiting.add(held);
  }
}
