/**
 * The commands of a host, and the messages that run them.
 *
 * @module
 */

import type { Command } from "../commands/describe.ts";
import { Gate } from "../state/gate.ts";
import { RIGHTS } from "../auth/clients.ts";
import type { Limits } from "../transport/limits.ts";
import { type MemStoreError, type Refusal, writeRefusal } from "../transport/message.ts";
import { head, latin1, skip, Writer } from "../msgpack/msgpack.ts";
import type { Engine } from "./engine.ts";
import type { Deliver, Execution, HostCommand, Job, Shared } from "./execution.ts";

/** How long a message runs before others are served, in milliseconds. */
const SLICE_MS = 4;
/** How many executions are kept for other messages. */
const SPARE = 4;
const MAX_NAME = 64;
const NAME = /^[\x21-\x7e]{1,64}$/;

/** A command, and its name as most messages encode it. */
interface Known {
  command: HostCommand;
  bytes: Uint8Array;
}

/** Is told when a client may not run a command. */
export type Denied = (client: string | undefined, command: string) => void;

/** As much of an engine as runs messages. */
export type RunsMessages = Pick<Engine, "makeExecution" | "transaction">;

/** Runs messages against the commands of a host. */
export class Dispatcher {
  readonly #known = new Map<string, Known>();
  /** The command that was found last: the next one is mostly the same. */
  #last: Known | undefined;
  readonly #spare: Execution[] = [];
  readonly #engine: RunsMessages;
  readonly #denied: Denied;
  readonly #shared: Shared;

  constructor(engine: RunsMessages, limits: Limits, gate: Gate = new Gate(), denied: Denied = () => {}) {
    this.#engine = engine;
    this.#denied = denied;
    this.#shared = {
      limits,
      gate,
      find: (payload, at, job) => this.#find(payload, at, job),
      stepping: undefined,
      inBatch: false,
    };
  }

  /** Every command, in the order in which they were added. */
  get commands(): Command[] {
    return Array.from(this.#known.values(), ({ command }) => command);
  }

  /** Bytes that a message, and the replies to it, may have. */
  get maxMessage(): number {
    return this.#shared.limits.message;
  }

  /**
   * Runs a function as a transaction: what the commands in it have changed is rolled back if it throws.
   *
   * @throws {TypeError} within a batch.
   */
  transaction<Result>(run: () => Result): Result {
    const shared = this.#shared;
    if (shared.inBatch) throw new TypeError("Cannot run a batch within another batch");
    shared.inBatch = true;
    try {
      return this.#engine.transaction(run);
    } finally {
      shared.inBatch = false;
    }
  }

  /** @throws {TypeError} if there is a command of this name, or it cannot be a name. */
  add(command: HostCommand): void {
    const { name } = command;
    if (!NAME.test(name)) {
      const why = `a name has 1 to ${MAX_NAME} characters of ASCII and no spaces`;
      throw new TypeError(`Cannot add a command: ${why}: received ${name}`);
    }
    if (this.#known.has(name)) {
      throw new TypeError(`Cannot add a command: there is one of this name: received ${name}`);
    }
    const bytes = new Writer(16);
    bytes.str(name);
    this.#known.set(name, { command, bytes: bytes.written.slice() });
  }

  /**
   * Runs a message for a slice. Its reply goes to `deliver` when it is complete.
   *
   * @param slice How long it may run, in milliseconds; Infinity for a message that may not pause.
   * @returns The message, to {@linkcode Dispatcher.resume}, if it pauses or waits; else undefined.
   */
  run(job: Job, deliver: Deliver, slice: number = SLICE_MS): Execution | undefined {
    const execution = this.#spare.pop() ?? this.#engine.makeExecution(this.#shared);
    execution.take(job, deliver);
    return this.resume(execution, slice) ? undefined : execution;
  }

  /** Goes on with a message; whether its reply was delivered. */
  resume(execution: Execution, slice: number = SLICE_MS): boolean {
    const done = execution.run(slice);
    if (done) this.#release(execution);
    return done;
  }

  /** Ends a message: what has not run yet is answered with an error. */
  abandon(execution: Execution, why: MemStoreError): void {
    execution.abandon(why);
    // (What it waited for may still come: it is not used again.)
    if (!execution.waiting) this.#release(execution);
  }

  #release(execution: Execution): void {
    if (this.#spare.length < SPARE) this.#spare.push(execution);
  }

  #find(payload: Uint8Array, at: number, job: Job): HostCommand | Refusal {
    const { right, client } = job;
    const known = this.#lookUp(payload, at);
    if ("code" in known || right === "admin") return known;
    if (RIGHTS.indexOf(known.needs) <= RIGHTS.indexOf(right)) return known;
    this.#denied(client, known.name);
    const why = `it takes the right ${known.needs}, and this client has ${right}`;
    return { code: "DENIED", message: `Cannot run ${known.name}: ${why}` };
  }

  #lookUp(payload: Uint8Array, at: number): HostCommand | Refusal {
    const last = this.#last;
    if (last) {
      const { bytes } = last;
      let i = 0;
      while (i < bytes.length && bytes[i] === payload[at + i]) i++;
      if (i === bytes.length) return last.command;
    }
    const end = skip(payload, at);
    const { type, length, body } = head(payload, at);
    if (type !== "str" && type !== "bin") {
      return { code: "UNKNOWN_COMMAND", message: "Cannot find a command: its name must be a string" };
    }
    const name = latin1(payload, body, Math.min(end, body + MAX_NAME));
    const known = length > MAX_NAME ? undefined : this.#known.get(name);
    if (!known) {
      return { code: "UNKNOWN_COMMAND", message: `Cannot find a command of this name: received ${name}` };
    }
    this.#last = known;
    return known.command;
  }
}

/** The reply to a message that is refused whole. */
export function refusal(why: MemStoreError, legacy: boolean): Uint8Array {
  const reply = new Writer(128);
  writeRefusal(why, legacy, reply);
  return reply.written;
}
