/**
 * The serving loop: takes messages from the ports of a host, runs them, and sends the replies.
 *
 * ```text
 * port.next() ─► parseRequest ─► dispatcher.run ─► port.reply
 *                                    │   ▲
 *                             pauses │   │ its next slice
 *                                    ▼   │
 *                                  paused, in turn
 * ```
 *
 * All runs in one thread. A message runs for a slice; one that is not done then is paused, and gets another slice
 * after those that have waited longer. Meanwhile the next messages of its client are held back, so that they run
 * in the order in which they were sent. A message that waits for a file, or for an asynchronous custom command,
 * holds nobody back.
 *
 * @module
 */

import type { Client } from "../auth/clients.ts";
import { MemStoreError, parseRequest } from "../transport/message.ts";
import type { Arrived, Connection } from "../transport/zeromq/connection.ts";
import type { Port } from "../transport/zeromq/port.ts";
import { turn } from "../system/turn.ts";
import { type Dispatcher, refusal } from "./dispatch.ts";
import type { Deliver, Execution } from "./execution.ts";
import { PausedMessages } from "./paused.ts";

/** How long a new message runs, in milliseconds, before it is paused. */
const FIRST_SLICE_MS = 1;
/** After this many messages, other work of the process gets a turn. */
const MESSAGES_PER_TURN = 256;
/** A message that was paused counts as this many. */
const PAUSED_MESSAGES = 64;
/** A host that stops goes on serving until nothing has arrived for this long, in milliseconds, … */
const QUIET_MS = 20;
/** … but no longer than this. */
const DRAIN_MS = 2000;

/** What the serving loop needs of its host. */
export interface Served {
  readonly dispatcher: Dispatcher;
  /** The client that has a public key; undefined if it may not connect (any more). */
  client(publicKey: string): Client | undefined;
  /** Does a little of the work that waits for a quiet moment; whether there is more. */
  tidy(): boolean;
  /** Whether the process has other work that must not wait. */
  readonly busy: boolean;
}

/** A message that was paused. */
interface Paused {
  readonly execution: Execution;
  readonly port: Port;
  readonly from: Connection;
}

/** Serves the ports of one host. */
export class ServingLoop {
  readonly #host: Served;
  readonly #ports: readonly Port[];
  /** Messages that wait for their next slice, the first one next. */
  readonly #paused = new PausedMessages<Paused>();
  /** Messages that wait for something else, until they are done. */
  readonly #waiting = new Set<Promise<void>>();
  #open = true;
  #nudged = false;
  /** Messages that were taken. */
  messages = 0;

  constructor(host: Served, ports: readonly Port[]) {
    this.#host = host;
    this.#ports = ports;
  }

