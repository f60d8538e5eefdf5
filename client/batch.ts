/**
 * Batches: the methods that add commands to one, and the promises of their replies.
 *
 * @module
 */

import { Request } from "./request.ts";
import { type CallOptions, CommandMethods } from "./methods.ts";
import type { Multiplexer } from "./multiplexer.ts";

/** A command in its raw form. */
export type RawCommand = readonly [name: string, ...args: unknown[]];

/**
 * Runs a batch.
 *
 * @param commands The raw commands, or a function that calls the batch's methods and returns their promises.
 * @returns The replies. Rejects with the error of the command that failed.
 */
export async function runBatch(
  multiplexer: Multiplexer,
  commands: readonly RawCommand[] | ((batch: CommandMethods) => readonly unknown[]),
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<unknown[]> {
  signal?.throwIfAborted();
  const request = new Request("batch");
  const batch = new Batch(multiplexer, request, timeout);
  const abort = () => multiplexer.giveUp(request.calls, () => signal?.reason);
  try {
    const replies = batch.make(commands);
    if (request.calls.length > 0) multiplexer.push(request);
    signal?.addEventListener("abort", abort);
    return await Promise.all(replies);
  } catch (error) {
    // If the function threw, its calls must not be sent.
    multiplexer.giveUp(request.calls, () => error);
    // The command that failed says more than those that were not run because of it.
    throw request.failure ?? error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** The methods of a batch. A call that cannot be made throws at once. */
class Batch extends CommandMethods {
  readonly #multiplexer: Multiplexer;
  readonly #request: Request;
  readonly #timeout: number;
  #open = true;

  constructor(multiplexer: Multiplexer, request: Request, timeout: number) {
    super();
    this.#multiplexer = multiplexer;
    this.#request = request;
    this.#timeout = timeout;
  }

  /** Makes the calls. After that, no others can be made. */
  make(
    commands: readonly RawCommand[] | ((batch: CommandMethods) => readonly unknown[]),
  ): readonly unknown[] {
    try {
      const replies = typeof commands === "function"
        ? commands(this)
        : commands.map((each) => this.send(each));
      if (Array.isArray(replies)) return replies;
      // (An asynchronous function rejects when its calls do.)
      markHandled(Promise.resolve(replies as unknown));
      throw new TypeError("Cannot run a batch: its function must return an array of the replies");
    } finally {
      this.#open = false;
    }
  }

  protected override call<Reply>(
    name: string,
    args: readonly unknown[],
    options?: CallOptions,
    convert?: (reply: unknown) => Reply,
  ): Promise<Reply> {
    if (options?.timeout !== undefined || options?.signal !== undefined) {
      throw new TypeError(`Cannot ${name}: in a batch, timeout and signal are given to batch() itself`);
    }
    if (!this.#open) {
      throw new TypeError(
        `Cannot ${name}: the function of its batch has returned, and the batch has been sent`,
      );
    }
    const { promise, resolve, reject } = BatchReply.withResolvers<unknown>();
    this.#multiplexer.add(this.#request, name, args, this.#timeout, convert, resolve, reject);
    markHandled(promise);
    return promise as Promise<Reply>;
  }
}

/**
 * The reply to a command of a batch. The batch itself rejects, so an unhandled rejection of this promise, or of one
 * that `then` derives from it, must not end the process.
 */
class BatchReply<Reply> extends Promise<Reply> {
  override then<A = Reply, B = never>(
    onFulfilled?: ((reply: Reply) => A | PromiseLike<A>) | null,
    onRejected?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    const derived = super.then(onFulfilled, onRejected);
    markHandled(derived);
    return derived;
  }
}

/** Keeps an unhandled rejection of a promise from ending the process. */
function markHandled(promise: Promise<unknown>): void {
  Promise.prototype.then.call(promise, undefined, () => {});
}
