/**
 * One message while it runs on data in this process: from its payload to its reply.
 *
 * ```text
 * payload ─► plan: walked, looked up, checked ─► command, command, … ─► reply ─► deliver
 *                                                   │        │
 *                                  its slice is over: pause  └── waits for a file: wait
 * ```
 *
 * An execution owns all that its message needs: the plan, the call, and the buffer of the reply, which is given
 * to `deliver` and to nobody else. It is used again for another message only after that. So no reply can share
 * its bytes with another, however many messages run at once.
 *
 * Commands of a message run one after another. After a **slice** of some milliseconds the message pauses, so that
 * others are served. A **batch** never pauses: it is a transaction, and bounded instead.
 *
 * The file is long and holds one idea: the life of one message, whose steps share its state.
 *
 * @module
 */

import type { Command } from "../commands/describe.ts";
import { Call, SHORT_REPLY, type Steps, type WriteReply } from "../engine/call.ts";
import { hash } from "../blocks/hash.ts";
import { OutOfMemory } from "../engine/memory/extents.ts";
import type { Store } from "../engine/memory/store.ts";
import type { Table } from "../engine/memory/table.ts";
import type { Gate } from "../state/gate.ts";
import type { Right } from "../auth/clients.ts";
import type { Limits } from "../transport/limits.ts";
import type { Sender } from "../transport/transport.ts";
import { MemStoreError, type Refusal, writeRefusal } from "../transport/message.ts";
import { skip } from "../msgpack/msgpack.ts";
import { messageOf } from "./log.ts";
import { type FindCommand, Plan } from "./plan.ts";
import { Slice } from "./slice.ts";

/** A command that a host has: what it is, and what carries it out. */
export interface HostCommand extends Command {
  /** It is about the host, and asks for no data. */
  readonly aboutHost?: boolean;
  /** A {@linkcode Handler}. (A method: those of an engine take a call with the data of that engine.) */
  run(call: Call): void | Steps | Promise<WriteReply>;
}

/** A message to run. */
export interface Job {
  readonly payload: Uint8Array;
  /** Whether the client expects pymemstore's replies. */
  readonly legacy: boolean;
  /** Whether the commands are one transaction. */
  readonly batch: boolean;
  /** Whether the replies may come in parts. */
  readonly parts?: boolean;
  readonly right: Right;
  /** The name of the client, for the log. */
  readonly client?: string;
  /** Who sent it; undefined if the process itself did, or somebody whom only a proxy knows. */
  readonly sender?: Sender;
}

/**
 * Takes a reply, which is good until it returns.
 *
 * @param readable Whether the message could be read at all.
 * @param rest The commands that have not run, since there was no room for their replies: another message.
 */
export type Deliver = (reply: Uint8Array, readable: boolean, rest?: Uint8Array) => void;

/** A message that runs. It is used again for another message when its reply was delivered. */
export interface Execution {
  /** Takes a message to run. */
  take(job: Job, deliver: Deliver): void;
  /**
   * Runs on.
   *
   * @param slice How long, in milliseconds; Infinity for a message that may not pause.
   * @returns Whether the reply was delivered. If not, the message waits for {@linkcode Execution.waiting}, or else
   * for its next slice.
   */
  run(slice: number): boolean;
  /** Gives up: commands that have not run are answered with an error. */
  abandon(why: MemStoreError): void;
  /** Resolves when what the message waits for is there; undefined if it does not wait. */
  readonly waiting: Promise<void> | undefined;
  /** Whether nobody is there any more to take the replies: what only reads need not run. */
  isUnread: boolean;
  /** Whether it was paused because another message goes through the data in steps. */
  readonly isBlocked: boolean;
  /** Bytes of the reply so far. */
  readonly bytes: number;
  /** Whether it waits though not all of its commands have begun: then the client's next messages must not run. */
  readonly isPartlySent: boolean;
}

/** What the messages of a host share. */
export interface Shared {
  readonly limits: Limits;
  /** Closed when the host stops. */
  readonly gate: Gate;
  /** Finds the command by the name at `at`, and checks that the client may run it. */
  find(payload: Uint8Array, at: number, job: Job): HostCommand | Refusal;
  /** The message that goes through the data in steps: one at a time, so that the heap does not stay frozen. */
  stepping: Execution | undefined;
  /** A batch runs. */
  inBatch: boolean;
}

