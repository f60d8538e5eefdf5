/**
 * What the tests of the engine and of state files share: keys as text, and stores as plain Maps.
 *
 * @module
 */

import { Key } from "../msgpack/key.ts";
import { Entry } from "../blocks/entry.ts";
import type { Store } from "../engine/memory/store.ts";
import type { TableView } from "../engine/memory/view.ts";
import { latin1, skip } from "../msgpack/msgpack.ts";

/** The canonical bytes of the item at `at`, one character a byte. */
export function keyAt(bytes: Uint8Array, at: number): string {
  const key = new Key().aim(bytes, at, skip(bytes, at));
  return latin1(key.bytes, key.from, key.to);
}

/** The key of an item's bytes. */
export function keyOf(bytes: Uint8Array): Key {
  return new Key().aim(bytes, 0, bytes.length);
}

/** The canonical names, keys and members of a store, and its values, as text. */
export function contentsOf(store: Store): { tables: Map<string, unknown>; sets: Map<string, unknown> } {
  const entry = new Entry(store.heap);
  const entries = (table: TableView, values: boolean) => {
    const found: [string, string][] = [];
    for (let cursor = 0, first = true; first || cursor !== 0; first = false) {
      cursor = table.scan(cursor, (address) => {
        const { bytes, keyFrom, keyTo, valueTo } = entry.read(address);
        found.push([latin1(bytes, keyFrom, keyTo), latin1(bytes, keyTo, valueTo)]);
      });
    }
    found.sort();
    return values ? new Map(found) : new Set(found.map(([key]) => key));
  };
  const all = (tables: Iterable<TableView>, values: boolean) =>
    new Map(
      Array.from(
        tables,
        (table) => [latin1(table.name, 0, table.name.length), entries(table, values)] as const,
      )
        .sort(([a], [b]) => a < b ? -1 : 1),
    );
  return { tables: all(store.tables.values(), true), sets: all(store.sets.values(), false) };
}
