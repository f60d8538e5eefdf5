/**
 * Keeps a host's data at one location: loaded at the start, stored at the stop, and in between when something has
 * changed.
 *
 * @module
 */

import type { StateStatus } from "../commands/list.ts";
import type { Store } from "../engine/memory/store.ts";
import type { FileLock } from "../system/file_lock.ts";
import type { StateLocation } from "./location.ts";
import type { Persistence } from "./persistence.ts";

/** How long one timer can be, in milliseconds: a longer one would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Keeps one store at one location, from {@linkcode AutoSave.open} to {@linkcode AutoSave.close}. */
export class AutoSave {
  readonly #location: StateLocation;
  readonly #store: Store;
  readonly #persistence: Persistence;
  readonly #lock: FileLock | undefined;
  readonly #every: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #saving: Promise<void> | undefined;
  /** How often the store had been changed when it was stored last. */
  #savedChanges = -1;
  /** When that was. */
  #savedAt: Date | undefined;

  private constructor(
    location: StateLocation,
    store: Store,
    persistence: Persistence,
    every: number,
    lock?: FileLock,
  ) {
    this.#location = location;
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
  static async open(
    location: StateLocation,
    store: Store,
    persistence: Persistence,
    every = Infinity,
  ): Promise<AutoSave> {
    const lock = await location.lock?.();
    try {
      const autoSave = new AutoSave(location, store, persistence, every, lock);
      const loaded = await persistence.load(location);
      if (loaded) {
        store.swap(loaded.state);
        await loaded.state.close();
        autoSave.#savedChanges = store.changeCount;
        autoSave.#savedAt = loaded.time;
      }
      autoSave.#schedule(every);
      return autoSave;
    } catch (error) {
      lock?.release();
      throw error;
    }
  }

  /** Whether the host that kept its data here before did not stop: it crashed, or was killed. */
  get abandoned(): boolean {
    return this.#lock?.abandoned ?? false;
  }

  get status(): StateStatus {
    const stored = this.#savedAt === undefined ? null : this.#savedAt.getTime() / 1000;
    return { path: this.#location.name, stored, changed: this.#store.changeCount !== this.#savedChanges };
  }

  /**
   * Stores what is there now, unless that was done.
   *
   * @throws {Error} that says what could not be stored where, and why.
   */
  async save(): Promise<void> {
    while (this.#saving) await this.#saving.catch(() => {});
    const { changeCount } = this.#store;
    if (changeCount === this.#savedChanges) return;
    this.#saving = this.#persistence.storeOwn(this.#location);
    try {
      await this.#saving;
      this.#savedChanges = changeCount;
      this.#savedAt = new Date();
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

  /** Saves after so many milliseconds, and again and again. */
  #schedule(milliseconds: number): void {
    if (milliseconds === Infinity) return;
    const now = Math.min(milliseconds, MAX_TIMER_MS);
    const timer = this.#timer = setTimeout(async () => {
      const left = milliseconds - now;
      // Why it cannot be stored is in the log; it is tried again.
      if (left <= 0) await this.save().catch(() => {});
      if (this.#timer === timer) this.#schedule(left > 0 ? left : this.#every);
    }, now);
  }
}
