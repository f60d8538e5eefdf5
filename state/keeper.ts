/**
 * Keeps a host's data at one place: loaded at the start, stored at the stop, and in between when something has
 * changed.
 *
 * @module
 */

import type { Store } from "../engine/store.ts";
import type { Lock } from "../wire/lock.ts";
import type { Persistence } from "./persistence.ts";
import type { Place } from "./place.ts";

/** Keeps one store at one place, from {@linkcode Keeper.open} to {@linkcode Keeper.close}. */
export class Keeper {
  readonly #place: Place;
  readonly #store: Store;
  readonly #persistence: Persistence;
  readonly #lock: Lock | undefined;
  readonly #every: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #saving: Promise<void> | undefined;
  /** How often the store had been changed when it was stored last. */
  #saved = -1;

  private constructor(place: Place, store: Store, persistence: Persistence, every: number, lock?: Lock) {
    this.#place = place;
    this.#store = store;
    this.#persistence = persistence;
    this.#every = every;
    this.#lock = lock;
  }

  /**
   * Loads what is there.
   *
   * @param every Milliseconds after which it is stored again if it was changed; Infinity for never.
   * @throws {Error} if another host keeps its data there, or what is there cannot be loaded.
   */
  static async open(place: Place, store: Store, persistence: Persistence, every = Infinity): Promise<Keeper> {
    const lock = await place.lock?.();
    try {
      const keeper = new Keeper(place, store, persistence, every, lock);
      const loaded = await persistence.loadIfThere(place);
      if (loaded) {
        store.replaceBy(loaded);
        keeper.#saved = store.changes;
      }
      keeper.#wait();
      return keeper;
    } catch (error) {
      lock?.release();
      throw error;
    }
  }

  /**
   * Stores what is there now, unless that was done.
   *
   * @throws {Error} that says what could not be stored where, and why.
   */
  async save(): Promise<void> {
    while (this.#saving) await this.#saving.catch(() => {});
    const { changes } = this.#store;
    if (changes === this.#saved) return;
    this.#saving = this.#persistence.store(this.#place);
    try {
      await this.#saving;
      this.#saved = changes;
    } finally {
      this.#saving = undefined;
    }
  }

  /** Stores no more. What is being stored ends first. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#saving?.catch(() => {});
    this.#lock?.release();
  }

  #wait(): void {
    if (this.#every === Infinity) return;
    const timer = this.#timer = setTimeout(async () => {
      // Why it cannot be stored is in the log; it is tried again.
      await this.save().catch(() => {});
      if (this.#timer === timer) this.#wait();
    }, this.#every);
  }
}
