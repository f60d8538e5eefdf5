/**
 * How an end of a lane waits for the other: it looks, then it naps, then it sleeps.
 *
 * | | woken within | but |
 * |---|---|---|
 * | look | 0.1 µs | it takes the processor from others |
 * | nap at a word of the memory | 3 to 20 µs | it blocks the event loop |
 * | sleep at the connection | 60 µs | nothing |
 *
 * So it looks as long as that mostly helps: where there are more processes than processors, the other end cannot run
 * meanwhile. It naps only if what it waited for came soon the last times. A nap that ends without anything would hold up
 * other work of the process: the next ones are sleeps. (A nap cannot be much shorter: to set a timer that is due before the
 * system's own takes 10 µs in a virtual machine.)
 *
 * @module
 */

import { AT_WORD, type Lane } from "./lane.ts";
import { sleepAt } from "./memory.ts";

/** How often an end looks, which takes some 15 microseconds, … */
const LOOKS = 500;
/** … or less than one, … */
const SHORT_LOOKS = 20;
/** … for so many waits, after it has looked in vain so many times in a row. */
const SHORT_WAITS = 64;
const MAX_VAIN = 4;
/** How long a nap lasts at most, in milliseconds. */
export const NAP_MS = 5;
/** What comes within this time comes soon, in milliseconds: also what a front asks Redis for. */
const SOON_MS = 1;
/** After so many waits that ended soon, it naps … */
const SOON_ENOUGH = 8;
/** … and after a nap without anything, not until so many more have. */
const PENALTY = 64;

/** How one end waits at its lanes. */
export class Waiter {
  /** How many times in a row it has looked in vain. */
  #vain = 0;
  /** How many times it looks only shortly. */
  #short = 0;
  /** How many waits have ended soon, less those that have not. */
  #soon = 0;

  /**
   * Looks, and naps if that is likely to help.
   *
   * @param lanes Where to wait.
   * @param isReady Whether something is there.
   * @param mayNap Whether nothing forbids it to nap.
   * @returns Whether something is there now.
   */
  spin(lanes: readonly Lane[], isReady: () => boolean, mayNap = true): boolean {
    if (!this.#look(lanes.length, isReady)) {
      return mayNap && this.#soon >= SOON_ENOUGH && this.nap(lanes, isReady);
    }
    this.#note(true);
    return true;
  }

  /** Naps. Whether something is there then. */
  nap(lanes: readonly Lane[], isReady: () => boolean): boolean {
    for (const lane of lanes) lane.sleep(AT_WORD);
    const start = performance.now();
    if (!isReady()) sleepAt(lanes.map(({ word }) => word), AT_WORD, NAP_MS);
    for (const lane of lanes) lane.awake();
    const ready = isReady();
    if (ready) this.slept(start);
    else this.#soon = -PENALTY;
    return ready;
  }

  /** Notes that what a sleep was for has come, which began at this time. */
  slept(start: number): void {
    this.#note(performance.now() - start < SOON_MS);
  }

  #note(soon: boolean): void {
    this.#soon = Math.min(this.#soon + (soon ? 1 : -1), SOON_ENOUGH);
  }

  #look(lanes: number, isReady: () => boolean): boolean {
    const isLong = this.#short === 0;
    for (let i = isLong ? LOOKS : SHORT_LOOKS; i > 0; i -= lanes) {
      if (!isReady()) continue;
      if (isLong) this.#vain = 0;
      return true;
    }
    if (!isLong) this.#short--;
    else if (++this.#vain >= MAX_VAIN) this.#short = SHORT_WAITS;
    return false;
  }
}
