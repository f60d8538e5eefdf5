/**
 * The host's {@linkcode Port} over ZeroMQ: a ROUTER socket, and what is known of the clients that are connected to it.
 *
 * libzmq reads whatever clients send, keeps whatever they do not read, and accepts every connection. A port holds
 * clients to {@linkcode Limits}:
 *
 *  - **Connections.** A monitor tells the descriptor of each connection that is opened or closed, and libzmq that of the
 *    connection by which a message came: see {@link ./connections.ts}.
 *  - **Output buffers.** How many bytes of replies are pending for a client: see {@link ./connection.ts}.
 *  - **Backpressure.** While too much is pending for a client, its requests wait too. Others are served.
 *  - **Disconnecting.** `shutdown(2)` on the descriptor; libzmq then drops what it has for the client.
 *
 * @module
 */

import type { Limits } from "../limits.ts";
import type { Port, Sender } from "../transport.ts";
import { Connection, ReceivedMessage } from "./connection.ts";
import { CLOSED_RETENTION_MS, Connections } from "./connections.ts";
import type { Context } from "./context.ts";
import { parseRequest, sizeOf } from "./frames.ts";
import { ZMQ } from "./libzmq.ts";
import type { Socket, SocketOptions } from "./socket.ts";

/** What a reply takes beside its bytes, roughly: libzmq's messages for its frames. */
const REPLY_OVERHEAD_BYTES = 512;
/** After how many replies to a client its counter is read, to see which of them have left. */
const REPLIES_BEFORE_COLLECT = 64;
/** While this many times more is pending for all clients together than may be for one, … */
const CROWD = 2;
/** … each may have only this part of it: many clients that do not read take little more memory than one. */
const CROWD_PART = 1 / 16;
/** How many requests of a client libzmq reads ahead. */
const READ_AHEAD = 64;
/**
 * Bytes that libzmq reads at once, where the rest of a frame is not longer: less than the shortest PING command, so
 * that libzmq's buffer never holds one behind a message. libzmq ends the process if it finds one there once the
 * connection is lost and its input was stopped, since more had arrived than was received.
 */
const READ_SIZE = 6;
/** How many connections the system queues until libzmq accepts them. */
const BACKLOG = 1024;
/** How long a handshake may take before libzmq disconnects the client, in milliseconds. */
const HANDSHAKE_MS = 5_000;
/** How often clients whose requests wait are checked for having read something, in milliseconds. */
const POLL_MS = 2;
/** How long a client may leave its replies unread before it is disconnected, in milliseconds. */
const UNREAD_MS = 10_000;
/** After how many connections their memory is released to the system. */
const CONNECTIONS_BEFORE_RELEASE = 4096;
/** How many messages that cannot be read a client may send. Each that can be read makes up for one. */
const MAX_FAULTS = 50;

/** After how many empty messages of clients with lanes others have their turn. */
const MAX_DOORBELLS = 64;

const EMPTY = new Uint8Array(0);

const EVENTS = ZMQ.EVENT_ACCEPTED | ZMQ.EVENT_DISCONNECTED | ZMQ.EVENT_HANDSHAKE_FAILED_PROTOCOL;

/** Is told why a client was not let in, or was disconnected. */
export type EventListener = (event: "cut off" | "refused", fields: Record<string, unknown>) => void;

/** What a port needs to know. */
export interface PortOptions extends Pick<SocketOptions, "linger" | "curve"> {
  limits: Limits;
  onEvent: EventListener;
}

/** A socket that serves an endpoint. */
export class ZeroMqPort implements Port {
  readonly socket: Socket;
  /** Whether clients come with keys. */
  readonly encrypted: boolean;
  readonly #limits: Limits;
  readonly #onEvent: EventListener;
  readonly #address: string;
  readonly #connections: Connections;
  /** How many were disconnected to make room and are not logged yet. */
  #evicted = 0;
  /** The connections whose requests wait. */
  readonly #blocked = new Set<Connection>();
  /** Forgets closed connections, also when no other is opened any more. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** How many connections had been accepted when memory was last given back. */
  #released = 0;
  /** How many messages have arrived. */
  #messages = 0;
  has(from: Sender): boolean {
    return this.connectionOf(from) !== undefined;
  }

  /** (Over a socket nothing is told without messages.) */
  readonly figures: readonly number[] = [];

  /** Bytes of replies that are pending for all, and when they were last counted. */
  #pendingBytes = 0;
  #collectedAt = 0;

