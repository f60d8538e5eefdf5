/**
 * How long a message may run before it pauses.
 *
 * @module
 */

/** A period that begins when the clock is first read: most messages are done before that. */
export class Slice {
  #milliseconds = 0;
  #end = 0;

  /** Begins another slice. Infinity never ends. */
  reset(milliseconds: number): void {
    this.#milliseconds = milliseconds;
    this.#end = 0;
  }

  /** Whether the message can pause. */
  get canEnd(): boolean {
    return this.#milliseconds < Infinity;
  }

  /** Whether the time is over. (Reading the clock takes as long as a command.) */
  isOver(): boolean {
    const now = performance.now();
    if (this.#end === 0) this.#end = now + this.#milliseconds;
    return now >= this.#end;
  }
}
