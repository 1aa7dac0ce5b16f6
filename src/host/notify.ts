import { addon } from "./native.js";

/**
 * Tells the service manager, when there is one, e.g. "READY=1" or "WATCHDOG=1". `socket` is the value of
 * NOTIFY_SOCKET; without one nothing happens. Zero, or −errno: nobody need care, the manager has its own timer.
 */
export function notifyManager(
  socket: string | undefined,
  text: string,
  descriptors: readonly number[] = [],
): number {
  if (socket === undefined || socket === "") return 0;
  return addon().notify(socket, text, descriptors);
}
