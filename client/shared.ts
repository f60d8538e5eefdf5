/**
 * An attached store: every command as a synchronous method, for a process that is not the host's.
 *
 * @module
 */

import type { Commands } from "../commands/list.ts";
import { type CamelCase, refusePromise } from "../commands/methods.ts";
import { type SlowCommand, SyncCommands } from "../commands/sync.ts";
import type { RawCommand } from "./batch.ts";
import type { BlockingCalls } from "./blocking.ts";
import { checkTimeout } from "./deadlines.ts";
import { readSnapshot, type SnapshotCommands } from "./snapshot.ts";
import { attempts } from "./update.ts";

/** Options of a call that blocks. */
export interface SyncCallOptions {
  /**
   * How long to wait for the reply, in milliseconds.
   * @default {5000}
   */
  timeout?: number;
}

/** Options of {@linkcode SharedStore.store}. */
export interface SyncStoreOptions extends SyncCallOptions {
  /**
   * Compresses the file with gzip. A file whose name ends with `.gz` is always compressed.
   * @default {false}
   */
  compress?: boolean;
}

/**
 * The data of a host, as if it were in this process: made by {@linkcode attach}. Reads look into the
 * host's memory where they can; any other call blocks the thread until the host has replied, which takes some microseconds
 * on the same machine.
 *
 * A method throws a {@linkcode MemStoreError} if the host refuses the command or does not reply in time, as the
 * methods of a {@linkcode MemStoreClient} reject. If the connection is lost, the next call connects again.
 *
 * @example
 * ```ts
 * import { attach, MemStore } from "@memstore/memstore";
 *
 * // (The host must be another process or a Web Worker: a call blocks the thread.)
 * const worker = new Worker(URL.createObjectURL(new Blob([`
 *   import { MemStore } from "${import.meta.resolve("@memstore/memstore")}";
 *   const store = new MemStore("${Deno.makeTempDirSync()}/store.sock");
 *   await store.start();
 *   self.postMessage(store.endpoints[0]);
 * `], { type: "text/typescript" })), { type: "module" });
 * const { data: endpoint } = await new Promise<MessageEvent>((resolve) => worker.onmessage = resolve);
 *
 * using shared = await attach(endpoint);
 * const users: Map<string, { age: number }> = shared.map("users");
 * users.set("alice", { age: 31 });
 * console.assert(users.get("alice")?.age === 31);
 * console.assert(shared.incr("visits", "home") === 1);
 * shared.done();
 * worker.terminate();
 * ```
 */
export class SharedStore extends SyncCommands<SyncCallOptions> implements Disposable, AsyncDisposable {
  /** The ZeroMQ address of the host. */
  readonly endpoint: string;
  readonly #calls: BlockingCalls;
  readonly #timeout: number;
  /** Whether the function of a snapshot is running. */
  #inSnapshot = false;

  /** Use {@linkcode attach}. */
  constructor(endpoint: string, calls: BlockingCalls, timeout: number) {
    super();
    this.endpoint = endpoint;
    this.#calls = calls;
    this.#timeout = timeout;
  }

