/**
 * How an end of a lane waits for the other: it looks, it lets others run, it naps, it sleeps.
 *
 * | | goes on within | but |
 * |---|---|---|
 * | look | 0.1 µs | the other end must run on another processor |
 * | let others run, `sched_yield(2)` | 1 µs | a process that computes keeps the processor for milliseconds |
 * | nap at a word of the memory, `futex(2)` | 3 µs, or 70 if its processor has gone to sleep | the event loop does not turn |
 * | sleep at the connection | 60 µs and more | nothing |
 *
 * An end looks a few times. Then it lets others run again and again, and looks after each time, for a little longer than it
 * takes to wake the other end. It leaves that out for a while after it was in vain several times in a row, or if it had to
 * wait for the processor: then there are more processes than processors. Then it naps, if what it waited for has come soon
 * the last times, and otherwise sleeps. A nap in which nothing comes has held up other work of the process, so the next
 * waits are sleeps. (A nap is not much shorter because a timer that is due before the system's next tick takes 10 µs to set
 * in a virtual machine.)
 *
 * @module
 */

import { AT_WORD, type Lane } from "./lane.ts";
import { MAX_WORDS, sleepAt, yieldProcessor } from "./futex.ts";

/** How often an end looks before anything else. */
const LOOKS = 30;
/** How often it lets others run: that takes 0.1 ms if there are none, … */
const MAX_YIELDS = 400;
/** … and no longer than this, in milliseconds, if they run for a short time each, as other ends that wait do. */
const SPIN_MS = 0.5;
/** If it takes longer than this on the average to get the processor back, in milliseconds, others compute. */
const CROWDED_MS = 0.05;
/** How often it does so each time before it reads the clock. */
const YIELDS = 8;
/** After it has let others run in vain in as many waits in a row, or others have run for long, … */
const MAX_VAIN = 4;
/** … it does not do so in this many waits. */
const WAITS_WITHOUT = 64;
/** How long a nap lasts at most, in milliseconds. */
export const NAP_MS = 5;
/** What comes within this time comes soon, in milliseconds. */
const SOON_MS = 1;
/** After a nap or sleep that ended later, this many more must end soon before it naps again, … */
const LATE = 8;
/** … and this many after a nap in which nothing came. */
const IN_VAIN = 64;

/** How one end waits at its lanes. */
export class Waiter {
  /** In how many waits in a row it has let others run in vain. */
  #vain = 0;
  /** For how many waits it does not let others run. */
  #without = 0;
  /** How many waits must end soon before it naps. */
  #untilNap = 0;

  /**
   * Looks, lets others run, and naps if that is likely to help. It does not sleep.
   *
   * @param lanes Where to wait.
   * @param isReady Whether something is there.
   * @param mayNap Whether nothing forbids it to nap.
   * @returns Whether something is there now.
   */
  spin(lanes: readonly Lane[], isReady: () => boolean, mayNap = true): boolean {
    if (this.#look(lanes.length, isReady)) {
      this.#note(true);
      return true;
    }
    return mayNap && this.#untilNap === 0 && lanes.length <= MAX_WORDS && this.nap(lanes, isReady);
  }

  /** Naps. Whether something is there then. */
  nap(lanes: readonly Lane[], isReady: () => boolean): boolean {
    for (const lane of lanes) lane.sleep(AT_WORD);
    const start = performance.now();
    if (!isReady()) sleepAt(lanes.map(({ word }) => word), AT_WORD, NAP_MS);
    for (const lane of lanes) lane.awake();
    const ready = isReady();
    if (ready) this.slept(start);
    else this.#untilNap = IN_VAIN;
    return ready;
  }

  /** Notes that what a sleep was for has come, which began at this time. */
  slept(start: number): void {
    this.#note(performance.now() - start < SOON_MS);
  }

  #note(soon: boolean): void {
    this.#untilNap = soon ? Math.max(this.#untilNap - 1, 0) : Math.max(this.#untilNap, LATE);
  }

  #look(lanes: number, isReady: () => boolean): boolean {
    for (let i = LOOKS; i > 0; i -= lanes) if (isReady()) return true;
    if (this.#without > 0) {
      this.#without--;
      return false;
    }
    const start = performance.now();
    let yields = 0, ready = false, spent = 0;
    while (!ready && yields < MAX_YIELDS && spent < SPIN_MS) {
      for (let i = 0; i < YIELDS && !ready; i++, yields++) {
        yieldProcessor();
        ready = isReady();
      }
      spent = performance.now() - start;
    }
    this.#vain = ready ? 0 : this.#vain + 1;
    const crowded = spent > CROWDED_MS * yields;
    if (crowded || this.#vain >= MAX_VAIN) this.#without = WAITS_WITHOUT;
    return ready;
  }
}
