/**
 * Changes that are committed or rolled back together.
 *
 * The transaction consumes the effects of a store ({@link ../effects.ts}) and records how to undo each. An entry that
 * was replaced or deleted is not copied: its block stays live, and counts as memory in use, until the commit frees it
 * or the rollback puts it back. Of an entry that is new, the key is recorded. A table that was dropped or cleared is
 * kept whole.
 *
 * Everything between begin and end is synchronous: nobody sees what is rolled back. Transactions nest: the rollback of
 * an inner one goes back to where it began, and the outer one can still undo what the inner one has committed.
 *
 * A commit frees all replaced entries at once. There are no more than the changes of one batch, or the items of one
 * argument, both of which are bounded; to free one takes less time than to write it did. Dropped tables are discarded,
 * and their pages are freed one by one later.
 *
 * @module
 */

import type { Sink } from "../effects.ts";
import { Writer } from "../../msgpack/msgpack.ts";
import type { Catalog } from "./catalog.ts";
import type { Heap } from "./heap.ts";
import type { TableRegistry } from "./registry.ts";
import type { Table } from "./table.ts";

/** How one effect is undone. */
type Undo =
  /** The entry at `old` is put back. */
  | { kind: "restore"; table: Table; hash: number; old: number }
  /** The entry of a key is deleted: the bytes of {@linkcode Transaction.#keys} from the end of the last one on. */
  | { kind: "delete"; table: Table; hash: number; keyLength: number }
  | { kind: "made"; catalog: Catalog; table: Table }
  | { kind: "dropped"; catalog: Catalog; table: Table }
  | { kind: "cleared"; catalog: Catalog; old: Table; table: Table };

/** The bytes of a record: the object, its place in the array, and half of that again for growth. */
const RECORD_BYTES = 64;
/** The least that is charged to the heap at once, in bytes. */
const CHARGE_BYTES = 1 << 12;

/** The transaction of a store: one at a time, used again for the next. */
export class Transaction implements Sink {
  readonly #registry: TableRegistry;
  readonly #heap: Heap;
  #undo: Undo[] = [];
  readonly #keys = new Writer(256);
  /** Where the transactions that are open began in {@linkcode Transaction.#undo}. */
  readonly #begins: number[] = [];
  /** Of each entry that was replaced or deleted, the index of its record. Made when the cleaner meets one. */
  #replaced: Map<number, number> | undefined;
  /** Bytes that were charged to the heap, and how many of those are used. */
  #charged = 0;
  #used = 0;

  constructor(registry: TableRegistry) {
    this.#registry = registry;
    this.#heap = registry.heap;
  }

  /** Whether there is something to commit or to roll back. */
  get open(): boolean {
    return this.#begins.length > 0;
  }

  begin(): void {
    this.#begins.push(this.#undo.length);
    this.#registry.effects.sink = this;
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
      } else if (undo.kind === "dropped") this.#registry.discard(undo.table);
      else if (undo.kind === "cleared") this.#registry.discard(undo.old);
    }
    this.#close();
    if (freed > 0) heap.cleanForWrite(freed);
  }

  /** Takes back the changes since the last begin. Never fails for lack of memory. */
  rollback(): void {
    const begin = this.#end("roll back");
    // The rollback itself is not recorded.
    this.#registry.effects.sink = undefined;
    this.#heap.beyondLimit(() => {
      while (this.#undo.length > begin) this.#undoOne(this.#undo.pop()!);
    });
    this.#replaced = undefined;
    if (this.open) this.#registry.effects.sink = this;
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
    this.#replaced?.set(old, this.#undo.length);
    this.#record({ kind: "restore", table, hash, old });
  }

  made(catalog: Catalog, table: Table): void {
    this.#record({ kind: "made", catalog, table });
  }

  dropped(catalog: Catalog, table: Table): void {
    this.#record({ kind: "dropped", catalog, table });
  }

  cleared(catalog: Catalog, old: Table, table: Table): void {
    this.#record({ kind: "cleared", catalog, old, table });
  }

  #record(undo: Undo): void {
    this.#undo.push(undo);
    this.#used += RECORD_BYTES;
    // (A delete is not refused where the memory is full.)
    if (this.#used > this.#charged) this.#heap.beyondLimit(() => this.prepare(0));
  }

  move(address: number): void {
    const replaced = this.#replaced ??= this.#indexReplaced();
    const index = replaced.get(address);
    if (index === undefined) return;
    const undo = this.#undo[index];
    if (undo.kind !== "restore") return;
    undo.old = this.#heap.copy(address, this.#heap.blockSize(address));
    replaced.delete(address);
    replaced.set(undo.old, index);
  }

  #indexReplaced(): Map<number, number> {
    const replaced = new Map<number, number>();
    this.#undo.forEach((undo, i) => {
      if (undo.kind === "restore") replaced.set(undo.old, i);
    });
    return replaced;
  }

  #undoOne(undo: Undo): void {
    this.#used -= RECORD_BYTES;
    switch (undo.kind) {
      case "restore":
        return undo.table.restoreEntry(undo.hash, undo.old);
      case "delete": {
        const { bytes, length } = this.#keys;
        this.#keys.length = length - undo.keyLength;
        this.#used -= undo.keyLength;
        return undo.table.undoSet({ bytes, from: length - undo.keyLength, to: length, hash: undo.hash });
      }
      case "made":
        undo.catalog.replace(undo.table, undefined);
        return this.#registry.discard(undo.table);
      case "dropped":
        return undo.catalog.replace(undefined, undo.table);
      case "cleared":
        undo.catalog.replace(undo.table, undo.old);
        return this.#registry.discard(undo.table);
    }
  }

  #end(what: string): number {
    const begin = this.#begins.pop();
    if (begin === undefined) throw new Error(`Cannot ${what}: no transaction is open`);
    return begin;
  }

  #close(): void {
    this.#registry.effects.sink = undefined;
    this.#undo = [];
    this.#keys.reset();
    this.#replaced = undefined;
    this.#heap.discharge(this.#charged);
    this.#charged = this.#used = 0;
  }
}
