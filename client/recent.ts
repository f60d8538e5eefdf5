/**
 * Values that were read a short time ago: as long as the sequences on which the read relied are what they were
 * ({@link ../blocks/head.ts}), the value is what it was, and need not be looked up, copied or decoded. It is no cache that
 * could be out of date: each use is a read of the host's memory, of a few words. (A sequence is the same again after two
 * thousand million changes of one page.)
 *
 * Only strings, numbers, booleans and nil are kept, and that there is none: what a caller could change is made anew each time.
 * Neither entries that expire nor long ones are kept.
 *
 * Where keys are hardly ever read again, or what was read has mostly changed, keeping values costs more than it saves. So
 * after every {@linkcode MOST} that were kept, it is looked how often one was used meanwhile; if that is less, the next
 * {@linkcode PAUSE} reads keep none.
 *
 * @module
 */

import type { KnownTable, Reliance } from "../blocks/reader.ts";

/** How many values are kept at most, of all tables together. */
export const MOST: number = 1 << 14;
/** How many reads keep none where that does not pay. */
export const PAUSE: number = 1 << 20;
/** The most bytes of a key and its value that are kept, as they are encoded. */
export const KEPT_BYTES = 128;

/** A key that can be found again: strings and numbers are, by their value. */
export type RecentKey = string | number;

/** A value, and what says that it still holds. */
export interface Recent extends Reliance {
  readonly value: unknown;
}

/** The values that a client read a short time ago. */
export class RecentValues {
  readonly #tables = new Map<KnownTable, Map<RecentKey, Recent>>();
  /** The table that was asked for last, and its values. */
  #last: KnownTable | undefined;
  #lastValues: Map<RecentKey, Recent> | undefined;
  /** How many values there are. */
  #size = 0;
  /** How many have been kept, and how many times one was used, since that was last looked at. */
  #kept = 0;
  #used = 0;
  /** How many reads are to keep none. */
  #pause = 0;

  /** The value of a key, if it was kept. The caller looks whether it still holds. */
  find(table: KnownTable, key: RecentKey): Recent | undefined {
    if (this.#pause === 0) return this.#valuesOf(table)?.get(key);
    this.#pause--;
  }

  /** Uses a value, which holds. */
  use({ value }: Recent): unknown {
    this.#used++;
    return value;
  }

  /** Keeps a value, if it is one that nobody can change. */
  keep(table: KnownTable, key: RecentKey, value: unknown, { structure, at, sequence }: Reliance): void {
    if (this.#pause > 0 || typeof value === "object" && value !== null || typeof value === "symbol") return;
    if (++this.#kept > MOST) {
      if (this.#used < this.#kept) this.#pause = PAUSE;
      this.#kept = this.#used = 0;
    }
    if (this.#pause > 0 || this.#size >= MOST) this.clear();
    const values = this.#valuesOf(table) ?? this.#add(table), before = values.size;
    values.set(key, { value, structure, at, sequence });
    this.#size += values.size - before;
  }

  /** Keeps none of the values any longer. */
  clear(): void {
    this.#tables.clear();
    this.#last = this.#lastValues = undefined;
    this.#size = 0;
  }

  #valuesOf(table: KnownTable): Map<RecentKey, Recent> | undefined {
    if (table === this.#last) return this.#lastValues;
    this.#last = table;
    return this.#lastValues = this.#tables.get(table);
  }

  #add(table: KnownTable): Map<RecentKey, Recent> {
    const values = new Map<RecentKey, Recent>();
    this.#tables.set(table, values);
    this.#last = table;
    return this.#lastValues = values;
  }
}
