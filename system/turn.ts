/**
 * A turn of the event loop, so that other work of the process can run.
 *
 * @module
 */

import { setImmediate } from "node:timers";

/** Resolves in the next turn of the event loop. (`setTimeout(0)` would cost a millisecond.) */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
