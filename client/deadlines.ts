/**
 * One timer for the deadlines of all calls of a client.
 *
 * @module
 */

/** The longest that a timer can wait, in milliseconds. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** Calls a function when the earliest of many deadlines has passed. It does not keep the process alive. */
export class Deadlines {
  readonly #expire: (now: number) => number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the timer fires; `Infinity` if it is not set. */
  #at = Infinity;

  /**
   * @param expire Receives the time, as of `performance.now()`, and returns the next deadline, or `Infinity`.
   */
  constructor(expire: (now: number) => number) {
    this.#expire = expire;
  }

  /** Adds a deadline, in the time of `performance.now()`. */
  add(deadline: number): void {
    if (deadline >= this.#at) return;
    clearTimeout(this.#timer);
    this.#at = deadline;
    // (A timer may fire a little early.)
    const wait = Math.max(0, Math.min(deadline - performance.now() + 1, MAX_TIMER_MS));
    this.#timer = setTimeout(() => {
      this.#at = Infinity;
      this.add(this.#expire(performance.now()));
    }, wait);
    Deno.unrefTimer(this.#timer);
  }

  /** Removes all deadlines. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#at = Infinity;
  }
}

/**
 * Checks how long a call may take.
 *
 * @throws {RangeError} if it is no time.
 */
export function checkTimeout(timeout: number): number {
  if (timeout > 0) return timeout;
  throw new RangeError(`Cannot wait: the timeout must be more than 0 milliseconds: received ${timeout}`);
}
