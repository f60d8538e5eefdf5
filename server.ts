/**
 * The host: one process that holds tables and sets, and serves them to all others.
 *
 * A message's way through it: {@link ./transport/zeromq/socket.ts | socket} → {@link ./transport/zeromq/port.ts | port} →
 * {@link ./transport/message.ts | message} → {@link ./commands/dispatch.ts | dispatch} →
 * {@link ./commands/tables.ts | command} → {@link ./engine/memory/store.ts | store}, and back as the reply.
 *
 * @module
 */

import { resolve } from "node:path";
import type { Hello, StateStatus } from "./commands/list.ts";
import { Heap } from "./engine/memory/heap.ts";
import { Store } from "./engine/memory/store.ts";
import { Sweeper } from "./engine/memory/sweeper.ts";
import { hostCommands } from "./host/commands.ts";
import { type CustomCommand, customCommand, send } from "./host/custom.ts";
import { Dispatcher } from "./host/dispatch.ts";
import { MAX_BATCH_COMMANDS } from "./host/execution.ts";
import { type Served, ServingLoop } from "./host/serving.ts";
import { LocalStore } from "./host/local.ts";
import { safeLog } from "./host/log.ts";
import { isInUse, isServed, listenWhenFree } from "./host/occupy.ts";
import { AutoSave } from "./state/autosave.ts";
import { Gate } from "./state/gate.ts";
import { type Log, Persistence } from "./state/persistence.ts";
import type { S3Options } from "./state/s3.ts";
import { address, isLocal } from "./transport/endpoint.ts";
import { Clients, type Right } from "./auth/clients.ts";
import { readKeys } from "./auth/curve.ts";
import { canOpenFiles, libzmq, maxOpenFiles } from "./transport/zeromq/libzmq.ts";
import type { Listening } from "./transport/zeromq/listen.ts";
import { MemStoreError, VERSION } from "./transport/message.ts";
import { Context, type KeyPair } from "./transport/zeromq/socket.ts";
import { completeLimits, type Limits } from "./transport/limits.ts";
import { Port } from "./transport/zeromq/port.ts";
import { ZapHandler } from "./auth/zap.ts";
import manifest from "./deno.json" with { type: "json" };

/** Threads that move bytes for libzmq: one for ipc://, one for tcp://. */
const IO_THREADS = 2;
/** How long replies may take to leave for slow clients when the host stops, in milliseconds. */
const LINGER_MS = 2000;
/** A host that stops waits so long for commands of its own that have not ended, in milliseconds. */
const CUSTOM_MS = 2000;

/**
 * The part of the files that the system lets us open that may be connections. (Some more are open for a moment, until
 * they are cut off.)
 */
const CLIENT_FILES = 1 / 4;

/** How long a process that joins waits until the host answers that has the endpoint, in milliseconds. */
const JOIN_MS = 10_000;
/** How often it looks, in milliseconds. */
const JOIN_RETRY_MS = 50;

/** Files that a host has open without clients, and each of its endpoints has, beside those that come and go. */
const HOST_FILES = 32;
const PORT_FILES = 8;

/** The least that tables and sets can be held to: memory is taken in pieces of 1 MiB. */
const MIN_MEMORY = 2 ** 23;

/** How a host keeps its data. */
export interface MemStoreOptions {
  /**
   * The directory where the paths of `store` and `restore` begin, and which they may not leave.
   * @default {"the working directory"}
   */
  dataDirectory?: string;
  /**
   * Whether the paths of `store` and `restore` may lead out of the data directory.
   * @default {false}
   */
  allowAnyPath?: boolean;
  /**
   * Where the state is kept: a path that begins at the data directory, or `s3://bucket/key`. It is loaded at the start if it is
   * there, and stored at the stop. Left out: the data is gone with the process.
   */
  state?: string;
  /** Milliseconds after which the state is stored again if it was changed; left out: only at the stop. */
  storeEvery?: number;
  /**
   * How many bytes tables and sets may take: beyond, what would make them grow is refused with
   * `OUT_OF_MEMORY`. 8 MiB at least; left out: 32 GiB, which is all that they can take.
   */
  maxMemory?: number;
  /** How S3 is reached. */
  s3?: S3Options;
  /**
   * The file of the host's secret key, see `memstore keygen`: `tcp://` addresses are then served with CURVE, to
   * the clients of `authorizedClients` alone.
   */
  key?: string;
  /** The file that lists the public keys of clients, with their rights: see {@link ./auth/clients.ts}. */
  authorizedClients?: string;
  /**
   * Whether to serve `tcp://` addresses that other machines reach without keys, where whoever reaches them may do
   * everything.
   * @default {false}
   */
  insecure?: boolean;
  /**
   * Whether the socket files are for their group too (mode 0660, and not 0600): all of its members may do
   * everything. Their directory must let the group in, so that it takes a path, not a bare name.
   * @default {false}
   */
  allowGroup?: boolean;
  /** What clients may ask of the host; what is left out is as {@linkcode Limits} says. */
  limits?: Partial<Limits>;
  /** Takes a line for each store and restore, and for clients that are refused or cut off; left out: nothing is logged. */
  log?: Log;
}

