/**
 * Buffers that nobody uses any more are given back when V8 thinks it worthwhile, and it lets a hundred megabytes
 * of them come together. Where buffers are made by the megabyte and the memory is bounded, it is told to look.
 *
 * @module
 */

import v8 from "node:v8";
import vm from "node:vm";

/** After so many bytes it looks. */
const EVERY = 6 << 20;

let collect: (() => void) | undefined;

/** Counts the bytes of buffers that were made, and has V8 give back those that are not in use. */
export class Garbage {
  #bytes = 0;

  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < EVERY) return;
    this.#bytes = 0;
    collect ??= collector();
    collect();
  }
}

/** V8's own function, some milliseconds where the data is in few large buffers, as ours is. */
function collector(): () => void {
  v8.setFlagsFromString("--expose-gc");
  return vm.runInNewContext("gc");
}