  /** Makes a port for an address, which it does not serve yet. */
  constructor(context: Context, address: string, { limits, onEvent, linger, curve }: PortOptions) {
    this.#limits = limits;
    this.#onEvent = onEvent;
    this.encrypted = curve !== undefined;
    this.#address = address;
    this.socket = context.socket(ZMQ.ROUTER, {
      linger,
      curve,
      maxMessageSize: limits.message,
      // (The port itself bounds the replies that are pending.)
      sendHighWaterMark: 0,
      receiveHighWaterMark: Math.min(limits.requests, READ_AHEAD),
      readSize: READ_SIZE,
      // (What libzmq holds for a connection that it ignores, it never frees.)
      handover: true,
      backlog: BACKLOG,
      handshakeInterval: HANDSHAKE_MS,
      // (A client that floods a network endpoint keeps that thread busy, and not the one of local clients.)
      ioThread: address.startsWith("tcp://") ? 1 : 0,
      // (A peer without a key may see first that it is not understood, and leave.)
      events: EVENTS | (curve ? ZMQ.EVENT_HANDSHAKE_FAILED_NO_DETAIL : 0),
    });
    this.#connections = new Connections(limits.clients, firstRoutingId(context, this.socket));
  }

  /** How many are connected. */
  get clients(): number {
    this.look();
    return this.#connections.open;
  }

  readonly lanes = 0;

  /** A port of its own has no lanes: {@link ../shared/port.ts} adds them. */
  openLane(): undefined {}

  /** The connection that a sender is, if it is open here. */
  connectionOf(from: Sender): Connection | undefined {
    return from instanceof Connection && this.#connections.has(from) ? from : undefined;
  }

  /** Bytes of replies that are pending for all clients, as far as is known. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** The next message to answer; undefined if there is none. */
  next(): ReceivedMessage | undefined {
    if (this.#blocked.size > 0) {
      const ready = this.#nextDeferred();
      if (ready) return ready;
    }
    for (let frames, doorbells = 0; doorbells < MAX_DOORBELLS && (frames = this.socket.receive());) {
      const publicKey = this.encrypted ? this.socket.user : undefined;
      const from = this.#sender(frames[0], publicKey);
      if (from.disconnected) continue;
      if (from.hasLane && frames.length === 2 && frames[1].length === 0) {
        doorbells++;
        continue;
      }
      this.noteMessage(from);
      const message = new ReceivedMessage(from, publicKey, parseRequest(frames));
      if (from.deferred.length === 0 && from.paused === 0 && !this.#isFull(from)) return message;
      this.#defer(message);
    }
  }

  /** Notes that a message of a client was taken: one that is busy is not closed to make room. */
  noteMessage(from: Connection): void {
    from.lastMessage = ++this.#messages;
  }

  /** Sends a reply. */
  reply({ from, envelope }: ReceivedMessage, payload: Uint8Array): void {
    if (from.disconnected) return;
    // (Only a message that cannot be read has no empty frame: its reply is not counted.)
    const isCounted = envelope.length > 1;
    if (!this.socket.send([...envelope, payload], from.counter) || !isCounted) return;
    this.#count(from, sizeOf(envelope) + payload.length + REPLY_OVERHEAD_BYTES);
  }

  /** Sends an empty message, which wakes a client that has a lane. It is counted as a reply. */
  ring(from: Connection): void {
    if (from.disconnected || !this.socket.send([from.id!, EMPTY, EMPTY], from.counter)) return;
    this.#count(from, REPLY_OVERHEAD_BYTES);
  }

  #count(from: Connection, bytes: number): void {
    from.addReply(bytes);
    this.#connections.keepClosed(from);
    this.#pendingBytes += bytes;
    if (from.pendingReplies >= REPLIES_BEFORE_COLLECT) this.#collect(from);
  }

  /** Puts the rest of a message back: it comes again before the others of its client, once that has read enough. */
  putBack(message: ReceivedMessage, rest: Uint8Array): void {
    const { from, publicKey } = message;
    if (from.disconnected) return;
    const remaining = new ReceivedMessage(from, publicKey, { ...message, payload: rest });
    if (from.deferred.length === 0) this.#block(from);
    from.deferred.unshift(remaining);
    from.deferredBytes += rest.length;
  }

