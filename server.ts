/**
 * The host: one process that holds tables and sets, and serves them to all others.
 *
 * A message's way through it: {@link ./transport/zeromq/port.ts | port} → {@link ./host/serving.ts | serving loop} →
 * {@link ./host/dispatch.ts | dispatcher} → {@link ./host/execution.ts | execution} →
 * {@link ./engine/memory/commands/tables.ts | handler} → {@link ./engine/memory/store.ts | store}, and back as the reply. What
 * comes after the dispatcher is the {@link ./host/engine.ts | engine}'s: there is another one, for data in Redis.
 *
 * @module
 */

import type { StateStatus } from "./commands/list.ts";
import { hostCommands } from "./host/commands.ts";
import { type CustomCommand, customCommand, PendingCommands, send } from "./host/custom.ts";
import { Dispatcher } from "./host/dispatch.ts";
import type { Engine } from "./host/engine.ts";
import { Lifecycle } from "./host/lifecycle.ts";
import { LocalStore } from "./host/local.ts";
import { boundedWarnings } from "./host/log.ts";
import { MemoryEngine } from "./host/memory.ts";
import { completeOptions, type MemStoreOptions } from "./host/options.ts";
import { RedisEngine } from "./host/redis.ts";
import { helloOf, statsOf } from "./host/status.ts";
import { Gate } from "./state/gate.ts";

export type { CommandHost, CustomCommand } from "./host/custom.ts";
export type { MemStoreOptions } from "./host/options.ts";
export type { RedisOptions } from "./engine/redis/options.ts";
export { LocalCommands, LocalStore } from "./host/local.ts";

/**
 * A host: holds the data and serves it, in the process that creates it.
 *
 * @example Serve, and stop at the end of the block
 * ```ts
 * import { MemStore, MemStoreClient } from "@memstore/memstore";
 *
 * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
 * await using store = new MemStore(endpoint);
 * await store.start();
 *
 * await using client = new MemStoreClient(endpoint);
 * await client.set("users", "alice", { age: 31 });
 * console.assert((await client.size("users")) === 1);
 * ```
 */
export class MemStore implements AsyncDisposable {
  /**
   * The data for this process: every command as a synchronous method. It is there once the host is started, and until
   * then as well if the host keeps no state that it loads at the start.
   *
   * @example
   * ```ts
   * import { MemStore, MemStoreClient } from "@memstore/memstore";
   *
   * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
   * await using store = new MemStore(endpoint);
   * await store.start();
   * store.local.set("users", "alice", { age: 31 });
   *
   * await using client = new MemStoreClient(endpoint);
   * await client.del("users", "alice");
   * console.assert(store.local.exists("users", "alice") === false);
   * ```
   */
  readonly local: LocalStore;
  readonly #engine: Engine;
  readonly #dispatcher: Dispatcher;
  readonly #pendingCommands = new PendingCommands();
  readonly #lifecycle: Lifecycle;

  /**
   * Makes a host, which serves once it is started.
   *
   * @param endpoints A name, a path or a ZeroMQ address, or several.
   * @param options How the data is kept.
   * @throws {TypeError} if there is none.
   * @throws {RangeError} if `maxMemory` is less than 8 MiB, or one of the limits is out of its range.
   */
  constructor(endpoints: string | readonly string[] = "memstore", options: MemStoreOptions = {}) {
    const names = [endpoints].flat();
    if (names.length === 0) {
      throw new TypeError("Cannot make a host: it needs an endpoint: received none");
    }
    const complete = completeOptions(options);
    const gate = new Gate(), warn = boundedWarnings(complete.log);
    const engine = complete.engine === "memory"
      ? new MemoryEngine(complete, gate)
      : new RedisEngine(complete.engine, complete);
    const dispatcher = new Dispatcher(engine, complete.limits, gate, (client, command) => {
      warn("denied", { client, command });
    });
    const pendingCommands = this.#pendingCommands;
    const parts = { options: complete, engine, gate, dispatcher, pendingCommands, warn };
    const lifecycle = new Lifecycle(names, parts);
    const commands = hostCommands({
      persistence: engine.persistence,
      commands: () => dispatcher.commands,
      hello: (right) => helloOf(complete, right),
      openLane: (from) => lifecycle.openLane(from),
      memoryFor: (from) => lifecycle.memoryFor(from),
      stats: () => {
        const data = engine.stats();
        if (!(data instanceof Promise)) return statsOf(data, lifecycle.figures);
        return data.then((data) => statsOf(data, lifecycle.figures));
      },
      stop: () => lifecycle.beginStop(),
    }, engine.handlers);
    for (const command of commands) dispatcher.add(command);
    this.#engine = engine;
    this.#dispatcher = dispatcher;
    this.#lifecycle = lifecycle;
    this.local = new LocalStore(
      (name, args) => {
        engine.checkLocal(name);
        lifecycle.checkHolds(name);
        return send(dispatcher, name, args);
      },
      (run) => dispatcher.transaction(run),
    );
  }

