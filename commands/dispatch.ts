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

import { hash } from "../engine/hash.ts";
import { OutOfMemory } from "../engine/heap.ts";
import { MAX_KEY_DEPTH } from "../engine/key.ts";
import type { Table } from "../engine/table.ts";
import type { Limits } from "../wire/limits.ts";
import { head, latin1, skip, Writer } from "../wire/msgpack.ts";
import { type Right, RIGHTS } from "../wire/clients.ts";
import { MemStoreError, writeRefusal } from "../wire/message.ts";
import { Call, type Host } from "./call.ts";
import { numberAt } from "./number.ts";

/**
 * What an argument must be.
 *
 * | type | |
 * |---|---|
 * | `string`, `bool` | a string; true or false |
 * | `key` | a value that can be a key, or a name or member |
 * | `keys` | an array of such values |
 * | `entries` | a map whose keys are such values |
 * | `number` | an integer, or a float that is finite |
 * | `seconds` | a number that is no more than {@linkcode MAX_SECONDS} |
 * | `uint32` | an integer of 0 to 2³² - 1 |
 */
export type ArgType = "string" | "bool" | "key" | "keys" | "entries" | "number" | "seconds" | "uint32";

/** An argument of a command. */
export interface Arg {
  name: string;
  /** What it must be; left out: any value. */
  type?: ArgType;
  /** What is left to say of it, for people: where its name does not say it. */
  help?: string;
  /** It may be left out, as may those that follow it. */
  optional?: true;
}

/** What {@linkcode Dispatcher} needs to know of a command. */
export interface Command {
  name: string;
  args: readonly Arg[];
  /** One line, for people. */
  help: string;
  /** What a client must be allowed. */
  needs: Right;
  /** It takes as long as the state is large. */
  slow?: boolean;
  /** Its first argument names a table or a set, in which it finds its second. */
  finds?: "tables" | "sets";
  /** What must be there before the command can run; it may take its time, and nothing waits for it. */
  prepare?(call: Call): Promise<unknown>;
  /**
   * Does the command and writes one item to `call.reply`; or answers with a promise of a function that
   * writes it, where the command's end takes its time (`store`). A {@linkcode MemStoreError} thrown becomes the
   * reply.
   */
  run(call: Call): void | Promise<(reply: Writer) => void>;
}

/** A payload that was checked: its commands, and where their arguments are. Used again for the next one. */
class Plan {
  /** How many commands there are. */
  length = 0;
  readonly commands: Command[] = [];
  /** For each command, where its arguments' offsets begin in {@linkcode Plan.offsets}, and how many it has. */
  firsts = new Int32Array(64);
  counts = new Int32Array(64);
  /** For each command that finds a key the hash of it, once they were touched. */
  hashes = new Int32Array(64);
  /** Of every argument where it begins, and for each command where the last one ends. */
  offsets = new Int32Array(256);
  #offsets = 0;
  /** The first command that was refused, and why; those that follow it are only counted. */
  refused: { index: number; why: MemStoreError } | undefined;
  /** What the client may do. */
  right: Right = "admin";
  /** One of the commands must be prepared. */
  prepares = false;

  /** How many of the commands find a key. */
  finds = 0;

  reset(): void {
    this.length = this.#offsets = this.finds = 0;
    this.commands.length = 0;
    this.refused = undefined;
    this.prepares = false;
  }

  /** Adds a command, whose arguments' offsets follow. */
  begin(command: Command, count: number): void {
    const i = this.length++;
    if (i === this.firsts.length) {
      this.firsts = larger(this.firsts);
      this.counts = larger(this.counts);
      this.hashes = larger(this.hashes);
    }
    this.commands[i] = command;
    this.firsts[i] = this.#offsets;
    this.counts[i] = count;
    if (command.prepare) this.prepares = true;
    if (command.finds) this.finds++;
  }

  offset(at: number): void {
    if (this.#offsets === this.offsets.length) this.offsets = larger(this.offsets);
    this.offsets[this.#offsets++] = at;
  }
}

function larger(array: Int32Array): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(array.length * 2);
  copy.set(array);
  return copy;
}

/** A command, and how messages name it: the bytes of its name under the shortest head. */
interface Known {
  command: Command;
  bytes: Uint8Array;
}

/** Runs payloads against the commands of a host. */
export class Dispatcher {
  readonly #commands = new Map<string, Command>();
  readonly #known = new Map<string, Known>();
  /** The command that was found last: mostly the one that comes next. */
  #last: Known = { command: NO_COMMAND, bytes: new Uint8Array([0xc1]) };
  readonly #plan = new Plan();
  readonly #call: Call;
  readonly #reply = new Writer(1 << 16);
  #running = false;
  readonly #limits: Limits;
  /** See {@linkcode Table.touch}. */
  #touched = 0;
  /** Whether the payload that was answered last could be read. */
  readable = true;

