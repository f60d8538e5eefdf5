/**
 * A host's end of an endpoint: a ROUTER socket, and what is known of each client that is connected to it.
 *
 * libzmq takes whatever peers send, keeps whatever they do not read, and lets in whoever comes. A port holds
 * them to {@linkcode Limits}:
 *
 *  - **Who.** A monitor tells the descriptor of each connection that is made or lost, and libzmq that of the
 *    connection by which a message came.
 *  - **What waits.** The empty frame of each reply names a counter as its bytes, and as the function that lets
 *    go of them libzmq's own `zmq_atomic_counter_inc`: when the frame has been sent, or dropped, the counter
 *    grows by one. Replies leave in their order, so it tells which of them still wait.
 *  - **Holding back.** While too much waits for a client, its requests wait too. Others are served.
 *  - **Cutting off.** `shutdown(2)` on the descriptor; libzmq then drops what it has for the client.
 *
 * @module
 */

import type { Limits } from "./limits.ts";
import { ZMQ } from "./libzmq.ts";
import { latin1 } from "./msgpack.ts";
import type { Context, Frames, Socket, SocketOptions } from "./socket.ts";

/** What a reply takes beside its bytes, roughly: libzmq's messages for its frames. */
const REPLY_BYTES = 512;
/** So many replies are sent to a client until it is looked which of them have left. */
const MANY_REPLIES = 64;
/** While for all clients together so many times waits what may wait for one, … */
const CROWD = 2;
/** … each may have this part of it only: a crowd that does not read takes little more than one client. */
const CROWD_PART = 1 / 16;
/** Requests of a client that libzmq reads ahead. */
const READ_AHEAD = 64;
/** Connections that the system queues until libzmq takes them. */
const BACKLOG = 1024;
/** A connection that has not shaken hands after so many milliseconds is cut off by libzmq. */
const HANDSHAKE_MS = 5_000;
/** How often it is looked whether clients that are held back have read something, in milliseconds. */
const LOOK_MS = 2;
/** A client that is held back and has read nothing for so many milliseconds is cut off. */
const PATIENCE_MS = 10_000;
/** After so many messages that are none, a client is cut off. Each that is one makes good for another. */
const MAX_FAULTS = 50;

/** Who is gone is known for so many milliseconds: libzmq may have messages of theirs. */
const GONE_MS = 1_000;

const EVENTS = ZMQ.EVENT_ACCEPTED | ZMQ.EVENT_DISCONNECTED | ZMQ.EVENT_HANDSHAKE_FAILED_PROTOCOL;

/** Tells why a client was not let in, or is no more. */
export type Told = (event: "cut off" | "refused", fields: Record<string, unknown>) => void;

/** A message that came. */
export interface Arrived {
  readonly from: Peer;
  readonly frames: Frames;
  /** Whom the doorman let in; undefined where there is none. */
  readonly user: string | undefined;
}

