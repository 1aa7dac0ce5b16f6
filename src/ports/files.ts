import type { Fault } from "../base/fault.js";

/** Data path of files. `file` is a descriptor. Results: bytes moved (short only at end of file) or −errno. */
export interface FileIo {
  read(file: number, offset: number, at: number, length: number, done: FileDone, tag: number): void;
  write(
    file: number,
    offset: number,
    at: number,
    length: number,
    done: FileDone,
    tag: number,
  ): void;
  /**
   * Scattered memory, one contiguous file range: piece i is `length` bytes at `pieces[2i]`, `pieces[2i+1]`.
   * The array may be reused as soon as the call returned; at most FILE_PIECES_MAX pieces.
   */
  writeGather(
    file: number,
    offset: number,
    pieces: Float64Array,
    count: number,
    done: FileDone,
    tag: number,
  ): void;
  sync(file: number, dataOnly: boolean, done: FileDone, tag: number): void;
}
export const FILE_PIECES_MAX = 256;

export interface FileDone {
  /** Never called before the request returned. */
  fileDone(tag: number, result: number): void;
}

export type OpenMode = "read" | "readWrite" | "create";

/**
 * Names and directories: the slow path. Every call answers later, exactly once. Faults carry the
 * path and the reason in words; `errno` tells ENOENT and EEXIST apart where it matters.
 */
export interface FileTree {
  /** "create" fails when the file exists. */
  open(path: string, mode: OpenMode, then: (fault: Fault | null, file: number) => void): void;
  close(file: number): void;
  /** Takes the exclusive advisory lock of an open file, kept until it is closed; false: another process has it. */
  lock(file: number): boolean;
  /** Size in bytes; −1: there is no such file. */
  sizeOf(path: string, then: (fault: Fault | null, sizeBytes: number) => void): void;
  setSize(file: number, sizeBytes: number, then: Then): void;
  /** Names in a directory, sorted; null: there is no such directory. */
  list(path: string, then: (fault: Fault | null, names: readonly string[] | null) => void): void;
  /** With parents when `parents`; otherwise fails when it exists. */
  makeDirectory(path: string, parents: boolean, then: Then): void;
  rename(from: string, to: string, then: Then): void;
  /** Truncates `to` and copies the contents of `from` over it, then syncs it; holes are kept where the system can. */
  copyOver(from: string, to: string, then: Then): void;
  /** File or directory with everything in it; nothing there is success. */
  remove(path: string, then: Then): void;
  /** fsync of a directory. */
  syncDirectory(path: string, then: Then): void;
}
export type Then = (fault: Fault | null) => void;