/** How many commands a batch may hold. */
export const MAX_BATCH_COMMANDS: number = 10_000;
/** After how many visited entries the clock is read. */
const CLOCK_WORK = 256;
/** An error takes as long as visiting this many entries. */
const THROW_WORK = 16;
/** How many commands' keys are prefetched together. */
const PREFETCH_COMMANDS = 256;
/** Prefetching pays from this many keys in a message on, … */
const PREFETCH_MIN_KEYS = 4;
/** … if the data has more bytes than the processor's caches hold. */
const CACHE_BYTES = 1 << 20;
/** Longer keys are not prefetched: to find them is not what takes time. */
const PREFETCH_MAX_BYTES = 256;

export const NOT_RUN: Refusal = {
  code: "NOT_RUN",
  message: "Cannot run: another command of the batch was refused or failed",
};

/** Why nothing is done for a client. */
export const GONE: MemStoreError = new MemStoreError("FAILED", "Cannot run: the client is gone");

/** One message while it runs on a {@linkcode Store}. */
export class LocalExecution implements Execution {
  readonly #shared: Shared;
  readonly #store: Store;
  readonly #plan = new Plan<HostCommand>();
  readonly #call: Call<Store>;
  readonly #find: FindCommand<HostCommand> = (payload, at) => this.#shared.find(payload, at, this.#job);
  readonly #hashes = new Int32Array(PREFETCH_COMMANDS);
  readonly #slice = new Slice();
  #job!: Job;
  /** Whether the payload was walked and checked. */
  #planned = false;
  #deliver!: Deliver;
  /** The command that runs, or runs next. */
  #index = 0;
  /** Where its reply begins. */
  #start = 0;
  /** The rest of it, if it runs in steps. */
  #steps: Steps | undefined;
  /** A long command has ended: other messages run before the next command. */
  #turn = false;
  /** The result that it waited for. */
  #result: WriteReply | MemStoreError | undefined;
  /** The keys of the commands from … to … are prefetched, and their hashes known. */
  #hashedFrom = 0;
  #hashedTo = 0;
  /** The command before which the next keys are prefetched. */
  #prefetchAt = 0;
  /** See {@linkcode Table.prefetch}. */
  #prefetched = 0;
  /** Resolves when what the command waits for is there; undefined if it does not wait. */
  waiting: Promise<void> | undefined;

  constructor(store: Store, shared: Shared) {
    this.#store = store;
    this.#shared = shared;
    this.#call = new Call(store, shared.limits.message);
  }

  /** Whether nobody is there any more to take the replies: what only reads is not run. */
  isUnread = false;

  /** Whether it was paused because another message goes through the data in steps. */
  isBlocked = false;

  readonly isPartlySent = false;

  /** Bytes of the reply so far. */
  get bytes(): number {
    return this.#call.reply.length;
  }

  /** Takes a message to run. */
  take(job: Job, deliver: Deliver): void {
    this.#job = job;
    this.#deliver = deliver;
    this.#index = this.#hashedFrom = this.#hashedTo = 0;
    this.#prefetchAt = Infinity;
    this.#steps = this.#result = this.waiting = undefined;
    this.#planned = this.#turn = this.isUnread = false;
    this.#plan.reset();
    this.#call.begin(job);
  }

