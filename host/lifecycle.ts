/**
 * The life of a host: it starts (or joins a host that is there), serves, stores its state for the last time, and stops.
 *
 * ```text
 *          start                            stop, or the command `done`
 *  new ──► starting ──► started ──► state stored, writes refused ──► stopping ──► stopped
 *                 │                        │ cannot be stored                       ▲
 *                 ├──► joined ─────────────│───────────────────────────────────────►│
 *                 └── cannot start ────────│───────────────────────────────────────►┘
 *                              started ◄───┘
 * ```
 *
 * @module
 */

import type { StateStatus } from "../commands/list.ts";
import type { Gate } from "../state/gate.ts";
import type { MemoryOffer } from "../transport/shared/offer.ts";
import type { Sender } from "../transport/transport.ts";
import { MemStoreError } from "../transport/message.ts";
import type { PendingCommands } from "./custom.ts";
import type { Dispatcher } from "./dispatch.ts";
import type { Engine } from "./engine.ts";
import { messageOf, type Warn } from "./log.ts";
import type { HostOptions } from "./options.ts";
import { isServedElsewhere, Ports } from "./ports.ts";
import { type Served, ServingLoop } from "./serving.ts";
import type { Figures } from "./status.ts";

/** How long a process that joins waits until the host that has the endpoint answers, in milliseconds. */
const JOIN_MS = 10_000;
/** How often it tries, in milliseconds. */
const JOIN_RETRY_MS = 50;
/** How long a host that stops waits for custom commands that have not ended, in milliseconds. */
const CUSTOM_MS = 2000;

/** What a host consists of, before it is started. */
export interface HostParts {
  readonly options: HostOptions;
  readonly engine: Engine;
  /** Keeps writes out once the state was stored for the last time. */
  readonly gate: Gate;
  readonly dispatcher: Dispatcher;
  readonly pendingCommands: PendingCommands;
  readonly warn: Warn;
}

/** What a host has open while it serves. */
interface Serving {
  readonly ports: Ports;
  readonly loop: ServingLoop;
  /** Resolves when the loop has ended. */
  readonly ended: Promise<void>;
}

/** Starts and stops a host. */
export class Lifecycle {
  readonly #names: readonly string[];
  readonly #parts: HostParts;
  #phase: "new" | "starting" | "started" | "joined" | "stopping" | "stopped" = "new";
  #starting: Promise<"serving" | "joined"> | undefined;
  #startedAt = 0;
  #serving: Serving | undefined;
  /** The state is being stored for the last time, or was. */
  #settling: Promise<void> | undefined;
  readonly #finished = Promise.withResolvers<void>();

  /** @param names The endpoints as they were given. */
  constructor(names: readonly string[], parts: HostParts) {
    this.#names = names;
    this.#parts = parts;
    // (Nobody need wait for it.)
    this.#finished.promise.catch(() => {});
  }

  /** The addresses that are served; empty unless the host is started. */
  get endpoints(): readonly string[] {
    return this.#ports?.addresses ?? [];
  }

  /** Where the state is kept, and whether that is up to date; undefined if it is not kept. */
  get state(): StateStatus | undefined {
    return this.#serving && this.#parts.engine.state;
  }

  /** Resolves when the host has stopped. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  /** What `stats` tells of the life of the host. */
  get figures(): Figures {
    return {
      startedAt: this.#startedAt,
      endpoints: this.endpoints,
      clients: this.#ports?.clients ?? 0,
      lanes: this.#ports?.lanes ?? 0,
      directReads: this.#ports?.figures ?? [],
      messages: this.#serving?.loop.messages ?? 0,
      maxMemory: this.#parts.options.maxMemory,
      state: this.state,
    };
  }

  /** Makes a lane for a client; undefined if it cannot have one. */
  openLane(from: Sender): MemoryOffer | undefined {
    return this.#ports?.openLane(from);
  }

  /** Where the memory of the data is; undefined if the client may not read it there. */
  memoryFor(from: Sender): MemoryOffer | undefined {
    return this.#ports?.isNeighbour(from) ? this.#parts.engine.memory : undefined;
  }

