/**
 * Values that were read a short time ago: as long as the sequences on which the read relied are what they were
 * ({@link ../blocks/head.ts}), the value is what it was, and need not be looked up, copied or decoded. It is no cache that
 * could be out of date: each use is a read of the host's memory, of two words.
 *
 * Only strings, numbers, booleans and nil are kept, and that there is none: what a caller could change is made anew each time.
 * Neither entries that expire nor long ones are kept.
 *
 * Where keys are hardly ever read again, or what was read has mostly changed, keeping values costs more than it saves. So
 * when {@linkcode MOST} have been kept, it is looked how often one was used; if that is less, the next {@linkcode PAUSE} reads
 * keep none.
 *
 * @module
 */

import type { Reliance } from "../blocks/reader.ts";

/** How many values of a table are kept at most. */
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

/** The values of a table that were read a short time ago. */
export class RecentValues {
  readonly #values = new Map<RecentKey, Recent>();
  /** How many have been kept, and how many times one was used, since that was last looked at. */
  #kept = 0;
  #used = 0;
  /** How many reads are to keep none. */
  #pause = 0;

  /** The value of a key, if it was kept. The caller looks whether it still holds. */
  find(key: RecentKey): Recent | undefined {
    if (this.#pause === 0) return this.#values.get(key);
    this.#pause--;
  }

  /** Uses a value, which holds. */
  use({ value }: Recent): unknown {
    this.#used++;
    return value;
  }

  /** Keeps a value, if it is one that nobody can change. */
  keep(key: RecentKey, value: unknown, { structure, at, sequence }: Reliance): void {
    if (this.#pause > 0 || typeof value === "object" && value !== null || typeof value === "symbol") return;
    if (++this.#kept > MOST) {
      if (this.#used < this.#kept) this.#pause = PAUSE;
      this.#kept = this.#used = 0;
    }
    if (this.#pause > 0 || this.#values.size >= MOST) this.#values.clear();
    this.#values.set(key, { value, structure, at, sequence });
  }
}
