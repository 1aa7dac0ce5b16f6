import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import type { CopyAge } from "../../region/choose-block.js";
import {
  COMPLETED_SUFFIX,
  COPY_SUFFIX,
  type ExtentLayout,
  extentName,
  extentPath,
  METADATA_BYTES,
  REPLACE_SUFFIX,
} from "../../region/layout.js";
import { decodeMetadata } from "../../region/metadata.js";
import { asFault } from "../report.js";

// The files that hold, or held, one extent, opened for salvage: whatever is wrong with them is noted, nothing is refused.

/** What salvage needs of a file. A FileHandle is one. */
export interface ReadableFile {
  read(
    into: Uint8Array,
    at: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesRead: number }>;
  stat(): Promise<{ readonly size: number; isFile(): boolean }>;
  close(): Promise<void>;
}
export type OpenFile = (path: string) => Promise<ReadableFile>;

/** Not even a named pipe in the place of an extent makes this wait. */
export const openForReading: OpenFile = (path) =>
  open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);

/** One file that holds, or held, an extent. */
export interface Copy extends CopyAge {
  /** Index of the directory. */
  readonly source: number;
  /** Relative to the directory. */
  readonly name: string;
  readonly file: ReadableFile;
  readonly sizeBytes: number;
  /** Undefined: not to be trusted, or not to be had. */
  readonly bitmap: Uint8Array | undefined;
  /** What is wrong with the file as a whole. */
  readonly problem: string | undefined;
}

export interface Candidates {
  readonly copies: Copy[];
  /** Why the extent's own file gives no copy at all. */
  readonly missing: string | undefined;
}

/**
 * Opens whatever a directory has of an extent: its file, and what an interrupted repair left beside it. Of the latter only
 * `X.replace/X` is a promise (the file itself may be half overwritten then); the rest may be in any state.
 */
export async function openCopies(
  directory: string,
  source: number,
  replica: number,
  number: number,
  layout: ExtentLayout,
  openFile: OpenFile,
): Promise<Candidates> {
  const path = extentPath(number);
  const copies: Copy[] = [];
  const attempt = async (name: string, isWhole: boolean): Promise<string | undefined> => {
    const opened = await openCopy(directory, name, layout, openFile);
    if (typeof opened === "string") return opened;
    const known = isWhole && opened.known;
    const bitmap = known ? opened.bitmap : undefined;
    copies.push({ ...opened, known, bitmap, source, replica, name });
    return undefined;
  };
  const beside = (suffix: string): string => `${path}${suffix}/${extentName(number)}`;
  await attempt(beside(REPLACE_SUFFIX), true);
  const isReplaced = copies.length > 0;
  const missing = await attempt(path, !isReplaced);
  await attempt(beside(COMPLETED_SUFFIX), false);
  await attempt(beside(COPY_SUFFIX), false);
  return { copies, missing };
}

const inWords = (error: unknown): string => asFault(error)?.message ?? String(error);

async function openCopy(
  directory: string,
  name: string,
  layout: ExtentLayout,
  openFile: OpenFile,
): Promise<Omit<Copy, "source" | "replica" | "name"> | string> {
  let file: ReadableFile;
  try {
    file = await openFile(join(directory, name));
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT"
      ? "the file is missing"
      : `it cannot be opened: ${inWords(error)}`;
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) {
      await file.close();
      return "it is no ordinary file";
    }
    const problems: string[] = [];
    if (stat.size !== layout.fileBytes) {
      problems.push(`it has ${stat.size} bytes, expected ${layout.fileBytes}`);
    }
    const bad = new Uint8Array(1);
    const record = new Uint8Array(METADATA_BYTES);
    await readUnits(file, record, 0, 1, METADATA_BYTES, layout.metadataAt, bad, 0);
    const metadata =
      bad[0] === 1
        ? "the metadata record cannot be read"
        : decodeMetadata(new DataView(record.buffer), 0);
    const bits = new Uint8Array(layout.bitmapBytes);
    await readUnits(file, bits, 0, 1, layout.bitmapBytes, layout.bitmapAt, bad, 0);
    const bitmap = bad[0] === 1 || hasStrayBits(bits, layout.blocks) ? undefined : bits;
    const sizeBytes = stat.size;
    const said = (): string | undefined => (problems.length > 0 ? problems.join("; ") : undefined);
    if (typeof metadata === "string") {
      problems.push(metadata);
      const age = { known: false, generation: 0n, flushNumber: 0, dirty: true };
      return { ...age, file, sizeBytes, bitmap: undefined, problem: said() };
    }
    if (bitmap === undefined && !metadata.dirty) problems.push("the bitmap is damaged");
    const { generation, flushNumber, dirty } = metadata;
    const age = { known: true, generation, flushNumber, dirty };
    return { ...age, file, sizeBytes, bitmap: dirty ? undefined : bitmap, problem: said() };
  } catch (error) {
    await file.close();
    return `it cannot be read: ${inWords(error)}`;
  }
}

/** Bits beyond the last block are never set by anybody. */
const hasStrayBits = (bitmap: Uint8Array, blocks: number): boolean =>
  blocks % 8 !== 0 && bitmap[bitmap.length - 1]! >>> (blocks % 8) !== 0;

/**
 * Reads `units` of `unitBytes` each; marks in `bad` those that are beyond the end or cannot be read. When a disk
 * refuses the whole, every unit is asked for by itself.
 */
export async function readUnits(
  file: ReadableFile,
  into: Uint8Array,
  at: number,
  units: number,
  unitBytes: number,
  position: number,
  bad: Uint8Array,
  badAt: number,
): Promise<void> {
  bad.fill(0, badAt, badAt + units);
  const length = units * unitBytes;
  const got = await readMost(file, into, at, length, position);
  if (got >= 0) {
    bad.fill(1, badAt + Math.floor(got / unitBytes), badAt + units);
    return;
  }
  for (let i = 0; i < units; i++) {
    const from = i * unitBytes;
    if ((await readMost(file, into, at + from, unitBytes, position + from)) !== unitBytes) {
      bad[badAt + i] = 1;
    }
  }
}

/** Bytes read up to the end of the file, or −1: the system reported an error. */
async function readMost(
  file: ReadableFile,
  into: Uint8Array,
  at: number,
  length: number,
  position: number,
): Promise<number> {
  let done = 0;
  try {
    while (done < length) {
      const { bytesRead } = await file.read(into, at + done, length - done, position + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
  } catch {
    return -1;
  }
  return done;
}
