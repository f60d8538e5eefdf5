/**
 * Deletes entries that have expired. A timer waits for the next deadline; then a few hundred entries are deleted at a
 * time, with a turn of the event loop in between, so that requests are served however many expire at once.
 *
 * No command sees an entry that has expired, deleted or not; to delete it frees its memory.
 *
 * @module
 */

import { turn } from "../../system/turn.ts";
import type { Store } from "./store.ts";

/** How long a timer runs at most, in milliseconds: the system's clock may be set, which timers do not notice. */
const MAX_TIMER_MS = 1000;

/** Sweeps one store until {@linkcode Sweeper.close}. */
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

  /** Whether there are expired entries that are not deleted yet. */
  get busy(): boolean {
    return this.#sweeping !== undefined;
  }

  /** Stops sweeping. */
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
    this.#due = Math.min(next, now + MAX_TIMER_MS);
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
