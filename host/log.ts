/**
 * The application's log, as the host calls it.
 *
 * @module
 */

import type { Log } from "../state/persistence.ts";

/** A log that never throws: the first failure of the application's own is told on stderr, the others are ignored. */
export function safeLog(log: Log): Log {
  let told = false;
  const failed = (error: unknown) => {
    if (!told) console.error("Cannot write to the log of memstore:", error);
    told = true;
  };
  return (level, event, fields) => {
    try {
      const result: unknown = log(level, event, fields);
      // (A function that is async may be given as well.)
      if (result instanceof Promise) result.catch(failed);
    } catch (error) {
      failed(error);
    }
  };
}
