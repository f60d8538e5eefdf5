/**
 * How many commands may be on their way to data that is elsewhere: so many that their replies fill no more memory than a bound,
 * as far as the size of earlier replies tells.
 *
 * @module
 */

/** Bytes of replies that may be on their way. */
const MAX_BYTES = 2 ** 26;
/** Commands that may be on their way, however short the replies: each takes about a kilobyte until it has one. */
const MAX_COMMANDS = 2 ** 14;
/** … and however long they are. */
const MIN_COMMANDS = 16;
/** The share of that for what is more than one command: it is many, and others need not wait until all of it is done. */
const WIDE_SHARE = 1 / 8;
/** How much one look at some replies counts, beside what was known before. */
const WEIGHT = 1 / 8;

/** Commands that are on their way. */
export class Flow {
  #pending = 0;
  /** Bytes of a reply, on the average. */
  #bytes = 64;
  #free = Promise.withResolvers<void>();

  /** Takes room for as many; whether there is so much. (If nothing is on its way there is, however many it takes.) */
  take(commands: number): boolean {
    const most = Math.min(MAX_COMMANDS, Math.max(MIN_COMMANDS, Math.floor(MAX_BYTES / this.#bytes)));
    const room = commands === 1 ? most : most * WIDE_SHARE;
    if (this.#pending > 0 && this.#pending + commands > room) return false;
    this.#pending += commands;
    return true;
  }

  /** Gives room back when the replies to commands are there. */
  give(commands: number, bytes: number): void {
    if (commands === 0) return;
    this.#pending -= commands;
    this.#bytes += (bytes / commands - this.#bytes) * WEIGHT;
    this.#free.resolve();
    this.#free = Promise.withResolvers();
  }

  /** Resolves when room was given back. */
  get room(): Promise<void> {
    return this.#free.promise;
  }
}
