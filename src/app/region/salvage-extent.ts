import type { FileHandle } from "node:fs/promises";
import { Fault } from "../../base/fault.js";
import type { BlockEvidence, Choice, Doubt } from "../../region/choose-block.js";
import { chooseBlock, compareAges, sameAge } from "../../region/choose-block.js";
import { Grade } from "../../region/judge-block.js";
import type { ExtentLayout } from "../../region/layout.js";
import { CONTEXT_SEAL_AT, SEAL_BYTES, SLOT_CONTEXT_AT, SlotKind } from "../../region/slot.js";
import { writeAll } from "../files.js";
import { writeData } from "./export.js";
import { blocksPerPiece } from "./extent-file.js";
import { type Copy, type OpenFile, openCopies } from "./salvage-copy.js";
import { CopyPiece } from "./salvage-piece.js";
import type { Workspace } from "./workspace.js";

/** A directory that is looked through. */
export interface SalvageSource {
  readonly directory: string;
  /** Directories that hold the same region (one is a copy of the other) are one replica. */
  readonly replica: number;
}

export interface SalvagePlan {
  readonly sources: readonly SalvageSource[];
  readonly layout: ExtentLayout;
  /** Blocks that are gone are left as they are in the best copy, instead of zeros. */
  readonly keepBad: boolean;
  /** Where nonces and tags of encrypted blocks go, 28 bytes for each block; undefined: such blocks are refused. */
  readonly seals: FileHandle | undefined;
  readonly openFile: OpenFile;
}

/** "mended": proved, but the best copy's own data was bad. */
export type Remark = Doubt | "mended";

/** Consecutive blocks of an extent about which the same is to be said. */
export interface Finding {
  readonly first: number;
  readonly count: number;
  readonly remark: Remark;
  /** Index of the directory whose data was taken; −1: none. */
  readonly source: number;
}

export interface CopyReport {
  readonly source: number;
  readonly name: string;
  /** Undefined: the record with these numbers is damaged. */
  readonly age:
    | { readonly generation: bigint; readonly flushNumber: number; readonly dirty: boolean }
    | undefined;
  readonly problem: string | undefined;
  readonly unreadableBlocks: number;
}

export interface ExtentReport {
  readonly extent: number;
  /** Best first. */
  readonly copies: readonly CopyReport[];
  /** How many of them are of one rank with the best. */
  readonly best: number;
  readonly missing: readonly { readonly source: number; readonly why: string }[];
  /** In order of blocks. */
  readonly findings: readonly Finding[];
  /** Blocks that hold data. */
  readonly written: number;
}

/** Pieces are used again from extent to extent. */
export class PiecePool {
  readonly #layout: ExtentLayout;
  readonly #workspace: Workspace;
  readonly #idle: CopyPiece[] = [];

  constructor(layout: ExtentLayout, workspace: Workspace) {
    this.#layout = layout;
    this.#workspace = workspace;
  }
  take(): CopyPiece {
    const { arena, hasher } = this.#workspace;
    return this.#idle.pop() ?? new CopyPiece(this.#layout, arena, hasher);
  }
  give(piece: CopyPiece): void {
    this.#idle.push(piece);
  }
  free(): void {
    for (const piece of this.#idle.splice(0)) piece.free();
  }
}

/** Writes the newest consistent content of one extent to its place in the image. */
export async function salvageExtent(
  plan: SalvagePlan,
  extent: number,
  target: FileHandle,
  workspace: Workspace,
  pool: PiecePool,
  advance: (bytes: number) => void,
): Promise<ExtentReport> {
  const { layout, sources } = plan;
  const copies: Copy[] = [];
  const missing: { source: number; why: string }[] = [];
  const pieces: CopyPiece[] = [];
  try {
    for (const [source, { directory, replica }] of sources.entries()) {
      const found = await openCopies(directory, source, replica, extent, layout, plan.openFile);
      copies.push(...found.copies);
      if (found.missing !== undefined) missing.push({ source, why: found.missing });
    }
    // Stable: among equals the first directory comes first, as in reconciliation.
    copies.sort(compareAges);
    for (const _ of copies) pieces.push(pool.take());
    const judge = new ExtentJudge(copies, pieces, sources);
    const step = blocksPerPiece(layout);
    let written = 0;
    for (let first = 0; first < layout.blocks; first += step) {
      const count = Math.min(step, layout.blocks - first);
      await Promise.all(pieces.map((piece, i) => piece.load(copies[i]!, first, count)));
      judge.piece(first, count);
      written += await writePiece(plan, extent, first, count, judge, target, workspace);
      advance(count * layout.blockBytes);
    }
    const reports = copies.map(
      ({ source, name, known, generation, flushNumber, dirty, problem }, i): CopyReport => ({
        source,
        name,
        age: known ? { generation, flushNumber, dirty } : undefined,
        problem,
        unreadableBlocks: pieces[i]!.unreadable,
      }),
    );
    const best = copies.filter((copy) => compareAges(copy, copies[0]!) === 0).length;
    return { extent, copies: reports, best, missing, findings: judge.findings, written };
  } finally {
    for (const piece of pieces) {
      piece.unreadable = 0;
      pool.give(piece);
    }
    for (const { file } of copies) await file.close();
  }
}

/** Decides block by block, and remembers what has to be said about it. */
class ExtentJudge {
  readonly #copies: readonly Copy[];
  readonly #pieces: readonly CopyPiece[];
  readonly #quorum: boolean;
  readonly findings: Finding[] = [];
  /** Of the current piece; undefined: nothing but blocks that were never written. */
  choices: Choice[] | undefined;