  /** The addresses that are served; empty unless the host is started. */
  get endpoints(): readonly string[] {
    return this.#lifecycle.endpoints;
  }

  /** Where the state is kept, and whether that is up to date; undefined if it is not kept. */
  get state(): StateStatus | undefined {
    return this.#lifecycle.state;
  }

  /** Resolves when the host has stopped: by {@linkcode MemStore.stop}, or by the command `done`. */
  get finished(): Promise<void> {
    return this.#lifecycle.finished;
  }

  /**
   * Starts to serve. When it resolves, clients can reach every endpoint.
   *
   * With `join`, this process uses a host that is there: if a living host has one of the endpoints, this one serves none
   * of them and holds no data, but resolves once clients can reach that host. Of several processes that start at once,
   * one serves.
   *
   * @example Serve, or use the host that is there
   * ```ts
   * import { MemStore, MemStoreClient } from "@memstore/memstore";
   *
   * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
   * await using store = new MemStore(endpoint);
   * const role = await store.start({ join: true });
   * await using client = new MemStoreClient(endpoint);
   * console.assert(role === "serving" && (await client.ping()) === "pong");
   * ```
   *
   * @param options Whether to join a host that is there.
   * @returns Which of the two it is; without `join` always `"serving"`.
   * @throws {TypeError} if one of the endpoints cannot be one.
   * @throws {MemStoreError} `IN_USE` if a living host serves one of them. (One that stops is waited for.)
   * @throws {Error} if one cannot be served for another reason, or if the state cannot be loaded. Then none is served.
   */
  async start({ join = false }: { join?: boolean } = {}): Promise<"serving" | "joined"> {
    return await this.#lifecycle.start(join);
  }

  /**
   * Stops: stores the state if it is kept somewhere, lets no more clients in, answers the messages that have arrived, and
   * removes the socket files. Resolves when the last reply has left. A change that is made meanwhile is in the state, or is
   * refused with `STOPPING`.
   *
   * @throws {Error} if the state cannot be stored: then the host goes on.
   */
  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** {@linkcode MemStore.stop}, but stops also if the state cannot be stored. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#lifecycle.dispose();
  }

  /**
   * Adds a command of the application's own, which clients then send by its name.
   *
   * @example
   * ```ts
   * import { MemStore, MemStoreClient } from "@memstore/memstore";
   *
   * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
   * await using store = new MemStore(endpoint);
   * store.command("rename", {
   *   args: ["table", "from", "to"],
   *   help: "Gives an entry another key that is free; whether it did.",
   *   run(host, table, from, to) {
   *     const moved = host.send("exists", table, from) &&
   *       host.send("set_new", table, to, host.send("get", table, from)) === 1;
   *     if (moved) host.send("del", table, from);
   *     return moved;
   *   },
   * });
   * await store.start();
   *
   * await using client = new MemStoreClient(endpoint);
   * await client.set("users", "alice", 31);
   * console.assert((await client.send(["rename", "users", "alice", "bob"])) === true);
   * console.assert((await client.send(["rename", "users", "nobody", "carol"])) === false);
   * console.assert((await client.get("users", "bob")) === 31);
   * ```
   *
   * @throws {TypeError} if there is a command of this name.
   */
  command(name: string, command: CustomCommand): void {
    const { isLocal } = this.#engine;
    this.#dispatcher.add(customCommand(name, command, this.#dispatcher, this.#pendingCommands, isLocal));
  }
}
