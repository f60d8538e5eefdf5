/**
 * How an end of a lane waits for the other: it looks, it lets others run, it naps, it sleeps.
 *
 * | | goes on within | but |
 * |---|---|---|
 * | look | 0.1 µs | the other end must run on another processor |
 * | let others run, `sched_yield(2)` | 1 µs | a process that computes keeps the processor for milliseconds |
 * | nap at a word of the memory, `futex(2)` | 3 to 20 µs | the event loop does not turn |
 * | sleep at the connection | 60 µs | nothing |
 *
 * So it looks for two microseconds, then lets others run some times, as long as that helps: if it was in vain several times
 * in a row, or took long, it is left out for a while. It naps only if what it waited for came soon the last times. A nap
 * that ends without anything holds up other work of the process: the next ones are sleeps. (A nap cannot be much shorter:
 * to set a timer that is due before the system's own takes 10 µs in a virtual machine.)
 *
 * @module
 */

import { AT_WORD, type Lane } from "./lane.ts";
import { MAX_WORDS, sleepAt, yieldProcessor } from "./memory.ts";

/** How often an end looks before anything else. */
const LOOKS = 4;
/** How often it lets others run. */
const YIELDS = 40;
/** If it does not get the processor back within this time, in milliseconds, others compute. */
const LONG_MS = 0.1;
/** For so many waits it does not let others run, after it has done so in vain so many times in a row, or for long. */
const WAITS_WITHOUT = 64;
const MAX_VAIN = 4;
/** How long a nap lasts at most, in milliseconds. */
export const NAP_MS = 5;
/** What comes within this time comes soon, in milliseconds. (An application that waits longer has other work to do.) */
const SOON_MS = 0.2;
/** After so many waits that ended soon, it naps … */
const SOON_ENOUGH = 8;
/** … and after a nap without anything, not until so many more have. */
const PENALTY = 64;

/** How one end waits at its lanes. */
export class Waiter {
  /** How many times in a row it has let others run in vain. */
  #vain = 0;
  /** For how many waits it does not let others run. */
  #without = 0;
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
      // (It would not be woken at the words beyond the most.)
      const naps = mayNap && this.#soon >= SOON_ENOUGH && lanes.length <= MAX_WORDS;
      return naps && this.nap(lanes, isReady);
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
    for (let i = LOOKS; i > 0; i -= lanes) if (isReady()) return true;
    if (this.#without > 0) {
      this.#without--;
      return false;
    }
    const start = performance.now();
    let ready = false;
    for (let i = 0; i < YIELDS && !ready; i++) {
      yieldProcessor();
      ready = isReady();
    }
    this.#vain = ready ? 0 : this.#vain + 1;
    if (this.#vain >= MAX_VAIN || performance.now() - start > LONG_MS) this.#without = WAITS_WITHOUT;
    return ready;
  }
}