  /**
   * Runs on.
   *
   * @param slice How long, in milliseconds; Infinity for a message that may not pause.
   * @returns Whether the reply was delivered. If not, the message waits for {@linkcode Execution.waiting}, or else
   * for its next slice.
   */
  run(slice: number): boolean {
    this.#slice.reset(slice);
    const { legacy, batch } = this.#job;
    const plan = this.#plan, { reply } = this.#call;
    if (!this.#planned) {
      const read = readPlan(plan, this.#job, this.#shared.limits, this.#find, this.#slice);
      if (read === false) return false;
      if (read !== true) {
        writeRefusal(read, legacy, reply);
        this.#deliver(reply.written, false);
        return true;
      }
      this.#planned = true;
      if (plan.finds >= PREFETCH_MIN_KEYS) this.#prefetchAt = 0;
    }
    // (A command of a batch may send itself one: it is part of the same transaction.)
    if (batch && !this.#shared.inBatch) this.#runBatch();
    else if (!this.#runCommands()) return false;
    const readable = plan.refusals.get(0)?.code !== "BAD_REQUEST";
    if (batch || this.#index === plan.length) this.#deliver(reply.written, readable);
    else this.#deliver(reply.bytes.subarray(0, this.#start), readable, this.#rest());
    return true;
  }

  /** Gives up: commands that have not run are answered with an error. */
  abandon(why: MemStoreError): void {
    const { reply, legacy } = this.#call;
    if (this.#steps || this.waiting) reply.length = this.#start;
    this.#endSteps();
    if (!this.#planned) writeRefusal(why, legacy, reply);
    else for (; this.#index < this.#plan.length; this.#index++) writeRefusal(why, legacy, reply);
    this.#deliver(reply.written, true);
  }

  /** Runs the commands, each on its own. False if the message pauses or waits. */
  #runCommands(): boolean {
    const call = this.#call, { length } = this.#plan;
    let look = call.work + CLOCK_WORK;
    for (; this.#index < length; this.#index++) {
      if (call.work >= look) {
        look = call.work + CLOCK_WORK;
        if (this.#slice.isOver()) return false;
      }
      if (this.#turn) {
        this.#turn = false;
        if (this.#slice.canEnd) return false;
      }
      try {
        if (!this.#advance()) return false;
      } catch (error) {
        // (In a reply of its own there may be room.)
        if (call.lacksRoom && this.#start > 0 && this.#job.parts) break;
        this.#refuse(error);
      }
    }
    return true;
  }

  /** The commands from the index on, as a payload. */
  #rest(): Uint8Array {
    const { payload } = this.#job;
    let at = 0;
    for (let i = 0; i < this.#index; i++) at = skip(payload, at);
    return payload.subarray(at);
  }

  /** Runs the commands as a transaction. */
  #runBatch(): void {
    const shared = this.#shared, plan = this.#plan, store = this.#store;
    const [refused] = plan.refusals;
    if (refused) return this.#refuseBatch(...refused);
    store.begin();
    shared.inBatch = true;
    try {
      for (; this.#index < plan.length; this.#index++) {
        if (!this.#advance()) throw notInBatch(plan.commands[this.#index]!);
      }
      store.commit();
    } catch (error) {
      store.rollback();
      this.#refuseBatch(this.#index, refusalOf(error));
    } finally {
      shared.inBatch = false;
    }
  }

  /** Refuses all commands of a batch, since one cannot be done. */
  #refuseBatch(index: number, why: Refusal): void {
    const { reply, legacy } = this.#call;
    reply.length = 0;
    for (let i = 0; i < this.#plan.length; i++) writeRefusal(i === index ? why : NOT_RUN, legacy, reply);
  }

  /** Refuses the command at the index. */
  #refuse(error: unknown): void {
    const { reply, legacy } = this.#call;
    reply.length = this.#start;
    writeRefusal(refusalOf(error), legacy, reply);
    this.#call.work += THROW_WORK;
  }

  /** Runs the command at the index to its end. False if it pauses, or waits. */
  #advance(): boolean {
    if (this.isUnread) this.#skipReading();
    if (this.waiting) this.#takeResult();
    else if (!this.#steps) this.#steps = this.#begin();
    return !this.waiting && (!this.#steps || this.#step());
  }

  /** @throws {MemStoreError} if the command at the index only reads, and does not wait. */
  #skipReading(): void {
    if (this.waiting || this.#plan.commands[this.#index]?.needs !== "read") return;
    if (!this.#steps) this.#start = this.#call.reply.length;
    this.#endSteps();
    throw GONE;
  }

  /** Begins the command at the index. */
  #begin(): Steps | undefined {
    const plan = this.#plan, call = this.#call, i = this.#index, { inBatch } = this.#shared;
    this.#start = call.reply.length;
    call.lacksRoom = false;
    const command = plan.commands[i];
    if (!command) {
      writeRefusal(plan.refusals.get(i)!, call.legacy, call.reply);
      call.work++;
      return undefined;
    }
    if (inBatch && !command.batch) throw notInBatch(command);
    if (command.needs === "write") this.#shared.gate.check(command.name);
    if (i >= this.#prefetchAt) this.#prefetch();
    call.work++;
    call.inBatch = inBatch;
    call.aim(this.#job.payload, plan.offsets, plan.firsts[i], plan.counts[i]);
    if (i < this.#hashedTo && command.finds) call.hash = this.#hashes[i - this.#hashedFrom];
    call.checkRoom(SHORT_REPLY);
    if (!call.legacy) call.reply.byte(0);
    const result = command.run(call);
    if (!(result instanceof Promise)) return result ?? undefined;
    const waiting = result.then(
      (write) => void (this.#result = write),
      (error) => void (this.#result = refusalOf(error)),
    );
    if (inBatch) throw notInBatch(command);
    this.waiting = waiting;
  }

  /** Goes on with the steps of a command. False if it pauses. */
  #step(): boolean {
    const shared = this.#shared, call = this.#call, outer = shared.stepping;
    // (A message that may not pause does not wait for others either.)
    this.isBlocked = outer !== undefined && outer !== this && this.#canPause;
    if (this.isBlocked) return false;
    // (One reading after another would keep what writers leave behind for ever.)
    if (!outer && this.#canPause && this.#store.heap.isPressed && this.#store.cleanWhenIdle()) return false;
    shared.stepping = this;
    try {
      for (let step; !(step = this.#steps!.next()).done;) {
        call.visit(step.value);
        if (this.#canPause && this.#slice.isOver()) return false;
      }
      this.#endSteps();
      this.#turn = true;
      return true;
    } catch (error) {
      this.#endSteps();
      throw error;
    } finally {
      if (!this.#steps) shared.stepping = outer === this ? undefined : outer;
    }
  }

  /** Whether others may be served before the message is done. */
  get #canPause(): boolean {
    return this.#slice.canEnd && !this.#shared.inBatch;
  }

  /** Releases what the steps hold. */
  #endSteps(): void {
    const steps = this.#steps;
    this.#steps = undefined;
    steps?.return();
    if (this.#shared.stepping === this) this.#shared.stepping = undefined;
  }

  /** Writes the reply of a command that waited. */
  #takeResult(): void {
    const result = this.#result!, { reply, legacy } = this.#call;
    this.waiting = this.#result = undefined;
    if (result instanceof MemStoreError) throw result;
    reply.length = this.#start;
    if (!legacy) reply.byte(0);
    result(reply);
    this.#call.checkReply(this.#start);
  }

  /**
   * Brings the keys of the next commands into the processor's caches together: see {@linkcode Table.prefetch}.
   */
  #prefetch(): void {
    const plan = this.#plan, call = this.#call, store = this.#store, hashes = this.#hashes;
    const from = this.#index, to = Math.min(from + PREFETCH_COMMANDS, plan.length);
    this.#prefetchAt = to;
    if (store.heap.live <= CACHE_BYTES) return;
    this.#hashedFrom = from;
    this.#hashedTo = to;
    // The hashes of one table stand together: what is in between finds nothing.
    let table: Table | undefined, count = 0;
    for (let i = from; i < to; i++) {
      const finds = plan.commands[i]?.finds;
      if (!finds) continue;
      call.aim(this.#job.payload, plan.offsets, plan.firsts[i], plan.counts[i]);
      if (call.to(1) - call.from(0) > PREFETCH_MAX_BYTES) {
        this.#hashedTo = i;
        this.#prefetchAt = i + 1;
        break;
      }
      const next = store[finds].get(call.key(0));
      if (next !== table) {
        this.#prefetched ^= table?.prefetch(together, count) ?? 0;
        table = next;
        count = 0;
      }
      const { bytes, from: start, to: end } = call.key(1);
      together[count++] = hashes[i - from] = hash(bytes, start, end);
    }
    this.#prefetched ^= table?.prefetch(together, count) ?? 0;
  }
}

const together = new Int32Array(PREFETCH_COMMANDS);

export function notInBatch({ name }: Command): MemStoreError {
  const why = "it cannot be rolled back: send it on its own";
  return new MemStoreError("NOT_IN_BATCH", `Cannot run ${name} in a batch: ${why}`);
}

/**
 * Reads on in a payload. Returns whether its end is reached, or why it cannot be read.
 *
 * @param slice When to pause.
 */
export function readPlan(
  plan: Plan<HostCommand>,
  { payload, legacy, batch }: Job,
  { commands, depth }: Limits,
  find: FindCommand<HostCommand>,
  slice: Slice,
): boolean | Refusal {
  // (Where in our code a refusal was made does not matter, and a stack trace takes longer than the rest.)
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    const most = batch ? Math.min(commands, MAX_BATCH_COMMANDS) : commands;
    return plan.read(payload, find, legacy, most, depth, slice);
  } catch (error) {
    return unreadable(error);
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** The refusal of a message that cannot be read. */
function unreadable(error: unknown): MemStoreError {
  if (error instanceof MemStoreError) return error;
  return new MemStoreError("BAD_REQUEST", `Cannot read the message: ${messageOf(error)}`);
}

/** The refusal that tells a client of an error. */
export function refusalOf(error: unknown): MemStoreError {
  if (error instanceof MemStoreError) return error;
  return new MemStoreError(error instanceof OutOfMemory ? "OUT_OF_MEMORY" : "FAILED", messageOf(error));
}
