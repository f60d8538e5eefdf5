/**
 * Custom commands: those of an application's own, and how they reach the data.
 *
 * @module
 */

import { type Commands, replyShape } from "../commands/list.ts";
import { isThenable } from "../commands/methods.ts";
import type { Call } from "../engine/call.ts";
import type { Right } from "../auth/clients.ts";
import { encode, Reader } from "../msgpack/codec.ts";
import { LimitError, Writer } from "../msgpack/msgpack.ts";
import { MemStoreError, readReply } from "../transport/message.ts";
import type { Dispatcher } from "./dispatch.ts";
import type { HostCommand } from "./execution.ts";

/** A command of an application's own, see {@linkcode MemStore.command}. */
export interface CustomCommand {
  /** The names of its arguments, in order. */
  args: readonly string[];
  /** One line that says what the command does, for `commands` and the command line. */
  help: string;
  /**
   * The right that a client with a key needs to run it. (The command itself may do everything.)
   * @default {"admin"}
   */
  needs?: Right;
  /**
   * Runs the command. The arguments are decoded; what it returns (or resolves to) is the reply, and what it throws is the
   * error that the client gets. Until the first `await` nothing else runs on the host. A function that returns a promise
   * cannot be part of a batch.
   */
  run(host: CommandHost, ...args: unknown[]): unknown;
}

/** What a {@linkcode CustomCommand} can do on the host. */
export interface CommandHost {
  /**
   * Runs a command at once and returns its reply (a promise of it for `store` and `restore`).
   *
   * @throws {MemStoreError} if it is refused or fails.
   */
  send<Name extends keyof Commands>(
    name: Name,
    ...args: Parameters<Commands[Name]>
  ): ReturnType<Commands[Name]>;
}

/** Custom commands that have not ended. A host that stops gives them up. */
export class PendingCommands {
  readonly #reject = new Set<(why: Error) => void>();

  /** What a command resolves to, unless it is given up before. */
  untilGivenUp(result: PromiseLike<unknown>): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#reject.add(reject);
    const forget = () => this.#reject.delete(reject);
    promise.then(forget, forget);
    result.then(resolve, reject);
    return promise;
  }

  /** Gives them up: their clients are answered with an error. */
  giveUp(why: Error): void {
    for (const reject of this.#reject) reject(why);
  }
}

/**
 * A custom command, for the dispatcher.
 *
 * @param isLocal Whether what it sends is done at once; if not, it cannot be part of a batch.
 */
export function customCommand(
  name: string,
  { args, help, needs = "admin", run }: CustomCommand,
  dispatcher: Dispatcher,
  pending: PendingCommands,
  isLocal = true,
): HostCommand {
  return {
    name,
    args: args.map((name) => ({ name })),
    help,
    needs,
    reply: "value",
    slow: true,
    // (An asynchronous function would go on after its batch.)
    batch: isLocal && run.constructor.name !== "AsyncFunction",
    run(call: Call) {
      const { inBatch } = call;
      let open = true;
      const host: CommandHost = {
        send(name, ...args) {
          if (open) return send(dispatcher, name, args) as never;
          throw new MemStoreError("NOT_IN_BATCH", `Cannot ${name}: the batch of this command has ended`);
        },
      };
      const result = run(host, ...args.map((_, i) => call.decode(i)));
      if (inBatch) open = false;
      if (!isThenable(result)) {
        const start = call.reply.length;
        encode(result ?? null, call.reply);
        return call.checkReply(start);
      }
      return pending.untilGivenUp(result).then((value) => (reply) => encode(value ?? null, reply));
    },
  };
}

/** Buffers of messages that have run, to be used again: a command may send others while it runs. */
const spare: Writer[] = [];
const SPARE = 4;

/** Runs a command for the application, through the dispatcher like every other. */
export function send(dispatcher: Dispatcher, name: string, args: readonly unknown[]): unknown {
  const to = spare.pop() ?? new Writer();
  write(name, args, to, dispatcher.maxMessage);
  const payload = to.written;
  let reply: unknown;
  const execution = dispatcher.run({ payload, legacy: false, batch: false, right: "admin" }, (bytes) => {
    reply = readReply(replyShape(name), new Reader(bytes));
  }, Infinity);
  const result = () => {
    if (reply instanceof MemStoreError) throw reply;
    return reply;
  };
  if (!execution) {
    if (spare.length < SPARE) spare.push(to);
    return result();
  }
  const resume = (): unknown =>
    dispatcher.resume(execution, Infinity) ? result() : execution.waiting!.then(resume);
  const later = execution.waiting!.then(resume);
  // A command that does not look at how its store ended must not end the host.
  later.catch(() => {});
  return later;
}

/** Writes a command, which may be as long as a client's. */
function write(name: string, args: readonly unknown[], to: Writer, most: number): void {
  to.reset();
  to.limit = most;
  try {
    to.arrayHead(1 + args.length);
    encode(name, to);
    // (Each by itself: within an array, undefined would be nil.)
    for (const arg of args) encode(arg, to);
  } catch (error) {
    if (!(error instanceof LimitError)) throw error;
    throw new MemStoreError("TOO_LARGE", `Cannot ${name}: a message may have ${most} bytes (limits.message)`);
  }
}
