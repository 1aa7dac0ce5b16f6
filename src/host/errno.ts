import { constants } from "node:os";
import { getSystemErrorName } from "node:util";

/** "connection refused (ECONNREFUSED)" for the errors that people meet, the bare name for the rest. */
export function describe(result: number): string {
  let name: string;
  try {
    name = getSystemErrorName(result);
  } catch {
    return `error ${-result}`;
  }
  const words = WORDS[name];
  return words === undefined ? name : `${words} (${name})`;
}

const WORDS: Readonly<Record<string, string | undefined>> = {
  EACCES: "permission denied",
  EADDRINUSE: "the address is in use",
  EADDRNOTAVAIL: "no such address on this machine",
  EAGAIN: "the other side accepts no more connections now",
  ECONNREFUSED: "nobody listens there",
  ECONNRESET: "the other side reset the connection",
  EEXIST: "something else has that name",
  EHOSTUNREACH: "the host cannot be reached",
  EINVAL: "it is not valid",
  EIO: "the device failed",
  EMFILE: "too many open files",
  ENAMETOOLONG: "the name is too long",
  ENETUNREACH: "the network cannot be reached",
  ENOENT: "there is no such file",
  ENOSPC: "the file system is full",
  EPERM: "not permitted",
  EPIPE: "the other side has closed the connection",
  EROFS: "the file system is read-only",
  ETIMEDOUT: "the other side does not answer",
};

/** Negative errno constants that host code compares with. */
export const ERRNO = {
  addressInUse: -constants.errno.EADDRINUSE,
  permission: -constants.errno.EACCES,
  notPermitted: -constants.errno.EPERM,
  noSpace: -constants.errno.ENOSPC,
  noMemory: -constants.errno.ENOMEM,
  wouldBlock: -constants.errno.EWOULDBLOCK,
  connectionReset: -constants.errno.ECONNRESET,
  invalid: -constants.errno.EINVAL,
  timedOut: -constants.errno.ETIMEDOUT,
} as const;
