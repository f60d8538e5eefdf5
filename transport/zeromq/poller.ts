/**
 * The one `zmq_poll` of the process: it watches the descriptors of all sockets that wait, and of a PAIR socket of its
 * own, which interrupts it when a socket begins or stops to wait.
 *
 * Deno cannot watch a foreign descriptor, but `zmq_poll` can, on a thread of Deno's pool. That has 32 threads, which file
 * operations need too: so all sockets share one call. While no socket waits nothing runs, so that a process with idle
 * clients can end.
 *
 * @module
 */

import { type Libzmq, size, terminate, terminateSync, ZMQ } from "./libzmq.ts";
import { POLL_ITEM, pollItems, Socket, type Waiter } from "./socket.ts";

/** The poller of this process. */
export class Poller implements Waiter {
  static #shared: Poller | undefined;
  #users = 0;
  readonly #zmq: Libzmq;
  readonly #context: Deno.PointerValue;
  readonly #interrupts: Socket;
  readonly #interrupter: Socket;
  readonly #waiters = new Map<number, () => void>();
  #running: Promise<void> | undefined;
  #interrupted = false;

  /** The poller of this process. Every call is paired with one of {@linkcode Poller.release}. */
  static retain(zmq: Libzmq): Poller {
    const poller = Poller.#shared ??= new Poller(zmq);
    poller.#users++;
    return poller;
  }

  private constructor(zmq: Libzmq) {
    this.#zmq = zmq;
    this.#context = zmq.zmq_ctx_new();
    zmq.zmq_ctx_set(this.#context, ZMQ.IO_THREADS, 0);
    const pair = () => new Socket(zmq, zmq.zmq_socket(this.#context, ZMQ.PAIR), { linger: 0 });
    this.#interrupts = pair();
    this.#interrupter = pair();
    this.#interrupts.bind("inproc://interrupts");
    this.#interrupter.connect("inproc://interrupts");
  }

  /** Ends the poller with its last user. */
  async release(): Promise<void> {
    if (--this.#users > 0) return;
    Poller.#shared = undefined;
    await this.#running;
    this.#interrupts.close();
    this.#interrupter.close();
    await terminate(this.#zmq, this.#context);
  }

  /** {@linkcode Poller.release}, which blocks the thread if no socket waits. */
  releaseSync(): void {
    if (this.#running || this.#users > 1) return void this.release();
    this.#users = 0;
    Poller.#shared = undefined;
    this.#interrupts.close();
    this.#interrupter.close();
    terminateSync(this.#zmq, this.#context);
  }

  /** Resolves when one of the descriptors tells of something, or at {@linkcode Poller.wake}. */
  wait(fd: number, other?: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const end = () => {
      this.#waiters.delete(fd);
      if (other !== undefined) this.#waiters.delete(other);
      resolve();
    };
    this.#waiters.set(fd, end);
    if (other !== undefined) this.#waiters.set(other, end);
    if (this.#running) this.#interrupt();
    else this.#running = this.#run();
    return promise;
  }

  /** Ends the wait for a descriptor. */
  wake(fd: number): void {
    const end = this.#waiters.get(fd);
    if (!end) return;
    end();
    this.#interrupt();
  }

  #interrupt(): void {
    if (this.#interrupted) return;
    this.#interrupted = true;
    this.#interrupter.send([new Uint8Array(0)]);
  }

  async #run(): Promise<void> {
    while (this.#waiters.size > 0) {
      while (this.#interrupts.receive());
      this.#interrupted = false;
      const fds = [this.#interrupts.fd, ...this.#waiters.keys()];
      const items = pollItems(fds);
      await this.#zmq.zmq_poll(new Uint8Array(items.buffer), fds.length, size(-1));
      fds.forEach((fd, i) => {
        if (i === 0 || items.getInt16(i * POLL_ITEM + 14, true) === 0) return;
        this.#waiters.get(fd)?.();
      });
    }
    this.#running = undefined;
  }
}
