/**
 * The messages that are paused, and which of them runs next.
 *
 * They take turns, so that a short message is done soon, whatever the others ask for. Each holds its reply so far. While
 * all replies together are above a bound, they take no turns: the first message runs on until it is done, and new messages
 * run only for a moment, so that many long messages do not fill the memory.
 *
 * @module
 */

import type { Execution } from "./execution.ts";

/** Bytes of replies that paused messages may hold before they are done one after another. */
const MAX_BYTES = 2 ** 26;

/** A queue of paused messages, each with what its owner knows of it. */
export class PausedMessages<Message extends { readonly execution: Execution }> {
  readonly #messages: Message[] = [];
  #bytes = 0;

  /** How many there are. */
  get length(): number {
    return this.#messages.length;
  }

  /** Whether they hold so much that no more should be begun. */
  get isFull(): boolean {
    return this.#bytes > MAX_BYTES;
  }

  /** Adds a message that was paused. */
  add(message: Message): void {
    this.#messages.push(message);
    this.#bytes += message.execution.bytes;
  }

  /** Adds a message that had its turn and is not done. */
  addAgain(message: Message): void {
    // (Another one must go on before one that is blocked can.)
    if (!this.isFull || message.execution.isBlocked) return this.add(message);
    this.#messages.unshift(message);
    this.#bytes += message.execution.bytes;
  }

  /** Takes the message whose turn it is. */
  next(): Message | undefined {
    const message = this.#messages.shift();
    if (message) this.#bytes -= message.execution.bytes;
    return message;
  }
}