  constructor(host: Host, commands: Iterable<Command>, limits: Limits) {
    this.#limits = limits;
    this.#call = this.#newCall(host);
    for (const command of commands) this.add(command);
  }

  /** @throws {TypeError} if there is a command of this name, or it cannot be a name. */
  add(command: Command): void {
    const { name } = command;
    if (!NAME.test(name)) {
      const why = `a name has 1 to ${MAX_NAME} characters of ASCII and no spaces`;
      throw new TypeError(`Cannot add a command: ${why}: received ${name}`);
    }
    if (this.#commands.has(name)) {
      throw new TypeError(`Cannot add a command: there is one of this name: received ${name}`);
    }
    const bytes = new Writer(16);
    bytes.str(name);
    this.#commands.set(name, command);
    this.#known.set(name, { command, bytes: bytes.written.slice() });
  }

  /** The reply to a payload: at once (and good until the next call), or when what it waits for is done. */
  answer(payload: Uint8Array, legacy: boolean, right: Right = "admin"): Uint8Array | Promise<Uint8Array> {
    // A command of the host's own may send commands itself: they must not disturb those that run.
    const plan = this.#running ? new Plan() : this.#plan;
    plan.right = right;
    try {
      this.#check(payload, legacy, plan);
      this.readable = plan.refused?.why.code !== "BAD_REQUEST";
    } catch (error) {
      this.readable = false;
      return this.refuse(error, legacy);
    }
    if (plan.refused) return this.#refuseAll(plan, legacy);
    return plan.prepares ? this.#prepareAndRun(payload, legacy, right) : this.#run(payload, plan, legacy, []);
  }

  /** Others are answered meanwhile, so this payload is checked again into a plan of its own. */
  async #prepareAndRun(payload: Uint8Array, legacy: boolean, right: Right): Promise<Uint8Array> {
    const plan = new Plan();
    plan.right = right;
    this.#check(payload, legacy, plan);
    const prepared = await Promise.all(plan.commands.map((command, i) => {
      const call = this.#newCall().aim(payload, plan.offsets, plan.firsts[i], plan.counts[i]);
      // What went wrong is for `run` to tell.
      return command.prepare?.(call).catch((error) => error);
    }));
    return await this.#run(payload, plan, legacy, prepared);
  }

  /** The reply to a message that cannot be understood. */
  refuse(error: unknown, legacy: boolean): Uint8Array {
    const refusal = error instanceof MemStoreError
      ? error
      : { code: "BAD_REQUEST" as const, message: `Cannot read the message: ${messageOf(error)}` };
    const reply = new Writer(128);
    writeRefusal(refusal, legacy, reply);
    return reply.written;
  }

