/**
 * Takes back what was done to a table, for a command that changes several entries: if there is no room for one
 * of them, none is changed.
 *
 * @module
 */

import { Writer } from "../wire/msgpack.ts";
import type { Store } from "./store.ts";
import type { Span, Table } from "./table.ts";

/** An entry as it was: where its key and its value are in the bytes that were kept. */
interface Before {
  from: number;
  keyTo: number;
  valueTo: number;
  expiry: number;
  there: boolean;
}

/** What a table was before it was changed. */
export class Undo {
  readonly #store: Store;
  readonly #table: Table;
  readonly #kept = new Writer(1024);
  readonly #before: Before[] = [];

  constructor(store: Store, table: Table) {
    this.#store = store;
    this.#table = table;
  }

  /** Keeps what there is under a key that will be changed; whether there is something. */
  keep(key: Span): boolean {
    const kept = this.#kept, from = kept.length;
    kept.copy(key.bytes, key.from, key.to);
    const keyTo = kept.length;
    const address = this.#table.find(key);
    let expiry = 0;
    if (address !== 0) {
      const entry = this.#store.entry.look(address);
      kept.copy(entry.bytes, entry.keyTo, entry.valueTo);
      expiry = entry.expiry;
    }
    this.#before.push({ from, keyTo, valueTo: kept.length, expiry, there: address !== 0 });
    return address !== 0;
  }

  /** Puts everything back. */
  undo(): void {
    const { bytes } = this.#kept, table = this.#table;
    this.#store.heap.beyondLimit(() => {
      for (const { from, keyTo, valueTo, expiry, there } of this.#before.reverse()) {
        const key = { bytes, from, to: keyTo };
        if (there) table.set(key, bytes, keyTo, valueTo, expiry);
        else table.delete(key);
      }
    });
  }
}
