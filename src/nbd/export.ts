import { invariant } from "../base/invariant.js";
import { NBD_STRING_BYTES_MAX } from "../base/limits.js";
import type { BlockDevice } from "../ports/device.js";
import { OFFERS, PREFERRED_BLOCK_BYTES } from "./protocol.js";

/** What an operator says about an export. */
export interface ExportOptions {
  /** At most 4096 bytes of UTF-8. */
  readonly name: string;
  /** For people; at most 4096 bytes. */
  readonly description?: string;
  /** Serves requests at multiples of its blockBytes; others get EINVAL, so wrap it (volume/unaligned) to serve them. */
  readonly device: BlockDevice;
  /** True block size, when it is not the device's own: that of the device below the wrapper. */
  readonly blockBytes?: number;
  /**
   * Announced as the smallest request; default: the true block size. libnbd refuses smaller ones by itself and QEMU merges them by
   * itself, so a device that serves them may announce less, for clients such as nbdfuse that cannot merge.
   */
  readonly minimumBytes?: number;
  readonly readOnly?: boolean;
}

/** One export with everything that the handshake announces about it: computed once, so INFO and GO agree. */
export class NbdExport {
  readonly name: string;
  readonly nameBytes: Buffer;
  readonly descriptionBytes: Buffer;
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  readonly minimumBytes: number;
  readonly preferredBytes: number;
  readonly #offers: number;

  constructor(options: ExportOptions) {
    this.name = options.name;
    this.nameBytes = Buffer.from(options.name, "utf8");
    this.descriptionBytes = Buffer.from(options.description ?? "", "utf8");
    this.device = options.device;
    this.readOnly = (options.readOnly ?? false) || options.device.readOnly;
    const blockBytes = options.blockBytes ?? options.device.blockBytes;
    this.minimumBytes = options.minimumBytes ?? blockBytes;
    this.preferredBytes = Math.max(PREFERRED_BLOCK_BYTES, blockBytes);
    invariant(this.nameBytes.length <= NBD_STRING_BYTES_MAX, "an export's name fits the protocol");
    invariant(this.descriptionBytes.length <= NBD_STRING_BYTES_MAX, "a description fits it too");
    invariant(this.minimumBytes >= options.device.blockBytes, "no less is announced than served");
    invariant(this.minimumBytes <= blockBytes, "and no more than a block");
    invariant(this.minimumBytes <= 65536, "a minimum block size is at most 64 KiB");
    invariant((this.minimumBytes & (this.minimumBytes - 1)) === 0, "and a power of two");
    this.#offers =
      OFFERS.hasFlags |
      OFFERS.flush |
      OFFERS.fua |
      OFFERS.multiConn |
      OFFERS.cache |
      (this.readOnly ? OFFERS.readOnly : OFFERS.trim | OFFERS.writeZeroes);
  }

  /** Transmission flags of a session: some depend on what it negotiated. */
  offers(structured: boolean): number {
    return structured ? this.#offers | OFFERS.df : this.#offers;
  }
}

/** The exports of a server by name; the empty name stands for the default one. */
export class ExportTable {
  readonly all: readonly NbdExport[];
  readonly #byName = new Map<string, NbdExport>();
  readonly #anyName: boolean;

  /** The first export is the default. With `anyName` unknown names get it, too. */
  constructor(exports: readonly NbdExport[], anyName = false) {
    this.all = exports;
    this.#anyName = anyName;
    for (const one of exports) {
      invariant(!this.#byName.has(one.name), `one export is named ${JSON.stringify(one.name)}`);
      this.#byName.set(one.name, one);
    }
    const first = exports[0];
    if (first !== undefined && !this.#byName.has("")) this.#byName.set("", first);
  }

  find(name: string): NbdExport | undefined {
    return this.#byName.get(name) ?? (this.#anyName ? this.all[0] : undefined);
  }
}
