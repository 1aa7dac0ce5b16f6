import { Fault } from "../base/fault.js";
import { NBD_OPTION_BYTES_MAX, NBD_STRING_BYTES_MAX } from "../base/limits.js";
import type { Arena } from "../ports/arena.js";
import type { Stream } from "../ports/stream.js";
import type { ExportTable, NbdExport } from "./export.js";
import { listsAllocation, parseMetaQueries, selectsAllocation } from "./meta-context.js";
import {
  InfoType,
  OPTIONS,
  type OptionName,
  OptionReply,
  optionByCode,
  REFUSAL_TEXT,
} from "./options.js";
import {
  ALLOCATION_CONTEXT,
  ALLOCATION_CONTEXT_ID,
  ATTACHMENT_BYTES,
  CLIENT_FLAGS_BYTES,
  EXPORT_NAME_ZEROES,
  GREETING_BYTES,
  HANDSHAKE,
  HANDSHAKE_OFFERED,
  NBD_MAGIC_HIGH,
  NBD_MAGIC_LOW,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_BYTES,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
} from "./protocol.js";

// Fixed newstyle handshake of one connection.
//
//   flags ──► option ◄──► data        one option at a time, each answered before the next
//                          │
//                          ├─ EXPORT_NAME, GO ──► "transmission"
//                          └─ ABORT ────────────► "ended"
//
// It parses whatever the stream holds, one element per step, and never waits for bytes by itself.
// Anything that cannot be resynchronised is thrown as a Fault, and the connection ends.

export type HandshakeOutcome = "haggling" | "transmission" | "ended";

/** What a finished handshake agreed on. */
export interface Agreement {
  readonly target: NbdExport;
  readonly structured: boolean;
  /** base:allocation was selected for this export. */
  readonly allocation: boolean;
  /** Hexadecimal digits that are the same for all connections of one client to an export, one after the other; null: it did not say. */
  readonly attachment: string | null;
}

export interface HandshakeSetting {
  readonly exports: ExportTable;
  /** Largest payload that we announce. */
  readonly payloadBytesMax: number;
  readonly stopping: boolean;
}

export class Handshake {
  readonly #arena: Arena;
  readonly #stream: Stream;
  readonly #setting: HandshakeSetting;
  #at: "flags" | "option" | "data" = "flags";
  #outcome: HandshakeOutcome = "haggling";
  #agreement: Agreement | undefined;
  #fixed = false;
  #noZeroes = false;
  #structured = false;
  #attachment: string | null = null;
  /** Export name of the last SET_META_CONTEXT that selected base:allocation. */
  #allocationFor: string | undefined;
  #option = 0;
  #dataBytes = 0;

  constructor(arena: Arena, stream: Stream, setting: HandshakeSetting) {
    this.#arena = arena;
    this.#stream = stream;
    this.#setting = setting;
  }

  get outcome(): HandshakeOutcome {
    return this.#outcome;
  }
  /** Defined once the outcome is "transmission". */
  get agreement(): Agreement | undefined {
    return this.#agreement;
  }

  greet(): void {
    const { view } = this.#arena;
    const at = this.#stream.compose(GREETING_BYTES);
    view.setUint32(at, NBD_MAGIC_HIGH);
    view.setUint32(at + 4, NBD_MAGIC_LOW);
    view.setUint32(at + 8, OPTION_MAGIC_HIGH);
    view.setUint32(at + 12, OPTION_MAGIC_LOW);
    view.setUint16(at + 16, HANDSHAKE_OFFERED);
  }

