/**
 * The client's session with its host: the connection, which is made when there is something to send and again after it
 * was lost, and the limits of the host.
 *
 * ```text
 *            ┌──────────────── lost, or refused (then after a pause) ───────────────┐
 *            ▼                                                                      │
 *  idle ─► connecting ─► connected: `hello` is sent ─► its reply arrives: ready ────┘
 *                                                           └─► `lane`, its reply: ready
 * ```
 *
 * The reply to `hello` has the limits of the host. No other message is sent before it, so every message keeps to them.
 * A host of this machine may offer a lane, through shared memory: what is sent after that can go through it.
 *
 * @module
 */

import { encoded, Reader } from "../msgpack/codec.ts";
import { LIMITS } from "../transport/limits.ts";
import { header, MemStoreError, readReply, type Reply } from "../transport/message.ts";
import type { MemoryOffer } from "../transport/shared/offer.ts";
import type { Connector, Transport } from "../transport/transport.ts";

/** The limits of a host. */
export interface HostLimits {
  /** Bytes of a message, and of its reply. */
  message: number;
  /** Commands in a message. */
  commands: number;
  /** Commands in a batch. */
  batch: number;
  /** How deep a command may be nested; its own array is one level. */
  depth: number;
  /** Messages that may be in flight. */
  requests: number;
}

/** The limits of a host that does not know `hello`. */
const DEFAULTS: HostLimits = {
  message: LIMITS.message,
  commands: LIMITS.commands,
  batch: LIMITS.commands,
  depth: LIMITS.depth,
  requests: LIMITS.requests,
};

/** The request number of `hello` and `lane`; calls have others. */
const GREETING = 0;
const HELLO = encoded(["hello"]);
const LANE = encoded(["lane"]);

/** How long to wait after a host refused the key, in milliseconds. Each further refusal doubles it, … */
const REFUSED_MS = 50;
/** … up to this many milliseconds. */
const REFUSED_MAX_MS = 1000;

/** A client's session with its host. */
export class HostSession {
  readonly #connector: Connector;
  readonly #maxMessage: number;
  #opened = false;
  #transport: Transport | undefined;
  #greeting: "none" | "hello" | "lane" | "done" = "none";
  #limits: HostLimits = DEFAULTS;
  #knowsHello = false;
  #seen = "none";
  /** When the next attempt may begin, in the time of `performance.now()`. */
  #retryAt = 0;
  #pause = REFUSED_MS;
  /** Ends the pause before the next attempt. */
  #endPause: (() => void) | undefined;
  /** When the last connection was lost; `-Infinity` before. */
  lostAt = -Infinity;

  /**
   * @param maxMessage The largest message, in bytes, if the host's limit is not lower.
   */
  constructor(connector: Connector, maxMessage: number) {
    this.#connector = connector;
    this.#maxMessage = maxMessage;
  }

  /** The limits of the host. */
  get limits(): HostLimits {
    return this.#limits;
  }

  /** Whether the host can send the reply to a message in parts. Every host that knows `hello` can. */
  get takesParts(): boolean {
    return this.#knowsHello;
  }

  /** Whether messages can be sent. */
  get ready(): boolean {
    return this.#greeting === "done" && this.connected;
  }

  /** Whether a host is connected. It may not have replied to `hello` yet. */
  get connected(): boolean {
    return this.#transport?.state === "connected";
  }

  /** Whether a host was found. The handshake may not be complete. */
  get reached(): boolean {
    return this.connected || this.#transport?.reached === true;
  }

  /** Whether the last attempt to connect found no host. */
  get unreachable(): boolean {
    return this.#transport?.state === "connecting" && this.#transport.failure === "unreachable";
  }

  /** Why the connection ended or was refused; undefined if neither. */
  get broken(): "lost" | "refused" | undefined {
    const state = this.#transport?.state;
    if (state === "lost") return "lost";
    return state === "connecting" && this.#transport?.failure === "refused" ? "refused" : undefined;
  }

  /** Remembers the state of the connection. The caller acts on it before the next wait. */
  look(): void {
    this.#seen = this.#state;
  }

  /** Whether the state has changed since `look()`. */
  get changed(): boolean {
    return this.#seen !== this.#state;
  }

