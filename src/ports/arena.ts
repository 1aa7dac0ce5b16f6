/**
 * The one piece of memory that payload lives in. Addresses are byte offsets into it. It is mapped by
 * native code (or is a plain buffer in tests) and outlives every JavaScript object.
 */
export interface Arena {
  /** The whole arena. The same object for its whole life. */
  readonly bytes: Buffer;
  /** The same memory, for numbers. */
  readonly view: DataView;
  /** What `alloc` has to give in all; shares of memory are reckoned from it. */
  readonly sizeBytes: number;
  readonly freeBytes: number;
  /**
   * `length` contiguous bytes, page-aligned, contents undefined; −1 when there is no such run.
   * The owner is whoever holds the address; exactly one `free` follows.
   */
  alloc(length: number): number;
  /**
   * Exactly the run at `at`, a multiple of the page, is taken as if `alloc` had returned it; false: some of it is not free. For
   * what a dead process left here, before anything else is allocated.
   */
  reserve(at: number, length: number): boolean;
  free(at: number): void;
  /** Calls `then` once, in a later turn of the loop or from within `free`, when memory was freed. */
  whenFreed(then: () => void): void;
}
