/**
 * The client: commands as methods, over one connection to a host.
 *
 * Calls gather in a queue. At the end of the tick, when there are many, or when a reply makes room, what has
 * gathered leaves as one message: one call after another costs a message each, a thousand at once cost a few.
 *
 * ```text
 * get() set() … ─► queue ─► message (≤ MAX_COMMANDS) ─► sent (≤ WINDOW messages) ─► replies, by number
 * ```
 *
 * @module
 */

import { type CallOptions, CommandMethods } from "./commands/methods.ts";
import { commands, replyShape } from "./commands/table.ts";
import { encode, Reader } from "./wire/codec.ts";
import { address } from "./wire/endpoint.ts";
import { type KeyPair, readKeys, readPublicKey } from "./wire/curve.ts";
import { ZMQ } from "./wire/libzmq.ts";
import { LIMITS } from "./wire/limits.ts";
import { header, MemStoreError, parseReply, readReply } from "./wire/message.ts";
import { MAX_REPLY_DEPTH, skip, Writer } from "./wire/msgpack.ts";
import { Context, type Socket } from "./wire/socket.ts";
import { RemoteSet, RemoteTable } from "./views.ts";

/** Messages of gathered calls that may be under way at once. What is called meanwhile gathers for the next. */
const WINDOW = 16;
/** Messages of any kind that may be under way: a host that is not told otherwise allows as many. */
const MAX_SENT = LIMITS.requests;
/** So many calls leave before the tick ends: the host begins with them while more are made. */
const EARLY = 128;
/** A message takes no more commands than this, so that the host can serve others between two … */
const MAX_COMMANDS = 1024;
/** … nor more once it has so many bytes, or its replies will have, going by those that came. */
const MAX_BYTES = 1 << 20;
/** A host that went away is looked for after this many milliseconds, then in doubling intervals … */
const RECONNECT_MS = 50;
/** … up to this. */
const RECONNECT_MAX_MS = 1000;
const DEFAULT_TIMEOUT_MS = 5000;

/** Options of a {@linkcode MemStoreClient}. */
export interface ClientOptions {
  /**
   * How long a call waits for its reply if it does not say otherwise, in milliseconds.
   * @default {5000}
   */
  timeout?: number;
  /**
   * How long calls wait for a host that cannot be reached before they reject with `UNAVAILABLE`, in milliseconds; 0: they
   * reject at the first socket that is missing or refuses the connection.
   */
  connectTimeout?: number;
  /**
   * Bytes that a message may have: as many as the host takes, which would cut us off for more.
   * @default {67108864}
   */
  maxMessage?: number;
  /** The file of the client's secret key, see `memstore keygen`: for a host that is served with keys. */
  key?: string;
  /** The host's public key, or its file: we talk to the host that has the secret one, and to no other. */
  serverKey?: string;
}

/** A call that has no reply yet. */
interface Call {
  name: string;
  /** Where its command begins in the bytes of its parcel, … */
  from: number;
  /** … and ends. */
  to: number;
  timeout: number;
  /** When it is given up, in the time of `performance.now()`. */
  deadline: number;
  /** Has its reply, or was given up. */
  settled: boolean;
  resolve(reply: unknown): void;
  reject(error: unknown): void;
}

/** Calls that leave in one message. */
interface Parcel {
  calls: Call[];
  /** Their commands, one after another. */
  bytes: Writer;
  /** The bytes hold the commands of these calls and no others. */
  whole: boolean;
  /** No call joins or leaves it: a batch, or a call that a host may refuse or take long for. */
  sealed: boolean;
  /** It is one transaction. */
  batch: boolean;
}

/**
 * A connection to a host, made at the first call and again whenever the host is back.
 *
 * @example
 * ```ts
 * import { MemStore, MemStoreClient } from "@memstore/memstore";
 *
 * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
 * await using store = new MemStore(endpoint);
 * await store.start();
 *
 * await using client = new MemStoreClient(endpoint);
 * await client.set("users", "alice", { age: 31 });
 * await client.push("online", "alice");
 * console.assert(await client.inSet("online", "alice"));
 * ```
 */
