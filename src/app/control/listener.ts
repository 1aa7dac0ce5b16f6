import { dirname } from "node:path";
import type { Fault } from "../../base/fault.js";
import { ControlServer } from "../../control/control-server.js";
import type { VolumeControl } from "../../control/volume-control.js";
import type { Host } from "../../host/open.js";
import type { Listener } from "../../host/sockets.js";
import type { Notes } from "../../ports/notes.js";
import { asFault } from "../report.js";
import { discard, passedOptions } from "../serve/doorway.js";
import type { PassedListener } from "../serve/inheritance.js";
import { makeRuntimeFolder } from "./paths.js";

/** Where a server listens for control. `isDefault`: nobody asked for it, so that the volume is served without it if need be. */
export interface ControlSetting {
  readonly path: string;
  readonly isDefault: boolean;
}

const RETRY_MS = 5_000;
const OWNER_ONLY = 0o600;
/** What it is called among the listeners that a server leaves to its successor. */
const KEY = "control:";
export const isControl = ({ key }: PassedListener): boolean => key.startsWith(KEY);

/**
 * The control socket of a server. One that was named and cannot be had is an error; the usual one is tried again, as the server
 * that has it may be one that this server is about to take the volume from.
 */
export class ControlListener {
  readonly #host: Host;
  readonly #notes: Notes;
  readonly #setting: ControlSetting;
  readonly #server: ControlServer;
  #listener: Listener | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #wasTold = false;

  constructor(host: Host, notes: Notes, setting: ControlSetting, volume: VolumeControl) {
    this.#host = host;
    this.#notes = notes;
    this.#setting = setting;
    this.#server = new ControlServer(host.arena, notes, volume);
  }

  /** Rejects with a Fault only when the socket was asked for. `inherited`: the one of a predecessor. */
  async open(inherited?: PassedListener): Promise<void> {
    const { path, isDefault } = this.#setting;
    try {
      if (isDefault) makeRuntimeFolder(dirname(path));
      const isOurs = inherited?.key === `${KEY}${path}`;
      if (inherited !== undefined && !isOurs) discard(inherited);
      const listener = await this.#host.listen(
        isOurs ? passedOptions(inherited!) : { kind: "unix", path, mode: OWNER_ONLY },
        (stream) => this.#server.accept(stream),
      );
      if (this.#isClosed) listener.close();
      else this.#listener = listener;
    } catch (error) {
      const fault = asFault(error);
      if (fault === undefined || !isDefault) throw error;
      this.#failed(fault);
    }
  }

  /** No more clients; removes the socket file. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#listener?.close();
    this.#server.close();
  }

  /** Lets go of the socket, where whoever asks waits for a successor. */
  leave(): PassedListener[] {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    const descriptor = this.#listener?.detach() ?? -1;
    const { path } = this.#setting;
    return descriptor < 0 ? [] : [{ key: `${KEY}${path}`, file: path, descriptor }];
  }

  #failed(fault: Fault): void {
    if (!this.#wasTold)
      this.#notes(
        "warn",
        "control.unavailable",
        `trivet status and its like cannot reach this server for now: ${fault.message}`,
      );
    this.#wasTold = true;
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => void this.open(), RETRY_MS);
    this.#timer.unref();
  }
}
