/**
 * Sends the calls of an attached store, one at a time, and blocks the thread until the reply is there. What
 * {@link ./multiplexer.ts} is for calls that wait: the same session, limits, deadlines and errors.
 *
 * @module
 */

import { replyShape } from "../commands/list.ts";
import { Reader } from "../msgpack/codec.ts";
import { MAX_REPLY_DEPTH, skip, Writer } from "../msgpack/msgpack.ts";
import { header, HEADER_BYTES, MemStoreError, readReply } from "../transport/message.ts";
import { MAX_TIMER_MS } from "./deadlines.ts";
import { ASK, DirectReads } from "./direct.ts";
import { CallErrors } from "./errors.ts";
import type { MultiplexerOptions } from "./multiplexer.ts";
import { batchError, commandError } from "./queue.ts";
import type { RawCommand } from "./batch.ts";
import { Request, tooLong } from "./request.ts";
import { HostSession } from "./session.ts";

/** The calls of one attached store. */
export class BlockingCalls {
  readonly #errors: CallErrors;
  readonly #connectTimeout: number;
  readonly #maxMessage: number;
  readonly #session: HostSession;
  /** Encodes one call after another. */
  readonly #request = new Request("alone");
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #direct: DirectReads;
  #number = 0;
  /** The number of the last call that was given up, while its reply has not come. */
  #late: number | undefined;
  #closed = false;

  constructor({ endpoint, connector, connectTimeout, maxMessage, directReads }: MultiplexerOptions) {
    this.#direct = new DirectReads(directReads);
    this.#errors = new CallErrors(endpoint);
    this.#connectTimeout = connectTimeout;
    this.#maxMessage = maxMessage;
    this.#session = new HostSession(connector, maxMessage);
  }

