// The NBD protocol's numbers: magics, handshake, transmission flags, chunks, errors. Options and
// commands have tables of their own. Everything on this wire is big-endian, which is also what
// DataView writes by default. u64 magics are kept as two u32 halves.

export const GREETING_BYTES = 18;
/** "NBDMAGIC" */
export const NBD_MAGIC_HIGH = 0x4e42444d;
export const NBD_MAGIC_LOW = 0x41474943;
/** "IHAVEOPT": opens the greeting's second half and every option. */
export const OPTION_MAGIC_HIGH = 0x49484156;
export const OPTION_MAGIC_LOW = 0x454f5054;
export const OPTION_REPLY_MAGIC_HIGH = 0x0003e889;
export const OPTION_REPLY_MAGIC_LOW = 0x045565a9;

/** Handshake flags, the same bits in both directions. */
export const HANDSHAKE = { fixedNewstyle: 1, noZeroes: 2 } as const;
export const HANDSHAKE_OFFERED = HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes;

export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_BYTES = 20;
/** Zeros that follow the answer to EXPORT_NAME unless the client declined them. */
export const EXPORT_NAME_ZEROES = 124;

/** Length of what a client may say about which attachment it makes a connection for. */
export const ATTACHMENT_BYTES = 16;

/** Transmission flags: what an export offers in this session. */
export const OFFERS = {
  hasFlags: 0x0001,
  readOnly: 0x0002,
  flush: 0x0004,
  fua: 0x0008,
  rotational: 0x0010,
  trim: 0x0020,
  writeZeroes: 0x0040,
  df: 0x0080,
  multiConn: 0x0100,
  cache: 0x0400,
} as const;

export const REQUEST_MAGIC = 0x25609513;
export const REQUEST_BYTES = 28;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const SIMPLE_REPLY_BYTES = 16;
export const CHUNK_MAGIC = 0x668e33ef;
export const CHUNK_BYTES = 20;

export const CHUNK_DONE = 1;
export const CHUNK = {
  none: 0,
  offsetData: 1,
  blockStatus: 5,
  error: 0x8001,
} as const;

/** The only errors that may travel. */
export const NbdError = {
  none: 0,
  /** EPERM */
  notPermitted: 1,
  /** EIO */
  io: 5,
  /** EINVAL */
  invalid: 22,
  /** ENOSPC */
  noSpace: 28,
  /** EOVERFLOW: DF reads only */
  overflow: 75,
} as const;
export type NbdError = (typeof NbdError)[keyof typeof NbdError];

/** Short texts that go with an error chunk. */
export const ERROR_TEXT: Readonly<Record<NbdError, string>> = {
  [NbdError.none]: "",
  [NbdError.notPermitted]: "the export is read-only",
  [NbdError.io]: "the storage failed",
  [NbdError.invalid]: "the request is not valid for this export",
  [NbdError.noSpace]: "the request reaches past the end of the export",
  [NbdError.overflow]: "too long to be answered in one chunk",
};

/** Defaults that hold when a client negotiated nothing. */
export const PREFERRED_BLOCK_BYTES = 4096;
/** "base:allocation" is the only metadata context; its id in every session that selects it. */
export const ALLOCATION_CONTEXT = "base:allocation";
export const ALLOCATION_CONTEXT_ID = 1;
