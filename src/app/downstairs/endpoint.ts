import { Fault } from "../../base/fault.js";
import { REPAIR_PORT_OFFSET } from "../../base/limits.js";
import type { Address } from "../../ports/stream.js";

/** "127.0.0.1:3810" or "[::1]:3810". */
export function showEndpoint({ host, port }: Address): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The IP address in such a text; undefined when there is none (unix sockets). A zone (`%eth0`) is left out: it means nothing to others. */
export function hostOf(endpoint: string): string | undefined {
  const match = /^\[?([0-9a-fA-F:.]+)(?:%[^\]]*)?\]?:\d+$/.exec(endpoint);
  if (match === null) return undefined;
  const host = match[1]!;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host);
  return mapped === null ? host : mapped[1];
}

const WILDCARDS = ["0.0.0.0", "::"];

/**
 * Where a peer reaches the repair server that is bound to `bound`. Bound to every address, it is told the one that
 * it reached us by; the original announces 0.0.0.0, which leads every other host to itself.
 */
export function announced(bound: Address, local: string): Address {
  if (!WILDCARDS.includes(bound.host)) return bound;
  return { host: hostOf(local) ?? bound.host, port: bound.port };
}

/** Port of the repair server when none was given; 0 for a port of the system's choice. Throws a Fault. */
export function repairPortFor(port: number): number {
  if (port === 0) return 0;
  const repair = port + REPAIR_PORT_OFFSET;
  if (repair <= 0xffff) return repair;
  throw new Fault(
    "TRIVET_E_USAGE",
    `port ${port}: the repair server would listen on ${repair}, and the highest port is 65535`,
  );
}
