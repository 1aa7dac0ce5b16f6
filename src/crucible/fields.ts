import type {
  BlockIndex,
  ClientId,
  ExtentId,
  FlushNumber,
  Generation,
  JobId,
} from "../base/ids.js";
import type { Codec } from "../wire/codec.js";
import { bool, fixedBytes, u8, u32, u64, u64Big, uuid } from "../wire/primitives.js";
import { option, struct, variants, vec } from "../wire/shapes.js";
import type { RegionDefinition } from "./region-definition.js";

// The types that several messages share (wire reference 2.1).

const branded = <T>(codec: Codec<number>): Codec<T> => codec as Codec<unknown> as Codec<T>;

export const jobId = branded<JobId>(u64);
export const blockIndex = branded<BlockIndex>(u64);
export const extentId = branded<ExtentId>(u32);
export const flushNumber = branded<FlushNumber>(u64);
export const clientId = branded<ClientId>(u8);
export const generation = u64Big as Codec<unknown> as Codec<Generation>;
export const dependencies = vec(jobId);

/** Who sends a job: the upstairs, and the one run of it that a session is. */
export const ids = { upstairsId: uuid, sessionId: uuid };
export const job = { ...ids, jobId };
export const request = { ...job, dependencies };

export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;
export const encryptionContext = struct({
  nonce: fixedBytes(NONCE_BYTES),
  tag: fixedBytes(TAG_BYTES),
});

/** What travels with every block written. */
export const blockContext = struct({ hash: u64Big, encryption: option(encryptionContext) });

/** What comes back with every block read. Empty: never written. */
export const readBlockContext = variants({
  Empty: {},
  Encrypted: { nonce: fixedBytes(NONCE_BYTES), tag: fixedBytes(TAG_BYTES) },
  Unencrypted: { hash: u64Big },
});

export const regionDefinition: Codec<RegionDefinition> = struct({
  blockSize: u64,
  extentSize: u64,
  shift: u32,
  extentCount: u32,
  uuid,
  encrypted: bool,
  databaseReadVersion: u64,
  databaseWriteVersion: u64,
});
