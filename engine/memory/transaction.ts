/**
 * Changes that are committed or rolled back together.
 *
 * The transaction consumes the effects of a store ({@link ../effects.ts}) and records how to undo each. What was
 * replaced or deleted is not copied: its block stays alive until the commit frees it or the rollback puts it back,
 * and counts as memory in use until then. Of an entry that was not there before, the key is recorded. A table that
 * was dropped or cleared is kept whole.
 *
 * Everything between begin and end is synchronous: nobody sees what is rolled back. Transactions nest: the
 * rollback of an inner one goes back to where it began, and what it has committed the outer one can still undo.
 *
 * @module
 */

import type { Sink } from "../effects.ts";
import type { Heap } from "./heap.ts";
import type { Space } from "./space.ts";
import type { Names } from "./store.ts";
import type { Table } from "./table.ts";
import { Writer } from "../../msgpack/msgpack.ts";

/** How one effect is undone. */
type Undo =
  /** The entry at `old` is put back. */
  | { kind: "restore"; table: Table; hash: number; old: number }
  /** The entry of a key is deleted: the bytes of {@linkcode Transaction.#keys} from the end of the last one on. */
  | { kind: "delete"; table: Table; hash: number; keyLength: number }
  | { kind: "made"; names: Names; table: Table }
  | { kind: "dropped"; names: Names; table: Table }
  | { kind: "cleared"; names: Names; old: Table; table: Table };

/** Bytes of memory that one record takes: the object, its place in the array, half of that again for growth. */
const RECORD_BYTES = 64;
/** Bytes that are charged to the heap at once. */
const CHARGE_BYTES = 1 << 12;

/** The transaction of a store: one at a time, used again for the next. */
export class Transaction implements Sink {
  readonly #space: Space;
  readonly #heap: Heap;
  #undo: Undo[] = [];
  readonly #keys = new Writer(256);
  /** Where the transactions that are open began in {@linkcode Transaction.#undo}. */
  readonly #begins: number[] = [];
  /** Where the record of each entry that is kept is; made when the cleaner meets one. */
  #kept: Map<number, number> | undefined;
  /** Bytes that were charged to the heap, and how many of those are used. */
  #charged = 0;
  #used = 0;

  constructor(space: Space) {
    this.#space = space;
    this.#heap = space.heap;
  }

  /** Whether there is something to commit or to roll back. */
  get open(): boolean {
    return this.#begins.length > 0;
  }

  begin(): void {
    this.#begins.push(this.#undo.length);
    this.#space.effects.sink = this;
  }

  /** Keeps the changes since the last begin. */
  commit(): void {
    this.#end("commit");
    if (this.open) return;
    const heap = this.#heap;
    let freed = 0;
    for (const undo of this.#undo) {
      if (undo.kind === "restore") {
        const size = heap.blockSize(undo.old);
        heap.free(undo.old, size);
        freed += size;
      } else if (undo.kind === "dropped") this.#space.discard(undo.table);
      else if (undo.kind === "cleared") this.#space.discard(undo.old);
    }
    this.#close();
    if (freed > 0) heap.tend(freed);
  }

  /** Takes back the changes since the last begin. Needs no memory that is not there. */
  rollback(): void {
    const begin = this.#end("roll back");
    // What is done now is not to be undone.
    this.#space.effects.sink = undefined;
    this.#heap.beyondLimit(() => {
      while (this.#undo.length > begin) this.#undoOne(this.#undo.pop()!);
    });
    this.#kept = undefined;
    if (this.open) this.#space.effects.sink = this;
    else this.#close();
  }

  prepare(keyLength: number): void {
    const needed = this.#used + RECORD_BYTES + keyLength - this.#charged;
    if (needed <= 0) return;
    const bytes = Math.max(needed, CHARGE_BYTES);
    this.#heap.charge(bytes);
    this.#charged += bytes;
  }

  set(table: Table, hash: number, address: number, old: number): void {
    if (old !== 0) return this.delete(table, hash, old);
    const keyLength = table.copyKey(address, this.#keys);
    this.#used += keyLength;
    this.#record({ kind: "delete", table, hash, keyLength });
  }

  delete(table: Table, hash: number, old: number): void {
    this.#kept?.set(old, this.#undo.length);
    this.#record({ kind: "restore", table, hash, old });
  }

  made(names: Names, table: Table): void {
    this.#record({ kind: "made", names, table });
  }

  dropped(names: Names, table: Table): void {
    this.#record({ kind: "dropped", names, table });
  }

  cleared(names: Names, old: Table, table: Table): void {
    this.#record({ kind: "cleared", names, old, table });
  }

  #record(undo: Undo): void {
    this.#undo.push(undo);
    this.#used += RECORD_BYTES;
    // Who deletes where the memory is full is not refused.
    if (this.#used > this.#charged) this.#heap.beyondLimit(() => this.prepare(0));
  }

  move(address: number): void {
    const kept = this.#kept ??= this.#indexKept();
    const index = kept.get(address);
    if (index === undefined) return;
    const undo = this.#undo[index];
    if (undo.kind !== "restore") return;
    undo.old = this.#heap.copy(address, this.#heap.blockSize(address));
    kept.delete(address);
    kept.set(undo.old, index);
  }

  #indexKept(): Map<number, number> {
    const kept = new Map<number, number>();
    this.#undo.forEach((undo, i) => {
      if (undo.kind === "restore") kept.set(undo.old, i);
    });
    return kept;
  }

  #undoOne(undo: Undo): void {
    this.#used -= RECORD_BYTES;
    switch (undo.kind) {
      case "restore":
        return undo.table.putBack(undo.hash, undo.old);
      case "delete": {
        const { bytes, length } = this.#keys;
        this.#keys.length = length - undo.keyLength;
        this.#used -= undo.keyLength;
        return undo.table.takeBack({ bytes, from: length - undo.keyLength, to: length, hash: undo.hash });
      }
      case "made":
        undo.names.replace(undo.table, undefined);
        return this.#space.discard(undo.table);
      case "dropped":
        return undo.names.replace(undefined, undo.table);
      case "cleared":
        undo.names.replace(undo.table, undo.old);
        return this.#space.discard(undo.table);
    }
  }

  #end(what: string): number {
    const begin = this.#begins.pop();
    if (begin === undefined) throw new Error(`Cannot ${what}: no transaction is open`);
    return begin;
  }

  #close(): void {
    this.#space.effects.sink = undefined;
    this.#undo = [];
    this.#keys.reset();
    this.#kept = undefined;
    this.#heap.discharge(this.#charged);
    this.#charged = this.#used = 0;
  }
}
