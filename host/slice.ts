/**
 * How long a message may run until it pauses.
 *
 * @module
 */

/** A time to run, which begins when the clock is first looked at: most messages are done before. */
export class Slice {
  #milliseconds = 0;
  #end = 0;

  /** Begins another one. Infinity never ends. */
  reset(milliseconds: number): void {
    this.#milliseconds = milliseconds;
    this.#end = 0;
  }

  /** Whether the message can pause. */
  get canEnd(): boolean {
    return this.#milliseconds < Infinity;
  }

  /** Looks at the clock (which costs as much as a command does): whether the time is over. */
  isOver(): boolean {
    const now = performance.now();
    if (this.#end === 0) this.#end = now + this.#milliseconds;
    return now >= this.#end;
  }
}
