/**
 * A payload, walked and checked: its commands, where their arguments are, and which of them are refused.
 *
 * The bytes are walked once. The walk finds where each command begins, so a payload that ends within an item, or
 * holds what is no MessagePack, is found out before any of it runs.
 *
 * @module
 */

import type { Command } from "../commands/describe.ts";
import { MemStoreError, type Refusal } from "../transport/message.ts";
import { head, skip, TooDeepError } from "../msgpack/msgpack.ts";
import { argumentsError } from "./arguments.ts";
import type { Slice } from "./slice.ts";

/**
 * Finds the command whose name is at `at`, and checks that the client may run it. Returns why not, if it may not.
 * (A message can hold many thousand bad commands: no error is thrown for each.)
 */
export type FindCommand<Known extends Command> = (payload: Uint8Array, at: number) => Known | Refusal;

/** After how many commands the clock is read. */
const CLOCK_COMMANDS = 256;
/** How many offsets a plan keeps room for between payloads. */
const KEPT = 1 << 12;

/** The commands of one payload. The next payload uses the same plan again. */
export class Plan<Known extends Command> {
  /** How many commands there are. */
  length = 0;
  /** The commands; undefined for one that is refused. (Beyond `length` there may be some of an earlier payload.) */
  readonly commands: (Known | undefined)[] = [];
  /** For each command, where its arguments' offsets begin in {@linkcode Plan.offsets}, and how many it has. */
  firsts: Int32Array = new Int32Array(64);
  counts: Int32Array = new Int32Array(64);
  /** Where every argument begins, and for each command where the last one ends. */
  offsets: Int32Array = new Int32Array(256);
  /** Why commands are refused, by their index. */
  readonly refusals: Map<number, Refusal> = new Map();
  /** How many of the commands look up a key. */
  finds = 0;
  #offsets = 0;
  /** Where the next command begins. */
  #at = 0;

  /** Forgets the last payload. */
  reset(): void {
    this.length =
      this.#offsets =
      this.#at =
      this.finds =
        0;
    if (this.refusals.size > 0) this.refusals.clear();
    if (this.offsets.length <= KEPT) return;
    this.offsets = new Int32Array(256);
    this.firsts = new Int32Array(64);
    this.counts = new Int32Array(64);
  }

  /**
   * Walks on in a payload; whether its end is reached.
   *
   * @param slice When to pause.
   * @param depth How deep a command and what is in it may be nested.
   * @throws {Error} if it cannot be read, or has more than `most` commands.
   */
  read(
    payload: Uint8Array,
    find: FindCommand<Known>,
    legacy: boolean,
    most: number,
    depth: number,
    slice: Slice,
  ): boolean {
    do {
      if (this.length === most) {
        throw new MemStoreError("TOO_LARGE", `Cannot run a message of more than ${most} commands`);
      }
      this.#at = this.#readCommand(payload, this.#at, find, legacy, depth);
      if (this.length % CLOCK_COMMANDS === 0 && slice.isOver()) {
        return this.#at >= payload.length;
      }
    } while (this.#at < payload.length);
    return true;
  }

  #readCommand(
    payload: Uint8Array,
    start: number,
    find: FindCommand<Known>,
    legacy: boolean,
    depth: number,
  ): number {
    const offsets = this.#offsets;
    try {
      let at = start + 1;
      let items = payload[start] - 0x90;
      // A short array (0x91 to 0x9f) is all that is ever sent; there are longer heads.
      if (!(items > 0 && items < 16)) {
        const end = skip(payload, start);
        const array = head(payload, start);
        if (array.type !== "array" || array.length === 0) {
          const why = "it must be an array, [name, ...args]";
          return this.#refuse("BAD_REQUEST", `Cannot read command ${this.length}: ${why}`, end);
        }
        at = array.body;
        items = array.length;
      }
      const command = find(payload, at);
      if ("code" in command) return this.#refuse(command.code, command.message, skip(payload, start));
      // (The command itself is one level.)
      at = skip(payload, at, depth - 1);
      // (Arguments beyond those that the command takes are skipped together.)
      const arity = legacy ? legacyArity(command) : command.args.length;
      const known = Math.min(items - 1, arity + 1);
      for (let i = 1; i <= known; i++) this.#offset(at), at = skip(payload, at, depth - 1);
      this.#offset(at);
      if (known < items - 1) at = skip(payload, start, depth);
      const count = Math.min(items - 1, arity);
      const why = argumentsError(command, payload, this.offsets, offsets, legacy ? count : items - 1);
      if (why !== undefined) {
        this.#offsets = offsets;
        return this.#refuse("BAD_ARGUMENT", why, at);
      }
      this.#add(command, offsets, count);
      return at;
    } catch (error) {
      this.#offsets = offsets;
      if (!(error instanceof TooDeepError)) throw error;
      // (What is nested too deep for any reader cannot be skipped either: then the message cannot be read.)
      const end = skip(payload, start);
      const why = `a command is nested ${depth} levels deep at most (limits.depth)`;
      return this.#refuse("TOO_LARGE", `Cannot read command ${this.length}: ${why}`, end);
    }
  }

  #refuse(code: Refusal["code"], message: string, end: number): number {
    this.refusals.set(this.length, { code, message });
    this.#add(undefined, this.#offsets, 0);
    return end;
  }

  #add(command: Known | undefined, first: number, count: number): void {
    const i = this.length++;
    if (i === this.firsts.length) {
      this.firsts = larger(this.firsts);
      this.counts = larger(this.counts);
    }
    this.commands[i] = command;
    this.firsts[i] = first;
    this.counts[i] = count;
    if (command?.finds) this.finds++;
  }

  #offset(at: number): void {
    if (this.#offsets === this.offsets.length) this.offsets = larger(this.offsets);
    this.offsets[this.#offsets++] = at;
  }
}

/** How many arguments of a legacy client are used: it may send more. */
function legacyArity({ args }: Command): number {
  const native = args.findIndex((arg) => arg.native);
  return native < 0 ? args.length : native;
}

function larger(array: Int32Array): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(array.length * 2);
  copy.set(array);
  return copy;
}