  /** Sends a command and blocks until it is replied to. */
  protected override call<Reply>(name: string, args: readonly unknown[], options?: SyncCallOptions): Reply {
    const timeout = options?.timeout;
    return this.#calls.call(
      name,
      args,
      timeout === undefined ? this.#timeout : checkTimeout(timeout),
    ) as Reply;
  }

  /**
   * Runs commands as a transaction. Nothing else runs on the host between them. If one fails, the changes of all are
   * rolled back.
   *
   * @returns The raw replies, in the order of the commands.
   * @throws {MemStoreError} that of the command that failed.
   * @throws {TypeError} if it is no array: unlike other batches, this one takes no function.
   */
  batch(commands: readonly RawCommand[], options?: SyncCallOptions): unknown[] {
    if (!Array.isArray(commands)) {
      const why = "it must be an array of commands";
      throw new TypeError(`Cannot run a batch: ${why}: received ${String(commands)}`);
    }
    this.writes++;
    return this.#calls.batch(commands, checkTimeout(options?.timeout ?? this.#timeout));
  }

  /**
   * Runs a function whose reads all see one state of the data. Writers are not held up: if what the function has read has
   * changed meanwhile, it is called again. So it should do nothing but read and compute.
   *
   * Where the reads ask nobody, a snapshot asks nobody either. Otherwise the host repeats them in a batch, and what the
   * function reads must be little enough for one: 10,000 commands, some 30,000 entries.
   *
   * @example
   * ```ts
   * import { attach } from "@memstore/memstore";
   *
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
   * shared.setMany("stock", { shelf: 3, store: 7 });
   * // Others may move things from one to the other meanwhile: the sum is right.
   * const total = shared.snapshot((snapshot) =>
   *   snapshot.get<number>("stock", "shelf")! + snapshot.get<number>("stock", "store")!
   * );
   * console.assert(total === 10);
   * shared.done();
   * worker.terminate();
   * ```
   *
   * @param fn Gets the commands that read. Those that write throw a `TypeError`.
   * @param options The `timeout` applies to all attempts together.
   * @returns What the function returns.
   * @throws What the function throws, if all that it has read was one state.
   * @throws {MemStoreError} `TIMEOUT` if others changed what it reads at each attempt; `TOO_LARGE` if the host had to be
   * asked for it, and it is too much for a batch.
   * @throws {TypeError} if the function returns a promise, or within another snapshot.
   */
  snapshot<Result>(fn: (snapshot: SnapshotCommands) => Result, options?: SyncCallOptions): Result {
    if (this.#inSnapshot) throw new TypeError("Cannot read a snapshot within the function of another");
    const timeout = checkTimeout(options?.timeout ?? this.#timeout);
    this.#inSnapshot = true;
    try {
      return readSnapshot(this.#calls, fn, timeout);
    } finally {
      this.#inSnapshot = false;
    }
  }

  /**
   * See {@linkcode SyncCommands.update}. The function is called again if another process changed the key meanwhile: so
   * it should do nothing but compute the value. The `timeout` applies to all attempts together.
   */
  override update<Value = unknown>(
    table: unknown,
    key: unknown,
    fn: (value: Value | undefined) => Value | undefined,
    options?: SyncCallOptions,
  ): Value | undefined {
    const timeout = checkTimeout(options?.timeout ?? this.#timeout);
    const timeLeft = attempts(timeout), left = () => ({ timeout: timeLeft() });
    for (;;) {
      const old = this.get<Value>(table, key, left());
      const value = fn(old);
      refusePromise(value, "update the key");
      // (Where there is no value, a stored null is deleted, and it does not matter whether there was one.)
      const done = value === undefined
        ? this.delIf(table, key, old, left()) || old === undefined
        : this.cas(table, key, old, value, left());
      if (done) return value;
    }
  }

  /** Stores a snapshot of the data in a file of the host. Returns the seconds it took. */
  store(path: string, options?: SyncStoreOptions): ["stored", number] {
    return this.call("store", options?.compress ? [path, true] : [path], options);
  }

  /** Replaces the data by that of a file of the host. Returns the seconds it took. */
  restore(path: string, options?: SyncCallOptions): ["restored", number] {
    return this.write("restore", [path], options);
  }

  /** Stores a snapshot of the data in an object in S3. Returns the seconds it took. */
  s3store(bucket: string, key: string, options?: SyncCallOptions): ["stored", number] {
    return this.call("s3store", [bucket, key], options);
  }

  /** Replaces the data by that of an object in S3. Returns the seconds it took. */
  s3restore(bucket: string, key: string, options?: SyncCallOptions): ["restored", number] {
    return this.write("s3restore", [bucket, key], options);
  }

  /** Stops the host. If it keeps its state, it stores that first. */
  done(options?: SyncCallOptions): ["ok"] {
    return this.call("done", [], options);
  }

  /** Closes the connection. Later calls throw `CLOSED`. */
  close(): void {
    this.#calls.close();
  }

  /** {@linkcode SharedStore.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** {@linkcode SharedStore.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}

/** The methods that the list of commands requires of this class, beside those that it inherits. */
type SlowMethods = {
  [Name in Exclude<SlowCommand, "store"> as CamelCase<Name>]: (
    ...args: [...Parameters<Commands[Name]>, options?: SyncCallOptions]
  ) => ReturnType<Commands[Name]>;
};

/** Does not compile unless each of them has its method, with its arguments and its reply. */
type Complete<Class extends SlowMethods> = Class;
type _Checked = Complete<SharedStore>;
