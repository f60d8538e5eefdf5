/**
 * The client: commands as methods, over one connection to a host.
 *
 * The path of a call: {@link ./client/methods.ts | method} → {@link ./client/multiplexer.ts | multiplexer} →
 * {@link ./client/queue.ts | queue} → {@link ./client/session.ts | session} →
 * {@link ./transport/transport.ts | transport}. Its reply comes back through
 * {@link ./client/in_flight.ts | the requests in flight}.
 *
 * A store that is {@linkcode attach | attached} has the commands as methods that block until they are done:
 * {@link ./client/shared.ts | method} → {@link ./client/blocking.ts | blocking calls} → session → transport.
 *
 * @module
 */

import "./system/deno.ts";
import { type RawCommand, runBatch } from "./client/batch.ts";
import { Lock, type LockOptions } from "./client/lock.ts";
import { type CallOptions, CommandMethods } from "./client/methods.ts";
import { ASK } from "./client/direct.ts";
import { BlockingCalls } from "./client/blocking.ts";
import { Multiplexer, type MultiplexerOptions } from "./client/multiplexer.ts";
import { checkTimeout } from "./client/deadlines.ts";
import { SharedStore } from "./client/shared.ts";
import { type Update, update } from "./client/update.ts";
import { RemoteSet, RemoteTable } from "./client/views.ts";
import { readKeys, readPublicKey } from "./auth/curve.ts";
import { LaneConnector } from "./transport/shared/dealer.ts";
import { ZeroMqConnector } from "./transport/zeromq/dealer.ts";
import { commands } from "./commands/list.ts";
import { turn } from "./system/turn.ts";
import { address } from "./transport/endpoint.ts";
import { LIMITS } from "./transport/limits.ts";

const DEFAULT_TIMEOUT_MS = 5000;
/** A host that restarts is back within a second or two. */
const DEFAULT_CONNECT_TIMEOUT_MS = 2000;

/** Options of a {@linkcode MemStoreClient}. */
export interface ClientOptions {
  /**
   * How long a call waits for its reply, in milliseconds, unless it has a timeout of its own.
   * @default {5000}
   */
  timeout?: number;
  /**
   * How long a call waits for a connection, in milliseconds. After that it fails with `UNAVAILABLE`, and has not been
   * sent. With 0 it fails as soon as an attempt to connect finds no host. The default leaves time for a host to
   * restart. (If a host is connected but busy, the call waits for its `timeout`.)
   * @default {2000}
   */
  connectTimeout?: number;
  /**
   * The largest message that the client sends, in bytes. If the host's limit is lower, that applies.
   * @default {67108864}
   */
  maxMessage?: number;
  /**
   * Whether the client may ask for a lane: memory that it shares with a host on the same machine, and that is much faster
   * than the socket. Where there can be none, the socket is used.
   * @default {true}
   */
  lane?: boolean;
  /**
   * Whether the client may read the host's memory where it is on the same machine and has the same user: `get` and the
   * like then ask nobody. Linux on x86-64.
   * @default {the value of `lane`}
   */
  directReads?: boolean;
  /** The file of the client's secret key, for a host that uses keys. `memstore keygen` makes one. */
  key?: string;
  /** The host's public key, or the file that holds it. The client connects to no host with another key. */
  serverKey?: string;
}

