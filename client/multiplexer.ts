/**
 * Sends the calls of a client over one connection, and settles them when their replies arrive or their time is up.
 *
 * ```text
 * call ─► Queue ─► Request (≤ the host's limits) ─► InFlight (≤ a window) ─► reply, by number ─► settled
 *           └───────── timeout, abort, no host, host lost ───────────┴─────────────────────────► rejected
 * ```
 *
 * Calls gather in the queue. At the end of the tick, or when there are many, or when a reply makes room, they are sent as
 * one message: calls that wait for each other take a message each, a thousand at once take a few. Nothing is sent
 * twice, so the host runs commands in the order in which they were called.
 *
 * @module
 */

import { header, HEADER_BYTES } from "../transport/message.ts";
import { Writer } from "../msgpack/msgpack.ts";
import { type Convert, PendingCall, type Request, tooLong } from "./request.ts";
import { CallErrors } from "./errors.ts";
import { HostSession } from "./session.ts";
import { turn } from "../system/turn.ts";
import { ASK, DirectReads } from "./direct.ts";
import { Deadlines } from "./deadlines.ts";
import { InFlight } from "./in_flight.ts";
import { Queue } from "./queue.ts";
import type { Connector } from "../transport/transport.ts";

/** So many gathered calls are sent before the tick ends: the host begins with them while others are made. */
const EARLY = 128;

/** After this many exchanges in a row, other work of the process has its turn. */
const EXCHANGES_PER_TURN = 64;

/** Options of a multiplexer. */
export interface MultiplexerOptions {
  /** The address of the host, for error texts. */
  endpoint: string;
  connector: Connector;
  /** How long a call waits for a connection, in milliseconds. */
  connectTimeout: number;
  /** The largest message, in bytes. */
  maxMessage: number;
  /** Whether to read from the host's memory where that can be mapped. */
  directReads: boolean;
}