  /** Disconnects a client whose key is not authorized any more. */
  disconnect(publicKey: string): void {
    this.look();
    for (const each of this.#connections.ownedBy(publicKey)) {
      this.reject(each, "its key is not authorized any more");
    }
  }

  /** Notes that a client sent a message that cannot be read. */
  fault(from: Connection): void {
    if (++from.faults >= MAX_FAULTS) this.reject(from, "it sends what is no message");
  }

  /** Notes that a client sent one that can be read. */
  forgiveFault(from: Connection): void {
    if (from.faults > 0) from.faults--;
  }

  /** Notes that a client's message will be answered later. */
  begin(from: Connection): void {
    from.inFlight++;
    if (from.inFlight > this.#limits.requests) this.reject(from, "it has too many requests under way");
  }

  /** Notes that a message that was begun is about to be answered. */
  end(from: Connection): void {
    from.inFlight--;
  }

  /** Holds the next messages of a client back, so that they do not overtake one of it that is paused. */
  pause(from: Connection): void {
    from.paused++;
  }

  /** Ends {@linkcode Port.pause}. */
  resume(from: Connection): void {
    from.paused--;
    from.blockedSince = performance.now();
  }

  /** Whether something has arrived, or clients came or went, since the port was last looked at. */
  get changed(): boolean {
    return this.socket.changed;
  }

  /** Whether the next message of a client may be taken. If too many of its replies are pending, they are watched. */
  mayRead(from: Connection): boolean {
    if (from.disconnected || from.paused > 0) return false;
    if (!this.#isFull(from)) return true;
    if (!this.#blocked.has(from)) this.#block(from);
    return false;
  }

  /** Looks for a while, and notices who came or went. */
  spin(): boolean {
    if (!this.socket.spin()) return false;
    this.look();
    return true;
  }

  /** Resolves when there may be something to answer. */
  async wait(): Promise<void> {
    this.look();
    if (this.#blocked.size === 0) return await this.socket.wait();
    const timer = setTimeout(() => this.socket.wake(), POLL_MS);
    await this.socket.wait();
    clearTimeout(timer);
  }

  /** Ends a wait. */
  wake(): void {
    this.socket.wake();
  }

  /** Notices who connected and went away. Call it now and then. */
  look(): void {
    for (let event; (event = this.socket.nextEvent());) {
      const { what, value } = event;
      if (what === ZMQ.EVENT_ACCEPTED) this.#accept(value);
      else if (what === ZMQ.EVENT_DISCONNECTED) this.#connections.close(value);
      else this.#onEvent("refused", { endpoint: this.#address, why: refusal(what, value) });
    }
    if (this.#evicted > 0) {
      const why = `there may be ${this.#limits.clients} connections`;
      this.#onEvent("cut off", { endpoint: this.#address, why, connections: this.#evicted });
      this.#evicted = 0;
    }
    this.#connections.evictClosed((connection) => this.#collect(connection));
    if (this.#timer !== undefined || !this.#connections.hasClosed && !this.#mayRelease) return;
    const timer = this.#timer = setTimeout(() => this.#cleanUp(), CLOSED_RETENTION_MS * 1.1);
    Deno.unrefTimer(timer);
  }

  /** Whether there have been enough connections for their memory to be worth releasing. */
  get #mayRelease(): boolean {
    return this.#connections.accepted - this.#released >= CONNECTIONS_BEFORE_RELEASE;
  }

  /** Runs a while after connections were closed. */
  #cleanUp(): void {
    this.#timer = undefined;
    this.look();
    if (this.#connections.hasClosed || !this.#mayRelease) return;
    this.#released = this.#connections.accepted;
    this.socket.releaseMemory();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.socket.close();
  }

  #accept(fd: number): void {
    const evicted = this.#connections.add(fd);
    if (!evicted) return;
    this.#disconnect(evicted);
    this.#evicted++;
  }

  /** The connection by which the message came that was received last. */
  #sender(id: Uint8Array, publicKey: string | undefined): Connection {
    const fd = this.socket.source;
    const found = this.#connections.find(fd, id);
    if (found) return found;
    this.look();
    const sender = this.#connections.resolve(fd, id);
    if (sender.lastMessage === 0) this.#welcome(sender, id, publicKey);
    return sender;
  }

  /** The first message of a connection has come. */
  #welcome(connection: Connection, id: Uint8Array, publicKey: string | undefined): void {
    this.#connections.setOwner(connection, publicKey ?? this.socket.peerAddress);
    if (this.#connections.isClaimed(id)) {
      this.reject(connection, "it claims a routing id that it was not given");
    } else if (this.#connections.isChosen(id)) {
      // (It could choose another client's, and get its replies. Without keys it may do everything anyway.)
      if (this.encrypted) this.reject(connection, "it chose a routing id: with a key it may not");
      const before = this.#connections.takeOver(connection);
      if (before) this.#disconnect(before);
    }
  }

  /** Finds out what has left for a client. Whether something has. */
  #collect(connection: Connection): boolean {
    const sent = connection.collectSent();
    this.#pendingBytes -= sent;
    return sent > 0;
  }