/**
 * A client of a host. It connects at its first call, and again after the connection was lost.
 *
 * The host runs the calls of a client in the order in which they were made. A call that fails does not affect others.
 * (While a `store`, a `restore` or a custom command of the host runs, later calls may overtake it.)
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
  readonly #multiplexer: Multiplexer;
  #answers = 0;
  /** Whether the function of a batch is running. */
  #batching = false;

  /**
   * Makes a client, which connects at its first call.
   *
   * @param endpoint The host's name, path or ZeroMQ address.
   * @throws {TypeError} if the endpoint is malformed.
   */
  constructor(endpoint = "memstore", options: ClientOptions = {}) {
    super();
    const { timeout, ...connection } = completeOptions(endpoint, options);
    this.endpoint = connection.endpoint;
    this.#timeout = timeout;
    this.#multiplexer = new Multiplexer(connection);
  }

  /**
   * Runs several commands as a transaction. Nothing else runs on the host between them. If one fails, the changes of
   * all are rolled back.
   *
   * A batch cannot hold `store`, `restore`, `s3store`, `s3restore`, `done`, or asynchronous custom commands.
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
   * @returns The replies, in the order of the commands. Rejects with the error of the command that failed.
   * @throws {TypeError} at once, if it is called in the function of another batch.
   */
  batch(commands: readonly RawCommand[], options?: CallOptions): Promise<unknown[]>;
  /** The same, with the methods of the client and their types. */
  batch<const Replies extends readonly unknown[]>(
    commands: (batch: CommandMethods) => Replies,
    options?: CallOptions,
  ): Promise<{ -readonly [I in keyof Replies]: Awaited<Replies[I]> }>;
  batch(
    commands: readonly RawCommand[] | ((batch: CommandMethods) => readonly unknown[]),
    { timeout = this.#timeout, signal }: CallOptions = {},
  ): Promise<unknown[]> {
    if (this.#batching) throw new TypeError("Cannot run a batch within the function of another batch");
    this.#batching = true;
    try {
      return runBatch(this.#multiplexer, commands, checkTimeout(timeout), signal);
    } catch (error) {
      return Promise.reject(error);
    } finally {
      this.#batching = false;
    }
  }

  /**
   * Replaces the value of a key by what a function returns for it. If another client changes the value meanwhile, the
   * function is called again with the new value, so no change is lost. `undefined` stands for a key that does not
   * exist: the function may receive it, and may return it to delete the key. An expiry of the key is removed.
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
   * const add = (item: string) => client.update<string[]>("carts", "alice", (items = []) => [...items, item]);
   * await Promise.all([add("tea"), add("milk")]);
   * console.assert((await client.get<string[]>("carts", "alice"))?.length === 2);
   * ```
   *
   * @param options The `timeout` applies to all attempts together.
   * @returns The new value.
   */
  async update<Value = unknown>(
    table: unknown,
    key: unknown,
    fn: Update<Value>,
    { timeout = this.#timeout, signal }: CallOptions = {},
  ): Promise<Value | undefined> {
    return await update(this, table, key, fn, checkTimeout(timeout), signal);
  }

  /**
   * Acquires a lock that processes share. It is renewed while it is held. If its owner is killed, it is free after the
   * `ttl`.
   *
   * A process that is suspended for longer than the `ttl` loses the lock, and does not notice until it runs again and
   * `lost` is aborted. Where that could do harm, send {@linkcode Lock.fence} with each write. A host that restarts
   * remembers locks and fencing numbers only if it keeps its state.
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
   * {
   *   await using lock = await client.lock("nightly report", { ttl: 5_000, wait: 1_000 });
   *   console.assert(!lock.lost.aborted);
   * }
   * await using next = await client.lock("nightly report");
   * console.assert(next.fence === 2);
   * ```
   *
   * @returns The lock. Rejects with a {@linkcode MemStoreError} `TIMEOUT` if it is not free in time.
   */
  async lock(name: unknown, options: LockOptions = {}): Promise<Lock> {
    return await Lock.acquire(this, name, { ...options, wait: options.wait ?? this.#timeout });
  }

  /**
   * Returns a table as an asynchronous `Map`. The options apply to each of its calls.
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
   * const ages = client.table<string, number>("ages");
   * await ages.set("alice", 31);
   * for await (const [name, age] of ages) console.assert(name === "alice" && age === 31);
   * ```
   */
  table<Key = unknown, Value = unknown>(name: unknown, options?: CallOptions): RemoteTable<Key, Value> {
    return new RemoteTable(this, name, options);
  }

  /**
   * Returns a named set as an asynchronous `Set`. The options apply to each of its calls.
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

  /** Closes the connection. Pending calls reject with `CLOSED`. */
  close(): Promise<void> {
    return this.#multiplexer.close();
  }

  /** {@linkcode MemStoreClient.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Resolves to a reply that is there. Now and then other work of the process has its turn before. */
  #answer<Reply>(reply: Reply): Promise<Reply> {
    if (++this.#answers % ANSWERS_PER_TURN > 0) return Promise.resolve(reply);
    return turn().then(() => reply);
  }

  /** Sends a command by its name. */
  protected override call<Reply>(
    name: string,
    args: readonly unknown[],
    options?: CallOptions,
    convert?: (reply: unknown) => Reply,
  ): Promise<Reply> {
    const timeout = options?.timeout, signal = options?.signal, slow = !QUICK.has(name);
    try {
      const ms = timeout === undefined ? this.#timeout : checkTimeout(timeout);
      signal?.throwIfAborted();
      const found = this.#multiplexer.read(name, args);
      if (found !== ASK) return this.#answer(convert ? convert(found) : found as Reply);
      return this.#multiplexer.call(name, args, slow, ms, signal, convert) as Promise<Reply>;
    } catch (error) {
      return Promise.reject(error);
    }
  }
}

/** After so many replies that came at once, other work of the process has its turn. */
const ANSWERS_PER_TURN = 256;

/** The commands that do not take long. */
const QUICK: ReadonlySet<string> = new Set(commands.filter(({ slow }) => !slow).map(({ name }) => name));

/**
 * Attaches to a host, to use its data synchronously, as if it were in this process.
 *
 * A call blocks the thread until the host has replied. So the host must run in another process or another thread: one in
 * the same thread cannot reply, and each call fails with `TIMEOUT`. The process that serves has `store.local` instead.
 *
 * Close the store, with `using` for example: one that is not closed keeps its connection and its lane until the process
 * ends, even if a Web Worker has attached it and was terminated.
 *
 * @example
 * ```ts
 * import { attach } from "@memstore/memstore";
 *
 * // A host in a Web Worker: `memstore serve` is one in another process.
 * const host = `
 *   import { MemStore } from "${import.meta.resolve("@memstore/memstore")}";
 *   const store = new MemStore("${Deno.makeTempDirSync()}/store.sock");
 *   await store.start();
 *   self.postMessage(store.endpoints[0]);
 * `;
 * const worker = new Worker(`data:text/javascript,${encodeURIComponent(host)}`, { type: "module" });
 * const { data: endpoint } = await new Promise<MessageEvent>((resolve) => worker.onmessage = resolve);
 *
 * using shared = await attach(endpoint);
 * const users = shared.map<string, { age: number }>("users"); // a Map
 * users.set("alice", { age: 31 });
 * for (const [name, { age }] of users) console.assert(name === "alice" && age === 31);
 *
 * const online = shared.set<string>("online"); // a Set
 * online.add("alice");
 * console.assert(shared.incr("visits", "home") === 1); // and every command
 * shared.done();
 * worker.terminate();
 * ```
 *
 * @param endpoint The host's name, path or ZeroMQ address.
 * @returns The store. Rejects with a {@linkcode MemStoreError} `UNAVAILABLE` if there is no host, and with `DENIED` if it
 * refuses the key.
 * @throws {TypeError} if the endpoint is malformed.
 */
export async function attach(endpoint = "memstore", options: ClientOptions = {}): Promise<SharedStore> {
  const { timeout, ...connection } = completeOptions(endpoint, options);
  const calls = new BlockingCalls(connection);
  try {
    await calls.open(timeout);
  } catch (error) {
    calls.close();
    throw error;
  }
  return new SharedStore(connection.endpoint, calls, timeout);
}

/** How to connect, of the options of a client: complete and checked. */
function completeOptions(endpoint: string, options: ClientOptions): MultiplexerOptions & { timeout: number } {
  const to = address(endpoint);
  const { timeout = DEFAULT_TIMEOUT_MS, connectTimeout = DEFAULT_CONNECT_TIMEOUT_MS } = options;
  const { key, serverKey, maxMessage = LIMITS.message, lane = true, directReads = lane } = options;
  if (!(connectTimeout >= 0)) {
    const why = "connectTimeout must be 0 milliseconds or more";
    throw new RangeError(`Cannot make a client: ${why}: received ${connectTimeout}`);
  }
  if ((key === undefined) !== (serverKey === undefined)) {
    throw new TypeError("Cannot use keys: key and serverKey must be given together");
  }
  const keys = key !== undefined && serverKey !== undefined
    ? async () => ({ ...await readKeys(key), serverKey: await readPublicKey(serverKey) })
    : undefined;
  const zeromq = new ZeroMqConnector(to, keys);
  const connector = lane && to.startsWith("ipc://") ? new LaneConnector(zeromq) : zeromq;
  return {
    endpoint: to,
    connector,
    connectTimeout,
    maxMessage,
    directReads: directReads && to.startsWith("ipc://"),
    timeout: checkTimeout(timeout),
  };
}