  /**
   * Connects, and does not block meanwhile. After that, calls connect by themselves if the connection is lost.
   *
   * @throws {MemStoreError} `UNAVAILABLE` if there is no host, `DENIED` if it refuses the key.
   */
  async open(timeout: number): Promise<void> {
    await this.#session.open();
    const start = performance.now();
    for (let left; (left = this.#connect("attach", start, timeout)) > 0;) {
      const timer = setTimeout(() => this.#session.wake(), Math.min(left, MAX_TIMER_MS));
      await this.#session.wait();
      clearTimeout(timer);
    }
  }

  /**
   * Makes a call.
   *
   * @returns The raw reply.
   * @throws {MemStoreError} if the host refuses it, or there is no reply in time.
   * @throws {TypeError} if an argument cannot be encoded.
   */
  call(name: string, args: readonly unknown[], timeout: number): unknown {
    const found = this.read(name, args);
    if (found !== ASK) return found;
    const reply = this.#call(name, args, timeout);
    if (!this.#direct.wantedFor(name)) return reply;
    try {
      this.#askForMemory("memory", timeout);
    } catch {
      // The next read asks again.
    }
    return reply;
  }

  /**
   * Carries out a command without the host, if it can be, and no call that was given up may still be carried out.
   *
   * @returns The raw reply, or {@linkcode ASK}.
   * @throws {TypeError} if an argument cannot be encoded.
   */
  read(name: string, args: readonly unknown[]): unknown {
    return this.#direct.open && this.#late === undefined ? this.#direct.read(name, args) : ASK;
  }

  /**
   * Begins to note what reads without the host rely on. Asks the host first where its memory is, if that is not known.
   *
   * @returns Whether there can be such reads.
   * @throws {MemStoreError} if there is no reply in time.
   */
  begin(timeout: number): boolean {
    if (this.#direct.wanted) this.#askForMemory("read a snapshot", timeout);
    return this.#late === undefined && this.#direct.begin();
  }

  /** Ends {@linkcode BlockingCalls.begin}. Returns whether all that was read since then holds at this moment. */
  end(): boolean {
    return this.#direct.end();
  }

  /**
   * Asks the host where its memory is.
   *
   * @param what What that is for, for the texts of errors.
   */
  #askForMemory(what: string, timeout: number): void {
    const offer = readOrError(
      "memory",
      new Reader(this.#ask(what, this.#encode("memory", []), false, timeout)),
    );
    if (!(offer instanceof MemStoreError)) this.#use(offer);
    // (If it does not know the command, it is not asked again.)
    else if (offer.code === "UNKNOWN_COMMAND") this.#use(undefined);
  }

  #use(offer: unknown): void {
    const { figures, limits } = this.#session;
    this.#direct.use(offer, figures, limits.message);
  }

  /** Has the host make a call. */
  #call(name: string, args: readonly unknown[], timeout: number): unknown {
    const reply = new Reader(this.#ask(name, this.#encode(name, args), false, timeout));
    const value = readOrError(name, reply);
    if (value instanceof MemStoreError) throw value;
    return value;
  }

  /** Encodes a command. The bytes are good until the next. */
  #encode(name: string, args: readonly unknown[]): Writer {
    // (A value's getter may make a call.)
    const request = this.#request.encoding ? new Request("alone") : this.#request;
    request.bytes.reset();
    request.encode(name, args, this.#maxMessage);
    return request.bytes;
  }

  /**
   * Encodes a command, to have it carried out later, perhaps several times.
   *
   * @throws {TypeError} if an argument cannot be encoded.
   */
  encode(name: string, args: readonly unknown[]): Uint8Array {
    return this.#encode(name, args).written.slice();
  }

  /**
   * Has the host carry out commands that are encoded: several of them as a transaction.
   *
   * @param what What the commands do, for the texts of errors.
   * @returns The bytes of each reply: a status and a value, or an error.
   */
  ask(what: string, commands: readonly Uint8Array[], timeout: number): Uint8Array[] {
    const bytes = new Writer(1024), batch = commands.length > 1;
    for (const command of commands) bytes.raw(command);
    if (bytes.length > this.#maxMessage) throw tooLong(what, bytes.length, this.#maxMessage);
    const payload = this.#ask(what, bytes, batch, timeout, commands.length), replies: Uint8Array[] = [];
    for (let at = 0, end; at < payload.length; at = end) {
      end = skip(payload, skip(payload, at), MAX_REPLY_DEPTH);
      replies.push(payload.slice(at, end));
    }
    return replies;
  }

  /**
   * Runs commands as a transaction.
   *
   * @returns The raw replies.
   * @throws {MemStoreError} that of the command that failed; or if there is no reply in time.
   */
  batch(commands: readonly RawCommand[], timeout: number): unknown[] {
    if (commands.length === 0) return [];
    const request = new Request("batch");
    for (const [name, ...args] of commands) request.encode(name, args, this.#maxMessage);
    const { bytes } = request;
    if (bytes.length > this.#maxMessage) throw tooLong("run a batch", bytes.length, this.#maxMessage);
    const reply = new Reader(this.#ask("run a batch", bytes, true, timeout, commands.length));
    const values: unknown[] = [];
    let failure: MemStoreError | undefined;
    for (const [name] of commands) {
      const value = readOrError(name, reply);
      values.push(value);
      if (!(value instanceof MemStoreError)) continue;
      // (A message that cannot be read has one reply.)
      if (value.code === "BAD_REQUEST") throw value;
      if (!failure || failure.code === "NOT_RUN") failure = value;
    }
    if (failure) throw failure;
    return values;
  }

  /** Closes the connection. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#direct.close();
    this.#session.closeSync();
  }

  /** Sends a message and returns its reply, which is good until the next. Connects first if there is no connection. */
  #ask(what: string, bytes: Writer, batch: boolean, timeout: number, count = 1): Uint8Array {
    if (this.#closed) throw this.#errors.closed(what);
    const session = this.#session;
    const start = performance.now();
    session.refresh(start);
    session.look();
    while (!session.ready || session.broken) {
      const left = this.#connect(what, start, timeout);
      if (left === 0) break;
      session.waitSync(left);
    }
    const { limits } = session;
    const error = batch
      ? batchError(count, bytes.length, limits)
      : commandError(what, bytes.bytes, 0, bytes.length, limits);
    if (error) throw error;
    // (0 is the number of the greeting.)
    this.#number = (this.#number + 1) >>> 0 || 1;
    session.send(header(this.#number, batch, false, this.#header), bytes.written);
    for (let left = timeout;; left = timeout - (performance.now() - start)) {
      // (A reply that arrived before the connection was lost is used.)
      session.look();
      const { broken } = session;
      for (let reply; (reply = session.receive());) {
        if (reply.request === this.#number) return reply.payload;
        if (reply.request === this.#late) this.#late = undefined;
      }
      if (broken) {
        this.#drop(broken);
        throw this.#errors.disconnected(what);
      }
      if (left <= 0) {
        this.#late = this.#number;
        throw this.#errors.timeout(what, timeout, session.reached);
      }
      if (!session.spin()) session.waitSync(left);
    }
  }

  /** Closes a connection that is broken, and forgets what belonged to it. */
  #drop(broken: "lost" | "refused"): void {
    this.#session.dropBroken(broken);
    this.#direct.forget();
    this.#late = undefined;
  }

  /**
   * Takes the next step of connecting: closes a connection that was lost, begins another, sends the greeting.
   *
   * @param start When the call was made.
   * @returns How long to wait for the next step, in milliseconds; 0 if messages can be sent.
   * @throws {MemStoreError} if the host refuses the key, or the time is up.
   */
  #connect(what: string, start: number, timeout: number): number {
    const session = this.#session;
    session.look();
    const { broken } = session;
    // (Late replies to calls that were given up.)
    for (let reply; (reply = session.receive());) {
      if (reply.request === this.#late) this.#late = undefined;
    }
    if (broken) {
      this.#drop(broken);
      if (broken === "refused") throw this.#errors.denied(what);
    }
    session.connect();
    session.greet();
    if (session.ready) return 0;
    const elapsed = performance.now() - start, connectTimeout = this.#connectTimeout;
    const { reached, unreachable } = session;
    if (!reached && (connectTimeout === 0 ? unreachable : elapsed >= connectTimeout)) {
      throw this.#errors.unavailable(what, connectTimeout);
    }
    if (elapsed >= timeout) throw this.#errors.timeout(what, timeout, reached);
    return (reached || connectTimeout === 0 ? timeout : Math.min(timeout, connectTimeout)) - elapsed;
  }
}

/** The next reply of a payload: a value, or the error that it tells of. */
export function readOrError(name: string, reply: Reader): unknown {
  try {
    return readReply(replyShape(name), reply);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return new MemStoreError("FAILED", `Cannot ${name}: the reply cannot be read: ${why}`);
  }
}
