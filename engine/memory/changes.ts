/**
 * What the engine tells those who read its memory from other processes: which part of the data is changing. The words
 * that say so are in the {@link ../../blocks/head.ts | head} of the memory. A heap that nobody else reads has none, and
 * then nothing is told.
 *
 * Whoever changes what readers can reach does so between a begin and an end:
 *
 * ```text
 * page      its slots and the entries that they lead to; and, where those change, the table's numbers of entries
 * all       tables, descriptors, directories, pages as a whole; and for a transaction, everything
 * ```
 *
 * @module
 */

import { pageSequence, STRUCTURE, tableSequence } from "../../blocks/head.ts";

/** The changes of one heap. */
export class Changes {
  readonly #head: Int32Array | undefined;
  /** How many changes of all are under way, one within the other. */
  #depth = 0;

  /** @param head The head of the memory; undefined if nobody else reads it. */
  constructor(head: Int32Array | undefined) {
    this.#head = head;
  }

  /**
   * The slots of a page are about to change, or an entry that they lead to. Does not nest: several pages may have the same
   * sequence.
   *
   * @param descriptor That of the table, if its numbers of entries change too; else 0.
   */
  beginPage(page: number, descriptor: number): void {
    const head = this.#head;
    if (head === undefined) return;
    if (descriptor !== 0) head[tableSequence(descriptor)]++;
    begin(head, pageSequence(page));
  }

  /** Ends {@linkcode Changes.beginPage}. */
  endPage(page: number, descriptor: number): void {
    const head = this.#head;
    if (head === undefined) return;
    head[pageSequence(page)]++;
    if (descriptor !== 0) head[tableSequence(descriptor)]++;
  }

  /** Anything is about to change. Nests. */
  beginAll(): void {
    if (this.#head !== undefined && this.#depth++ === 0) begin(this.#head, STRUCTURE);
  }

  /** Ends {@linkcode Changes.beginAll}. */
  endAll(): void {
    if (this.#head !== undefined && --this.#depth === 0) this.#head[STRUCTURE]++;
  }

  /** Runs what changes anything. */
  all<Result>(run: () => Result): Result {
    this.beginAll();
    try {
      return run();
    } finally {
      this.endAll();
    }
  }
}

/** Makes a sequence odd. Nothing that is stored later is seen before that. */
function begin(head: Int32Array, sequence: number): void {
  head[sequence]++;
  // (To store it with `Atomics` would wait for all stores before it, which may be far away in memory.)
  Atomics.load(head, sequence);
}