  #collectAll(): void {
    const now = performance.now();
    if (now - this.#collectedAt < POLL_MS) return;
    this.#collectedAt = now;
    for (const connection of this.#connections.all()) this.#collect(connection);
  }

  /** Whether so much is pending for a client that its requests must wait. */
  #isFull(connection: Connection): boolean {
    const { outputBuffer } = this.#limits;
    if (this.#pendingBytes <= outputBuffer && connection.pendingBytes <= outputBuffer) return false;
    this.#collect(connection);
    const crowd = outputBuffer * CROWD;
    if (this.#pendingBytes > crowd) this.#collectAll();
    return connection.pendingBytes > (this.#pendingBytes > crowd ? crowd * CROWD_PART : outputBuffer);
  }

  /** Watches a client whose requests wait. */
  #block(from: Connection): void {
    from.blockedSince = performance.now();
    this.#blocked.add(from);
    // (The loop of another port may have taken its message: a wait that is under way does not watch it yet.)
    this.socket.wake();
  }

  #defer(message: ReceivedMessage): void {
    const { from } = message;
    if (from.deferred.length === 0) this.#block(from);
    from.deferred.push(message);
    from.deferredBytes += message.payload.length;
    const { requests, message: maxBytes } = this.#limits;
    if (from.deferred.length + from.inFlight > requests || from.deferredBytes > maxBytes) {
      this.reject(from, "it does not read its replies");
    }
  }

  /** A deferred message that need not wait any more. */
  #nextDeferred(): ReceivedMessage | undefined {
    const now = performance.now();
    for (const connection of this.#blocked) {
      if (connection.paused > 0) continue;
      if (this.#collect(connection)) connection.blockedSince = now;
      if (!this.#isFull(connection)) {
        this.#blocked.delete(connection);
        const message = connection.deferred.shift();
        // (What it sent may be in its lane.)
        if (!message) continue;
        connection.deferredBytes -= message.payload.length;
        // (The other clients take their turns before its next message.)
        if (connection.deferred.length > 0) this.#blocked.add(connection);
        return message;
      }
      if (now - connection.blockedSince > UNREAD_MS) this.reject(connection, "it does not read its replies");
    }
  }

  /** Disconnects a client that broke a rule. */
  reject(connection: Connection, why: string): void {
    // (Another connection may have its descriptor by now.)
    this.look();
    if (connection.disconnected) return;
    this.#disconnect(connection);
    this.#onEvent("cut off", { endpoint: this.#address, why });
  }

  #disconnect(connection: Connection): void {
    this.#blocked.delete(connection);
    connection.deferred.length = 0;
    connection.deferredBytes = 0;
    if (this.#connections.disconnect(connection)) this.socket.disconnect(connection.fd);
  }
}

/**
 * The routing id that a ROUTER gives to the first connection: each after it gets the next number. (It cannot be asked
 * for, so one is made.)
 */
function firstRoutingId(context: Context, router: Socket): Uint8Array {
  const address = `inproc://first-${crypto.randomUUID()}`;
  const probe = context.socket(ZMQ.DEALER, { linger: 0 });
  try {
    router.bind(address);
    probe.connect(address);
    probe.send([new Uint8Array(0)]);
    const [id] = router.receive()!;
    router.unbind(address);
    return id;
  } finally {
    probe.close();
  }
}

/** Why a handshake failed, by libzmq's event. */
function refusal(what: number, code: number): string {
  if (what === ZMQ.EVENT_HANDSHAKE_FAILED_NO_DETAIL) {
    return "it left during the handshake, without a key perhaps";
  }
  if (code === ZMQ.ZMTP_MECHANISM_MISMATCH) return "it came without a key";
  return code === ZMQ.ZMTP_CRYPTOGRAPHIC ? "it expects a host of another key" : "it does not speak ZeroMQ";
}
