/**
 * Contexts: they make sockets, and tell when the last messages of those have left the process.
 *
 * @module
 */

import { cString, lastError, type Libzmq, libzmq, terminate, terminateSync, ZMQ } from "./libzmq.ts";
import { PEER_EVENTS } from "./monitor.ts";
import { Poller } from "./poller.ts";
import { Socket, type SocketOptions } from "./socket.ts";

/** Sockets that end together, and the threads of libzmq that serve them. */
export class Context {
  readonly #zmq: Libzmq;
  #pointer: Deno.PointerValue;
  readonly #poller: Poller;
  #monitors = 0;

  /** Use {@linkcode Context.open}. */
  private constructor(zmq: Libzmq, ioThreads: number, poller: Poller) {
    this.#zmq = zmq;
    this.#pointer = zmq.zmq_ctx_new();
    zmq.zmq_ctx_set(this.#pointer, ZMQ.IO_THREADS, ioThreads);
    this.#poller = poller;
  }

  /** Makes a context; the first one of the process loads libzmq. */
  static async open(ioThreads = 1): Promise<Context> {
    const zmq = await libzmq();
    return new Context(zmq, ioThreads, Poller.retain(zmq));
  }

  /** Makes a socket of one of the types in {@linkcode ZMQ}. */
  socket(type: number, options: SocketOptions): Socket {
    // libzmq takes the first routing id of a ROUTER from rand(), which it never seeds. A client that knows the id that the
    // next connection will have can claim it, and end the process.
    if (type === ZMQ.ROUTER) this.#zmq.srand(crypto.getRandomValues(new Uint32Array(1))[0]);
    if (options.readSize) this.#copyReceived();
    const pointer = this.#zmq.zmq_socket(this.#pointer, type);
    if (pointer === null) throw new Error(`Cannot open a socket: ${lastError(this.#zmq)}`);
    const events = options.events ?? (options.watchPeer ? PEER_EVENTS : undefined);
    const monitor = events === undefined ? undefined : this.#monitor(pointer, events);
    return new Socket(this.#zmq, pointer, options, this.#poller, monitor);
  }

  /**
   * Has messages not share the buffer in which they were received: a buffer of less than the 9 bytes that begin a long
   * frame makes libzmq take other memory for it.
   */
  #copyReceived(): void {
    if (this.#zmq.zmq_ctx_set(this.#pointer, ZMQ.ZERO_COPY_RECV, 0) === 0) return;
    throw new Error(`Cannot open a socket: ${lastError(this.#zmq)}`);
  }

  /** A socket that receives the events of another one's connections. */
  #monitor(pointer: Deno.PointerValue, events: number): Socket {
    const address = `inproc://monitor-${++this.#monitors}`;
    this.#zmq.zmq_socket_monitor(pointer, cString(address), events);
    // (If there were no room for an event, the thread that serves all connections would wait.)
    const monitor = this.socket(ZMQ.PAIR, { linger: 0, receiveHighWaterMark: 0 });
    monitor.connect(address);
    return monitor;
  }

  /**
   * Ends the context, whose sockets must be closed. Resolves when their last messages have left the
   * process, or their linger has passed.
   */
  async close(): Promise<void> {
    const pointer = this.#pointer;
    if (pointer === null) return;
    this.#pointer = null;
    await terminate(this.#zmq, pointer);
    await this.#poller.release();
  }

  /** {@linkcode Context.close}, which blocks the thread. */
  closeSync(): void {
    const pointer = this.#pointer;
    if (pointer === null) return;
    this.#pointer = null;
    terminateSync(this.#zmq, pointer);
    this.#poller.releaseSync();
  }
}