  /** @throws {Error} if the payload is no list of items, or too long a one. */
  #check(payload: Uint8Array, legacy: boolean, plan: Plan): void {
    plan.reset();
    const { commands } = this.#limits;
    // Where in our code a refusal was made does not matter, and costs more than the rest of the answer.
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    try {
      let at = 0;
      do {
        if (plan.length === commands) {
          throw new MemStoreError("TOO_LARGE", `Cannot run a message of more than ${commands} commands`);
        }
        at = plan.refused ? this.#pass(payload, at, plan) : this.#checkOne(payload, at, legacy, plan);
      } while (at < payload.length);
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
    }
  }

  /** Counts a command that will not run. */
  #pass(payload: Uint8Array, at: number, plan: Plan): number {
    plan.begin(NO_COMMAND, 0);
    return skip(payload, at);
  }

  #checkOne(payload: Uint8Array, start: number, legacy: boolean, plan: Plan): number {
    const index = plan.length;
    try {
      let at = start + 1;
      let items = payload[start] - 0x90;
      // A short array (0x91 to 0x9f) is all that is ever sent; there are longer heads.
      if (!(items > 0 && items < 16)) {
        skip(payload, start);
        const array = head(payload, start);
        if (array.type !== "array" || array.length === 0) {
          const why = "it must be an array, [name, ...args]";
          throw new MemStoreError("BAD_REQUEST", `Cannot read command ${index}: ${why}`);
        }
        at = array.body;
        items = array.length;
      }
      const command = this.#find(payload, at);
      if (plan.right !== "admin" && RIGHTS.indexOf(command.needs) > RIGHTS.indexOf(plan.right)) {
        this.#call.host.denied(command.name);
        const why = `it takes the right ${command.needs}, and this client has ${plan.right}`;
        throw new MemStoreError("DENIED", `Cannot run ${command.name}: ${why}`);
      }
      // (The command itself is one level.)
      const depth = this.#limits.depth - 1;
      at = skip(payload, at, depth);
      plan.begin(command, items - 1);
      for (let i = 1; i < items; i++) plan.offset(at), at = skip(payload, at, depth);
      plan.offset(at);
      checkArguments(command, payload, plan, index, legacy);
      return at;
    } catch (error) {
      if (!(error instanceof MemStoreError)) throw error;
      plan.refused = { index, why: error };
      if (plan.length === index) plan.begin(NO_COMMAND, 0);
      return skip(payload, start);
    }
  }

  #find(payload: Uint8Array, at: number): Command {
    const last = this.#last.bytes;
    let i = 0;
    while (i < last.length && last[i] === payload[at + i]) i++;
    if (i === last.length) return this.#last.command;
    const end = skip(payload, at, this.#limits.depth - 1);
    const { type, length, body } = head(payload, at);
    if (type !== "str" && type !== "bin") {
      throw new MemStoreError("UNKNOWN_COMMAND", "Cannot find a command: its name must be a string");
    }
    const name = latin1(payload, body, Math.min(end, body + MAX_NAME));
    const known = length > MAX_NAME ? undefined : this.#known.get(name);
    if (!known) {
      throw new MemStoreError("UNKNOWN_COMMAND", `Cannot find a command of this name: received ${name}`);
    }
    this.#last = known;
    return known.command;
  }

  #run(
    payload: Uint8Array,
    plan: Plan,
    legacy: boolean,
    prepared: unknown[],
  ): Uint8Array | Promise<Uint8Array> {
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
    call.right = plan.right;
    call.reply = reply;
    const touched = plan.finds >= MANY && call.store.heap.live > CACHED;
    if (touched) this.#touch(call, payload, plan);
    for (let i = 0; i < plan.length; i++) {
      const start = reply.length;
      try {
        call.aim(payload, plan.offsets, plan.firsts[i], plan.counts[i]);
        call.hash = touched && plan.commands[i].finds ? plan.hashes[i] : undefined;
        if (prepared[i] instanceof Error) throw prepared[i];
        call.prepared = prepared[i];
        call.checkReply();
        if (!legacy) reply.byte(0);
        const promise = plan.commands[i].run(call);
        // (What was done is not refused for the few bytes that say so.)
        if (reply.length - start > FEW_BYTES) call.checkReply();
        if (!promise) continue;
        reply.length = start;
        late.push({ at: start, part: lateReply(promise, legacy) });
      } catch (error) {
        reply.length = start;
        writeRefusal(failure(error), legacy, reply);
      }
    }
    return late.length === 0 ? reply.written : splice(reply.written.slice(), late);
  }

  /** Has the keys of a message brought into the processor's caches all at once: see {@linkcode Table.touch}. */
  #touch(call: Call, payload: Uint8Array, plan: Plan): void {
    const { store } = call;
    let table: Table | undefined;
    let count = 0;
    for (let i = 0; i < plan.length; i++) {
      const { finds } = plan.commands[i];
      if (!finds) continue;
      call.aim(payload, plan.offsets, plan.firsts[i], plan.counts[i]);
      const next = store[finds].get(call.key(0));
      if (next !== table || count === hashes.length) {
        this.#touched ^= table?.touch(hashes, count) ?? 0;
        table = next;
        count = 0;
      }
      const { bytes, from, to } = call.key(1);
      plan.hashes[i] = hashes[count++] = hash(bytes, from, to);
    }
    this.#touched ^= table?.touch(hashes, count) ?? 0;
  }

  #newCall(host = this.#call.host): Call {
    return new Call(host, this.#commands, this.#limits.message);
  }

  #refuseAll(plan: Plan, legacy: boolean): Uint8Array {
    const reply = new Writer(128);
    for (let i = 0; i < plan.length; i++) {
      writeRefusal(plan.refused?.index === i ? plan.refused.why : NOT_RUN, legacy, reply);
    }
    return reply.written;
  }
}

