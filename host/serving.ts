/**
 * The serving loop: takes messages from the ports of a host, runs them, and sends the replies. It knows no kind of port:
 * ports of several transports may be served at once.
 *
 * ```text
 * port.next ─► dispatcher.run ─► port.reply
 *                  │   ▲
 *           pauses │   │ its next slice
 *                  ▼   │
 *                paused, in turn
 * ```
 *
 * All runs in one thread. A message runs for a slice; one that is not done then is paused, and gets another slice
 * after those that have waited longer. Meanwhile the next messages of its client are held back, so that they run
 * in the order in which they were sent. A message that waits for a file, or for an asynchronous custom command,
 * holds no other message back.
 *
 * @module
 */

import type { AuthorizedClient } from "../auth/clients.ts";
import { MemStoreError } from "../transport/message.ts";
import type { IncomingMessage, Port } from "../transport/transport.ts";
import { turn } from "../system/turn.ts";
import { type Dispatcher, refusal } from "./dispatch.ts";
import { type Deliver, type Execution, GONE } from "./execution.ts";
import { PausedMessages } from "./paused.ts";

/** How long a new message runs, in milliseconds, before it is paused. */
const FIRST_SLICE_MS = 1;
/** After this many messages, other work of the process gets a turn. */
const MESSAGES_PER_TURN = 256;
/** A wait counts as this many, … */
const MESSAGES_PER_WAIT = 1;
/** … and a message that was paused as this many. */
const PAUSED_MESSAGES = 64;
/**
 * How long the loop waits for a reply from elsewhere (Redis) before it sleeps at the ports, in milliseconds. A reply comes
 * sooner than a thread that sleeps there is woken.
 */
const REPLY_MS = 1;
/** A host that stops goes on serving until nothing has arrived for this long, in milliseconds, … */
const QUIET_MS = 20;
/** … but no longer than this. */
const DRAIN_MS = 2000;

/** What the serving loop needs of its host. */
export interface Served {
  readonly dispatcher: Dispatcher;
  /** The client that has a public key; undefined if it is not authorized (any more). */
  client(publicKey: string): AuthorizedClient | undefined;
  /** Does a little of the work that waits until no message does; whether there is more. */
  cleanWhenIdle(): boolean;
  /** Whether the process has other work that must not wait. */
  readonly busy: boolean;
  /** Whether replies from elsewhere are awaited, which come soon. */
  readonly awaitsReplies: boolean;
}

/** A message that has begun to run. */
interface Running {
  readonly execution: Execution;
  readonly port: Port;
  readonly message: IncomingMessage;
}

/** Serves the ports of one host. */
export class ServingLoop {
  readonly #host: Served;
  readonly #ports: readonly Port[];
  /** Messages that wait for their next slice, the first one next. */
  readonly #paused = new PausedMessages<Running>();
  /** Messages that wait for something else, until they are done. */
  readonly #waiting = new Set<Promise<void>>();
  /** Ends a wait for the next of them that goes on. */
  #goOn: ((isReply: boolean) => void) | undefined;
  #nextReply: Promise<boolean> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #open = true;
  #nudged = false;
  #messages = 0;

  constructor(host: Served, ports: readonly Port[]) {
    this.#host = host;
    this.#ports = ports;
  }

