/**
 * A turn of the event loop, given to whatever else waits for one.
 *
 * @module
 */

import { setImmediate } from "node:timers";

/** Resolves in the next turn. (`setTimeout(0)` would cost a millisecond.) */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