/** So many lines of the log may tell in a second of what peers did that they may not. */
const WARNINGS_A_SECOND = 10;

export type { CommandHost, CustomCommand } from "./host/custom.ts";
export { LocalCommands, type LocalEntryOptions, LocalStore } from "./host/local.ts";
export { LocalSet, LocalTable } from "./host/local_views.ts";

/**
 * A host: holds the data and serves it, in the process that makes it.
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
  readonly #names: string[];
  readonly #store: Store;
  readonly #dispatcher: Dispatcher;
  readonly #persistence: Persistence;
  readonly #options: MemStoreOptions;
  readonly #finished = Promise.withResolvers<void>();
  readonly #limits: Limits;
  /** Who may come to endpoints that are served with CURVE. */
  #clients: Clients | undefined;
  #zapHandler: ZapHandler | undefined;
  #warned = { second: 0, lines: 0 };
  readonly #log: Log;
  /** Keeps writes out when the state was stored for the last time. */
  readonly #gate = new Gate();
  #autoSave: AutoSave | undefined;
  #sweeper: Sweeper | undefined;
  /** The state is being stored for the last time, or was. */
  #settling: Promise<void> | undefined;
  #context: Context | undefined;
  #ports: Port[] = [];
  #listening: Listening[] = [];
  #loop: ServingLoop | undefined;
  #serving: Promise<void> | undefined;
  /** Gives up commands of the application's own that have not ended. */
  readonly #giveUp = new Set<(why: Error) => void>();
  #state: "new" | "starting" | "started" | "joined" | "stopping" | "stopped" = "new";
  #starting: Promise<"serving" | "joined"> | undefined;
  #startedAt = 0;

  /**
   * Makes a host, which serves once it is started.
   *
   * @param endpoints A name, a path or a ZeroMQ address, or several.
   * @param options How the data is kept.
   * @throws {TypeError} if there is none.
   * @throws {RangeError} if `maxMemory` is less than 8 MiB, or one of the limits is out of its range.
   */
  constructor(endpoints: string | readonly string[] = "memstore", options: MemStoreOptions = {}) {
    this.#names = [endpoints].flat();
    if (this.#names.length === 0) {
      throw new TypeError("Cannot make a host: it needs an endpoint: received none");
    }
    const { dataDirectory = ".", allowAnyPath = false, s3 = {}, log = () => {}, storeEvery } = options;
    if (storeEvery !== undefined && !(storeEvery > 0)) {
      throw new RangeError(`Cannot make a host: storeEvery must be above 0: received ${storeEvery}`);
    }
    this.#options = options;
    this.#log = safeLog(log);
    // (Nobody need wait for it.)
    this.#finished.promise.catch(() => {});
    this.#limits = completeLimits(options.limits ?? {});
    this.#store = new Store(heapOf(options.maxMemory));
    // (A relative one stays where it is, wherever the process goes.)
    const bounds = { directory: resolve(dataDirectory), anyPath: allowAnyPath };
    this.#persistence = new Persistence(this.#store, bounds, s3, this.#log, this.#gate);
    const dispatcher = new Dispatcher(this.#store, this.#limits, this.#gate, (client, command) => {
      this.#warn("denied", { client, command });
    });
    const commands = hostCommands({
      persistence: this.#persistence,
      commands: () => dispatcher.commands,
      hello: (right) => this.#hello(right),
      stats: () => this.#stats(),
      stop: () => this.#beginStop(),
    });
    for (const command of commands) dispatcher.add(command);
    this.#dispatcher = dispatcher;
    this.local = new LocalStore(
      (name, args) => {
        this.#checkHolds(name);
        // (What is deleted is cleaned up when the host is idle: it looks again.)
        this.#loop?.nudge();
        return send(dispatcher, name, args);
      },
      (run) => dispatcher.transaction(run),
    );
  }

  /** @throws {Error} if the data is not here: not yet, not any more, or in the process of another host. */
  #checkHolds(command: string): void {
    const state = this.#state;
    if (state === "started" || state === "stopping" || state === "new" && this.#options.state === undefined) {
      return;
    }
    const why = state === "joined"
      ? "another host serves the endpoint, and has the data: use a client"
      : `the host is ${state === "stopped" ? "stopped" : "not started, and loads its state then"}`;
    throw new Error(`Cannot ${command}: ${why}`);
  }

  /** The addresses that are served; empty unless the host is started. */
  get endpoints(): readonly string[] {
    return this.#listening.map(({ address }) => address);
  }

  /** Where the state is kept, and whether that is up to date; undefined if it is not kept. */
  get state(): StateStatus | undefined {
    return this.#autoSave?.status;
  }

  /** Resolves when the host has stopped: by {@linkcode MemStore.stop}, or by the command `done`. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  /**
   * Starts to serve. When it resolves, clients can reach every endpoint.
   *
   * With `join`, it does not matter whether this process serves or another one on this machine does: if a living
   * host has one of the endpoints, this one serves none of them, and holds no data, but resolves once clients can
   * reach that host. Of several processes that start at once, one serves.
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
   * @param options Whether to be content with a host that is there.
   * @returns Which of the two it is; without `join` always `"serving"`.
   * @throws {TypeError} if one of the endpoints cannot be one.
   * @throws {MemStoreError} `IN_USE` if a living host serves one of them. (One that stops is waited for.)
   * @throws {Error} if one cannot be served for another reason, or if the state cannot be loaded. Then none is served.
   */
  async start({ join = false }: { join?: boolean } = {}): Promise<"serving" | "joined"> {
    if (this.#state !== "new") throw new Error(`Cannot start the host: it is ${this.#state}`);
    this.#state = "starting";
    this.#startedAt = performance.now();
    this.#starting = (join ? this.#openOrJoin() : this.#open()).catch((error) => {
      this.#finish();
      throw error;
    });
    return await this.#starting;
  }

  /** Tries until this host serves, or the one that does answers. */
  async #openOrJoin(): Promise<"serving" | "joined"> {
    const end = performance.now() + JOIN_MS;
    for (;;) {
      try {
        return await this.#open();
      } catch (error) {
        if (!isInUse(error)) throw error;
        if (await this.#isServed()) {
          this.#state = "joined";
          return "joined";
        }
        if (performance.now() >= end) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, JOIN_RETRY_MS));
    }
  }

  /** Whether clients can reach another host at one of the endpoints. */
  async #isServed(): Promise<boolean> {
    const context = await Context.open();
    try {
      for (const name of this.#names) if (await isServed(context, address(name))) return true;
      return false;
    } finally {
      await context.close();
    }
  }

  async #open(): Promise<"serving"> {
    try {
      const addresses = this.#names.map(address);
      const open = addresses.find((each) => !isLocal(each));
      if (open !== undefined && !this.#options.insecure && this.#options.key === undefined) {
        const why =
          "other machines reach it, and could do everything: give it a key, serve 127.0.0.1, or allow it";
        throw new Error(`Cannot serve ${open}: ${why} (insecure)`);
      }
      const name = this.#options.allowGroup ? this.#names.find((each) => !each.includes("/")) : undefined;
      if (name !== undefined) {
        const why = "the directory of bare names is for its user alone: give a path";
        throw new Error(`Cannot serve ${name} to the group: ${why}`);
      }
      const limits = await this.#fitLimits(addresses.length);
      this.#context = await Context.open(IO_THREADS);
      const curve = await this.#readKeys(this.#context);
      const { allowGroup } = this.#options;
      for (const wanted of addresses) {
        const port = new Port(this.#context, wanted, {
          linger: LINGER_MS,
          curve: wanted.startsWith("tcp://") ? curve : undefined,
          limits,
          onEvent: (event, fields) => this.#warn(event, fields),
        });
        this.#ports.push(port);
        const access = { mode: allowGroup ? 0o660 : 0o600, anyUser: this.#options.insecure };
        this.#listening.push(await listenWhenFree(this.#context, port.socket, wanted, access));
      }
      const { state, storeEvery } = this.#options;
      if (state !== undefined) {
        const location = this.#persistence.own(state);
        this.#autoSave = await AutoSave.open(location, this.#store, this.#persistence, storeEvery);
      }
      this.#sweeper = new Sweeper(this.#store);
    } catch (error) {
      // (Why it does not start is what is told.)
      await this.#close();
      throw error;
    }
    if (this.#autoSave?.abandoned || this.#listening.some(({ abandoned }) => abandoned)) {
      const why = "the last host did not stop, it crashed or was killed: what it had not stored is lost";
      this.#log("warning", "start", { why });
    }
    this.#log("info", "start", { endpoints: this.endpoints, state: this.#options.state ?? null });
    this.#state = "started";
    this.#loop = new ServingLoop(this.#served(), this.#ports);
    this.#serving = this.#loop.serve().catch((error) => this.#fail(error));
    return "serving";
  }

  /**
   * The limits, so that connections leave files to open for others: libzmq ends the process where there is none.
   *
   * @throws {Error} if there are too few for a host.
   */
  async #fitLimits(ports: number): Promise<Limits> {
    const zmq = await libzmq();
    const files = maxOpenFiles(zmq);
    const clients = Math.min(this.#limits.clients, Math.max(1, Math.floor(files * CLIENT_FILES / ports)));
    const needed = HOST_FILES + ports * (PORT_FILES + clients);
    if (!canOpenFiles(zmq, needed)) {
      const why = `it needs ${needed} open files more than the process has, and the system allows ${files}`;
      throw new Error(`Cannot start the host: ${why}: raise the limit (ulimit -n)`);
    }
    if (clients < this.#limits.clients) {
      this.#warn("limits", { clients, why: `the system allows ${files} open files (ulimit -n)` });
    }
    return { ...this.#limits, clients };
  }

  /** The keys of the host, if it has some; then clients are let in by theirs. */
  async #readKeys(context: Context): Promise<KeyPair | undefined> {
    const { key, authorizedClients } = this.#options;
    if (key === undefined) return undefined;
    if (authorizedClients === undefined) {
      throw new Error("Cannot use a key: the list of authorized clients is missing");
    }
    const keys = await readKeys(key);
    const clients = new Clients(authorizedClients, {
      failed: (why) => this.#options.log?.("warning", "authorized clients", { why }),
      removed: (keys) => this.#ports.forEach((port) => keys.forEach((key) => port.disconnect(key))),
    });
    this.#clients = clients;
    this.#zapHandler = new ZapHandler(context, await libzmq(), (publicKey, address) => {
      const client = clients.find(publicKey);
      if (!client) this.#warn("refused", { address, key: publicKey });
      return client !== undefined;
    });
    return keys;
  }

  /** Logs what peers did, which they could do without end. */
  #warn(event: string, fields: Record<string, unknown>): void {
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#warned.second) this.#warned = { second, lines: 0 };
    if (this.#warned.lines++ < WARNINGS_A_SECOND) this.#log("warning", event, fields);
  }

  /**
   * Stops: the state is stored if it is kept somewhere, no more clients are let in, what has arrived is
   * answered, and the socket files are removed. Resolves when the last reply has left. What is changed meanwhile
   * is in the state, or was refused with `STOPPING`.
   *
   * @throws {Error} if the state cannot be stored: then the host goes on.
   */
  async stop(): Promise<void> {
    // How the start ended is for whoever started the host.
    await this.#starting?.catch(() => {});
    if (this.#state === "started") await this.#beginStop();
    else if (this.#state === "new" || this.#state === "joined") this.#finish();
    await this.finished;
  }

  /** {@linkcode MemStore.stop}, but stops also if the state cannot be stored. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stop();
    } finally {
      this.#gate.close();
      this.#halt();
      await this.finished;
    }
  }

  /** Resolves when it is certain that the host stops; it has stopped when {@linkcode MemStore.finished} resolves. */
  #beginStop(): Promise<void> {
    return this.#settling ??= this.#settle().then(() => this.#halt(), (error) => {
      this.#settling = undefined;
      this.#log("error", "stop", { result: `the host goes on: ${messageOf(error)}` });
      throw error;
    });
  }

  /** Stores the state, twice if it is changed meanwhile. The second time, writes are refused: none is lost. */
  async #settle(): Promise<void> {
    const autoSave = this.#autoSave;
    if (!autoSave) return;
    await autoSave.save();
    this.#gate.close();
    this.#persistence.refusePending(
      new MemStoreError("STOPPING", "Cannot store or restore: the host is stopping"),
    );
    try {
      await autoSave.save();
    } catch (error) {
      this.#gate.open();
      throw error;
    }
  }

  /** Ends the serving, in the background. */
  #halt(): void {
    if (this.#state !== "started") return;
    this.#state = "stopping";
    this.#end().then(() => this.#finish(), (error) => this.#finish(error));
  }

  async #end(): Promise<void> {
    // (Unbinding would end the connections that there are: libzmq has them belong to the listener.)
    this.#listening.forEach((each) => each.hide());
    this.#loop?.close();
    await this.#serving;
    const failed = await this.#close();
    if (failed) throw failed.error;
  }

  /** The host has stopped. */
  #finish(failed?: unknown): void {
    if (this.#state === "stopping") this.#log("info", "stop", { result: failed ? messageOf(failed) : "ok" });
    this.#state = "stopped";
    if (failed) this.#finished.reject(failed);
    else this.#finished.resolve();
  }

  /** Nobody is served any more. */
  #fail(error: unknown): void {
    this.#log("error", "serve", { why: messageOf(error) });
    // What can still be saved is; then whoever waits for the end is told.
    this[Symbol.asyncDispose]().catch(() => {});
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
    const untilStop = (result: PromiseLike<unknown>) => this.#untilStop(result);
    this.#dispatcher.add(customCommand(name, command, this.#dispatcher, untilStop));
  }

  /** What a command resolves to, unless the host stops and it does not end. */
  #untilStop(result: PromiseLike<unknown>): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#giveUp.add(reject);
    const forget = () => this.#giveUp.delete(reject);
    promise.then(forget, forget);
    result.then(resolve, reject);
    return promise;
  }

  /** Closes all that was opened, also where some of it fails: then the first failure is the answer. */
  async #close(): Promise<{ error: unknown } | undefined> {
    const timer = setTimeout(() => {
      for (const giveUp of this.#giveUp) giveUp(new Error("the host stopped before it was done"));
    }, CUSTOM_MS);
    await this.#loop?.settle();
    clearTimeout(timer);
    let failed: { error: unknown } | undefined;
    const step = async (close: () => unknown) => {
      try {
        await close();
      } catch (error) {
        failed ??= { error };
      }
    };
    for (const each of this.#listening) await step(() => each.hide());
    await step(() => this.#autoSave?.close());
    await step(() => this.#sweeper?.close());
    for (const port of this.#ports) await step(() => port.close());
    await step(() => this.#clients?.close());
    await step(() => this.#zapHandler?.close());
    await step(() => this.#context?.close());
    for (const each of this.#listening) await step(() => each.release());
    this.#ports = [];
    this.#listening = [];
    return failed;
  }

  #served(): Served {
    const store = this.#store;
    const isBusy = () => this.#persistence.busy || this.#sweeper?.busy === true;
    return {
      dispatcher: this.#dispatcher,
      client: (publicKey) => this.#clients?.find(publicKey),
      tidy: () => store.tend(),
      get busy() {
        return isBusy();
      },
    };
  }

  #hello(right: Right): Hello {
    const { message, commands, depth, requests } = this.#limits;
    const batch = Math.min(commands, MAX_BATCH_COMMANDS);
    return {
      version: manifest.version,
      protocol: VERSION,
      right,
      limits: { message, commands, depth, requests, batch },
    };
  }

  #stats(): Record<string, unknown> {
    const { tables, sets, heap } = this.#store;
    return {
      version: manifest.version,
      pid: Deno.pid,
      uptime: (performance.now() - this.#startedAt) / 1000,
      endpoints: this.endpoints,
      tables: tables.size,
      entries: tables.entries,
      sets: sets.size,
      members: sets.entries,
      clients: this.#ports.reduce((sum, { clients }) => sum + clients, 0),
      messages: this.#loop?.messages ?? 0,
      expiring: tables.expiring,
      memory: Deno.memoryUsage().rss,
      heap: heap.size,
      heap_live: heap.live,
      max_memory: this.#options.maxMemory ?? null,
      state: this.state ?? null,
    };
  }
}

/** Memory for tables and sets. */
function heapOf(maxMemory: number | undefined): Heap {
  const heap = new Heap();
  if (maxMemory === undefined) return heap;
  if (!(maxMemory >= MIN_MEMORY)) {
    const why = `maxMemory must be ${MIN_MEMORY} bytes at least`;
    throw new RangeError(`Cannot make a host: ${why}: received ${maxMemory}`);
  }
  heap.limit = maxMemory;
  return heap;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