/** A client that is connected. */
export class Peer {
  /** Its connection's descriptor. */
  readonly fd: number;
  /** A message of it is paused: its next ones are held back, so that they do not overtake it. */
  paused = false;
  /** Its messages that are being answered over some time. */
  late = 0;
  /** Its messages that were none. */
  faults = 0;
  /** It is cut off: what it sent before that is thrown away. */
  cut = false;
  /** When its connection was lost, or 0. */
  goneAt = 0;
  /** The routing id of its messages; undefined until one has come. */
  id: Uint8Array | undefined;
  /** Whom the doorman let in; undefined until a message has come, and where there is no doorman. */
  user: string | undefined;
  /** Its messages that wait until it has read something, … */
  readonly held: Arrived[] = [];
  /** … their bytes, … */
  heldBytes = 0;
  /** … and since when it has read nothing. */
  heldSince = 0;
  /** Bytes of replies that libzmq has not begun to send. */
  waiting = 0;
  /** How many frames have been let go of. Threads of libzmq write it. */
  readonly #counter = new Int32Array(new ArrayBuffer(4));
  readonly released: Deno.PointerValue = Deno.UnsafePointer.of(this.#counter);
  #seen = 0;
  /** Of each reply that may still wait, what it takes; those before {@linkcode Peer.#first} do not wait any more. */
  #sizes: number[] = [];
  #first = 0;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** A reply was sent that raises the counter. */
  sent(bytes: number): void {
    this.#sizes.push(bytes);
    this.waiting += bytes;
  }

  /** How many replies may still wait. */
  get replies(): number {
    return this.#sizes.length - this.#first;
  }

  /** Looks what has left since the last time: its bytes. */
  settle(): number {
    const count = Atomics.load(this.#counter, 0);
    const end = this.#first + ((count - this.#seen) | 0);
    if (end === this.#first) return 0;
    this.#seen = count;
    let left = 0;
    while (this.#first < end) left += this.#sizes[this.#first++];
    this.waiting -= left;
    if (this.#first * 2 >= this.#sizes.length) {
      this.#sizes = this.#sizes.slice(this.#first);
      this.#first = 0;
    }
    return left;
  }
}

/** What a port needs to know. */
export interface PortOptions extends Pick<SocketOptions, "linger" | "curve"> {
  limits: Limits;
  told: Told;
}

/** A socket that serves an endpoint. */
export class Port {
  readonly socket: Socket;
  readonly #limits: Limits;
  readonly #told: Told;
  /** Whether clients come with keys. */
  readonly encrypted: boolean;
  /** By descriptor: the connections that there are. */
  readonly #peers = new Map<number, Peer>();
  /** How many of them are not cut off. */
  #open = 0;
  /** Connections that were cut off since there were too many, and that the log does not know of yet. */
  #crowded = 0;
  /** Those of them that have not sent anything, the oldest first. */
  readonly #silent = new Set<Peer>();
  /** Those that are held back. */
  readonly #held = new Set<Peer>();
  /** Those that are gone: libzmq may still have replies of theirs, … */
  readonly #gone = new Set<Peer>();
  /** … and messages, which are told by their routing ids. */
  readonly #goneById = new Map<string, Peer>();
  readonly #address: string;
  /** Bytes of replies that wait for all, and when that was last looked at. */
  #waiting = 0;
  #looked = 0;
  /** When those who are gone were looked at last. */
  #forgot = 0;

  /** Makes a port for an address, which it does not serve yet. */
  constructor(context: Context, address: string, { limits, told, linger, curve }: PortOptions) {
    this.#limits = limits;
    this.#told = told;
    this.encrypted = curve !== undefined;
    this.#address = address;
    this.socket = context.socket(ZMQ.ROUTER, {
      linger,
      curve,
      maxMessageSize: limits.message,
      // Replies are counted here.
      sendHighWaterMark: 0,
      receiveHighWaterMark: Math.min(limits.requests, READ_AHEAD),
      backlog: BACKLOG,
      handshakeInterval: HANDSHAKE_MS,
      // Who floods a network endpoint keeps a thread busy that others do not need.
      ioThread: address.startsWith("tcp://") ? 1 : 0,
      // (A peer without a key may see first that it is not understood, and leave.)
      events: EVENTS | (curve ? ZMQ.EVENT_HANDSHAKE_FAILED_NO_DETAIL : 0),
    });
  }

  /** How many are connected. */
  get clients(): number {
    this.look();
    return this.#open;
  }

  /** The next message to answer; undefined if none is there. */
  next(): Arrived | undefined {
    if (this.#held.size > 0) {
      const ready = this.#nextHeld();
      if (ready) return ready;
    }
    for (let frames; (frames = this.socket.receive());) {
      const from = this.#peerOf(this.socket.source, frames[0]);
      if (from.cut) continue;
      const user = this.encrypted ? this.socket.user : undefined;
      from.user = user;
      const arrived = { from, frames, user };
      if (from.held.length === 0 && !from.paused && !this.#isFull(from)) return arrived;
      this.#hold(arrived);
    }
  }

  /** Sends a reply. */
  reply(to: Peer, frames: Frames): void {
    if (to.cut) return;
    if (!this.socket.send(frames, to.released)) return;
    // (Who sends no empty frame gets a refusal, and is cut off if it goes on.)
    if (frames.length <= 2) return;
    const bytes = frames[frames.length - 1].length + REPLY_BYTES;
    to.sent(bytes);
    // (Somebody must keep the counter as long as libzmq has its address.)
    if (to.goneAt > 0) this.#gone.add(to);
    this.#waiting += bytes;
    if (to.replies >= MANY_REPLIES) this.#settle(to);
  }

  /** Disconnects a user, who is not authorized any more. */
  disconnect(user: string): void {
    for (const peer of [...this.#peers.values()]) {
      if (peer.user === user) this.#drop(peer, "its key is not authorized any more");
    }
  }

  /** A client sent something that is no message. */
  fault(from: Peer): void {
    if (++from.faults >= MAX_FAULTS) this.#drop(from, "it sends what is no message");
  }

  /** A client's message will be answered later. */
  begin(from: Peer): void {
    from.late++;
    if (from.late > this.#limits.requests) this.#drop(from, "it has too many requests under way");
  }

  /** A message that was begun is about to be answered. */
  end(to: Peer): void {
    to.late--;
  }

  /** Holds back the next messages of a client. */
  pause(from: Peer): void {
    from.paused = true;
  }

  /** Ends {@linkcode Port.pause}. */
  resume(from: Peer): void {
    from.paused = false;
    from.heldSince = performance.now();
  }

  /** Resolves when something may be there to answer. */
  async wait(spin: boolean): Promise<void> {
    this.look();
    if (this.#held.size === 0) return await this.socket.wait(spin);
    const timer = setTimeout(() => this.socket.wake(), LOOK_MS);
    await this.socket.wait(spin);
    clearTimeout(timer);
  }

  /** Learns who came and went. Call it now and then. */
  look(): void {
    for (let event; (event = this.socket.nextEvent());) {
      const { what, value } = event;
      if (what === ZMQ.EVENT_ACCEPTED) this.#enter(value);
      else if (what === ZMQ.EVENT_DISCONNECTED) this.#leave(value);
      else this.#told("refused", { endpoint: this.#address, why: refusal(what, value) });
    }
    if (this.#crowded > 0) {
      const why = `there may be ${this.#limits.clients} connections`;
      this.#told("cut off", { endpoint: this.#address, why, connections: this.#crowded });
      this.#crowded = 0;
    }
    if (this.#gone.size > 0) this.#forget();
  }

  /** Forgets those who are gone for some time, and of whom libzmq has nothing any more. */
  #forget(): void {
    const now = performance.now();
    if (now - this.#forgot < GONE_MS / 10) return;
    this.#forgot = now;
    for (const peer of this.#gone) {
      this.#settle(peer);
      if (now - peer.goneAt < GONE_MS || peer.replies > 0 || peer.late > 0) continue;
      this.#gone.delete(peer);
      const key = keyOf(peer.id!);
      if (this.#goneById.get(key) === peer) this.#goneById.delete(key);
    }
  }

  close(): void {
    this.socket.close();
  }

  #enter(fd: number): void {
    this.#leave(fd);
    const peer = new Peer(fd);
    this.#peers.set(fd, peer);
    this.#silent.add(peer);
    this.#open++;
    if (this.#open > this.#limits.clients) {
      // (The new one is silent itself.)
      const [first] = this.#silent;
      this.#cut(first);
      this.#crowded++;
    }
  }

  #leave(fd: number): void {
    const peer = this.#peers.get(fd);
    if (!peer) return;
    this.#peers.delete(fd);
    this.#silent.delete(peer);
    if (!peer.cut) this.#open--;
    this.#bury(peer);
  }

  /** What a client sent that is gone is still done, though nobody hears of it. */
  #bury(peer: Peer): void {
    peer.goneAt = performance.now();
    if (!peer.id) return;
    this.#gone.add(peer);
    this.#goneById.set(keyOf(peer.id), peer);
  }

  /** Looks what has left for a client. Whether something has. */
  #settle(peer: Peer): boolean {
    const left = peer.settle();
    this.#waiting -= left;
    return left > 0;
  }

  /** Whether so much waits for a client that its requests must wait as well. */
  #isFull(peer: Peer): boolean {
    const { waiting } = this.#limits;
    if (this.#waiting <= waiting && peer.waiting <= waiting) return false;
    this.#settle(peer);
    if (this.#waiting > waiting * CROWD) this.#settleAll();
    return peer.waiting > (this.#waiting > waiting * CROWD ? waiting * CROWD_PART : waiting);
  }

  #settleAll(): void {
    const now = performance.now();
    if (now - this.#looked < LOOK_MS) return;
    this.#looked = now;
    for (const peers of [this.#peers.values(), this.#gone]) for (const peer of peers) this.#settle(peer);
  }

  /** Whose message it is that came by a connection, with a routing id. */
  #peerOf(fd: number, id: Uint8Array): Peer {
    let peer = this.#peers.get(fd);
    if (!peer || !same(peer.id ?? id, id) || peer.cut && id[0] !== 0) {
      // Another connection may have the descriptor by now. (Routing ids that libzmq makes begin with 0, and no two
      // are the same.)
      this.look();
      peer = this.#peers.get(fd);
      if (!peer) {
        // One that is gone already.
        peer = this.#goneById.get(keyOf(id)) ?? new Peer(fd);
        peer.id = id;
        if (peer.goneAt === 0) this.#bury(peer);
      }
    }
    if (!peer.id) {
      peer.id = id;
      this.#silent.delete(peer);
    }
    return peer;
  }

  #hold(arrived: Arrived): void {
    const { from } = arrived;
    if (from.held.length === 0) {
      from.heldSince = performance.now();
      this.#held.add(from);
    }
    from.held.push(arrived);
    from.heldBytes += bytesOf(arrived);
    if (from.held.length + from.late > this.#limits.requests || from.heldBytes > this.#limits.message) {
      this.#drop(from, "it does not read its replies");
    }
  }

  /** A message that was held back and need not be any more. */
  #nextHeld(): Arrived | undefined {
    const now = performance.now();
    for (const peer of this.#held) {
      if (peer.paused) continue;
      if (this.#settle(peer)) peer.heldSince = now;
      if (!this.#isFull(peer)) {
        const arrived = peer.held.shift()!;
        peer.heldBytes -= bytesOf(arrived);
        // Others have their turn first.
        this.#held.delete(peer);
        if (peer.held.length > 0) this.#held.add(peer);
        return arrived;
      }
      if (now - peer.heldSince > PATIENCE_MS) this.#drop(peer, "it does not read its replies");
    }
  }

  #drop(peer: Peer, why: string): void {
    // (Another connection may have its descriptor by now.)
    this.look();
    this.#cut(peer);
    this.#told("cut off", { endpoint: this.#address, why });
  }

  #cut(peer: Peer): void {
    if (peer.cut) return;
    peer.cut = true;
    this.#held.delete(peer);
    peer.held.length = 0;
    if (this.#peers.get(peer.fd) !== peer) return;
    this.#open--;
    this.#silent.delete(peer);
    this.socket.cut(peer.fd);
  }
}

function bytesOf({ frames }: Arrived): number {
  return frames.reduce((sum, { length }) => sum + length, 0);
}

const keyOf = (id: Uint8Array) => latin1(id, 0, id.length);

function same(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** What libzmq's event says of a handshake that failed. */
function refusal(what: number, code: number): string {
  if (what === ZMQ.EVENT_HANDSHAKE_FAILED_NO_DETAIL) {
    return "it left during the handshake, without a key perhaps";
  }
  if (code === ZMQ.ZMTP_MECHANISM_MISMATCH) return "it came without a key";
  return code === ZMQ.ZMTP_CRYPTOGRAPHIC ? "it expects a host of another key" : "it does not speak ZeroMQ";
}