export class MemStoreClient extends CommandMethods implements AsyncDisposable {
  /** The ZeroMQ address of the host. */
  readonly endpoint: string;
  readonly #timeout: number;
  readonly #maxMessage: number;
  readonly #keyFiles: { key: string; serverKey: string } | undefined;
  #keys: KeyPair & { serverKey: string } | undefined;
  #context: Context | undefined;
  #socket: Socket | undefined;
  /** What has not left yet. */
  #queue: Parcel[] = [];
  /** What has left and has no reply yet, by request number. */
  readonly #sent = new Map<number, Parcel>();
  /** How many of them are gathered calls. */
  #gathered = 0;
  /** Bytes of a reply, of late. */
  #replyBytes = 0;
  #request = 0;
  readonly #payload = new Writer(1 << 14);
  /** Runs while there are calls without a reply; an idle client does nothing. */
  #running: Promise<void> | undefined;
  /** A call was given up, and may still be in the queue or among what was sent. */
  #stale = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Infinity;
  #closed = false;
  /** When the tick began, or 0. */
  #tick = 0;
  /** Where a command is being encoded. */
  #encoding: Writer | undefined;

  /**
   * Makes a client, which connects at its first call.
   *
   * @param endpoint The host's name, path or ZeroMQ address.
   * @throws {TypeError} if it cannot be an endpoint.
   */
  constructor(endpoint = "memstore", options: ClientOptions = {}) {
    super();
    this.endpoint = address(endpoint);
    this.#timeout = checkTimeout(options.timeout ?? DEFAULT_TIMEOUT_MS);
    const { key, serverKey, maxMessage = LIMITS.message } = options;
    this.#maxMessage = maxMessage;
    if ((key === undefined) !== (serverKey === undefined)) {
      throw new TypeError("Cannot use keys: key and serverKey are needed, or none of the two");
    }
    if (key !== undefined && serverKey !== undefined) this.#keyFiles = { key, serverKey };
  }

