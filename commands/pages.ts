/**
 * How long a page is that `scan` and `scan_set` reply, whoever makes it: an engine, or a client that reads the host's memory.
 *
 * @module
 */

/** A page ends after this many bytes, whatever was asked for, … */
export const PAGE_BYTES: number = 2 ** 20;
/** … or this many entries, … */
export const MAX_PAGE_ENTRIES = 10_000;
/** … or this many, if nothing was asked for. */
export const PAGE_ENTRIES = 1000;
