import { isIP } from "node:net";
import { Fault } from "../../base/fault.js";
import type { Generation, Uuid } from "../../base/ids.js";
import { parseUuid } from "../../base/ids.js";
import type { Address } from "../../ports/stream.js";
import { usage } from "./usage.js";

// Values of options, as text. Each function throws TRIVET_E_USAGE with `what` (an option's or a key's name) in it.

const UNITS = ["", "K", "M", "G", "T", "P"];

/** "4096", "512M", "1G", "1.5GiB": bytes, units are powers of 1024. */
export function parseSize(what: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([KMGTP])(?:i?B)?|B)?$/i.exec(text);
  const bytes =
    match === null
      ? Number.NaN
      : Number(match[1]) * 1024 ** UNITS.indexOf((match[2] ?? "").toUpperCase());
  if (!Number.isInteger(bytes)) {
    throw usage(
      `${what}: "${text}" is no size; expected a number of bytes, or one with K, M, G or T`,
    );
  }
  if (!Number.isSafeInteger(bytes)) throw usage(`${what}: ${text} is too large`);
  return bytes;
}

const MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** "30s", "500ms", "5m", "1h", "30d": milliseconds. */
export function parseDuration(what: string, text: string): number {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  if (match === null) throw usage(`${what}: "${text}" is no time; expected one such as 30s or 5m`);
  return Number(match[1]) * MS[match[2]!]!;
}

export function parseCount(what: string, text: string, min: number, max: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) {
    throw usage(`${what}: "${text}" is no number from ${min} to ${max}`);
  }
  return value;
}

/**
 * "127.0.0.1:3810", "[::1]:3810", with `names` also "box:3810". Port 0 (any free one) only where `anyPort`.
 */
export function parseAddress(
  what: string,
  text: string,
  allow: { names?: boolean; anyPort?: boolean } = {},
): Address {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = match === null ? -1 : Number(match[3]);
  const family = isIP(host);
  const isName = allow.names === true && match?.[2] !== undefined && /^[a-z0-9.-]+$/i.test(host);
  const goodHost = match?.[1] !== undefined ? family === 6 : family === 4 || isName;
  if (!goodHost || port > 65535 || port < (allow.anyPort ? 0 : 1)) {
    const shape = allow.names ? "HOST:PORT" : "IP:PORT";
    throw usage(`${what}: "${text}" is no address; expected ${shape}, such as 127.0.0.1:3810`);
  }
  return { host, port };
}

export const showAddress = (address: Address): string =>
  address.host.includes(":")
    ? `[${address.host}]:${address.port}`
    : `${address.host}:${address.port}`;

const U64_MAX = 2n ** 64n - 1n;

/** At least 1: the protocol refuses generation 0. */
export function parseGeneration(what: string, text: string): Generation {
  const value = /^\d{1,20}$/.test(text) ? BigInt(text) : -1n;
  if (value === 0n) throw new Fault("TRIVET_E_GENERATION_ZERO", `${what}: generation 0 is illegal`);
  if (value < 0n || value > U64_MAX) {
    throw usage(`${what}: "${text}" is no generation; expected a number of at least 1`);
  }
  return value as Generation;
}

export function parseUuidValue(what: string, text: string): Uuid {
  const uuid = parseUuid(text);
  if (uuid === undefined) {
    throw usage(`${what}: "${text}" is no UUID such as 12345678-1111-2222-3333-123456789999`);
  }
  return uuid;
}

export function parseChoice<T extends string>(
  what: string,
  text: string,
  choices: readonly T[],
): T {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) throw usage(`${what}: "${text}" is none of ${choices.join(", ")}`);
  return found;
}