  /**
   * Sends several commands in one message: nothing else runs on the host between them, and if one is
   * refused none runs.
   *
   * @example
   * ```ts
   * import { MemStore, MemStoreClient } from "@memstore/memstore";
   *
   * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
   * await using store = new MemStore(endpoint);
   * await store.start();
   * await using client = new MemStoreClient(endpoint);
   *
   * const [, , count] = await client.batch((batch) => [
   *   batch.set("users", "alice", 31),
   *   batch.set("users", "bob", 27),
   *   batch.size("users"),
   * ]);
   * console.assert(count === 2);
   *
   * const replies = await client.batch([["get", "users", "alice"], ["del", "users", "bob"]]);
   * console.assert(replies[0] === 31);
   * ```
   *
   * @param commands The raw commands, or a function that calls the batch's methods and returns their
   * promises.
   * @returns The replies, in the order of the commands. Rejects with the first error if one fails.
   */
  batch(
    commands: readonly (readonly [name: string, ...args: unknown[]])[],
    options?: CallOptions,
  ): Promise<unknown[]>;
  /** The same, with the methods of the client and their types. */
  batch<const Replies extends readonly unknown[]>(
    commands: (batch: CommandMethods) => Replies,
    options?: CallOptions,
  ): Promise<{ -readonly [I in keyof Replies]: Awaited<Replies[I]> }>;
  async batch(
    commands:
      | readonly (readonly [name: string, ...args: unknown[]])[]
      | ((batch: CommandMethods) => readonly unknown[]),
    options: CallOptions = {},
  ): Promise<unknown[]> {
    const parcel = newParcel(true, true);
    const batch = new Batch((name, args) => this.#add(parcel, name, args, options));
    try {
      const replies = typeof commands === "function"
        ? commands(batch)
        : commands.map((each) => batch.send(each));
      this.#checkLength("run a batch", parcel.bytes.length);
      if (parcel.calls.length > 0) this.#push(parcel);
      return await Promise.all(replies);
    } catch (error) {
      // The function may have thrown after it had made calls: they do not leave.
      for (const call of parcel.calls) this.#fail(call, error);
      throw error;
    }
  }

  /**
   * One table as an asynchronous `Map`. The options are those of each of its calls.
   *
   * @example
   * ```ts
   * import { MemStore, MemStoreClient } from "@memstore/memstore";
   *
   * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
   * await using store = new MemStore(endpoint);
   * await store.start();
   * await using client = new MemStoreClient(endpoint);
   *
   * const ages = client.table<number, string>("ages");
   * await ages.set("alice", 31);
   * for await (const [name, age] of ages) console.assert(name === "alice" && age === 31);
   * ```
   */
  table<Value = unknown, Key = unknown>(name: unknown, options?: CallOptions): RemoteTable<Value, Key> {
    return new RemoteTable(this, name, options);
  }

  /**
   * One named set as an asynchronous `Set`. The options are those of each of its calls.
   *
   * @example
   * ```ts
   * import { MemStore, MemStoreClient } from "@memstore/memstore";
   *
   * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
   * await using store = new MemStore(endpoint);
   * await store.start();
   * await using client = new MemStoreClient(endpoint);
   *
   * const online = client.namedSet<string>("online");
   * await online.add("alice");
   * for await (const name of online) console.assert(name === "alice");
   * ```
   */
  namedSet<Value = unknown>(name: unknown, options?: CallOptions): RemoteSet<Value> {
    return new RemoteSet(this, name, options);
  }

  /** Closes the connection. Calls that have no reply reject. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const call of this.#pending()) this.#fail(call, closedError(call.name, this.endpoint));
    clearTimeout(this.#timer);
    await this.#running;
    this.#socket?.close();
    await this.#context?.close();
  }

  /** {@linkcode MemStoreClient.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Queues a loose call: it joins the parcel that is being gathered. */
  protected call<Reply>(name: string, args: readonly unknown[], options?: CallOptions): Promise<Reply> {
    const last = this.#queue.at(-1);
    const sealed = !isQuick(name, args.length);
    const joins = last !== undefined && !sealed && !last.sealed && !this.#encoding &&
      last.calls.length < MAX_COMMANDS;
    const parcel = joins ? last : newParcel(sealed);
    try {
      const reply = this.#add(parcel, name, args, options);
      if (!joins) this.#push(parcel);
      else if (parcel.calls.length === EARLY && this.#socket) this.#send(this.#socket);
      return reply as Promise<Reply>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Makes a call and adds it to a parcel; throws where it cannot be made. */
  #add(parcel: Parcel, name: string, args: readonly unknown[], options: CallOptions = {}): Promise<unknown> {
    const { timeout = this.#timeout, signal } = options;
    const deadline = this.#now() + checkTimeout(timeout);
    signal?.throwIfAborted();
    if (this.#closed) throw closedError(name, this.endpoint);
    const from = parcel.bytes.length;
    this.#encode(name, args, parcel.bytes);
    const to = parcel.bytes.length;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const call: Call = { name, from, to, timeout, deadline, settled: false, resolve, reject };
    parcel.calls.push(call);
    this.#expireAt(deadline);
    if (signal) this.#failOnAbort(call, signal, promise);
    return promise;
  }

  /** The time, in milliseconds: of all calls of a tick the same. */
  #now(): number {
    if (this.#tick === 0) {
      this.#tick = performance.now();
      queueMicrotask(() => this.#tick = 0);
    }
    return this.#tick;
  }

  /** Writes a command, or nothing if it throws. */
  #encode(name: string, args: readonly unknown[], to: Writer): void {
    const start = to.length;
    const outer = this.#encoding;
    // (A getter of what is encoded may make a call itself.)
    if (to === outer) throw new TypeError(`Cannot ${name}: another call of its batch is being made`);
    this.#encoding = to;
    try {
      to.arrayHead(1 + args.length);
      to.str(name);
      // The command's array is one level of the message already.
      for (const arg of args) encode(arg, to, 1);
      this.#checkLength(name, to.length - start);
    } catch (error) {
      to.length = start;
      throw error;
    } finally {
      this.#encoding = outer;
    }
  }

  #checkLength(what: string, bytes: number): void {
    if (bytes <= this.#maxMessage) return;
    const why = `a message takes ${this.#maxMessage} bytes at most (maxMessage)`;
    throw new MemStoreError("TOO_LARGE", `Cannot ${what}: ${why}: received ${bytes}`);
  }

  /** Queues a parcel; it leaves at the end of the tick if it can. */
  #push(parcel: Parcel): void {
    this.#queue.push(parcel);
    queueMicrotask(() => {
      if (this.#running && this.#socket) this.#send(this.#socket);
      else if (!this.#closed) this.#running ??= this.#run();
    });
  }

  /** Sends and receives until every call has its reply or was given up. */
  async #run(): Promise<void> {
    // However soon it ends, `#running` has been set by then.
    await undefined;
    try {
      this.#context ??= await Context.open();
      this.#keys ??= await this.#readKeys();
      let socket = this.#socket ??= this.#connect(this.#context);
      for (;;) {
        const lost = socket.peer === "lost";
        this.#receive(socket);
        if (lost) socket = this.#hostWentAway(socket);
        if (this.#stale) this.#dropStale();
        this.#send(socket);
        if (this.#queue.length === 0 && this.#sent.size === 0) break;
        await socket.wait();
      }
    } catch (error) {
      for (const call of this.#pending()) this.#fail(call, error);
      this.#dropStale();
    } finally {
      this.#running = undefined;
    }
  }

  async #readKeys(): Promise<KeyPair & { serverKey: string } | undefined> {
    if (!this.#keyFiles) return undefined;
    const { key, serverKey } = this.#keyFiles;
    return { ...await readKeys(key), serverKey: await readPublicKey(serverKey) };
  }

  #connect(context: Context): Socket {
    const socket = context.socket(ZMQ.DEALER, {
      linger: 0,
      // What is called while no host is there waits in our queue, where it can still be given up.
      watchPeer: true,
      // (We count what is under way.)
      sendHighWaterMark: 0,
      curve: this.#keys,
      reconnectInterval: RECONNECT_MS,
      reconnectIntervalMax: RECONNECT_MAX_MS,
    });
    try {
      socket.connect(this.endpoint);
    } catch (error) {
      socket.close();
      throw error;
    }
    return socket;
  }

  /** Sends what is queued, as far as the host is there and the window is open. */
  #send(socket: Socket): void {
    while (this.#mayLeave(this.#queue[0]) && socket.peer === "connected") {
      const parcel = this.#queue.shift()!;
      if (!parcel.sealed) {
        const rest = parcel.calls.splice(howMany(parcel.calls, this.#replyBytes));
        if (rest.length > 0) {
          parcel.whole = false;
          this.#queue.unshift({ ...parcel, calls: rest });
        }
        this.#gathered++;
      }
      this.#request = (this.#request + 1) >>> 0;
      this.#sent.set(this.#request, parcel);
      socket.send([NO_BYTES, header(this.#request, parcel.batch), this.#payloadOf(parcel)]);
    }
  }

  #payloadOf({ calls, bytes, whole }: Parcel): Uint8Array {
    if (whole) return bytes.written;
    const payload = this.#payload;
    payload.reset();
    for (const { from, to } of calls) payload.copy(bytes.bytes, from, to);
    return payload.written;
  }

  #mayLeave(parcel: Parcel | undefined): boolean {
    return parcel !== undefined && this.#sent.size < MAX_SENT && (parcel.sealed || this.#gathered < WINDOW);
  }

  #forget(request: number, parcel: Parcel): void {
    this.#sent.delete(request);
    if (!parcel.sealed) this.#gathered--;
  }

  /** Settles the calls whose replies are there. */
  #receive(socket: Socket): void {
    for (let frames; (frames = socket.receive());) {
      const reply = parseReply(frames);
      const parcel = reply && this.#sent.get(reply.request);
      // Without one it is a reply that came too late, or none at all.
      if (!parcel) continue;
      this.#forget(reply.request, parcel);
      this.#replyBytes = Math.max(reply.payload.length / parcel.calls.length, this.#replyBytes * 0.9);
      try {
        this.#settle(parcel, reply.payload);
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        for (const call of parcel.calls) {
          this.#fail(
            call,
            new MemStoreError("FAILED", `Cannot ${call.name}: the reply cannot be read: ${why}`),
          );
        }
      }
    }
  }

  #settle(parcel: Parcel, payload: Uint8Array): void {
    const { calls, sealed } = parcel;
    const again: Call[] = [];
    const reader = new Reader(payload);
    for (const call of calls) {
      const { at } = reader;
      if (call.settled) {
        reader.at = skip(payload, skip(payload, at), MAX_REPLY_DEPTH);
        continue;
      }
      const reply = readReply(replyShape(call.name), reader);
      if (reply instanceof MemStoreError) {
        // A message that could not be read at all has one reply, whatever it held.
        if (at === 0 && reader.at === payload.length) return calls.forEach((each) => this.#fail(each, reply));
        // Of a batch, what was refused tells more than what was not run for it.
        if (reply.code === "NOT_RUN" || !sealed && reply.code === "TOO_LARGE") again.push(call);
        else this.#fail(call, reply);
      } else {
        call.settled = true;
        call.resolve(reply);
      }
    }
    if (sealed) return again.forEach((call) => this.#fail(call, notRunError(call.name)));
    // They only happened to travel with one that was refused (a key that is nested too deep, say), or whose
    // reply left no room for theirs: they go again, each alone.
    this.#queue.unshift(
      ...again.map((call) => ({
        calls: [call],
        bytes: parcel.bytes,
        whole: false,
        sealed: true,
        batch: false,
      })),
    );
  }

  /** Gives up what has no reply, and looks for the host again. */
  #hostWentAway(socket: Socket): Socket {
    for (const { calls } of this.#sent.values()) {
      for (const call of calls) {
        const text = `Cannot ${call.name}: the host at ${this.endpoint} went away before it answered`;
        this.#fail(call, new MemStoreError("DISCONNECTED", text));
      }
    }
    socket.close();
    return this.#socket = this.#connect(this.#context!);
  }

  /** Gives a call up. */
  #fail(call: Call, error: unknown): void {
    if (call.settled) return;
    call.settled = true;
    call.reject(error);
    this.#stale = true;
    this.#socket?.wake();
  }

  #failOnAbort(call: Call, signal: AbortSignal, promise: Promise<unknown>): void {
    const abort = () => this.#fail(call, signal.reason);
    const forget = () => signal.removeEventListener("abort", abort);
    signal.addEventListener("abort", abort);
    promise.then(forget, forget);
  }

  /** Calls without a reply. */
  *#pending(): Generator<Call> {
    for (const { calls } of [...this.#queue, ...this.#sent.values()]) {
      for (const call of calls) if (!call.settled) yield call;
    }
  }

  /** Takes calls that were given up out of the queue, and forgets messages that only they wait for. */
  #dropStale(): void {
    for (const parcel of this.#queue) {
      if (parcel.sealed && parcel.calls.some((call) => call.settled)) {
        // Half a batch does not leave.
        for (const call of parcel.calls) this.#fail(call, notRunError(call.name));
      }
      const live = parcel.calls.filter((call) => !call.settled);
      if (live.length < parcel.calls.length) parcel.whole = false;
      parcel.calls = live;
    }
    this.#queue = this.#queue.filter((parcel) => parcel.calls.length > 0);
    for (const [request, parcel] of this.#sent) {
      if (parcel.calls.every((call) => call.settled)) this.#forget(request, parcel);
    }
    this.#stale = false;
  }

  /** Makes sure that the timer fires by a deadline. One timer serves all calls. */
  #expireAt(deadline: number): void {
    if (deadline >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    const wait = Math.max(0, Math.min(deadline - performance.now() + 1, MAX_TIMER_MS));
    this.#timer = setTimeout(() => this.#expire(), wait);
    // A process whose calls all have their replies may end.
    Deno.unrefTimer(this.#timer);
  }

  #expire(): void {
    const now = performance.now();
    let next = Infinity;
    for (const call of this.#pending()) {
      if (call.deadline <= now) this.#fail(call, this.#timeoutError(call));
      else next = Math.min(next, call.deadline);
    }
    this.#timerAt = Infinity;
    this.#expireAt(next);
  }

  #timeoutError({ name, timeout }: Call): MemStoreError {
    if (this.#socket?.peer !== "connected" && this.#socket?.refused) {
      const why = "its key, or ours, is not the one that is expected, or one of us has none";
      return new MemStoreError(
        "DENIED",
        `Cannot ${name}: no connection to the host at ${this.endpoint}: ${why}`,
      );
    }
    const who = this.#socket?.peer === "connected"
      ? `the host at ${this.endpoint} did not answer`
      : `no host at ${this.endpoint}`;
    return new MemStoreError("TIMEOUT", `Cannot ${name}: ${who} within ${timeout} ms`);
  }
}

