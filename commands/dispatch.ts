/**
 * From a payload to its reply: every command is found and checked, then all run, one after another.
 *
 * ```text
 * payload ─► check: walk, look up, count ─► prepare (restore reads its file) ─► run ─► reply payload
 *                 │                                                             │
 *                 └── one refused: nothing runs                                 └── a promise: the reply waits
 * ```
 *
 * Between the first and the last command of a payload nothing else runs: `run` is one synchronous stretch.
 *
 * @module
 */

import { MAX_KEY_DEPTH } from "../engine/key.ts";
import { head, latin1, skip, Writer } from "../wire/msgpack.ts";
import { MemStoreError, writeRefusal } from "../wire/message.ts";
import { Call, type Host } from "./call.ts";

/** An argument of a command. */
export interface Arg {
  name: string;
  /** What it must be: a string, or a value that can be a key (or a name or member); left out: any value. */
  type?: "string" | "key";
}

/** What {@linkcode Dispatcher} needs to know of a command. */
export interface Command {
  name: string;
  args: readonly Arg[];
  /** One line, for people. */
  help: string;
  /** It takes as long as the state is large. */
  slow?: boolean;
  /** What must be there before the command can run; it may take its time, and nothing waits for it. */
  prepare?(call: Call): Promise<unknown>;
  /**
   * Does the command and writes one item to `call.reply`; or answers with a promise of a function that
   * writes it, where the command's end takes its time (`store`). A {@linkcode MemStoreError} thrown becomes the
   * reply.
   */
  run(call: Call): void | Promise<(reply: Writer) => void>;
}

/** A payload that was checked: its commands, and where their arguments are. */
class Plan {
  readonly commands: Command[] = [];
  /** For each command, where its arguments' offsets begin in {@linkcode Plan.offsets}, and how many it has. */
  readonly firsts: number[] = [];
  readonly counts: number[] = [];
  /** Of every argument where it begins, and for each command where the last one ends. */
  readonly offsets: number[] = [];
  /** The first command that was refused, and why; those that follow it are only counted. */
  refused: { index: number; why: MemStoreError } | undefined;
}

/** Runs payloads against the commands of a host. */
export class Dispatcher {
  readonly #commands = new Map<string, Command>();
  readonly #call: Call;
  readonly #reply = new Writer(1 << 16);
  #running = false;

  constructor(host: Host, commands: Iterable<Command>) {
    this.#call = this.#newCall(host);
    for (const command of commands) this.add(command);
  }

  /** @throws {TypeError} if there is a command of this name, or it cannot be a name. */
  add(command: Command): void {
    if (!NAME.test(command.name)) {
      const why = `a name has 1 to ${MAX_NAME} characters of ASCII and no spaces`;
      throw new TypeError(`Cannot add a command: ${why}: received ${command.name}`);
    }
    if (this.#commands.has(command.name)) {
      throw new TypeError(`Cannot add a command: there is one of this name: received ${command.name}`);
    }
    this.#commands.set(command.name, command);
  }

  /** The reply to a payload: at once (and good until the next call), or when what it waits for is done. */
  answer(payload: Uint8Array, legacy: boolean): Uint8Array | Promise<Uint8Array> {
    let plan: Plan;
    try {
      plan = this.#check(payload, legacy);
    } catch (error) {
      return this.refuse(error, legacy);
    }
    if (plan.refused) return this.#refuseAll(plan, legacy);
    if (plan.commands.some((command) => command.prepare)) {
      return this.#prepare(payload, plan).then((prepared) => this.#run(payload, plan, legacy, prepared));
    }
    return this.#run(payload, plan, legacy, []);
  }

  /** The reply to a message that cannot be understood. */
  refuse(error: unknown, legacy: boolean): Uint8Array {
    const refusal = error instanceof MemStoreError
      ? error
      : new MemStoreError("BAD_REQUEST", `Cannot read the message: ${messageOf(error)}`);
    const reply = new Writer(128);
    writeRefusal(refusal, legacy, reply);
    return reply.written;
  }

