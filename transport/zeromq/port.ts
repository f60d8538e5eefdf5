/**
 * A host's end of an endpoint: a ROUTER socket, and what is known of the clients that are connected to it.
 *
 * libzmq takes whatever peers send, keeps whatever they do not read, and lets in whoever comes. A port holds
 * them to {@linkcode Limits}:
 *
 *  - **Who.** A monitor tells the descriptor of each connection that is opened or closed, and libzmq that of the
 *    connection by which a message came: see {@link ./connections.ts}.
 *  - **Output buffers.** How many bytes of replies are pending for a client: see {@link ./connection.ts}.
 *  - **Backpressure.** While too much is pending for a client, its requests wait too. Others are served.
 *  - **Disconnecting.** `shutdown(2)` on the descriptor; libzmq then drops what it has for the client.
 *
 * @module
 */

import type { Arrived, Connection } from "./connection.ts";
import { CLOSED_RETENTION_MS, Connections } from "./connections.ts";
import type { Limits } from "../limits.ts";
import { ZMQ } from "./libzmq.ts";
import type { Context, Frames, Socket, SocketOptions } from "./socket.ts";

/** What a reply takes beside its bytes, roughly: libzmq's messages for its frames. */
const REPLY_OVERHEAD_BYTES = 512;
/** How many replies are sent to a client before it is looked which of them have left. */
const REPLIES_BEFORE_COLLECT = 64;
/** While for all clients together this many times more is pending than may be for one, … */
const CROWD = 2;
/** … each may have this part of it only: a crowd that does not read takes little more than one client. */
const CROWD_PART = 1 / 16;
/** Requests of a client that libzmq reads ahead. */
const READ_AHEAD = 64;
/**
 * Bytes that libzmq reads at once, where the rest of a frame is not longer: less than the shortest command PING, so
 * that none can be behind a message in libzmq's buffer. It ends the process if it finds one there once the
 * connection is lost and its input was stopped, since more had come than was received.
 */
const READ_SIZE = 6;
/** Connections that the system queues until libzmq takes them. */
const BACKLOG = 1024;
/** How long a handshake may take before libzmq disconnects the client, in milliseconds. */
const HANDSHAKE_MS = 5_000;
/** How often it is looked whether clients whose requests wait have read something, in milliseconds. */
const POLL_MS = 2;
/** How long a client may leave its replies unread before it is disconnected, in milliseconds. */
const UNREAD_MS = 10_000;
/** After how many connections their memory is given back to the system. */
const CONNECTIONS_BEFORE_RELEASE = 4096;
/** How many messages that are none may come from a client. Each that is one makes good for another. */
const MAX_FAULTS = 50;

const EVENTS = ZMQ.EVENT_ACCEPTED | ZMQ.EVENT_DISCONNECTED | ZMQ.EVENT_HANDSHAKE_FAILED_PROTOCOL;

/** Hears why a client was not let in, or was disconnected. */
export type EventListener = (event: "cut off" | "refused", fields: Record<string, unknown>) => void;

/** What a port needs to know. */
export interface PortOptions extends Pick<SocketOptions, "linger" | "curve"> {
  limits: Limits;
  onEvent: EventListener;
}

/** A socket that serves an endpoint. */
export class Port {
  readonly socket: Socket;
  /** Whether clients come with keys. */
  readonly encrypted: boolean;
  readonly #limits: Limits;
  readonly #onEvent: EventListener;
  readonly #address: string;
  readonly #connections: Connections;
  /** How many were disconnected to make room, and the log does not know of yet. */
  #evicted = 0;
  /** Those whose requests wait. */
  readonly #blocked = new Set<Connection>();
  /** Forgets those that are closed, also when nobody comes any more. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** How many connections there had been when memory was given back. */
  #released = 0;
  /** Messages that have come. */
  #messages = 0;
  /** Bytes of replies that are pending for all, and when that was last looked at. */
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
      // Replies are counted here.
      sendHighWaterMark: 0,
      receiveHighWaterMark: Math.min(limits.requests, READ_AHEAD),
      readSize: READ_SIZE,
      // libzmq keeps what it has of an ignored connection for ever.
      handover: true,
      backlog: BACKLOG,
      handshakeInterval: HANDSHAKE_MS,
      // Who floods a network endpoint keeps a thread busy that others do not need.
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