  /** Serves until {@linkcode ServingLoop.close}; resolves when what has arrived by then is answered. */
  async serve(): Promise<void> {
    await Promise.all(this.#ports.map((port) => this.#serve(port)));
  }

  /** Serves no longer than it takes to answer what has arrived. */
  close(): void {
    this.#open = false;
    this.#wake();
  }

  /** Has it look for work that waits for a quiet moment, once for all that the process does in one turn. */
  nudge(): void {
    if (this.#nudged) return;
    this.#nudged = true;
    queueMicrotask(() => {
      this.#nudged = false;
      this.#wake();
    });
  }

  #wake(): void {
    for (const port of this.#ports) port.socket.wake();
  }

  /** Resolves when no message waits for a file or a custom command any more. */
  async settle(): Promise<void> {
    while (this.#waiting.size > 0) await Promise.allSettled(this.#waiting);
  }

  async #serve(port: Port): Promise<void> {
    let messages = 0;
    while (this.#open) {
      const taken = this.#takeFromAll();
      messages += taken;
      if (taken > 0 && messages < MESSAGES_PER_TURN) continue;
      messages = 0;
      if (taken > 0 || this.#paused.length > 0) {
        this.#resumeNext();
        port.look();
        await turn();
      } else if (this.#host.tidy()) {
        await turn();
      } else {
        await port.wait(!this.#host.busy);
      }
    }
    await this.#drain(port);
  }

  /** Answers what clients sent before the end: it may still be on its way through libzmq's threads. */
  async #drain(port: Port): Promise<void> {
    let quiet = performance.now();
    for (const end = quiet + DRAIN_MS;;) {
      let messages = 0;
      while (messages < MESSAGES_PER_TURN && this.#take(port) > 0) messages++;
      // (A turn may take longer than the time of quiet: what counts is that there is nothing after it.)
      const now = performance.now();
      if (messages > 0 || this.#paused.length > 0) quiet = now;
      if (now - quiet >= QUIET_MS || now >= end) break;
      this.#resumeNext();
      await turn();
    }
    const why = new MemStoreError("FAILED", "Cannot run: the host stops");
    for (let next; (next = this.#paused.next());) this.#host.dispatcher.abandon(next.execution, why);
  }

  /** Takes one message of each port: who floods one of them does not hold up the others. Returns how many. */
  #takeFromAll(): number {
    let taken = 0;
    for (const port of this.#ports) taken += this.#take(port);
    return taken;
  }

  /** Takes one message, bytes in to bytes out. Returns 0 if none is there; else 1, or more if it was paused. */
  #take(port: Port): number {
    const arrived = port.next();
    if (!arrived) return 0;
    this.messages++;
    const { from, frames } = arrived;
    const client = this.#clientOf(port, arrived);
    if (!client) {
      // Its key was removed from the list.
      port.disconnect(arrived.user ?? "");
      return 1;
    }
    const { envelope, legacy, batch, parts, payload, fault } = parseRequest(frames);
    if (fault !== undefined) {
      const why = new MemStoreError("BAD_REQUEST", `Cannot read the message: ${fault}`);
      port.fault(from);
      port.reply(from, [...envelope, refusal(why, legacy)]);
      return 1;
    }
    const { right, name } = client;
    const deliver: Deliver = (reply, readable, rest) => {
      if (!readable) port.fault(from);
      else if (from.faults > 0) from.faults--;
      port.reply(from, [...envelope, reply]);
      // (Its turn comes when the client has read enough.)
      if (rest) port.putBack({ ...arrived, frames: [...envelope, rest] });
    };
    const request = { payload, legacy, batch, parts, right, client: name };
    const execution = this.#host.dispatcher.run(request, deliver, this.#firstSlice);
    if (!execution) return 1;
    if (execution.waiting) {
      this.#wait(execution, port, from);
      return 1;
    }
    port.pause(from);
    this.#paused.add({ execution, port, from });
    return PAUSED_MESSAGES;
  }

  /** How long a message runs when it is begun, in milliseconds. */
  get #firstSlice(): number {
    return this.#paused.isFull ? 0 : FIRST_SLICE_MS;
  }

  /** Who sent a message. (The list of clients may have changed since it connected.) */
  #clientOf(port: Port, { user }: Arrived): Pick<Client, "right"> & { name?: string } | undefined {
    return port.encrypted ? this.#host.client(user ?? "") : ANYBODY;
  }

  /** Gives the message that has waited longest another slice. */
  #resumeNext(): void {
    const next = this.#paused.next();
    if (!next) return;
    const { execution, port, from } = next;
    if (from.disconnected) {
      this.#host.dispatcher.abandon(execution, GONE);
    } else if (!this.#host.dispatcher.resume(execution)) {
      if (!execution.waiting) return this.#paused.addAgain(next);
      this.#wait(execution, port, from);
    }
    port.resume(from);
  }

  /** Goes on with a message when what it waits for is there. */
  #wait(execution: Execution, port: Port, from: Connection): void {
    port.begin(from);
    const done = execution.waiting!.then(() => {
      port.end(from);
      // (Once nobody serves any more, nobody gives it another slice.)
      if (this.#host.dispatcher.resume(execution, this.#open ? this.#firstSlice : Infinity)) return;
      if (execution.waiting) return this.#wait(execution, port, from);
      port.pause(from);
      this.#paused.add({ execution, port, from });
      port.socket.wake();
    }).finally(() => this.#waiting.delete(done));
    this.#waiting.add(done);
  }
}

/** Where clients have no keys, whoever may connect may do everything. */
const ANYBODY: Pick<Client, "right"> & { name?: string } = { right: "admin" };
const GONE = new MemStoreError("FAILED", "Cannot run: the client is gone");
