/**
 * The application's log, as the host calls it.
 *
 * @module
 */

import type { Log } from "../state/persistence.ts";

/** How many warnings about clients are logged in a second: clients could cause them without end. */
const WARNINGS_PER_SECOND = 10;

/** A log that never throws: the first failure of the application's log is printed to stderr, the others are ignored. */
export function safeLog(log: Log): Log {
  let told = false;
  const failed = (error: unknown) => {
    if (!told) console.error("Cannot write to the log of memstore:", error);
    told = true;
  };
  return (level, event, fields) => {
    try {
      const result: unknown = log(level, event, fields);
      // (The application's function may be async.)
      if (result instanceof Promise) result.catch(failed);
    } catch (error) {
      failed(error);
    }
  };
}

/** Logs a warning about what a client did. */
export type Warn = (event: string, fields: Record<string, unknown>) => void;

/** Logs a bounded number of warnings in a second, and drops the others. */
export function boundedWarnings(log: Log): Warn {
  let second = 0, lines = 0;
  return (event, fields) => {
    const now = Math.floor(performance.now() / 1000);
    if (now !== second) {
      second = now;
      lines = 0;
    }
    if (lines++ < WARNINGS_PER_SECOND) log("warning", event, fields);
  };
}

/** What an error says. Code of an application may throw anything. */
export function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return "a value was thrown that says nothing";
  }
}
