import { closeSync, rmSync } from "node:fs";
import { NBD_CONNECTIONS_MAX } from "../../base/limits.js";
import type { Host } from "../../host/open.js";
import type { Listener, ListenOptions } from "../../host/sockets.js";
import type { Address, Stream } from "../../ports/stream.js";
import { HeldStream } from "./held-stream.js";
import type { PassedListener } from "./inheritance.js";
import { activatedKey, isActivated } from "./store.js";

/** A place to listen, by a name that is the same in another process with the same settings. */
interface Place {
  readonly key: string;
  readonly options: ListenOptions;
}

/**
 * The listeners of a volume. They are bound before the volume is asked for, because asking throws out whoever has it:
 * a port that is taken must be found before that. Who connects meanwhile waits.
 *
 *   closed to visitors ──open(accept)──▶ open ──close()──▶ no listeners
 *                                         └──leave()──▶ none here: connections wait in the queues for a successor
 */
export class Doorway {
  readonly #listeners: { readonly place: Place; readonly listener: Listener }[] = [];
  readonly #waiting = new Set<HeldStream>();
  #accept: ((stream: Stream) => void) | undefined;

  /** "127.0.0.1:10809", "unix:/run/x.sock": what is really listened on. */
  get addresses(): readonly string[] {
    return this.#listeners.map(({ listener }) => listener.address);
  }
  /** Of the first TCP listener; 0 when there is none. */
  get port(): number {
    return this.#listeners.find(({ listener }) => listener.port > 0)?.listener.port ?? 0;
  }

  /**
   * Rejects with a Fault, and then listens nowhere. `descriptors` were passed by a service manager, `inherited` bound by a predecessor; what
   * of that is not wanted any more is closed.
   */
  async bind(
    host: Host,
    addresses: readonly Address[],
    sockets: readonly string[],
    descriptors: readonly number[],
    inherited: readonly PassedListener[] = [],
  ): Promise<void> {
    const left = [...inherited];
    const wanted: Place[] = [
      ...descriptors.map((descriptor, i) => passedPlace(activatedKey(i), descriptor)),
      ...inherited
        .filter(({ key }) => isActivated(key))
        .map(({ key, descriptor }) => passedPlace(key, descriptor)),
      ...addresses.map((address) => ({
        key: `tcp:${address.host}:${address.port}`,
        options: { kind: "tcp", ...address } as const,
      })),
      ...sockets.map((path) => ({
        key: `unix:${path}`,
        options: { kind: "unix", path } as const,
      })),
    ];
    try {
      for (const place of wanted) {
        const i = left.findIndex(({ key }) => key === place.key);
        const [found] = i < 0 ? [] : left.splice(i, 1);
        const options = found === undefined ? place.options : passedOptions(found);
        const listener = await host.listen(options, (stream) => this.#arrived(stream));
        this.#listeners.push({ place, listener });
      }
      for (const one of left) discard(one);
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
    for (const { listener } of this.#listeners.splice(0)) listener.close();
    for (const stream of this.#waiting) stream.destroy();
  }

  /** Lets go of the listeners, for a successor to go on with. */
  leave(): PassedListener[] {
    return this.#listeners.splice(0).flatMap(({ place: { key, options }, listener }) => {
      const descriptor = listener.detach();
      const file = options.kind === "unix" ? options.path : null;
      return descriptor < 0 ? [] : [{ key, file, descriptor }];
    });
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

const passedPlace = (key: string, descriptor: number): Place => ({
  key,
  options: { kind: "inherited", descriptor },
});
/** For `host.listen`. */
export const passedOptions = ({ descriptor, file }: PassedListener): ListenOptions => ({
  kind: "inherited",
  descriptor,
  ...(file === null ? {} : { file }),
});
/** Of a predecessor with other settings: nobody listens there any more. */
export function discard({ descriptor, file }: PassedListener): void {
  closeSync(descriptor);
  if (file !== null) rmSync(file, { force: true });
}
