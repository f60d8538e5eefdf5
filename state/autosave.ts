/**
 * Keeps a host's state at one location: loads it at the start, stores it at the stop and, if it has changed, at
 * intervals.
 *
 * @module
 */

import type { StateStatus } from "../commands/list.ts";
import type { Store } from "../engine/memory/store.ts";
import type { FileLock } from "../system/file_lock.ts";
import type { StateLocation } from "./location.ts";
import type { Persistence } from "./persistence.ts";

/** The longest time that a timer can have, in milliseconds. One that is longer fires at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Keeps the state of one store, from {@linkcode AutoSave.open} to {@linkcode AutoSave.close}. */
export class AutoSave {
  readonly #location: StateLocation;
  readonly #store: Store;
  readonly #persistence: Persistence;
  readonly #lock: FileLock | undefined;
  readonly #every: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #saving: Promise<void> | undefined;
  /** The store's count of changes when it was last stored. */
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
   * Locks the location and loads its state.
   *
   * @param every The interval at which the state is stored if it has changed, in milliseconds; Infinity for never.
   * @throws {Error} if another host uses the location, or the state cannot be loaded.
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

  /** Whether the last host that used the location crashed or was killed. */
  get abandoned(): boolean {
    return this.#lock?.abandoned ?? false;
  }

  get status(): StateStatus {
    const stored = this.#savedAt === undefined ? null : this.#savedAt.getTime() / 1000;
    return { path: this.#location.name, stored, changed: this.#store.changeCount !== this.#savedChanges };
  }

  /**
   * Stores the state, unless it has not changed.
   *
   * @throws {Error} if it cannot be stored.
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

  /** Waits for a store that is running, and releases the location. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    await this.#saving?.catch(() => {});
    this.#lock?.release();
  }

  /** Saves after a number of milliseconds, and then at intervals. */
  #schedule(milliseconds: number): void {
    if (milliseconds === Infinity) return;
    const now = Math.min(milliseconds, MAX_TIMER_MS);
    const timer = this.#timer = setTimeout(async () => {
      const left = milliseconds - now;
      // (If it fails, the log says why, and it is tried again.)
      if (left <= 0) await this.save().catch(() => {});
      if (this.#timer === timer) this.#schedule(left > 0 ? left : this.#every);
    }, now);
  }
}
