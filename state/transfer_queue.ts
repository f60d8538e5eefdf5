/**
 * A queue of stores and restores. A few run at a time, the others wait in order: each takes file descriptors, and a
 * restore takes as much memory as the state.
 *
 * @module
 */

import { MemStoreError } from "../transport/message.ts";

/** Work that waits for its turn. */
interface Pending {
  begin(): void;
  refuse(why: Error): void;
}

/** A bounded queue of stores and restores. */
export class TransferQueue {
  readonly #atOnce: number;
  readonly #most: number;
  #running = 0;
  readonly #pending: Pending[] = [];

  /**
   * @param atOnce How much work runs at a time.
   * @param most How much may wait.
   */
  constructor(atOnce: number, most: number) {
    this.#atOnce = atOnce;
    this.#most = most;
  }

  /**
   * Runs work at once if it is its turn, else when it comes.
   *
   * @throws {MemStoreError} `TOO_LARGE` if too much waits already.
   */
  async run<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
    if (this.#running >= this.#atOnce) {
      if (this.#pending.length >= this.#most) {
        const why = "too many stores and restores are pending";
        throw new MemStoreError("TOO_LARGE", `Cannot ${what}: ${why}: ${this.#most} at most`);
      }
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      this.#pending.push({ begin: resolve, refuse: reject });
      await promise;
    } else {
      this.#running++;
    }
    try {
      return await work();
    } finally {
      // (The next one takes its place.)
      const next = this.#pending.shift();
      if (next) next.begin();
      else this.#running--;
    }
  }

  /** Refuses all that waits. */
  refusePending(why: Error): void {
    for (const pending of this.#pending.splice(0)) pending.refuse(why);
  }
}
