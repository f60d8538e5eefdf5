/**
 * Views: tables as they were at one moment. While the heap is frozen, the engine copies what it changes, so the
 * address of a table's descriptor is all that a snapshot of the table needs.
 *
 * @module
 */

import type { Segments } from "../../blocks/block.ts";
import { bytesOf, EXPIRING, SIZE, stateOf } from "../../blocks/descriptor.ts";
import { copyOfKey, hashOf } from "../../blocks/entry.ts";
import type { Span } from "../../msgpack/key.ts";
import { findEntry, scanTable } from "../../blocks/lookup.ts";

/** What can be read of a table. A view is good until its snapshot is released. */
export interface TableView {
  /** A copy of the canonical bytes of its name. */
  readonly name: Uint8Array;
  /** How many entries it has. */
  readonly size: number;
  /** How many of its entries expire. */
  readonly expiring: number;
  /** The bytes of its keys and values. */
  readonly bytes: number;
  /** Calls `visit` with the address of every entry of the page at `cursor`. Returns the next cursor, or 0. */
  scan(cursor: number, visit: (address: number) => void): number;
  /** The address of the entry of a key, or 0. */
  find(key: Span): number;
}

/**
 * A table in a snapshot. It also finds entries that have expired: the reader knows the time of the snapshot, and
 * decides.
 */
export class FrozenTable implements TableView {
  readonly #segments: Segments;
  readonly #descriptor: number;

  constructor(segments: Segments, descriptor: number) {
    this.#segments = segments;
    this.#descriptor = descriptor;
  }

  get name(): Uint8Array {
    return copyOfKey(this.#segments, this.#descriptor);
  }

  get size(): number {
    return stateOf(this.#segments, this.#descriptor, SIZE);
  }

  get expiring(): number {
    return stateOf(this.#segments, this.#descriptor, EXPIRING);
  }

  get bytes(): number {
    return bytesOf(this.#segments, this.#descriptor);
  }

  scan(cursor: number, visit: (address: number) => void): number {
    return scanTable(this.#segments, this.#descriptor, cursor, visit);
  }

  find(key: Span): number {
    return findEntry(this.#segments, this.#descriptor, hashOf(key), key);
  }
}