  /** Takes one element from [at, end); answers the bytes consumed, 0 when it is not complete yet. */
  step(at: number, end: number): number {
    const { view } = this.#arena;
    const have = end - at;
    switch (this.#at) {
      case "flags":
        if (have < CLIENT_FLAGS_BYTES) return 0;
        this.#takeFlags(view.getUint32(at));
        this.#at = "option";
        return CLIENT_FLAGS_BYTES;
      case "option":
        if (have < OPTION_HEADER_BYTES) return 0;
        this.#takeHeader(at);
        if (this.#dataBytes === 0) this.#serve(at + OPTION_HEADER_BYTES);
        else this.#at = "data";
        return OPTION_HEADER_BYTES;
      case "data": {
        if (have < this.#dataBytes) return 0;
        this.#at = "option";
        this.#serve(at);
        return this.#dataBytes;
      }
    }
  }

  #takeFlags(flags: number): void {
    if ((flags & ~HANDSHAKE_OFFERED) !== 0)
      throw new Fault(
        "TRIVET_E_NBD_PROTOCOL",
        `${this.#stream.peer} sent handshake flags 0x${(flags >>> 0).toString(16)}, expected at most 0x3`,
      );
    this.#fixed = (flags & HANDSHAKE.fixedNewstyle) !== 0;
    this.#noZeroes = (flags & HANDSHAKE.noZeroes) !== 0;
  }

  #takeHeader(at: number): void {
    const { view } = this.#arena;
    if (view.getUint32(at) !== OPTION_MAGIC_HIGH || view.getUint32(at + 4) !== OPTION_MAGIC_LOW)
      throw new Fault(
        "TRIVET_E_NBD_PROTOCOL",
        `${this.#stream.peer} sent ${this.#arena.bytes.toString("hex", at, at + 8)} where an option begins`,
      );
    this.#option = view.getUint32(at + 8);
    this.#dataBytes = view.getUint32(at + 12);
    if (this.#dataBytes > NBD_OPTION_BYTES_MAX)
      throw new Fault(
        "TRIVET_E_NBD_PROTOCOL",
        `${this.#stream.peer} announced ${this.#dataBytes} bytes for option ${this.#option}, more than ${NBD_OPTION_BYTES_MAX}`,
      );
  }

  /** The option is complete; its data lies at `at`. */
  #serve(at: number): void {
    const name = optionByCode(this.#option);
    if (!this.#fixed && name !== "exportName" && name !== "abort")
      throw new Fault(
        "TRIVET_E_NBD_PROTOCOL",
        `${this.#stream.peer} did not accept fixed newstyle and sent option ${this.#option}`,
      );
    if (name === "exportName") this.#serveExportName(at);
    else this.#conclude(this.#answer(name, at));
  }

  /** Sends the informational replies to an option, and answers which reply concludes it. */
  #answer(name: Exclude<OptionName, "exportName"> | undefined, at: number): OptionReply {
    if (name === "abort") {
      this.#outcome = "ended";
      return OptionReply.ack;
    }
    if (this.#setting.stopping) return OptionReply.errShutdown;
    if (name === undefined) return OptionReply.errUnsup;
    if (OPTIONS[name].data === "none" && this.#dataBytes > 0) return OptionReply.errInvalid;
    switch (name) {
      case "list":
        this.#sendList();
        return OptionReply.ack;
      case "structuredReply":
        this.#structured = true;
        return OptionReply.ack;
      case "info":
      case "go":
        return this.#answerInfo(at, name === "go");
      case "listMetaContext":
      case "setMetaContext":
        return this.#answerMetaContext(at, name === "setMetaContext");
      case "attachment":
        if (this.#dataBytes !== ATTACHMENT_BYTES) return OptionReply.errInvalid;
        this.#attachment = this.#arena.bytes.toString("hex", at, at + ATTACHMENT_BYTES);
        return OptionReply.ack;
      case "peekExport":
      case "startTls":
      case "extendedHeaders":
        return OptionReply.errUnsup;
    }
  }

  #agree(name: string, target: NbdExport): void {
    this.#agreement = {
      target,
      structured: this.#structured,
      allocation: this.#structured && this.#allocationFor === name,
      attachment: this.#attachment,
    };
    this.#outcome = "transmission";
  }

  #serveExportName(at: number): void {
    const { bytes, view } = this.#arena;
    if (this.#setting.stopping)
      throw new Fault("TRIVET_E_NBD_PROTOCOL", `${this.#stream.peer} came while we are stopping`);
    const name = bytes.toString("utf8", at, at + this.#dataBytes);
    const target =
      this.#dataBytes <= NBD_STRING_BYTES_MAX ? this.#setting.exports.find(name) : undefined;
    if (target === undefined)
      throw new Fault(
        "TRIVET_E_NBD_PROTOCOL",
        `${this.#stream.peer} asked for the export ${JSON.stringify(name.slice(0, 100))}, which is not served`,
      );
    const length = 10 + (this.#noZeroes ? 0 : EXPORT_NAME_ZEROES);
    const out = this.#stream.compose(length);
    view.setBigUint64(out, BigInt(target.device.sizeBytes));
    view.setUint16(out + 8, target.offers(this.#structured));
    bytes.fill(0, out + 10, out + length);
    this.#agree(name, target);
  }

  #sendList(): void {
    const { bytes, view } = this.#arena;
    for (const { nameBytes, descriptionBytes } of this.#setting.exports.all) {
      const length = 4 + nameBytes.length + descriptionBytes.length;
      const out = this.#reply(OptionReply.server, length);
      view.setUint32(out, nameBytes.length);
      bytes.set(nameBytes, out + 4);
      bytes.set(descriptionBytes, out + 4 + nameBytes.length);
    }
  }

  /** u32 length and name, u16 count, count × u16 information type. */
  #answerInfo(at: number, go: boolean): OptionReply {
    const { bytes, view } = this.#arena;
    const nameBytes = this.#dataBytes >= 6 ? view.getUint32(at) : Number.POSITIVE_INFINITY;
    if (nameBytes > this.#dataBytes - 6 || nameBytes > NBD_STRING_BYTES_MAX)
      return OptionReply.errInvalid;
    const count = view.getUint16(at + 4 + nameBytes);
    if (6 + nameBytes + 2 * count !== this.#dataBytes) return OptionReply.errInvalid;
    const name = bytes.toString("utf8", at + 4, at + 4 + nameBytes);
    const target = this.#setting.exports.find(name);
    if (target === undefined) return OptionReply.errUnknown;

    const exportInfo = this.#reply(OptionReply.info, 12);
    view.setUint16(exportInfo, InfoType.export);
    view.setBigUint64(exportInfo + 2, BigInt(target.device.sizeBytes));
    view.setUint16(exportInfo + 10, target.offers(this.#structured));
    const asked = new Set<number>();
    for (let i = 0; i < count; i++) asked.add(view.getUint16(at + 6 + nameBytes + 2 * i));
    for (const type of asked) this.#sendInfo(type, target);
    if (go) this.#agree(name, target);
    return OptionReply.ack;
  }

  #sendInfo(type: number, target: NbdExport): void {
    const { bytes, view } = this.#arena;
    switch (type) {
      case InfoType.name:
      case InfoType.description: {
        const text = type === InfoType.name ? target.nameBytes : target.descriptionBytes;
        const out = this.#reply(OptionReply.info, 2 + text.length);
        view.setUint16(out, type);
        bytes.set(text, out + 2);
        return;
      }
      case InfoType.blockSize: {
        const out = this.#reply(OptionReply.info, 14);
        view.setUint16(out, type);
        view.setUint32(out + 2, target.minimumBytes);
        view.setUint32(out + 6, target.preferredBytes);
        view.setUint32(out + 10, this.#setting.payloadBytesMax);
        return;
      }
    }
  }

  #answerMetaContext(at: number, select: boolean): OptionReply {
    if (select) this.#allocationFor = undefined;
    if (!this.#structured) return OptionReply.errInvalid;
    const asked = parseMetaQueries(this.#arena.bytes, at, this.#dataBytes);
    if (asked === undefined) return OptionReply.errInvalid;
    if (this.#setting.exports.find(asked.name) === undefined) return OptionReply.errUnknown;
    if (select ? selectsAllocation(asked.queries) : listsAllocation(asked.queries)) {
      const text = Buffer.from(ALLOCATION_CONTEXT);
      const out = this.#reply(OptionReply.metaContext, 4 + text.length);
      this.#arena.view.setUint32(out, select ? ALLOCATION_CONTEXT_ID : 0);
      this.#arena.bytes.set(text, out + 4);
      if (select) this.#allocationFor = asked.name;
    }
    return OptionReply.ack;
  }

  /** The last reply to an option. */
  #conclude(reply: OptionReply): void {
    const text = Buffer.from(REFUSAL_TEXT[reply] ?? "");
    this.#arena.bytes.set(text, this.#reply(reply, text.length));
  }

  /** Queues a reply to the current option and says where its data goes. */
  #reply(type: OptionReply, dataBytes = 0): number {
    const { view } = this.#arena;
    const at = this.#stream.compose(OPTION_REPLY_BYTES + dataBytes);
    view.setUint32(at, OPTION_REPLY_MAGIC_HIGH);
    view.setUint32(at + 4, OPTION_REPLY_MAGIC_LOW);
    view.setUint32(at + 8, this.#option);
    view.setUint32(at + 12, type);
    view.setUint32(at + 16, dataBytes);
    return at + OPTION_REPLY_BYTES;
  }
}
