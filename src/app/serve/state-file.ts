import * as v from "valibot";
import { parseUuid, type Uuid } from "../../base/ids.js";
import type { Address } from "../../ports/stream.js";
import type { VolumeRecord } from "../../upstairs/record.js";
import { parseAddress, showAddress } from "../cli/values.js";

// The text of a volume's state file: JSON, with 64-bit numbers as strings. Version 1 had only `upstairs_id` and `generation`, and no
// `version`. What is not understood below `replicas` is done without, as a volume is that was never served here.

const VERSION = 2;

export interface StateContent {
  readonly upstairsId: Uuid;
  /** The highest generation used here; 0: none. */
  readonly lastUsed: bigint;
  readonly record: VolumeRecord | null;
  /** The targets that were configured when the record was written. */
  readonly configured: readonly Address[];
}

const u64 = v.pipe(
  v.string(),
  v.regex(/^\d{1,20}$/),
  v.transform((text) => BigInt(text)),
);
const uuid = v.pipe(
  v.string(),
  v.check((text) => parseUuid(text) !== undefined),
  v.transform((text) => parseUuid(text)!),
);
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const address = v.pipe(
  v.string(),
  v.check((text) => addressOf(text) !== undefined),
  v.transform((text) => addressOf(text)!),
);
const three = <T extends v.GenericSchema>(one: T) => v.pipe(v.array(one), v.length(3));

const head = v.object({
  version: v.optional(v.number(), 1),
  upstairs_id: uuid,
  generation: u64,
  replicas: v.optional(v.unknown()),
});
const replicas = v.object({
  generation: u64,
  regions: three(v.nullable(v.object({ uuid, behind: v.boolean() }))),
  former: v.array(uuid),
  geometry: v.nullable(v.object({ block_size: count, extent_size: count, extent_count: count })),
  configured: three(address),
  targets: three(address),
});

/** Undefined: the text is none. `isPartial`: something in it was not understood. */
export function parseState(
  text: string,
): { readonly content: StateContent; readonly isPartial: boolean } | undefined {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined;
  }
  const top = v.safeParse(head, json);
  if (!top.success) return undefined;
  const { version, upstairs_id: upstairsId, generation } = top.output;
  const below = v.safeParse(replicas, top.output.replicas);
  const isAsked = top.output.replicas !== undefined;
  const isPartial = version > VERSION || (isAsked && !below.success);
  if (!below.success)
    return {
      content: { upstairsId, lastUsed: generation, record: null, configured: [] },
      isPartial,
    };
  const { geometry, regions, former, targets, configured } = below.output;
  let lastUsed = generation;
  if (below.output.generation > lastUsed) lastUsed = below.output.generation;
  const record: VolumeRecord = {
    generation: below.output.generation,
    regions,
    former,
    geometry: geometry && {
      blockSize: geometry.block_size,
      extentSize: geometry.extent_size,
      extentCount: geometry.extent_count,
    },
    targets,
  };
  return { content: { upstairsId, lastUsed, record, configured }, isPartial };
}

export function stateText({ upstairsId, lastUsed, record, configured }: StateContent): string {
  return `${JSON.stringify(
    {
      version: VERSION,
      upstairs_id: upstairsId,
      generation: `${lastUsed}`,
      replicas: record === null ? undefined : replicasOf(record, configured),
    },
    null,
    2,
  )}\n`;
}

function replicasOf(record: VolumeRecord, configured: readonly Address[]): unknown {
  const { geometry } = record;
  return {
    generation: `${record.generation}`,
    regions: record.regions,
    former: record.former,
    geometry: geometry && {
      block_size: geometry.blockSize,
      extent_size: geometry.extentSize,
      extent_count: geometry.extentCount,
    },
    configured: configured.map(showAddress),
    targets: record.targets.map(showAddress),
  };
}

function addressOf(text: string): Address | undefined {
  try {
    return parseAddress("", text, { names: true });
  } catch {
    return undefined;
  }
}
