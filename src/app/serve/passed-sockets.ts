import { Fault } from "../../base/fault.js";

const FIRST_PASSED = 3;
/** Listeners, and the clients that a server before this one had. */
const PASSED_MAX = 1024;

export interface PassedDescriptor {
  readonly descriptor: number;
  /** As the service manager calls it; "" when it does not say. */
  readonly name: string;
}

/**
 * Socket activation as in sd_listen_fds(3): LISTEN_FDS descriptors from 3 on, meant for us if LISTEN_PID is our
 * process. The variables are removed, so that programs we start do not take them for theirs.
 */
export function passedSockets(
  environment: Record<string, string | undefined>,
  pid = process.pid,
): PassedDescriptor[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment;
  delete environment.LISTEN_PID;
  delete environment.LISTEN_FDS;
  delete environment.LISTEN_FDNAMES;
  if (LISTEN_PID === undefined || LISTEN_FDS === undefined) return [];
  if (LISTEN_PID !== String(pid)) return [];
  const count = /^\d{1,4}$/.test(LISTEN_FDS) ? Number(LISTEN_FDS) : Number.NaN;
  if (!(count <= PASSED_MAX))
    throw new Fault(
      "TRIVET_E_LISTEN",
      `LISTEN_FDS is ${JSON.stringify(LISTEN_FDS)}, expected a number of sockets up to ${PASSED_MAX}`,
    );
  const names = LISTEN_FDNAMES?.split(":") ?? [];
  return Array.from({ length: count }, (_, i) => ({
    descriptor: FIRST_PASSED + i,
    name: names.length === count ? names[i]! : "",
  }));
}