/** From so many keys on in a message, it is worth to bring them into the caches together, … */
const MANY = 4;
/** … if the data has more bytes than those hold. */
const CACHED = 1 << 20;
/** What commands that change something reply at most. (`pop` looks before it does it.) */
const FEW_BYTES = 64;
/** Hashes of keys that are brought in together. */
const hashes = new Int32Array(256);
/** An array or a map that a command goes through in one go may have so many items or pairs. */
const MAX_ITEMS = 2 ** 18;
/** Seconds until an entry expires, at most: some thirty thousand years. */
const MAX_SECONDS = 1e12;
const MAX_NAME = 64;
const NAME = /^[\x21-\x7e]{1,64}$/;
const NOT_RUN = new MemStoreError("NOT_RUN", "Cannot run: another command of the message was refused");
/** Stands in the place of a command that was not found. */
const NO_COMMAND: Command = { name: "", needs: "read", args: [], help: "", run: () => {} };

/** A command and its arguments, as people write it. */
export function usage({ name, args }: Pick<Command, "name" | "args">): string {
  return [name, ...args.map((arg) => arg.optional ? `[${arg.name}]` : arg.name)].join(" ");
}

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
  if (count < args.length ? !args[count].optional : count > args.length && !legacy) {
    throw new MemStoreError(
      "BAD_ARGUMENT",
      `Cannot run ${name}: its usage is "${usage(command)}": received ${count} argument${
        count === 1 ? "" : "s"
      }`,
    );
  }
  for (let i = 0; i < args.length && i < count; i++) {
    const why = misfit(args[i].type, payload, plan.offsets[plan.firsts[index] + i]);
    if (why) throw new MemStoreError("BAD_ARGUMENT", `Cannot run ${name}: ${args[i].name} ${why}`);
  }
}

/** Why the item at `at` cannot be an argument; undefined if it can. */
function misfit(type: Arg["type"], payload: Uint8Array, at: number): string | undefined {
  // A short string is whatever is asked for, and a small number any key.
  const first = payload[at];
  if (type === undefined || type === "key" && (first < 0x80 || first >= 0xa0 && first < 0xc0)) {
    return undefined;
  }
  switch (type) {
    case "key":
      return isKey(payload, at) ? undefined : `is ${TOO_DEEP}`;
    case "keys":
      return misfitItems(payload, at, "array");
    case "entries":
      return misfitItems(payload, at, "map");
    case "string":
      return head(payload, at).type === "str" ? undefined : "must be a string";
    case "bool":
      return first === 0xc2 || first === 0xc3 ? undefined : "must be true or false";
    default:
      return misfitNumber(type, payload, at);
  }
}

const TOO_DEEP = `nested deeper than ${MAX_KEY_DEPTH}, as no key may be`;

function isKey(payload: Uint8Array, at: number): boolean {
  try {
    skip(payload, at, MAX_KEY_DEPTH);
    return true;
  } catch {
    return false;
  }
}

/** The same for an array of keys, or a map of them. */
function misfitItems(payload: Uint8Array, at: number, wanted: "array" | "map"): string | undefined {
  const { type, length, body } = head(payload, at);
  if (type !== wanted) return `must be ${wanted === "array" ? "an array" : "a map"}`;
  if (length > MAX_ITEMS) return `may have ${MAX_ITEMS} items: received ${length}`;
  let next = body;
  for (let i = 0; i < length; i++) {
    if (!isKey(payload, next)) return `has a key or member ${TOO_DEEP}`;
    next = skip(payload, next, MAX_KEY_DEPTH);
    if (wanted === "map") next = skip(payload, next);
  }
}

function misfitNumber(
  type: "number" | "seconds" | "uint32",
  payload: Uint8Array,
  at: number,
): string | undefined {
  const value = numberAt(payload, at);
  if (type === "uint32") {
    if (typeof value === "number" && value >>> 0 === value) return undefined;
    return "must be an integer of 0 to 4294967295";
  }
  if (value === undefined || typeof value === "number" && !Number.isFinite(value)) return "must be a number";
  if (type === "seconds" && value > MAX_SECONDS) return `must be ${MAX_SECONDS} or less: received ${value}`;
}

function failure(error: unknown): MemStoreError {
  if (error instanceof MemStoreError) return error;
  const code = error instanceof OutOfMemory ? "OUT_OF_MEMORY" : "FAILED";
  return new MemStoreError(code, messageOf(error));
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