/** The calls of one client. */
export class Multiplexer {
  readonly #errors: CallErrors;
  readonly #connectTimeout: number;
  readonly #maxMessage: number;
  readonly #session: HostSession;
  readonly #queue = new Queue();
  readonly #inFlight = new InFlight();
  readonly #direct: DirectReads;
  /** Whether the host is being asked where its memory is. */
  #asking = false;
  readonly #deadlines = new Deadlines((now) => this.#expire(now));
  /** How many calls have not been settled. */
  #pending = 0;
  /** Runs while calls are pending; an idle client does nothing. */
  #running: Promise<void> | undefined;
  #closed = false;
  /** The time at which the tick began, or 0. */
  #tick = 0;
  /** How many exchanges there were since other work of the process had its turn. */
  #exchanges = 0;
  readonly #scratch = new Writer(1 << 14);
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #onSettled = (): void => {
    this.#pending--;
  };

  constructor({ endpoint, connector, connectTimeout, maxMessage, directReads }: MultiplexerOptions) {
    this.#direct = new DirectReads(directReads);
    this.#errors = new CallErrors(endpoint);
    this.#connectTimeout = connectTimeout;
    this.#maxMessage = maxMessage;
    this.#session = new HostSession(connector, maxMessage);
  }

  /**
   * Carries out a command without the host, if it can be, and no call that was made before is unanswered.
   *
   * @returns The raw reply, or {@linkcode ASK}.
   * @throws {TypeError} if an argument cannot be encoded.
   */
  read(name: string, args: readonly unknown[]): unknown {
    if (this.#pending > 0 || !this.#direct.open || !this.#inFlight.isEmpty) return ASK;
    return this.#direct.read(name, args);
  }

  /**
   * Makes a call, which is sent as soon as possible.
   *
   * @param slow Whether it may take long. Then it has a message of its own.
   * @throws if the call cannot be made.
   */
  call(
    name: string,
    args: readonly unknown[],
    slow: boolean,
    timeout: number,
    signal: AbortSignal | undefined,
    convert: Convert | undefined,
  ): Promise<unknown> {
    signal?.throwIfAborted();
    const request = this.#queue.requestFor(slow ? "alone" : "gathered");
    const isNew = request.calls.length === 0;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const call = this.add(request, name, args, timeout, convert, resolve, reject);
    if (signal) this.#failOnAbort(call, signal);
    if (isNew) this.push(request);
    else if (request.calls.length === EARLY) this.#send();
    if (this.#direct.wantedFor(name) && !this.#asking) this.#askForMemory(timeout);
    return promise;
  }

  /** Asks the host where its memory is. */
  #askForMemory(timeout: number): void {
    this.#asking = true;
    const use = (offer: unknown) => {
      this.#asking = false;
      const { figures, limits } = this.#session;
      if (!this.#closed) this.#direct.use(offer, figures, limits.message);
    };
    this.call("memory", [], false, timeout, undefined, undefined).then(use, (error) => {
      // (A host that does not know the command; else the next read asks again.)
      if (error.code === "UNKNOWN_COMMAND") use(undefined);
      else this.#asking = false;
    });
  }

  /**
   * Adds a call to a request.
   *
   * @throws if the call cannot be made.
   */
  add(
    request: Request,
    name: string,
    args: readonly unknown[],
    timeout: number,
    convert: Convert | undefined,
    resolve: (reply: unknown) => void,
    reject: (error: unknown) => void,
  ): PendingCall {
    if (this.#closed) throw this.#errors.closed(name);
    const from = request.encode(name, args, this.#maxMessage);
    const deadline = this.#now() + timeout;
    const call = new PendingCall(
      name,
      from,
      request.bytes.length,
      deadline,
      timeout,
      convert,
      resolve,
      reject,
    );
    call.onSettled = this.#onSettled;
    this.#pending++;
    request.calls.push(call);
    this.#deadlines.add(deadline);
    return call;
  }

  /** Queues a request, which is sent at the end of the tick if there is room. */
  push(request: Request): void {
    if (request.kind === "batch" && request.length > this.#maxMessage) {
      throw tooLong("run a batch", request.length, this.#maxMessage);
    }
    this.#queue.push(request);
    this.#now();
  }

  /** Rejects those of some calls that are pending. */
  giveUp(calls: Iterable<PendingCall>, why: (call: PendingCall) => unknown): void {
    for (const call of calls) call.fail(why(call));
    this.#queue.markStale();
    this.#session.wake();
  }

  /** Rejects the pending calls and closes the connection. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#direct.close();
    this.giveUp(this.#calls(), ({ name }) => this.#errors.closed(name));
    this.#deadlines.clear();
    await this.#running;
    await this.#session.close();
  }

  /** The time, in milliseconds: the same for all calls of a tick. */
  #now(): number {
    if (this.#tick === 0) {
      this.#tick = performance.now();
      queueMicrotask(this.#endTick);
    }
    return this.#tick;
  }

  /** Sends what was called in the tick. */
  readonly #endTick = (): void => {
    const now = this.#tick;
    this.#tick = 0;
    try {
      if (this.#running) this.#send();
      else if (this.#pending > 0 && !this.#exchange(now)) this.#running = this.#run();
    } catch (error) {
      this.giveUp(this.#calls(), () => error);
    }
  };

  /**
   * Sends and receives once, as the calls to an idle host on the same machine need: a loop that waits would cost more than
   * they do. Whether no call is pending.
   */
  #exchange(now: number): boolean {
    const session = this.#session;
    session.refresh(now);
    session.look();
    if (!session.ready || session.broken || ++this.#exchanges > EXCHANGES_PER_TURN) return false;
    this.#send();
    if (session.spin()) this.#receive();
    return this.#pending === 0;
  }

  /** Sends and receives until no call is pending. */
  async #run(): Promise<void> {
    // (So that `#running` is set before this ends, and that other work of the process has its turn.)
    if (this.#exchanges > EXCHANGES_PER_TURN) await turn();
    else await undefined;
    this.#exchanges = 0;
    const session = this.#session;
    try {
      session.refresh(performance.now());
      session.retry();
      while (this.#pending > 0) {
        // Replies that arrived before the connection was lost are used.
        session.look();
        const { broken } = session;
        this.#receive();
        if (broken) this.#onBroken(broken);
        if (!session.opened) await session.open();
        session.connect();
        session.greet();
        if (!session.reached) this.#failUnreachable(performance.now());
        this.#send();
        if (this.#pending === 0) break;
        // (Those whose calls were settled make their next ones meanwhile.)
        if (!session.spin()) await session.wait();
        else if (++this.#exchanges % EXCHANGES_PER_TURN > 0) await undefined;
        else await turn();
      }
    } catch (error) {
      this.giveUp(this.#calls(), () => error);
    } finally {
      this.#running = undefined;
    }
  }

  /** Sends what is queued, if the host is ready and as far as there is room. */
  #send(): void {
    const session = this.#session, inFlight = this.#inFlight, queue = this.#queue;
    for (let first; (first = queue.first);) {
      if (!session.ready) {
        if (session.changed) session.wake();
        return this.#watchConnecting(first.calls[0]);
      }
      const { limits } = session;
      // (A value that is being encoded may make many calls.)
      if (first.encoding || !inFlight.hasRoomFor(first, limits)) return;
      const request = queue.take(limits, inFlight.replyBytes);
      if (!request) continue;
      const payload = request.payload(this.#scratch);
      const number = inFlight.add(request, payload.length);
      const batch = request.kind === "batch";
      session.send(header(number, batch, !batch && session.takesParts, this.#header), payload);
      request.release();
    }
  }

  #receive(): void {
    for (let reply; (reply = this.#session.receive());) this.#inFlight.settle(reply);
  }

  #onBroken(why: "lost" | "refused"): void {
    if (why === "lost") {
      this.giveUp(this.#inFlight.calls(), ({ name }) => this.#errors.disconnected(name));
      this.#inFlight.clear();
      this.#direct.forget();
    } else {
      this.giveUp(this.#queue.calls(), ({ name }) => this.#errors.denied(name));
    }
    this.#session.dropBroken(why);
  }

  /** Sets a deadline for the connection that a call needs. */
  #watchConnecting(call: PendingCall): void {
    if (this.#connectTimeout === 0 || this.#session.connected) return;
    const by = this.#connectBy(call);
    // (After that, it waits for a host that was found: until that is lost again, or until its own deadline.)
    if (by > performance.now()) this.#deadlines.add(by);
  }

  /** When a call fails if there is no connection. The time runs from the call, or from when a connection was lost. */
  #connectBy({ deadline, timeout }: PendingCall): number {
    return Math.max(deadline - timeout, this.#session.lostAt) + this.#connectTimeout;
  }

  /** Rejects the calls whose deadline has passed. Returns the next deadline. */
  #expire(now: number): number {
    // A reply that has arrived is used, however late this process reads it. (The loop that waits must look as well: what
    // would have woken it may have been read here.)
    this.#receive();
    this.#session.wake();
    this.#failUnreachable(now);
    const { reached } = this.#session;
    const late = Array.from(this.#calls()).filter(({ deadline }) => deadline <= now);
    if (late.length > 0) {
      this.giveUp(late, ({ name, timeout }) => this.#errors.timeout(name, timeout, reached));
    }
    let next = Infinity;
    for (const { deadline } of this.#calls()) next = Math.min(next, deadline);
    const first = this.#queue.first?.calls[0];
    if (first) this.#watchConnecting(first);
    return next;
  }

  /** Rejects the calls that have waited too long for a host, unless one was found. */
  #failUnreachable(now: number): void {
    const { reached, unreachable } = this.#session;
    if (reached || this.#connectTimeout === 0 && !unreachable) return;
    const late = Array.from(this.#queue.calls()).filter((call) => this.#connectBy(call) <= now);
    if (late.length === 0) return;
    this.giveUp(late, ({ name }) => this.#errors.unavailable(name, this.#connectTimeout));
  }

  #failOnAbort(call: PendingCall, signal: AbortSignal): void {
    const abort = () => this.giveUp([call], () => signal.reason);
    signal.addEventListener("abort", abort);
    call.onSettled = () => {
      signal.removeEventListener("abort", abort);
      this.#onSettled();
    };
  }

  /** The calls whose replies are pending. */
  *#calls(): Generator<PendingCall> {
    yield* this.#queue.calls();
    yield* this.#inFlight.calls();
  }
}
