/**
 * The data of a host, for the process that it is in: every command as a synchronous method.
 *
 * A call goes through the same door as a client's message ({@link ./custom.ts | send}), so the same limits, checks and
 * replies hold. Nothing is sent: it runs at once, and no client is served in between.
 *
 * @module
 */

import type { Commands } from "../commands/list.ts";
import { type CamelCase, refusePromise } from "../commands/methods.ts";
import { type SlowCommand, SyncCommands } from "../commands/sync.ts";

/** Runs a command at once. */
export type RunCommand = (name: string, args: readonly unknown[]) => unknown;

/** The commands of the process that serves. A {@linkcode LocalStore} has them, and a batch of it. */
export class LocalCommands extends SyncCommands {
  readonly #run: RunCommand;

  /** Use {@linkcode MemStore.local}. */
  constructor(run: RunCommand) {
    super();
    this.#run = run;
  }

  /** Runs a command at once. */
  protected override call<Reply>(name: string, args: readonly unknown[]): Reply {
    return this.#run(name, args) as Reply;
  }

  /** See {@linkcode SyncCommands.update}. Nothing else changes the key meanwhile. */
  override update<Value = unknown>(
    table: unknown,
    key: unknown,
    fn: (value: Value | undefined) => Value | undefined,
  ): Value | undefined {
    const value = fn(this.get<Value>(table, key));
    refusePromise(value, "update the key");
    if (value === undefined) this.del(table, key);
    else this.set(table, key, value);
    return value;
  }
}

/** Runs a function as a transaction. */
export type Transaction = <Result>(run: () => Result) => Result;

/**
 * The data of a host, for the process that it is in. Made by {@linkcode MemStore.local}.
 *
 * @example
 * ```ts
 * import { MemStore } from "@memstore/memstore";
 *
 * await using store = new MemStore(`${Deno.makeTempDirSync()}/store.sock`);
 * await store.start();
 *
 * store.local.set("users", "alice", { age: 31 });
 * console.assert(store.local.get<{ age: number }>("users", "alice")?.age === 31);
 * console.assert(store.local.get("users", "bob") === undefined);
 * console.assert(store.local.del("users", "bob") === false);
 * console.assert(store.local.incr("visits", "home") === 1);
 * ```
 */
export class LocalStore extends LocalCommands {
  readonly #transaction: Transaction;

  /** Use {@linkcode MemStore.local}. */
  constructor(run: RunCommand, transaction: Transaction) {
    super(run);
    this.#transaction = transaction;
  }

  /**
   * Runs a function as a transaction: if it throws, all that it changed is rolled back. Each command replies at once, so
   * what follows can depend on it.
   *
   * @example
   * ```ts
   * import { MemStore } from "@memstore/memstore";
   *
   * await using store = new MemStore(`${Deno.makeTempDirSync()}/store.sock`);
   * await store.start();
   * store.local.setMany("accounts", { alice: 10, bob: 0 });
   *
   * const pay = (amount: number) =>
   *   store.local.batch((batch) => {
   *     batch.incr("accounts", "bob", amount);
   *     if (batch.incr("accounts", "alice", -amount) < 0) throw new Error("not enough");
   *   });
   * pay(7);
   * try {
   *   pay(7);
   * } catch {
   *   console.assert(store.local.get("accounts", "bob") === 7);
   * }
   * ```
   *
   * @returns What the function returns.
   * @throws What the function throws.
   * @throws {TypeError} if the function returns a promise, or within another batch.
   */
  batch<Result>(fn: (batch: LocalCommands) => Result): Result {
    let open = true;
    const batch = new LocalCommands((name, args) => {
      if (open) return this.write(name, args);
      throw new TypeError(`Cannot ${name}: the function of its batch has returned, and the batch has ended`);
    });
    try {
      return this.#transaction(() => {
        const result = fn(batch);
        refusePromise(result, "run a batch");
        return result;
      });
    } finally {
      open = false;
    }
  }

  /** Stores the state of this moment to a file: resolves to the seconds it took. */
  async store(path: string, options?: { compress?: boolean }): Promise<["stored", number]> {
    return await this.call("store", options?.compress ? [path, true] : [path]);
  }

  /** Replaces the state by that of a file: resolves to the seconds it took. */
  async restore(path: string): Promise<["restored", number]> {
    return await this.call("restore", [path]);
  }

  /** Stores the state of this moment to an object in S3. */
  async s3store(bucket: string, key: string): Promise<["stored", number]> {
    return await this.call("s3store", [bucket, key]);
  }

  /** Replaces the state by that of an object in S3. */
  async s3restore(bucket: string, key: string): Promise<["restored", number]> {
    return await this.call("s3restore", [bucket, key]);
  }

  /** Stops the host: resolves when that is certain. {@linkcode MemStore.stop} resolves when it has stopped. */
  async done(): Promise<["ok"]> {
    return await this.call("done", []);
  }
}

/** The methods of the commands that take long: they return promises. */
type SlowMethods = {
  [Name in Exclude<SlowCommand, "store"> as CamelCase<Name>]: (
    ...args: Parameters<Commands[Name]>
  ) => Promise<ReturnType<Commands[Name]>>;
};

/** Does not compile unless each of them has its method, with its arguments and its reply. */
type Complete<Class extends SlowMethods> = Class;
type _Checked = Complete<LocalStore>;