  /** @throws {Error} if the payload is no list of items, or too long a one. */
  #check(payload: Uint8Array, legacy: boolean): Plan {
    const plan = new Plan();
    let at = 0;
    do {
      const array = at < payload.length ? head(payload, at) : undefined;
      const end = skip(payload, at);
      const index = plan.commands.length;
      if (index === MAX_COMMANDS) {
        throw new MemStoreError("TOO_LARGE", `Cannot run a message of more than ${MAX_COMMANDS} commands`);
      }
      at = end;
      if (plan.refused) {
        plan.commands.push(NO_COMMAND);
        continue;
      }
      plan.firsts.push(plan.offsets.length);
      try {
        if (array?.type !== "array" || array.length === 0) {
          throw new MemStoreError(
            "BAD_REQUEST",
            `Cannot read command ${index}: it must be an array, [name, ...args]`,
          );
        }
        let arg = skip(payload, array.body);
        const command = this.#find(payload, array.body);
        plan.commands.push(command);
        for (let i = 1; i < array.length; i++) plan.offsets.push(arg), arg = skip(payload, arg);
        plan.offsets.push(end);
        plan.counts.push(array.length - 1);
        checkArguments(command, payload, plan, index, legacy);
      } catch (error) {
        if (!(error instanceof MemStoreError)) throw error;
        plan.commands[index] ??= NO_COMMAND;
        plan.refused = { index, why: error };
      }
    } while (at < payload.length);
    return plan;
  }

  #find(payload: Uint8Array, at: number): Command {
    const { type, length, body } = head(payload, at);
    if (type !== "str" && type !== "bin") {
      throw new MemStoreError("UNKNOWN_COMMAND", "Cannot find a command: its name must be a string");
    }
    const name = latin1(payload, body, body + Math.min(length, MAX_NAME));
    const command = length > MAX_NAME ? undefined : this.#commands.get(name);
    if (!command) {
      throw new MemStoreError("UNKNOWN_COMMAND", `Cannot find a command of this name: received ${name}`);
    }
    return command;
  }

  #prepare(payload: Uint8Array, plan: Plan): Promise<unknown[]> {
    return Promise.all(plan.commands.map((command, i) => {
      const call = this.#newCall().aim(payload, plan.offsets, plan.firsts[i], plan.counts[i]);
      // What went wrong is for `run` to tell.
      return command.prepare?.(call).catch((error) => error);
    }));
  }

  #run(
    payload: Uint8Array,
    plan: Plan,
    legacy: boolean,
    prepared: unknown[],
  ): Uint8Array | Promise<Uint8Array> {
    // A command of the host's own may send commands itself: they must not write over the outer reply.
    if (this.#running) return this.#runWith(new Writer(64), this.#newCall(), payload, plan, legacy, prepared);
    this.#running = true;
    try {
      return this.#runWith(this.#reply, this.#call, payload, plan, legacy, prepared);
    } finally {
      this.#running = false;
    }
  }

  #runWith(
    reply: Writer,
    call: Call,
    payload: Uint8Array,
    plan: Plan,
    legacy: boolean,
    prepared: unknown[],
  ): Uint8Array | Promise<Uint8Array> {
    /** Parts of the reply that are not there yet, and where they go. */
    const late: { at: number; part: Promise<Uint8Array> }[] = [];
    reply.reset();
    call.legacy = legacy;
    call.reply = reply;
    plan.commands.forEach((command, i) => {
      const start = reply.length;
      try {
        call.aim(payload, plan.offsets, plan.firsts[i], plan.counts[i]);
        if (prepared[i] instanceof Error) throw prepared[i];
        call.prepared = prepared[i];
        if (!legacy) reply.int(0);
        const promise = command.run(call);
        if (reply.length > MAX_REPLY_BYTES) {
          throw new MemStoreError(
            "TOO_LARGE",
            `Cannot reply with more than ${MAX_REPLY_BYTES} bytes at once`,
          );
        }
        if (!promise) return;
        reply.length = start;
        late.push({ at: start, part: lateReply(promise, legacy) });
      } catch (error) {
        reply.length = start;
        writeRefusal(failure(error), legacy, reply);
      }
    });
    return late.length === 0 ? reply.written : splice(reply.written.slice(), late);
  }

  #newCall(host = this.#call.host): Call {
    return new Call(host, this.#commands);
  }

  #refuseAll(plan: Plan, legacy: boolean): Uint8Array {
    const reply = new Writer(128);
    plan.commands.forEach((_, i) =>
      writeRefusal(plan.refused?.index === i ? plan.refused.why : NOT_RUN, legacy, reply)
    );
    return reply.written;
  }
}