  get #state(): string {
    return this.#transport ? this.#transport.failure ?? this.#transport.state : "none";
  }

  /** Whether {@linkcode HostSession.open} has been called. */
  get opened(): boolean {
    return this.#opened;
  }

  /** Where to count what is done without messages, for the host to see. */
  get figures(): Float64Array | undefined {
    return this.#transport?.figures;
  }

  /** Loads what connections need. Call it before {@linkcode HostSession.connect}. */
  async open(): Promise<void> {
    await this.#connector.open();
    this.#opened = true;
  }

  /** Begins to connect, unless there is a connection or it is too early for another attempt. */
  connect(): void {
    if (this.#transport || performance.now() < this.#retryAt) return;
    this.#transport = this.#connector.connect();
  }

  /** Sends `hello`, once the host is connected. */
  greet(): void {
    if (this.#greeting !== "none" || !this.connected) return;
    this.#transport!.send(header(GREETING), HELLO);
    this.#greeting = "hello";
  }

  /**
   * Notes that some time may have passed in which the connection was not looked at. Call it before the next look.
   *
   * @param now The time, as of `performance.now()`.
   */
  refresh(now: number): void {
    this.#transport?.refresh(now);
  }

  /** Tries to connect at once if the last attempt found no host, where the transport would wait. */
  retry(): void {
    if (this.unreachable) this.#drop();
  }

  /** Closes a connection that is broken, so that another can be made. */
  dropBroken(why: "lost" | "refused"): void {
    this.#drop();
    const now = performance.now();
    if (why === "lost") {
      this.lostAt = now;
    } else {
      this.#retryAt = now + this.#pause;
      this.#pause = Math.min(2 * this.#pause, REFUSED_MAX_MS);
    }
  }

  send(header: Uint8Array, payload: Uint8Array): void {
    this.#transport?.send(header, payload);
  }

  /** The next reply to a message other than the greeting; undefined if there is none. */
  receive(): Reply | undefined {
    for (let reply; (reply = this.#transport?.receive());) {
      if (reply.request !== GREETING) return reply;
      if (this.#greeting === "lane") this.#useLane(reply.payload);
      else this.#learn(reply.payload);
    }
  }

  /** Looks for a while, and blocks the thread meanwhile. Whether there may be something to do. */
  spin(): boolean {
    return this.#transport?.spin() ?? false;
  }

  /** Resolves when there may be something to do, or at {@linkcode HostSession.wake}. */
  async wait(): Promise<void> {
    if (this.changed) return;
    if (this.#transport) return await this.#transport.wait();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, Math.max(0, this.#retryAt - performance.now()));
    this.#endPause = resolve;
    await promise;
    clearTimeout(timer);
    this.#endPause = undefined;
  }

  /** {@linkcode HostSession.wait}, which blocks the thread: for `timeout` milliseconds at most. */
  waitSync(timeout: number): void {
    if (this.changed) return;
    if (this.#transport) return this.#transport.waitSync(timeout);
    sleepSync(Math.max(0, Math.min(timeout, this.#retryAt - performance.now())));
  }

  /** Ends a wait. */
  wake(): void {
    this.#transport?.wake();
    this.#endPause?.();
  }

  async close(): Promise<void> {
    this.#drop();
    await this.#connector.close();
  }

  /** {@linkcode HostSession.close}, which blocks the thread. */
  closeSync(): void {
    this.#drop();
    this.#connector.closeSync();
  }

  #drop(): void {
    this.#transport?.close();
    this.#transport = undefined;
    this.#greeting = "none";
  }

  /** Reads the reply to `hello`. A limit that it does not have is the default. */
  #learn(payload: Uint8Array): void {
    const reply = readGreeting(payload);
    this.#knowsHello = reply !== undefined;
    const told = reply?.limits as Partial<Record<keyof HostLimits, unknown>> | undefined;
    const limits = { ...DEFAULTS };
    for (const name of Object.keys(limits) as (keyof HostLimits)[]) {
      const limit = told?.[name];
      if (typeof limit === "number" && limit >= 1) limits[name] = limit;
    }
    limits.message = Math.min(limits.message, this.#maxMessage);
    this.#limits = limits;
    this.#pause = REFUSED_MS;
    if (reply?.lane === true && this.#connector.wantsLane) {
      this.#transport!.send(header(GREETING), LANE);
      this.#greeting = "lane";
    } else {
      this.#greeting = "done";
    }
  }

  /** Reads the reply to `lane`. */
  #useLane(payload: Uint8Array): void {
    const { pid, fd, token } = (readGreeting(payload) ?? {}) as Partial<MemoryOffer>;
    if (Number.isInteger(pid) && Number.isInteger(fd) && token instanceof Uint8Array) {
      this.#transport = this.#connector.useLane(this.#transport!, { pid: pid!, fd: fd!, token });
    }
    this.#greeting = "done";
  }
}

/** Blocks the thread for some milliseconds. */
function sleepSync(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** The map that the host replies to a greeting, which may be empty; undefined if it does not know the command. */
function readGreeting(payload: Uint8Array): Record<string, unknown> | undefined {
  try {
    const reply = readReply("value", new Reader(payload));
    return reply instanceof MemStoreError ? undefined : reply as Record<string, unknown> | null ?? {};
  } catch {
    return undefined;
  }
}
