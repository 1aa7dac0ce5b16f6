import type { Then } from "../../ports/files.js";
import type { Answers } from "./answers.js";
import type { Commit, FlushNumbers } from "./commit.js";
import type { Extents } from "./extents.js";
import type { Held } from "./held.js";

type Task = {
  readonly extent: number;
  /** Layers up to this serial number; −1: none. */
  readonly upTo: number;
  readonly numbers: FlushNumbers | null;
  readonly then: Then;
};

/**
 * The order in which held writes reach the disk: tasks of one extent one after the other, extents side by side, as
 * many as there are commits. A task covers exactly what was held when it was submitted.
 */
export class Writeback {
  readonly #extents: Extents;
  readonly #held: Held;
  readonly #answers: Answers;
  readonly #idle: Commit[];
  /** Tasks by extent; the first of each is running or waits in #ready. */
  readonly #tasks = new Map<number, Task[]>();
  readonly #ready = new Set<number>();

  constructor(extents: Extents, held: Held, answers: Answers, commits: readonly Commit[]) {
    this.#extents = extents;
    this.#held = held;
    this.#answers = answers;
    this.#idle = [...commits];
  }

  /** Those with a task. */
  get extents(): Iterable<number> {
    return this.#tasks.keys();
  }

  /** Seals what the extent holds and writes it out; with `numbers`, ends in a flush. Answers later. */
  submit(extent: number, numbers: FlushNumbers | null, then: Then): void {
    const upTo = this.#held.seal(extent);
    const waiting = this.#tasks.get(extent);
    if (upTo < 0 && numbers === null && waiting === undefined) {
      this.#answers.later(then, null);
      return;
    }
    const task = { extent, upTo, numbers, then };
    if (waiting !== undefined) {
      waiting.push(task);
      return;
    }
    this.#tasks.set(extent, [task]);
    this.#ready.add(extent);
    this.#pump();
  }

  #pump(): void {
    for (const extent of this.#ready) {
      const commit = this.#idle.pop();
      if (commit === undefined) return;
      this.#ready.delete(extent);
      this.#run(commit, this.#tasks.get(extent)![0]!);
    }
  }
  #run(commit: Commit, task: Task): void {
    const oldest = this.#held.oldest(task.extent);
    const layer = oldest !== undefined && oldest.serial <= task.upTo ? oldest : null;
    const last = layer === null || layer.serial === task.upTo;
    // An earlier flush, under way when this one was submitted, may have done its work; a clean extent keeps its numbers.
    const flush = task.numbers !== null && this.#extents.dirty.has(task.extent);
    if (layer === null && !flush) {
      this.#ended(commit, task, null);
      return;
    }
    commit.begin(task.extent, layer, last ? task.numbers : null, (fault) => {
      if (fault === null && !last) this.#run(commit, task);
      else this.#ended(commit, task, fault);
    });
  }
  #ended(commit: Commit, task: Task, fault: Parameters<Then>[0]): void {
    const tasks = this.#tasks.get(task.extent)!;
    tasks.shift();
    if (tasks.length === 0) this.#tasks.delete(task.extent);
    else this.#ready.add(task.extent);
    this.#idle.push(commit);
    task.then(fault);
    this.#pump();
  }
}