/** A message that holds more commands is refused. */
const MAX_COMMANDS = 2 ** 16;
/** Once the replies of a message have so many bytes, 512 MiB, the next one is refused. */
const MAX_REPLY_BYTES = 2 ** 29;
const MAX_NAME = 64;
const NAME = /^[\x21-\x7e]{1,64}$/;
const NOT_RUN = new MemStoreError("NOT_RUN", "Cannot run: another command of the message was refused");
/** Stands in the place of a command that was not found. */
const NO_COMMAND: Command = { name: "", args: [], help: "", run: () => {} };

/**
 * Native clients are held to the arguments that a command has. pymemstore did not look at those that follow
 * the last one it needs, so legacy clients may send more.
 */
function checkArguments(
  command: Command,
  payload: Uint8Array,
  plan: Plan,
  index: number,
  legacy: boolean,
): void {
  const { name, args } = command;
  const count = plan.counts[index];
  if (count < args.length || (count > args.length && !legacy)) {
    const usage = [name, ...args.map((arg) => arg.name)].join(" ");
    throw new MemStoreError(
      "BAD_ARGUMENT",
      `Cannot run ${name}: it takes "${usage}": received ${count} arguments`,
    );
  }
  args.forEach((arg, i) => {
    const why = misfit(arg, payload, plan.offsets[plan.firsts[index] + i]);
    if (why) throw new MemStoreError("BAD_ARGUMENT", `Cannot run ${name}: ${arg.name} ${why}`);
  });
}

/** Why the item at `at` cannot be an argument; undefined if it can. */
function misfit({ type }: Arg, payload: Uint8Array, at: number): string | undefined {
  if (type === undefined) return undefined;
  const found = head(payload, at).type;
  if (type === "string") return found === "str" ? undefined : "must be a string";
  if (found !== "array" && found !== "map") return undefined;
  try {
    skip(payload, at, MAX_KEY_DEPTH);
  } catch {
    return `is nested deeper than ${MAX_KEY_DEPTH}, as no key may be`;
  }
}

function failure(error: unknown): MemStoreError {
  return error instanceof MemStoreError ? error : new MemStoreError("FAILED", messageOf(error));
}

/** What an error says. Commands of an application may throw anything. */
function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return "a value was thrown that says nothing";
  }
}

async function lateReply(promise: Promise<(reply: Writer) => void>, legacy: boolean): Promise<Uint8Array> {
  const reply = new Writer(64);
  try {
    const write = await promise;
    if (!legacy) reply.int(0);
    write(reply);
  } catch (error) {
    reply.length = 0;
    writeRefusal(failure(error), legacy, reply);
  }
  return reply.written;
}

async function splice(
  whole: Uint8Array,
  late: { at: number; part: Promise<Uint8Array> }[],
): Promise<Uint8Array> {
  const reply = new Writer(whole.length + 64);
  let from = 0;
  for (const { at, part } of late) {
    reply.raw(whole.subarray(from, at));
    reply.raw(await part);
    from = at;
  }
  reply.raw(whole.subarray(from));
  return reply.written;
}