  constructor(
    copies: readonly Copy[],
    pieces: readonly CopyPiece[],
    sources: readonly SalvageSource[],
  ) {
    this.#copies = copies;
    this.#pieces = pieces;
    const replicas = (of: readonly { readonly replica: number }[]): number =>
      new Set(of.map(({ replica }) => replica)).size;
    this.#quorum =
      sources.length === 1 ? copies.length > 0 : replicas(copies.filter((c) => c.known)) > 1;
  }

  piece(first: number, count: number): void {
    const pieces = this.#pieces;
    if (this.#quorum && pieces.every((piece) => piece.isBlank)) {
      this.choices = undefined;
      return;
    }
    for (const piece of pieces) piece.hashBlocks();
    this.choices = [];
    for (let i = 0; i < count; i++) {
      const choice = this.#plain(i) ?? this.#chosen(i);
      this.choices.push(choice);
      if (choice.doubt !== undefined) this.#note(first + i, choice.doubt, choice.data);
      else if (choice.data !== 0) this.#note(first + i, "mended", choice.data);
    }
  }

  pieceOf(copy: number): CopyPiece {
    return this.#pieces[copy]!;
  }
  /** The best copy of which the i-th block can be read at all; −1: none. */
  firstReadable(i: number): number {
    return this.#pieces.findIndex((piece) => piece.isReadable(i));
  }

  /** Nearly every block: the best copy is good, and those of its age agree. The same answers as `chooseBlock`. */
  #plain(i: number): Choice | undefined {
    const best = this.#copies[0];
    if (best === undefined || !best.known || !this.#quorum) return undefined;
    const { grade, written, array } = this.#pieces[0]!.judge(i);
    if (grade !== Grade.good) return undefined;
    let confirmed = !best.dirty;
    for (let k = 1; k < this.#copies.length; k++) {
      const copy = this.#copies[k]!;
      const isEqual = sameAge(best, copy);
      if (written && !isEqual) continue;
      const theirs = this.#pieces[k]!.judge(i);
      if (theirs.grade !== Grade.good || theirs.written !== written) return undefined;
      if (written && !this.#pieces[k]!.hasSameData(i, this.#pieces[0]!)) return undefined;
      if (isEqual && copy.replica !== best.replica) confirmed = true;
    }
    if (written && !confirmed) return undefined;
    return { copy: 0, data: 0, array, written, doubt: undefined };
  }

  #chosen(i: number): Choice {
    const evidence = this.#pieces.map((piece): BlockEvidence => piece.evidence(i));
    return chooseBlock(this.#copies, evidence, this.#quorum, (data, copy, array) =>
      this.#pieces[data]!.fits(i, this.#pieces[copy]!, array),
    );
  }

  #note(block: number, remark: Remark, copy: number): void {
    const source = copy < 0 ? -1 : this.#copies[copy]!.source;
    const last = this.findings.at(-1);
    if (
      last !== undefined &&
      last.remark === remark &&
      last.source === source &&
      last.first + last.count === block
    ) {
      this.findings[this.findings.length - 1] = { ...last, count: last.count + 1 };
    } else this.findings.push({ first: block, count: 1, remark, source });
  }
}

/** Returns the blocks that hold data. */
async function writePiece(
  plan: SalvagePlan,
  extent: number,
  first: number,
  count: number,
  judge: ExtentJudge,
  target: FileHandle,
  workspace: Workspace,
): Promise<number> {
  const { choices } = judge;
  if (choices === undefined) return 0;
  const { blockBytes, blocks } = plan.layout;
  const base = extent * blocks + first;
  const from = (i: number): number => {
    const { data, written } = choices[i]!;
    if (data < 0) return plan.keepBad ? judge.firstReadable(i) : -1;
    return written ? data : -1;
  };
  let written = 0;
  for (let i = 0; i < count; ) {
    const copy = from(i);
    let end = i + 1;
    while (end < count && from(end) === copy) end += 1;
    if (copy >= 0) {
      const at = judge.pieceOf(copy).blockAt(i);
      const position = (base + i) * blockBytes;
      await writeData(target, workspace, at, (end - i) * blockBytes, position);
    }
    i = end;
  }
  const seals = Buffer.alloc(count * SEAL_BYTES);
  let sealed = false;
  for (let i = 0; i < count; i++) {
    const choice = choices[i]!;
    if (!choice.written) continue;
    written += 1;
    const slots = judge.pieceOf(choice.copy);
    if (slots.kind(choice.array, i) !== SlotKind.encrypted) continue;
    if (plan.seals === undefined) throw encryptedFault(`block ${base + i} is encrypted`);
    sealed = true;
    const seal = slots.slotAt(choice.array, i) + SLOT_CONTEXT_AT + CONTEXT_SEAL_AT;
    workspace.arena.bytes.copy(seals, i * SEAL_BYTES, seal, seal + SEAL_BYTES);
  }
  if (sealed) await writeAll(plan.seals!, seals, base * SEAL_BYTES);
  return written;
}

export const encryptedFault = (what: string): Fault =>
  new Fault(
    "TRIVET_E_SALVAGE_ENCRYPTED",
    `${what}: an image of it would hold what nobody can read without nonces, tags and the key`,
  );
