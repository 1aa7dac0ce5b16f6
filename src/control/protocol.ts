import * as v from "valibot";
import { FAULTS, Fault, type FaultCode } from "../base/fault.js";
import { CONTROL_ANSWER_BYTES_MAX, CONTROL_REQUEST_BYTES_MAX } from "../base/limits.js";
import type { FrameLimits } from "./frames.js";

// What is said on the control socket: shapes of requests and answers, and nothing about what they do. The README of this
// folder is its description; a change that an older program would misunderstand raises the version.

export const CONTROL_VERSION = 1;

/** Requests are small maps. */
export const REQUEST_LIMITS: FrameLimits = {
  bodyBytes: CONTROL_REQUEST_BYTES_MAX,
  arrayLength: 32,
};
export const ANSWER_LIMITS: FrameLimits = {
  bodyBytes: CONTROL_ANSWER_BYTES_MAX,
  arrayLength: 4096,
};

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const address = v.strictObject({
  host: v.pipe(v.string(), v.minLength(1), v.maxLength(255)),
  port: v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(65535)),
});
/** Bytes per second; 0: as fast as it goes. */
const rate = count;
/** A command and its arguments, the last of which is a script of trivet. */
const program = v.pipe(
  v.array(v.pipe(v.string(), v.minLength(1), v.maxLength(4096), v.regex(/^[^\0]*$/))),
  v.minLength(2),
  v.maxLength(16),
);

const commands = v.variant("do", [
  v.strictObject({ do: v.literal("status") }),
  v.strictObject({
    do: v.literal("replace"),
    old: address,
    new: address,
    acceptForeign: v.optional(v.boolean()),
  }),
  v.strictObject({ do: v.literal("scrubStart"), rate: v.nullable(rate) }),
  v.strictObject({ do: v.literal("scrubStop") }),
  v.strictObject({ do: v.literal("repairRate"), rate }),
  v.strictObject({ do: v.literal("restart"), program }),
]);
const request = v.looseObject({ version: count, id: count });
const answer = v.looseObject({
  version: count,
  id: count,
  error: v.optional(v.object({ code: v.string(), message: v.string() })),
});

export type ControlCommand = v.InferOutput<typeof commands>;
export interface ControlRequest {
  /** Chosen by whoever asks; the answer carries it. */
  readonly id: number;
  readonly command: ControlCommand;
}

/** A request that was understood, or why not: then `id` is 0 when there was none. */
export function readRequest(
  value: unknown,
): ControlRequest | { readonly id: number; readonly fault: Fault } {
  const envelope = v.safeParse(request, value);
  if (!envelope.success)
    return { id: 0, fault: new Fault("TRIVET_E_CONTROL", "a request without version and id") };
  const { version, id, ...rest } = envelope.output;
  if (version !== CONTROL_VERSION) return { id, fault: versionFault("server", version) };
  const command = v.safeParse(commands, rest);
  if (command.success) return { id, command: command.output };
  const issue = command.issues[0];
  const where = v.getDotPath(issue) ?? "do";
  return {
    id,
    fault: new Fault(
      "TRIVET_E_CONTROL",
      `${where} is ${clip(issue.received)}, expected ${clip(issue.expected ?? "something else")}`,
    ),
  };
}

export const makeRequest = ({ id, command }: ControlRequest): unknown => ({
  version: CONTROL_VERSION,
  id,
  ...command,
});

/** `outcome`: what was asked for, in values that MessagePack and JSON both have, or why not. */
export const makeAnswer = (id: number, outcome: unknown): unknown =>
  outcome instanceof Fault
    ? { version: CONTROL_VERSION, id, error: { code: outcome.code, message: outcome.message } }
    : { version: CONTROL_VERSION, id, result: outcome };

/** Throws the Fault that the server answered, or TRIVET_E_CONTROL for what is no answer to `id`. */
export function readAnswer(value: unknown, id: number): unknown {
  const parsed = v.safeParse(answer, value);
  if (!parsed.success) throw new Fault("TRIVET_E_CONTROL", "the server's answer has another shape");
  const { version, id: answered, error, result } = parsed.output;
  if (error !== undefined) throw new Fault(knownCode(error.code), error.message);
  if (version !== CONTROL_VERSION) throw versionFault("command", version);
  if (answered !== id)
    throw new Fault("TRIVET_E_CONTROL", `the server answered ${answered} instead of ${id}`);
  return result;
}

const versionFault = (side: "server" | "command", version: number): Fault =>
  new Fault(
    "TRIVET_E_CONTROL",
    `this ${side} speaks version ${CONTROL_VERSION} of the control protocol, the other side ${version}`,
  );

const knownCode = (code: string): FaultCode =>
  Object.hasOwn(FAULTS, code) ? (code as FaultCode) : "TRIVET_E_CONTROL";

const SHOWN_MAX = 60;
const clip = (text: string): string =>
  text.length <= SHOWN_MAX ? text : `${text.slice(0, SHOWN_MAX)}…`;
