import { invariant } from "../base/invariant.js";
import type { Codec } from "./codec.js";
import { bad } from "./cursor.js";
import { u16, u32 } from "./primitives.js";

/** An IP address in text form and a port; the same shape as the Address of ports. */
export interface SocketAddress {
  readonly host: string;
  readonly port: number;
}

/** 4 or 16 bytes; undefined when the text is no IP address. Zone ids ("%eth0") are not accepted. */
export function parseIp(text: string): Uint8Array | undefined {
  return text.includes(":") ? parseV6(text) : parseV4(text);
}

/** Canonical text (RFC 5952) of 4 or 16 bytes. */
export function formatIp(ip: Uint8Array): string {
  if (ip.length === 4) return ip.join(".");
  const groups = Array.from({ length: 8 }, (_, i) => ip[2 * i]! * 256 + ip[2 * i + 1]!);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff)
    return `::ffff:${ip.slice(12).join(".")}`;
  const [start, length] = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (length < 2) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + length).join(":")}`;
}

/** u32 0 and 4 bytes, or u32 1 and 16 bytes; then the port, little-endian like everything else. */
export const socketAddress: Codec<SocketAddress> = {
  min: 4 + 4 + 2,
  size: (value) => 4 + ipOf(value).length + 2,
  write(value, to) {
    const ip = ipOf(value);
    u32.write(ip.length === 4 ? 0 : 1, to);
    to.bytes.set(ip, to.take(ip.length));
    u16.write(value.port, to);
  },
  read(from) {
    const family = u32.read(from);
    if (family > 1) bad(`address family ${family}`);
    const length = family === 0 ? 4 : 16;
    const at = from.take(length);
    const host = formatIp(Uint8Array.prototype.slice.call(from.bytes, at, at + length));
    return { host, port: u16.read(from) };
  },
};

function ipOf(address: SocketAddress): Uint8Array {
  const ip = parseIp(address.host);
  invariant(ip !== undefined, `${address.host} is an IP address`);
  return ip;
}

function parseV4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  const numbers = parts.map((part) => (/^(0|[1-9]\d{0,2})$/.test(part) ? Number(part) : 256));
  return numbers.some((number) => number > 255) ? undefined : Uint8Array.from(numbers);
}

function parseV6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = groupsOf(halves[0]!, halves.length === 1);
  const tail = halves.length === 2 ? groupsOf(halves[1]!, true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...head, ...new Array<number>(missing).fill(0), ...tail];
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255]));
}

/** The 16-bit groups of one side of "::"; a dotted quad may end the address. */
function groupsOf(text: string, endsAddress: boolean): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16));
      continue;
    }
    const quad = endsAddress && i === parts.length - 1 ? parseV4(part) : undefined;
    if (quad === undefined) return undefined;
    groups.push(quad[0]! * 256 + quad[1]!, quad[2]! * 256 + quad[3]!);
  }
  return groups;
}

function longestZeroRun(groups: readonly number[]): [start: number, length: number] {
  let best: [number, number] = [0, 0];
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > best[1]) best = [start, length];
  }
  return best;
}
