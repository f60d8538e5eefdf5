/**
 * Deletes entries at their time: a timer for the next moment, and then a few hundred entries at a time, with
 * a turn of the event loop in between, so that nobody waits however many expire at once.
 *
 * Nobody sees an entry after its time, swept or not; the sweep gives back its room.
 *
 * @module
 */

import { turn } from "../../system/turn.ts";
import type { Store } from "./store.ts";

/** The clock of the system may be set, of which no timer knows: look again after so many milliseconds. */
const LOOK_MS = 1000;

/** Sweeps one store, from its making to {@linkcode Sweeper.close}. */
export class Sweeper {
  readonly #store: Store;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the timer fires, in milliseconds since 1970. */
  #due = Infinity;
  #sweeping: Promise<void> | undefined;
  #closed = false;

  constructor(store: Store) {
    this.#store = store;
    store.onExpiry = () => this.#schedule();
    this.#schedule();
  }

  /** Whether there are entries whose time has come and that are still there. */
  get busy(): boolean {
    return this.#sweeping !== undefined;
  }

  /** Sweeps no more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#store.onExpiry = undefined;
    clearTimeout(this.#timer);
    await this.#sweeping;
  }

  #schedule(): void {
    const { next } = this.#store.expiryQueue;
    if (next >= this.#due || this.#sweeping || this.#closed) return;
    clearTimeout(this.#timer);
    const now = Date.now();
    this.#due = Math.min(next, now + LOOK_MS);
    this.#timer = setTimeout(() => {
      this.#due = Infinity;
      this.#sweeping = this.#sweep().then(() => {
        this.#sweeping = undefined;
        this.#schedule();
      });
    }, Math.max(0, this.#due - now));
  }

  async #sweep(): Promise<void> {
    while (!this.#closed && this.#store.expiryQueue.sweep(Date.now())) await turn();
  }
}
