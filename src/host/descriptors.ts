import fs from "node:fs";
import { Fault } from "../base/fault.js";
import { describe, ERRNO } from "./errno.js";
import { addon } from "./native.js";

// Open descriptors on their way from one process to another, and memory to tell about them.

/** Most that one message carries. */
const AT_ONCE = 250;

/** Two connected sockets, one for each process. Throws a Fault. */
export const socketPair = (): [number, number] => addon().pair();

/** The other process gets descriptors of its own for the same files, in the same order. Never waits. Throws a Fault. */
export function sendDescriptors(socket: number, descriptors: readonly number[]): void {
  for (let from = 0; from < descriptors.length; from += AT_ONCE) {
    const result = addon().sendDescriptors(socket, descriptors.slice(from, from + AT_ONCE));
    if (result < 0)
      throw new Fault(
        "TRIVET_E_HAND_OVER",
        `the successor cannot be given what is open: ${describe(result)}`,
        { errno: result },
      );
  }
}

/** Waits for the next message, and does nothing else meanwhile. Undefined: the other process is gone. Throws a Fault. */
export function receiveDescriptors(socket: number): number[] | undefined {
  try {
    return addon().receiveDescriptors(socket, -1);
  } catch (error) {
    const errno = (error as { errno?: number }).errno ?? 0;
    if (errno === ERRNO.connectionReset) return undefined;
    throw new Fault("TRIVET_E_HAND_OVER", `what is open did not arrive: ${describe(errno)}`, {
      errno,
      cause: error,
    });
  }
}

/** A file in memory that has no name and lives as long as somebody has it open. Throws a Fault. */
export function memoryFile(name: string, content: Uint8Array): number {
  const descriptor = addon().memoryFile(name);
  if (descriptor < 0)
    throw new Fault(
      "TRIVET_E_MEMORY",
      `no memory for what is handed over: ${describe(descriptor)}`,
    );
  for (let done = 0; done < content.length; )
    done += fs.writeSync(descriptor, content, done, content.length - done, done);
  return descriptor;
}

/** Waits until the service manager has come to what it was told before; false: it did not within that time. */
export const managerCaughtUp = (socket: string, timeoutMs: number): boolean =>
  addon().notifyBarrier(socket, timeoutMs) === 0;
