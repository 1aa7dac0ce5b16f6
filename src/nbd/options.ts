// Handshake options as data. The handshake looks an option up here by its number.

/** `data`: "none" – any data at all is an error; "ignored" – dropped; "parsed" – the handshake reads it. */
export const OPTIONS = {
  exportName: { code: 1, data: "parsed" },
  abort: { code: 2, data: "ignored" },
  list: { code: 3, data: "none" },
  /** Withdrawn from the protocol. */
  peekExport: { code: 4, data: "ignored" },
  startTls: { code: 5, data: "ignored" },
  info: { code: 6, data: "parsed" },
  go: { code: 7, data: "parsed" },
  structuredReply: { code: 8, data: "none" },
  listMetaContext: { code: 9, data: "parsed" },
  setMetaContext: { code: 10, data: "parsed" },
  /** The first thing that QEMU from 8.2 on asks; refused, it goes on with structured replies. */
  extendedHeaders: { code: 11, data: "ignored" },
  /** "TRVA": of our own, far from where the protocol's numbers go on. ATTACHMENT_BYTES that say which client this is a connection of. */
  attachment: { code: 0x54525641, data: "parsed" },
} as const;

export type OptionName = keyof typeof OPTIONS;

const byCode = new Map(
  Object.entries(OPTIONS).map(([name, row]) => [row.code as number, name as OptionName]),
);

export function optionByCode(code: number): OptionName | undefined {
  return byCode.get(code);
}

export const OptionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsup: 0x80000001,
  errInvalid: 0x80000003,
  errUnknown: 0x80000006,
  errShutdown: 0x80000007,
} as const;
export type OptionReply = (typeof OptionReply)[keyof typeof OptionReply];

export const InfoType = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

/** Short texts for people that go with refusals. */
export const REFUSAL_TEXT: Readonly<Partial<Record<OptionReply, string>>> = {
  [OptionReply.errUnsup]: "not supported",
  [OptionReply.errInvalid]: "malformed or out of place",
  [OptionReply.errUnknown]: "no such export",
  [OptionReply.errShutdown]: "the server is stopping",
};
