/**
 * One message while it runs on data that is elsewhere: from its payload to its reply.
 *
 * ```text
 * payload ─► plan: walked, looked up, checked ─► all commands are sent ─ ─► replies, in order ─► deliver
 *                                                        wait for all of them
 * ```
 *
 * The commands of a message are sent together, as are those of all messages that arrive in one turn, so that a message costs
 * one round trip. Only where very much is under way ({@link ./flow.ts}) is a message sent part by part. When all of it has been
 * sent, the next messages of its client run, too: the engine keeps the order of commands on the same key.
 *
 * @module
 */

import { Call, SHORT_REPLY, type WriteReply } from "../engine/call.ts";
import { LimitError } from "../msgpack/msgpack.ts";
import { type MemStoreError, type Refusal, writeRefusal } from "../transport/message.ts";
import {
  type Deliver,
  type Execution,
  type HostCommand,
  type Job,
  NOT_RUN,
  notInBatch,
  readPlan,
  refusalOf,
  type Shared,
} from "./execution.ts";
import type { Flow } from "./flow.ts";
import { type FindCommand, Plan } from "./plan.ts";
import { Slice } from "./slice.ts";

/** Data whose replies come later. */
export interface RemoteData<Data> {
  readonly data: Data;
  readonly flow: Flow;
  /** How many commands a command is that is about more than one key, at most. */
  readonly everywhere: number;
  /** Begins a batch, which takes the commands in place of the data. */
  begin(): Data & RemoteBatch;
}

/** Takes the commands of a batch, and does all of them or none. */
export interface RemoteBatch {
  /** Does them. If one fails, the promises of the others reject with `NOT_RUN`. */
  commit(): Promise<void>;
}

/** What a command came to: the bytes of its reply, what writes them, or why it was not done. */
type Result = Uint8Array | WriteReply | Refusal;

/** One message while it runs on the data of an engine that replies later. */
export class PipelinedExecution<Data> implements Execution {
  readonly #shared: Shared;
  readonly #plan = new Plan<HostCommand>();
  readonly #remote: RemoteData<Data>;
  readonly #call: Call<Data>;
  readonly #find: FindCommand<HostCommand> = (payload, at) => this.#shared.find(payload, at, this.#job);
  readonly #slice = new Slice();
  #job!: Job;
  #deliver!: Deliver;
  #planned = false;
  /** The commands from … to … were sent, and their replies are awaited. */
  #from = 0;
  #to = 0;
  /** How much of the flow they take. */
  #taken = 0;
  /** What they came to. */
  readonly #results: Result[] = [];
  waiting: Promise<void> | undefined;
  isUnread = false;
  readonly isBlocked = false;
  isPartlySent = false;

  constructor(remote: RemoteData<Data>, shared: Shared) {
    this.#remote = remote;
    this.#shared = shared;
    this.#call = new Call(remote.data, shared.limits.message);
  }

  get bytes(): number {
    return this.#call.reply.length;
  }

  take(job: Job, deliver: Deliver): void {
    this.#job = job;
    this.#deliver = deliver;
    this.#planned = this.isUnread = this.isPartlySent = false;
    this.#from = this.#to = this.#results.length = 0;
    this.waiting = undefined;
    this.#plan.reset();
    this.#call.begin(job);
  }