  /** How many messages have been taken. */
  get messages(): number {
    return this.#messages;
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

  /** Has it look for work that waits until no message does, once for all that the process does in a turn. */
  nudge(): void {
    if (this.#nudged) return;
    this.#nudged = true;
    queueMicrotask(() => {
      this.#nudged = false;
      this.#wake();
    });
  }

  #wake(): void {
    for (const port of this.#ports) port.wake();
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
      if (taken > 0 || this.#paused.length > 0) {
        this.#resumeNext();
        port.look();
      } else if (!this.#host.cleanWhenIdle()) {
        // (A wait that spins may end before other work has had a turn.)
        messages += MESSAGES_PER_WAIT;
        if (this.#host.awaitsReplies && this.#waiting.size > 0) await this.#reply() || await port.wait();
        else if (this.#host.busy || !port.spin()) await port.wait();
        if (messages < MESSAGES_PER_TURN) continue;
      }
      messages = 0;
      await turn();
    }
    await this.#drain(port);
  }

  /** Waits for a little while until one of the messages that wait goes on. Whether one did. */
  #reply(): Promise<boolean> {
    return this.#nextReply ??= new Promise((resolve) => {
      // (To set a timer takes longer than most replies: one ends whichever wait is under way when it is due.)
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.#goOn?.(false);
      }, REPLY_MS);
      this.#goOn = (isReply) => {
        this.#goOn = this.#nextReply = undefined;
        resolve(isReply);
      };
    });
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

  /** Takes one message of each port: a client that floods one of them does not hold up the others. Returns how many. */
  #takeFromAll(): number {
    let taken = 0;
    for (const port of this.#ports) taken += this.#take(port);
    return taken;
  }

  /** Takes one message, bytes in to bytes out. Returns 0 if none is there; else 1, or more if it was paused. */
  #take(port: Port): number {
    const message = port.next();
    if (!message) return 0;
    this.#messages++;
    const { from, publicKey, legacy, direct, fault } = message;
    const client = port.encrypted ? this.#host.client(publicKey ?? "") : ANYBODY;
    if (!client) {
      // (Its key was removed from the list since it connected.)
      port.disconnect(publicKey ?? "");
      return 1;
    }
    if (fault !== undefined) {
      const why = new MemStoreError("BAD_REQUEST", `Cannot read the message: ${fault}`);
      port.fault(from);
      port.reply(message, refusal(why, legacy));
      return 1;
    }
    const deliver: Deliver = (reply, readable, rest) => {
      if (readable) port.forgiveFault(from);
      else port.fault(from);
      port.reply(message, reply);
      // (It goes on when the client has read enough.)
      if (rest) port.putBack(message, rest);
    };
    const { payload, batch, parts } = message;
    const { right, name } = client;
    const job = { payload, legacy, batch, parts, right, client: name, sender: direct ? from : undefined };
    const execution = this.#host.dispatcher.run(job, deliver, this.#firstSlice);
    if (!execution) return 1;
    if (execution.waiting) {
      this.#wait({ execution, port, message });
      return 1;
    }
    this.#pause({ execution, port, message });
    return PAUSED_MESSAGES;
  }

  /** How long a message runs when it is begun, in milliseconds. */
  get #firstSlice(): number {
    return this.#paused.isFull ? 0 : FIRST_SLICE_MS;
  }

  #pause(running: Running): void {
    running.port.pause(running.message.from);
    this.#paused.add(running);
  }

  /** Gives the message that has waited longest another slice. */
  #resumeNext(): void {
    const next = this.#paused.next();
    if (!next) return;
    const { execution, port, message: { from } } = next;
    if (from.gone) execution.isUnread = true;
    if (from.disconnected) {
      this.#host.dispatcher.abandon(execution, GONE);
    } else if (!this.#host.dispatcher.resume(execution)) {
      if (!execution.waiting) return this.#paused.addAgain(next);
      this.#wait(next);
    }
    port.resume(from);
  }

  /** Goes on with a message when what it waits for is there. */
  #wait(running: Running): void {
    const { execution, port, message: { from } } = running;
    const { isPartlySent } = execution;
    port.begin(from);
    if (isPartlySent) port.pause(from);
    const done = execution.waiting!.then(() => {
      if (isPartlySent) port.resume(from);
      port.end(from);
      this.#goOn?.(true);
      // (When the loop has ended, there is no other slice.)
      const isDone = this.#host.dispatcher.resume(execution, this.#open ? this.#firstSlice : Infinity);
      // (The rest of its message may be next.)
      if (isDone) return port.wake();
      if (execution.waiting) this.#wait(running);
      else this.#pause(running);
      if (isPartlySent || !execution.waiting) port.wake();
    }).finally(() => this.#waiting.delete(done));
    this.#waiting.add(done);
  }
}

/** Where clients have no keys, each may do everything. */
const ANYBODY: Pick<AuthorizedClient, "right"> & { name?: string } = { right: "admin" };
