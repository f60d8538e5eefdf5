/**
 * How a thread sleeps at a word of shared memory until a thread of another process wakes it: `futex(2)`.
 *
 * @see https://man7.org/linux/man-pages/man2/futex.2.html
 * @module
 */

import { system } from "./system.ts";

const SYS_FUTEX = Deno.build.arch === "aarch64" ? 98n : 202n;
const SYS_FUTEX_WAITV = 449n;
const FUTEX_WAIT = 0;
const FUTEX_WAKE = 1;
/** A `futex_waitv`: value, address, flags; and that the word has 32 bits. */
const WAITER_BYTES = 24;
const FUTEX_32 = 2;
/** The most words at which a thread can sleep at once: the limit of `futex_waitv(2)`. */
export const MAX_WORDS = 128;
const CLOCK_MONOTONIC = 1;

/** A `timespec`: seconds, nanoseconds. */
const time = new BigInt64Array(new ArrayBuffer(16));
const timeBytes = new Uint8Array(time.buffer);
const waiters = new BigUint64Array(new ArrayBuffer(MAX_WORDS * WAITER_BYTES));
const waiterBytes = new Uint8Array(waiters.buffer);

/** Lets another process run that is ready to. */
export function yieldProcessor(): void {
  system!.sched_yield();
}

/** A word of shared memory at which a thread can sleep, of any process that has mapped it: `futex(2)`. */
export interface Word {
  readonly address: Deno.PointerObject;
  readonly number: bigint;
}

/** Wakes the thread that sleeps at a word. */
export function wakeAt({ address }: Word): void {
  system!.futex(SYS_FUTEX, address, FUTEX_WAKE, 1, null, 0n, 0n);
}

/**
 * Blocks the thread until it is woken at one of some words, or for some milliseconds. Does not block it if one of the words
 * does not have the value.
 *
 * @param words {@linkcode MAX_WORDS} at most.
 */
export function sleepAt(words: readonly Word[], value: number, milliseconds: number): void {
  const nanoseconds = BigInt(milliseconds * 1_000_000);
  if (words.length === 1) {
    time[0] = 0n;
    time[1] = nanoseconds;
    system!.futex(SYS_FUTEX, words[0].address, FUTEX_WAIT, value, timeBytes, 0n, 0n);
    return;
  }
  const count = words.length;
  for (let i = 0; i < count; i++) {
    waiters[3 * i] = BigInt(value);
    waiters[3 * i + 1] = words[i].number;
    waiters[3 * i + 2] = BigInt(FUTEX_32);
  }
  // (Unlike the other call, this one takes the time at which it ends.)
  system!.clock_gettime(CLOCK_MONOTONIC, timeBytes);
  const end = time[1] + nanoseconds;
  time[0] += end / 1_000_000_000n;
  time[1] = end % 1_000_000_000n;
  system!.futex_waitv(SYS_FUTEX_WAITV, waiterBytes, count, 0, timeBytes, CLOCK_MONOTONIC);
}