  /** Bytes of replies that are pending for all clients, as far as is known. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** The next message to answer; undefined if none is there. */
  next(): Arrived | undefined {
    if (this.#blocked.size > 0) {
      const ready = this.#nextDeferred();
      if (ready) return ready;
    }
    for (let frames; (frames = this.socket.receive());) {
      const user = this.encrypted ? this.socket.user : undefined;
      const from = this.#sender(frames[0], user);
      if (from.disconnected) continue;
      from.lastMessage = ++this.#messages;
      const arrived = { from, frames, user };
      if (from.deferred.length === 0 && from.paused === 0 && !this.#isFull(from)) return arrived;
      this.#defer(arrived);
    }
  }

  /** Sends a reply. */
  reply(to: Connection, frames: Frames): void {
    if (to.disconnected) return;
    const counted = hasEmptyFrame(frames);
    // (A message without an empty frame is a fault: of its envelope nothing goes back.)
    if (!counted) frames = [frames[0], frames[frames.length - 1]];
    if (!this.socket.send(frames, to.counter) || !counted) return;
    const bytes = sizeOf(frames) + REPLY_OVERHEAD_BYTES;
    to.addReply(bytes);
    this.#connections.keepClosed(to);
    this.#pendingBytes += bytes;
    if (to.pendingReplies >= REPLIES_BEFORE_COLLECT) this.#collect(to);
  }

  /** Disconnects a client whose key is not authorized any more. */
  disconnect(key: string): void {
    this.look();
    for (const each of this.#connections.ownedBy(key)) {
      this.#reject(each, "its key is not authorized any more");
    }
  }

  /** Notes that a client sent something that is no message. */
  fault(from: Connection): void {
    if (++from.faults >= MAX_FAULTS) this.#reject(from, "it sends what is no message");
  }

  /** Notes that a client's message will be answered later. */
  begin(from: Connection): void {
    from.inFlight++;
    if (from.inFlight > this.#limits.requests) this.#reject(from, "it has too many requests under way");
  }

  /** Notes that a message that was begun is about to be answered. */
  end(to: Connection): void {
    to.inFlight--;
  }

  /** Has the next messages of a client wait, so that they do not overtake one of it that is paused. */
  pause(from: Connection): void {
    from.paused++;
  }

  /** Ends {@linkcode Port.pause}. */
  resume(from: Connection): void {
    from.paused--;
    from.blockedSince = performance.now();
  }

  /** Resolves when something may be there to answer. */
  async wait(spin: boolean): Promise<void> {
    this.look();
    if (this.#blocked.size === 0) return await this.socket.wait(spin);
    const timer = setTimeout(() => this.socket.wake(), POLL_MS);
    await this.socket.wait(spin);
    clearTimeout(timer);
  }

  /** Learns who came and went. Call it now and then. */
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

  /** Whether so many connections have come that it is worth while to give their memory back. */
  get #mayRelease(): boolean {
    return this.#connections.accepted - this.#released >= CONNECTIONS_BEFORE_RELEASE;
  }

  /** A while after some connections were closed. */
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
  #sender(id: Uint8Array, user: string | undefined): Connection {
    const fd = this.socket.source;
    const found = this.#connections.find(fd, id);
    if (found) return found;
    this.look();
    const sender = this.#connections.resolve(fd, id);
    if (sender.lastMessage === 0) this.#welcome(sender, id, user);
    return sender;
  }

  /** The first message of a connection has come. */
  #welcome(connection: Connection, id: Uint8Array, user: string | undefined): void {
    this.#connections.setOwner(connection, user ?? this.socket.peerAddress);
    if (this.#connections.isClaimed(id)) {
      this.#reject(connection, "it claims a routing id that it was not given");
    } else if (this.#connections.isChosen(id)) {
      // (It could choose that of another client, and get its replies. Where there are no keys it may do all anyway.)
      if (this.encrypted) this.#reject(connection, "it chose a routing id: with a key it may not");
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

  /** Whether so much is pending for a client that its requests must wait as well. */
  #isFull(connection: Connection): boolean {
    const { outputBuffer } = this.#limits;
    if (this.#pendingBytes <= outputBuffer && connection.pendingBytes <= outputBuffer) return false;
    this.#collect(connection);
    const crowd = outputBuffer * CROWD;
    if (this.#pendingBytes > crowd) this.#collectAll();
    return connection.pendingBytes > (this.#pendingBytes > crowd ? crowd * CROWD_PART : outputBuffer);
  }

  /** Takes back what is left of a message: it comes again before the others of its client, once that has read enough. */
  putBack(arrived: Arrived): void {
    const { from } = arrived;
    if (from.disconnected) return;
    if (from.deferred.length === 0) from.blockedSince = performance.now();
    from.deferred.unshift(arrived);
    from.deferredBytes += sizeOf(arrived.frames);
    this.#blocked.add(from);
  }

  #defer(arrived: Arrived): void {
    const { from } = arrived;
    if (from.deferred.length === 0) {
      from.blockedSince = performance.now();
      this.#blocked.add(from);
    }
    from.deferred.push(arrived);
    from.deferredBytes += sizeOf(arrived.frames);
    const { requests, message } = this.#limits;
    if (from.deferred.length + from.inFlight > requests || from.deferredBytes > message) {
      this.#reject(from, "it does not read its replies");
    }
  }

  /** A message that waited and need not any more. */
  #nextDeferred(): Arrived | undefined {
    const now = performance.now();
    for (const connection of this.#blocked) {
      if (connection.paused > 0) continue;
      if (this.#collect(connection)) connection.blockedSince = now;
      if (!this.#isFull(connection)) {
        const arrived = connection.deferred.shift()!;
        connection.deferredBytes -= sizeOf(arrived.frames);
        // Others have their turn first.
        this.#blocked.delete(connection);
        if (connection.deferred.length > 0) this.#blocked.add(connection);
        return arrived;
      }
      if (now - connection.blockedSince > UNREAD_MS) this.#reject(connection, "it does not read its replies");
    }
  }

  /** Disconnects a client that did what it may not. */
  #reject(connection: Connection, why: string): void {
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

function hasEmptyFrame(frames: Frames): boolean {
  // (The first is the routing id, the last the payload.)
  for (let i = 1; i < frames.length - 1; i++) if (frames[i].length === 0) return true;
  return false;
}

function sizeOf(frames: Frames): number {
  let bytes = 0;
  for (const { length } of frames) bytes += length;
  return bytes;
}

/** What libzmq's event says of a handshake that failed. */
function refusal(what: number, code: number): string {
  if (what === ZMQ.EVENT_HANDSHAKE_FAILED_NO_DETAIL) {
    return "it left during the handshake, without a key perhaps";
  }
  if (code === ZMQ.ZMTP_MECHANISM_MISMATCH) return "it came without a key";
  return code === ZMQ.ZMTP_CRYPTOGRAPHIC ? "it expects a host of another key" : "it does not speak ZeroMQ";
}
