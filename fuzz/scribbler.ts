/**
 * A worker that writes at random into memory which other threads read: a host that is broken, or hostile.
 *
 * @module
 */

/// <reference lib="deno.worker" />

import type { MemoryOffer } from "../transport/shared/offer.ts";
import { SharedMemory } from "../transport/shared/memory.ts";
import { loadSharedMemory } from "../transport/shared/system.ts";
import { anyWord, Random } from "./random.ts";

/** What a scribbler is told. */
export interface Scribble {
  offer: MemoryOffer;
  /** The bytes of the memory, and how many of them it writes to. */
  bytes: number;
  used: number;
  /** The words that matter most, by their indexes. */
  words: readonly number[];
  seed: number;
  /** It writes while this is 0, … */
  flag: Int32Array;
}

self.onmessage = ({ data }: MessageEvent<Scribble>) => {
  const { offer, bytes, used, words, seed, flag } = data;
  const random = new Random(seed);
  loadSharedMemory();
  using memory = SharedMemory.open(offer.pid, offer.fd, bytes, [{ at: 0, bytes: used }]);
  const all = new Int32Array(memory.buffer);
  while (Atomics.load(flag, 0) === 0) {
    const at = random.pick(words) + random.below(12), before = all[at];
    all[at] = anyWord(random, before);
    // (Some stay.)
    if (!random.one(8)) all[at] = before;
  }
  // … and then says that it has ended.
  self.postMessage("ended");
};
