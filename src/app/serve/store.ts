import { Fault } from "../../base/fault.js";
import { managerCaughtUp, memoryFile } from "../../host/descriptors.js";
import { notifyManager } from "../../host/notify.js";
import type { Notes } from "../../ports/notes.js";
import {
  closeDescriptors,
  descriptorsOf,
  type Inheritance,
  inheritanceBytes,
  markTaken,
  readInheritance,
  readMemoryFile,
} from "./inheritance.js";
import type { PassedDescriptor } from "./passed-sockets.js";

// A service manager keeps descriptors over a restart (sd_pid_notify_with_fds(3), FDSTORE): a server puts what its successor needs
// there and ends; the successor gets them with the sockets of activation, told apart by their names. What is in there is given to every
// start until it is taken out, also to one after a crash, so it is marked as used before the first client is served.

const STATE = "trivet.state";
const PREFIX = "trivet.";
const CAUGHT_UP_MS = 3_000;

type Left = Pick<Inheritance, "listeners" | "clients" | "log">;

/** The last thing that a server does. What came by activation is not stored: it is passed again anyway. */
export function store(socket: string, volume: string, left: Left, notes: Notes): void {
  const listeners = left.listeners.filter(({ key }) => !isActivated(key));
  const kept = { ...left, listeners };
  for (const [i, descriptor] of descriptorsOf(kept).entries())
    put(socket, `${PREFIX}${i}`, descriptor);
  // Last: without it nobody would use the others.
  put(socket, STATE, memoryFile("trivet-state", inheritanceBytes(volume, kept)));
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
  const stored = passed.filter(({ name }) => name.startsWith(PREFIX));
  const others = passed.filter(({ name }) => !name.startsWith(PREFIX));
  if (stored.length === 0) return { inheritance: null, others };
  const state = stored.find(({ name }) => name === STATE);
  const rest = stored.filter((one) => one !== state);
  const forget = (): void => {
    for (const { name } of stored) notifyManager(socket, `FDSTOREREMOVE=1\nFDNAME=${name}`);
  };
  try {
    if (state === undefined)
      throw new Fault("TRIVET_E_HAND_OVER", "the server before this one ended while it left them");
    const told = readInheritance(readMemoryFile(state.descriptor), volume);
    const byPlace = Array.from(
      { length: told.descriptors },
      (_, i) => rest.find(({ name }) => name === `${PREFIX}${i}`)?.descriptor,
    );
    const taken = (): void => {
      markTaken(state.descriptor);
      closeDescriptors([state.descriptor]);
      forget();
    };
    return { inheritance: { ...told.with(byPlace), taken }, others };
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    notes(
      "warn",
      "server.not-restored",
      `${rest.length} sockets of the server before this one are closed: ${error.message}`,
    );
    closeDescriptors(stored.map(({ descriptor }) => descriptor));
    forget();
    return { inheritance: null, others };
  }
}

/** Listeners that a service manager bound. */
export const activatedKey = (place: number): string => `activated:${place}`;
export const isActivated = (key: string): boolean => key.startsWith("activated:");

function put(socket: string, name: string, descriptor: number): void {
  const result = notifyManager(socket, `FDSTORE=1\nFDNAME=${name}`, [descriptor]);
  if (result < 0)
    throw new Fault("TRIVET_E_HAND_OVER", `the service manager cannot be given ${name} to keep`, {
      errno: result,
    });
}
