import { type DeviceClient, DeviceStatus, FUA } from "../ports/device.js";
import type { Engine } from "./engine.js";

// The last extent carries the generation of the newest session that a replica took part in from its start. A session that begins
// without the third sees to that before anybody is served: it reads a block of the last extent and writes the same again, stable on both.
// Live repair copies the last extent last, so a replica that was repaired in part does not carry the mark.
//
//   (room for a payload) ──► reading ──► writing ── stable on both ──► marked
//                             └── a block that cannot be read: the one before it, down to the beginning of the extent

const READ = 1;
const WRITE = 2;

export class EpochMark implements DeviceClient {
  readonly #engine: Engine;
  readonly #then: (isMarked: boolean) => void;
  readonly #firstBlock: number;
  #block: number;
  #payloadAt = -1;

  /** Begins at once; `then(false)`: no block of the last extent can be read. Never called when the volume ends. */
  constructor(engine: Engine, blocksPerExtent: number, then: (isMarked: boolean) => void) {
    this.#engine = engine;
    this.#then = then;
    this.#block = engine.core.blocks - 1;
    this.#firstBlock = engine.core.blocks - blocksPerExtent;
    this.deviceRoom();
  }

  deviceRoom(): void {
    const { blockBytes } = this.#engine.core;
    this.#payloadAt = this.#engine.place(blockBytes, this);
    if (this.#payloadAt >= 0) this.#read();
  }
  #read(): void {
    const { blockBytes } = this.#engine.core;
    this.#engine.read(this.#block * blockBytes, blockBytes, this, READ);
  }

  deviceDone(tag: number, status: DeviceStatus, at: number, hold: number): void {
    if (tag === WRITE) {
      if (status !== DeviceStatus.shutdown) this.#then(status === DeviceStatus.ok);
      return;
    }
    if (status === DeviceStatus.ok) this.#write(at, hold);
    else if (status !== DeviceStatus.shutdown && this.#block > this.#firstBlock) {
      this.#block -= 1;
      this.#read();
    } else {
      this.#engine.unplace(this.#payloadAt);
      if (status !== DeviceStatus.shutdown) this.#then(false);
    }
  }
  #write(dataAt: number, hold: number): void {
    const engine = this.#engine;
    const { blockBytes, ports } = engine.core;
    ports.arena.bytes.copyWithin(this.#payloadAt, dataAt, dataAt + blockBytes);
    engine.release(hold);
    engine.write(this.#block * blockBytes, blockBytes, this.#payloadAt, FUA, this, WRITE);
  }
}
