import { fstatSync } from "node:fs";
import { Fault } from "../../base/fault.js";
import { managerCaughtUp, memoryFile } from "../../host/descriptors.js";
import { notifyManager } from "../../host/notify.js";
import type { Notes } from "../../ports/notes.js";
import {
  closeDescriptors,
  descriptorsOf,
  type Inheritance,
  inheritanceBytes,
  isTaken,
  markTaken,
  readInheritance,
  readMemoryFile,
} from "./inheritance.js";
import type { PassedDescriptor } from "./passed-sockets.js";

// A service manager keeps descriptors over a restart (sd_pid_notify_with_fds(3), FDSTORE): a server puts what its successor needs
// there and ends; the successor gets them with the sockets of activation, told apart by their names. What is in there is given to every
// start until it is taken out, also to one after a crash, so it is marked as used before the first client is served. Order and names are the
// manager's business (what it has already it does not take again), so which socket is which is told by their inodes.

const STATE = "trivet.state";
const SOCKETS = "trivet.sockets";
const AT_ONCE = 250;
const CAUGHT_UP_MS = 3_000;

type Left = Pick<Inheritance, "listeners" | "clients" | "log">;

/**
 * The last thing that a server does. What came by activation is not stored: it is passed again anyway. What cannot be stored is closed by the end of
 * the process.
 */
export function store(socket: string, volume: string, left: Left, notes: Notes): void {
  try {
    putAll(socket, volume, left, notes);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    notes("warn", "server.not-stored", `clients have to connect again: ${error.message}`);
  }
}

function putAll(socket: string, volume: string, left: Left, notes: Notes): void {
  const listeners = left.listeners.filter(({ key }) => !isActivated(key));
  const kept = { ...left, listeners };
  const descriptors = descriptorsOf(kept);
  for (let from = 0; from < descriptors.length; from += AT_ONCE)
    put(socket, SOCKETS, descriptors.slice(from, from + AT_ONCE));
  // Last: without it nobody would use the others.
  const bytes = inheritanceBytes(volume, kept, descriptors.map(inodeOf));
  put(socket, STATE, [memoryFile("trivet-state", bytes)]);
  const isKept = managerCaughtUp(socket, CAUGHT_UP_MS);
  notes(
    isKept ? "info" : "warn",
    "server.stored",
    `${left.clients.length} clients are left with the service manager for the next start${isKept ? "" : ", which has not confirmed it"}`,
  );
}

/** Takes what a server before this one stored out of `passed`. Null: nothing, or nothing that can be used. */
export function restore(
  passed: readonly PassedDescriptor[],
  socket: string | undefined,
  volume: string,
  notes: Notes,
): { readonly inheritance: Inheritance | null; readonly others: readonly PassedDescriptor[] } {
  const isStored = ({ name }: PassedDescriptor): boolean => name === STATE || name === SOCKETS;
  const stored = passed.filter(isStored);
  const others = passed.filter((one) => !isStored(one));
  if (stored.length === 0) return { inheritance: null, others };
  // A manager that forgot to forget has old ones, too, which say that they are used.
  const states = stored.filter(({ name }) => name === STATE);
  const state = states.find(({ descriptor }) => !isTaken(descriptor)) ?? states[0];
  const sockets = stored.filter(({ name }) => name === SOCKETS);
  const forget = (): void => {
    for (const name of [STATE, SOCKETS]) notifyManager(socket, `FDSTOREREMOVE=1\nFDNAME=${name}`);
  };
  try {
    if (state === undefined)
      throw new Fault("TRIVET_E_HAND_OVER", "the server before this one ended while it left them");
    const told = readInheritance(readMemoryFile(state.descriptor), volume);
    const byInode = new Map(sockets.map(({ descriptor }) => [inodeOf(descriptor), descriptor]));
    const found = told.inodes.map((inode) => byInode.get(inode));
    const left = told.with(found);
    closeDescriptors(
      sockets.map(({ descriptor }) => descriptor).filter((one) => !found.includes(one)),
    );
    const taken = (): void => {
      markTaken(state.descriptor);
      closeDescriptors(states.map(({ descriptor }) => descriptor));
      forget();
    };
    return { inheritance: { ...left, taken }, others };
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    notes(
      "warn",
      "server.not-restored",
      `${sockets.length} sockets of the server before this one are closed: ${error.message}`,
    );
    closeDescriptors(stored.map(({ descriptor }) => descriptor));
    forget();
    return { inheritance: null, others };
  }
}

/** Listeners that a service manager bound. */
export const activatedKey = (place: number): string => `activated:${place}`;
export const isActivated = (key: string): boolean => key.startsWith("activated:");

const inodeOf = (descriptor: number): number => fstatSync(descriptor).ino;

function put(socket: string, name: string, descriptors: readonly number[]): void {
  const result = notifyManager(socket, `FDSTORE=1\nFDNAME=${name}`, descriptors);
  if (result < 0)
    throw new Fault("TRIVET_E_HAND_OVER", `the service manager cannot be given ${name} to keep`, {
      errno: result,
    });
}