  run(slice: number): boolean {
    this.#slice.reset(slice);
    if (!this.#planned && !this.#read()) return this.#planned;
    for (;;) {
      this.waiting = undefined;
      this.#writeResults();
      if (this.#from === this.#plan.length) break;
      if (this.#job.batch) this.#sendBatch();
      else this.#sendSome();
      this.isPartlySent = this.#to < this.#plan.length;
      if (this.waiting) return false;
    }
    const readable = this.#plan.refusals.get(0)?.code !== "BAD_REQUEST";
    this.#deliver(this.#call.reply.written, readable);
    return true;
  }

  abandon(why: MemStoreError): void {
    const { reply, legacy } = this.#call;
    if (!this.#planned) writeRefusal(why, legacy, reply);
    else for (let i = this.#from; i < this.#plan.length; i++) writeRefusal(why, legacy, reply);
    this.#deliver(reply.written, true);
  }

  /** Reads the payload. False if it takes longer, or if it cannot be read: then the message is done. */
  #read(): boolean {
    const read = readPlan(this.#plan, this.#job, this.#shared.limits, this.#find, this.#slice);
    if (typeof read === "boolean") return this.#planned = read;
    const { reply } = this.#call;
    writeRefusal(read, this.#job.legacy, reply);
    this.#deliver(reply.written, false);
    this.#planned = true;
    return false;
  }

  /** Sends the next commands, or waits until there is room for some. */
  #sendSome(): void {
    const { flow } = this.#remote, { commands, length } = this.#plan;
    let count = 0;
    for (; this.#from + count < length; count++) {
      const cost = this.#costOf(commands[this.#from + count]);
      if (!flow.take(cost)) break;
      this.#taken += cost;
    }
    if (count > 0) this.#send(count);
    else this.waiting = flow.room;
  }

  /** How much of the flow a command takes: one that is about more than a key asks everywhere. */
  #costOf(command: HostCommand | undefined): number {
    // (What a custom command sends has room of its own. If it had some, too, those that wait for it could take all.)
    if (!command || command.slow || command.aboutHost) return 0;
    return command.finds ? 1 : this.#remote.everywhere;
  }

  /** Sends the next commands. */
  #send(count: number): void {
    const results = this.#results, first = this.#from;
    this.#to = first + count;
    let pending = 0;
    const { promise, resolve } = Promise.withResolvers<void>();
    for (let i = first; i < this.#to; i++) {
      const result = this.#begin(i);
      if (!(result instanceof Promise)) {
        results[i - first] = result;
        continue;
      }
      pending++;
      const settle = (result: Result) => {
        results[i - first] = result;
        if (--pending === 0) resolve();
      };
      result.then(settle, (error) => settle(refusalOf(error)));
    }
    if (pending > 0) this.waiting = promise;
  }

  /** Sends all commands as a batch. */
  #sendBatch(): void {
    const call = this.#call, [refused] = this.#plan.refusals;
    this.#to = this.#plan.length;
    if (refused) return this.#refuseBatch(...refused);
    const batch = this.#remote.begin();
    call.store = batch;
    call.inBatch = true;
    this.#send(this.#plan.length);
    call.store = this.#remote.data;
    call.inBatch = false;
    const index = this.#results.findIndex((result) => result && "code" in result);
    if (index >= 0) return this.#refuseBatch(index, this.#results[index] as Refusal);
    const done = this.waiting;
    this.waiting = batch.commit().then(() => done).then(() => {
      const index = this.#results.findIndex((result) => "code" in result && result.code !== "NOT_RUN");
      if (index >= 0) this.#refuseBatch(index, this.#results[index] as Refusal);
    });
  }

  /** Refuses all commands of a batch, since one was not done. */
  #refuseBatch(index: number, why: Refusal): void {
    this.waiting = undefined;
    // (What may have been done is no different for the others.)
    const others = why.code === "UNCERTAIN" ? why : NOT_RUN;
    for (let i = 0; i < this.#plan.length; i++) this.#results[i] = i === index ? why : others;
  }

  /** Begins a command. */
  #begin(i: number): Result | Promise<WriteReply> {
    const plan = this.#plan, call = this.#call, { reply } = call;
    const command = plan.commands[i];
    if (!command) return plan.refusals.get(i)!;
    const start = reply.length;
    try {
      if (call.inBatch && !command.batch) throw notInBatch(command);
      if (command.needs === "write") this.#shared.gate.check(command.name);
      call.aim(this.#job.payload, plan.offsets, plan.firsts[i], plan.counts[i]);
      const result = command.run(call);
      if (result instanceof Promise) return result;
      return reply.bytes.slice(start, reply.length);
    } catch (error) {
      return refusalOf(error);
    } finally {
      reply.length = start;
    }
  }

  /** Writes the replies to the commands that were sent. */
  #writeResults(): void {
    const { reply } = this.#call, taken = this.#taken, start = reply.length;
    for (let i = this.#from; i < this.#to; i++) {
      this.#write(this.#results[i - this.#from], this.#plan.commands[i]);
    }
    this.#results.length = 0;
    this.#from = this.#to;
    this.#taken = 0;
    // (What was delivered in between is not counted.)
    this.#remote.flow.give(taken, reply.length < start ? reply.length : reply.length - start);
  }

  #write(result: Result, command: HostCommand | undefined): void {
    const { reply, legacy } = this.#call;
    if ("code" in result) return writeRefusal(result, legacy, reply);
    if (this.#fits(result)) return;
    if (reply.length > 0 && this.#job.parts) {
      // (What is there already goes first, in a message of its own.)
      this.#deliver(reply.written, true);
      reply.length = 0;
      if (this.#fits(result)) return;
    }
    // (A batch was done, also if this command of it only reads.)
    const isDone = command?.needs !== "read" || this.#job.batch;
    writeRefusal(tooLarge(isDone, this.#shared.limits.message), legacy, reply);
  }

  /** Writes a reply, if there is room for it. */
  #fits(result: Uint8Array | WriteReply): boolean {
    const { reply, legacy } = this.#call, start = reply.length, { message } = this.#shared.limits;
    // (What is refused in its place is short, too.)
    reply.limit = message + SHORT_REPLY;
    try {
      if (!legacy) reply.byte(0);
      if (typeof result === "function") result(reply);
      else reply.raw(result);
      if (reply.length <= message || reply.length - start <= SHORT_REPLY) return true;
    } catch (error) {
      if (!(error instanceof LimitError)) throw error;
    } finally {
      reply.limit = Infinity;
    }
    reply.length = start;
    return false;
  }
}

/** The refusal of a reply for which there is no room. */
function tooLarge(isDone: boolean, most: number): Refusal {
  const why = `the replies to a message have ${most} bytes at most`;
  return isDone
    ? { code: "REPLY_TOO_LARGE", message: `Cannot send the reply, though the command was done: ${why}` }
    : { code: "TOO_LARGE", message: `Cannot reply: ${why}` };
}