/** The methods of a batch: its calls travel together. A call that cannot be made throws at once. */
class Batch extends CommandMethods {
  readonly #add: (name: string, args: readonly unknown[]) => Promise<unknown>;

  constructor(add: (name: string, args: readonly unknown[]) => Promise<unknown>) {
    super();
    this.#add = add;
  }

  protected call<Reply>(name: string, args: readonly unknown[], options?: CallOptions): Promise<Reply> {
    if (options) throw new TypeError(`Cannot ${name}: in a batch, options are given to batch() itself`);
    const reply = this.#add(name, args);
    // The batch itself rejects; a promise that its function did not return must not end the process.
    reply.catch(() => {});
    return reply as Promise<Reply>;
  }
}

/** Of each command that every host has and does at once: how many arguments it takes, at least and at most. */
const ARGUMENTS = new Map<string, readonly [number, number]>(
  commands.filter(({ slow }) => !slow).map(({ name, args }) =>
    [name, [args.filter(({ optional }) => !optional).length, args.length]] as const
  ),
);

/** Whether every host does a command of so many arguments, and at once. */
function isQuick(name: string, count: number): boolean {
  const range = ARGUMENTS.get(name);
  return range !== undefined && count >= range[0] && count <= range[1];
}

const NO_BYTES = new Uint8Array(0);
/** What a timer takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;

function newParcel(sealed: boolean, batch = false): Parcel {
  return { calls: [], bytes: new Writer(1024), whole: true, sealed, batch };
}

/** How many of the calls one message takes, if each reply has so many bytes. */
function howMany(calls: Call[], replyBytes: number): number {
  let bytes = 0;
  const beyond = calls.findIndex(({ from, to }, i) =>
    (bytes += to - from) > MAX_BYTES || (i + 1) * replyBytes > MAX_BYTES
  );
  return beyond < 0 ? calls.length : Math.max(1, beyond);
}

function notRunError(name: string): MemStoreError {
  return new MemStoreError("NOT_RUN", `Cannot ${name}: another command of its batch was not run`);
}

function closedError(name: string, endpoint: string): MemStoreError {
  return new MemStoreError("CLOSED", `Cannot ${name}: the client of ${endpoint} is closed`);
}

function checkTimeout(timeout: number): number {
  if (timeout > 0) return timeout;
  throw new RangeError(`Cannot wait: the timeout must be more than 0 milliseconds: received ${timeout}`);
}