  /** The ports that are open. */
  get #ports(): Ports | undefined {
    return this.#phase === "stopped" ? undefined : this.#serving?.ports;
  }

  /**
   * Call it before this process uses the data itself.
   *
   * @throws {Error} if the data is not here: not yet, not any more, or in the process of another host.
   */
  checkHolds(command: string): void {
    const phase = this.#phase;
    if (
      phase === "started" || phase === "stopping" ||
      phase === "new" && this.#parts.options.state === undefined
    ) {
      // (What is deleted is cleaned up when the host is idle: it looks again.)
      this.#serving?.loop.nudge();
      return;
    }
    const why = phase === "joined"
      ? "another host serves the endpoint, and has the data: use a client"
      : `the host is ${phase === "stopped" ? "stopped" : "not started, and loads its state then"}`;
    throw new Error(`Cannot ${command}: ${why}`);
  }

  /** See {@linkcode MemStore.start}. */
  async start(join: boolean): Promise<"serving" | "joined"> {
    if (this.#phase !== "new") throw new Error(`Cannot start the host: it is ${this.#phase}`);
    this.#phase = "starting";
    this.#startedAt = performance.now();
    this.#starting = (join ? this.#serveOrJoin() : this.#serve()).catch((error) => {
      this.#finish();
      throw error;
    });
    return await this.#starting;
  }

  /** See {@linkcode MemStore.stop}. */
  async stop(): Promise<void> {
    // (A failure to start is reported to the caller of start().)
    await this.#starting?.catch(() => {});
    if (this.#phase === "started") await this.beginStop();
    else if (this.#phase === "new" || this.#phase === "joined") this.#finish();
    await this.finished;
  }

  /** {@linkcode Lifecycle.stop}, but stops also if the state cannot be stored. */
  async dispose(): Promise<void> {
    try {
      await this.stop();
    } finally {
      this.#parts.gate.close();
      this.#halt();
      await this.finished;
    }
  }

  /** Resolves when it is certain that the host stops; it has stopped when {@linkcode Lifecycle.finished} resolves. */
  beginStop(): Promise<void> {
    return this.#settling ??= this.#settle().then(() => this.#halt(), (error) => {
      this.#settling = undefined;
      this.#parts.options.log("error", "stop", { result: `the host goes on: ${messageOf(error)}` });
      throw error;
    });
  }

  /** Tries until this host serves, or the one that does answers. */
  async #serveOrJoin(): Promise<"serving" | "joined"> {
    const end = performance.now() + JOIN_MS;
    for (;;) {
      try {
        return await this.#serve();
      } catch (error) {
        if (!(error instanceof MemStoreError && error.code === "IN_USE")) throw error;
        if (await isServedElsewhere(this.#names)) {
          this.#phase = "joined";
          return "joined";
        }
        if (performance.now() >= end) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, JOIN_RETRY_MS));
    }
  }

  async #serve(): Promise<"serving"> {
    const { options, engine, warn } = this.#parts;
    const { log, state } = options;
    const ports = await Ports.open(this.#names, options, warn);
    const abandoned = await engine.open().catch(async (error) => {
      // (If the ports cannot be closed either, the caller is told why the start failed.)
      await ports.close().catch(() => {});
      throw error;
    });
    const loop = new ServingLoop(this.#served(ports), ports.all);
    // (It begins when the host is started: a message may stop it.)
    const ended = Promise.resolve().then(() => loop.serve()).catch((error) => this.#fail(error));
    this.#serving = { ports, loop, ended };
    this.#phase = "started";
    if (abandoned || ports.abandoned) {
      const why = "the last host did not stop, it crashed or was killed: what it had not stored is lost";
      log("warning", "start", { why });
    }
    log("info", "start", { endpoints: ports.addresses, state: state ?? null });
    return "serving";
  }

  #served(ports: Ports): Served {
    const { dispatcher, engine } = this.#parts;
    return {
      dispatcher,
      client: (publicKey) => ports.findClient(publicKey),
      cleanWhenIdle: () => engine.cleanWhenIdle(),
      get busy() {
        return engine.persistence.busy || engine.busy;
      },
      get awaitsReplies() {
        return engine.awaitsReplies;
      },
    };
  }

  /** Stores the state, twice if it is changed meanwhile. The second time, writes are refused: none is lost. */
  async #settle(): Promise<void> {
    const { gate, engine } = this.#parts;
    if (!engine.state) return;
    await engine.save();
    gate.close();
    const why = new MemStoreError("STOPPING", "Cannot store or restore: the host is stopping");
    engine.persistence.refusePending(why);
    try {
      await engine.save();
    } catch (error) {
      gate.open();
      throw error;
    }
  }

  /** Ends the serving, in the background. */
  #halt(): void {
    if (this.#phase !== "started") return;
    this.#phase = "stopping";
    this.#close(this.#serving!).then(() => this.#finish(), (error) => this.#finish(error));
  }

  /**
   * Answers what has arrived, and closes everything, even if some of it fails.
   *
   * @throws the first failure.
   */
  async #close({ ports, loop, ended }: Serving): Promise<void> {
    ports.hide();
    loop.close();
    await ended;
    await this.#awaitCommands(loop);
    const resources = new AsyncDisposableStack();
    resources.defer(() => ports.close());
    resources.defer(() => this.#parts.engine.close());
    try {
      await resources.disposeAsync();
    } catch (error) {
      throw firstOf(error);
    }
  }

  /** Waits for messages that wait for a file or a custom command, and gives up custom commands that take too long. */
  async #awaitCommands(loop: ServingLoop): Promise<void> {
    const why = new Error("the host stopped before it was done");
    const timer = setTimeout(() => this.#parts.pendingCommands.giveUp(why), CUSTOM_MS);
    await loop.settle();
    clearTimeout(timer);
  }

  /** The host has stopped. */
  #finish(failed?: unknown): void {
    if (this.#phase === "stopping") {
      this.#parts.options.log("info", "stop", { result: failed ? messageOf(failed) : "ok" });
    }
    this.#phase = "stopped";
    this.#parts.engine.release();
    if (failed) this.#finished.reject(failed);
    else this.#finished.resolve();
  }

  /** The serving loop has failed: nobody is served any more. */
  #fail(error: unknown): void {
    this.#parts.options.log("error", "serve", { why: messageOf(error) });
    // (The state can still be stored; then those who wait for the end are told.)
    this.dispose().catch(() => {});
  }
}

/** The first of several errors of a stack that was disposed of. */
function firstOf(error: unknown): unknown {
  return error instanceof SuppressedError ? firstOf(error.suppressed) : error;
}
