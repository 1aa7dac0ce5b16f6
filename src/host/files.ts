import fs from "node:fs";
import { Fault, type FaultCode } from "../base/fault.js";
import type { FileTree, OpenMode, Then } from "../ports/files.js";
import { describe, ERRNO } from "./errno.js";
import { addon } from "./native.js";

const COPY_BYTES = 1024 * 1024;
const { constants } = fs;
const FLAGS: Readonly<Record<OpenMode, number>> = {
  read: constants.O_RDONLY,
  readWrite: constants.O_RDWR,
  create: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
};

/** Names and directories through Node's own thread pool; every descriptor is close-on-exec (libuv sees to it). */
export class HostFileTree implements FileTree {
  open(path: string, mode: OpenMode, then: (fault: Fault | null, file: number) => void): void {
    fs.open(path, FLAGS[mode], 0o644, (error, file) =>
      error === null ? then(null, file) : then(fault("open", path, error), -1),
    );
  }
  close(file: number): void {
    fs.close(file, () => {});
  }
  lock(file: number): boolean {
    return addon().lock(file) === 0;
  }
  sizeOf(path: string, then: (fault: Fault | null, sizeBytes: number) => void): void {
    fs.stat(path, (error, stats) => {
      if (error === null) then(null, stats.size);
      else if (isMissing(error)) then(null, -1);
      else then(fault("look at", path, error), -1);
    });
  }
  setSize(file: number, sizeBytes: number, then: Then): void {
    fs.ftruncate(file, sizeBytes, (error) =>
      then(error === null ? null : fault("size", `a file to ${sizeBytes} bytes`, error)),
    );
  }
  list(path: string, then: (fault: Fault | null, names: readonly string[] | null) => void): void {
    fs.readdir(path, (error, names) => {
      if (error === null) then(null, names.sort());
      else if (isMissing(error)) then(null, null);
      else then(fault("list", path, error), null);
    });
  }
  makeDirectory(path: string, parents: boolean, then: Then): void {
    fs.mkdir(path, { recursive: parents }, (error) =>
      then(error === null ? null : fault("create", path, error)),
    );
  }
  rename(from: string, to: string, then: Then): void {
    fs.rename(from, to, (error) =>
      then(error === null ? null : fault("rename", `${from} to ${to}`, error)),
    );
  }
  remove(path: string, then: Then): void {
    fs.rm(path, { recursive: true, force: true }, (error) =>
      then(error === null ? null : fault("remove", path, error)),
    );
  }
  syncDirectory(path: string, then: Then): void {
    sync(path, constants.O_RDONLY | constants.O_DIRECTORY).then(
      () => then(null),
      (error) => then(fault("sync", path, error)),
    );
  }
  copyOver(from: string, to: string, then: Then): void {
    copy(from, to).then(
      () => then(null),
      (error) => then(fault("copy", `${from} to ${to}`, error)),
    );
  }
}

async function sync(path: string, flags: number): Promise<void> {
  const file = await fs.promises.open(path, flags);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Shares the blocks where the file system can (XFS, btrfs); elsewhere copies and leaves out runs of zeros. */
async function copy(from: string, to: string): Promise<void> {
  try {
    await fs.promises.copyFile(from, to, constants.COPYFILE_FICLONE_FORCE);
    return await sync(to, constants.O_RDWR);
  } catch (error) {
    if (isMissing(error as NodeJS.ErrnoException)) throw error;
  }
  const source = await fs.promises.open(from, constants.O_RDONLY);
  try {
    const { O_WRONLY, O_CREAT, O_TRUNC } = constants;
    const target = await fs.promises.open(to, O_WRONLY | O_CREAT | O_TRUNC, 0o644);
    try {
      const buffer = Buffer.alloc(COPY_BYTES);
      let offset = 0;
      for (;;) {
        const { bytesRead } = await source.read(buffer, 0, COPY_BYTES, offset);
        if (bytesRead === 0) break;
        const piece = buffer.subarray(0, bytesRead);
        if (!isZero(piece)) await writeAll(target, piece, offset);
        offset += bytesRead;
      }
      await target.truncate(offset);
      await target.sync();
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}
async function writeAll(file: fs.promises.FileHandle, piece: Buffer, offset: number) {
  let done = 0;
  while (done < piece.length)
    done += (await file.write(piece, done, piece.length - done, offset + done)).bytesWritten;
}
function isZero(piece: Buffer): boolean {
  return piece[0] === 0 && piece.compare(piece, 0, piece.length - 1, 1) === 0;
}

function isMissing(error: NodeJS.ErrnoException): boolean {
  return error.code === "ENOENT";
}

function fault(doing: string, what: string, error: NodeJS.ErrnoException): Fault {
  const errno = error.errno ?? 0;
  return new Fault(code(errno), `cannot ${doing} ${what}: ${describe(errno)}`, {
    errno,
    cause: error,
  });
}
function code(errno: number): FaultCode {
  if (errno === ERRNO.permission || errno === ERRNO.notPermitted) return "TRIVET_E_PERMISSION";
  if (errno === ERRNO.noSpace) return "TRIVET_E_NO_SPACE";
  return "TRIVET_E_FILE";
}
