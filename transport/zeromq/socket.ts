/**
 * ZeroMQ sockets as the host and the client need them: send and receive at once or not at all, and one way to wait.
 *
 * libzmq tells through a file descriptor (`ZMQ_FD`) that a socket's state may have changed. It is edge-triggered, and
 * *any* call on the socket may swallow the edge. So a socket looks at its state before it waits, and every call made during
 * a wait ends the wait if the state is another than when it began. {@link ./poller.ts} watches the descriptors.
 *
 * When denoland/deno#36317 is fixed, this file and the poller can go.
 *
 * The file is long and holds one idea: one socket, whose calls all have to keep track of that state.
 *
 * @module
 */

import type { KeyPair } from "../transport.ts";
import { type Frames, MAX_FRAMES } from "./frames.ts";
import { cString, lastError, type Libzmq, size, ZMQ } from "./libzmq.ts";
import { PeerState, readEvent, type SocketEvent } from "./monitor.ts";

/**
 * How long {@linkcode Socket.spin} looks, in milliseconds. A process that sleeps is woken through three threads, which takes
 * longer than most replies; while it looks, it yields the processor to libzmq's threads.
 */
const SPIN_MS = 0.1;
/** The longest that a thread is blocked at once, in milliseconds: the caller waits again. */
const MAX_POLL_MS = 1000;

/** How often a host over TCP is asked whether it lives, and how long it may take to say so, in milliseconds. */
const HEARTBEAT_MS = 2_000;
const HEARTBEAT_TIMEOUT_MS = 6_000;

/** When the system asks whether a silent client over TCP lives, how often, in seconds, and how many times. */
const KEEPALIVE_IDLE_S = 30;
const KEEPALIVE_INTERVAL_S = 5;
const KEEPALIVE_COUNT = 3;

/** Options of a {@linkcode Socket}; those left out are libzmq's defaults. */
export interface SocketOptions {
  /** How long, in milliseconds, unsent messages outlive the socket. */
  linger: number;
  /** Whether to watch the one peer that the socket connects to, see {@linkcode Socket.peer}. */
  watchPeer?: boolean;
  /** Milliseconds before the first attempt to connect again. */
  reconnectInterval?: number;
  /** Attempts to connect again double their interval up to this many milliseconds. */
  reconnectIntervalMax?: number;
  /** Bytes; a peer that sends a longer frame is disconnected. */
  maxMessageSize?: number;
  /**
   * Our keys. With a peer's key the socket connects to that peer and no other; without one it accepts the peers that the
   * handler of the context lets in.
   */
  curve?: KeyPair & { serverKey?: string };
  /** Messages that may wait for one peer, and that may come from one before they are received; 0 is any number. */
  sendHighWaterMark?: number;
  receiveHighWaterMark?: number;
  /** Whether a connection with a routing id that another one has takes it over, or is ignored. */
  handover?: boolean;
  /** Bytes that are read from a connection at once, unless the rest of a frame is longer. */
  readSize?: number;
  /** Connections that may wait to be accepted. */
  backlog?: number;
  /** Milliseconds that a handshake may take. */
  handshakeInterval?: number;
  /** Which of the context's threads serves it. */
  ioThread?: number;
  /** The events that {@linkcode Socket.nextEvent} returns. */
  events?: number;
}

/** `sizeof(zmq_pollitem_t)`: void *socket, int fd, short events, short revents. */
export const POLL_ITEM = 16;

/** What `zmq_poll` reads: descriptors to watch for something to receive. */
export function pollItems(fds: readonly number[]): DataView<ArrayBuffer> {
  const items = new DataView(new ArrayBuffer(POLL_ITEM * fds.length));
  fds.forEach((fd, i) => {
    items.setInt32(i * POLL_ITEM + 8, fd, true);
    items.setInt16(i * POLL_ITEM + 12, ZMQ.POLLIN, true);
  });
  return items;
}

/** Watches the descriptors of sockets that wait. */
export interface Waiter {
  /** Resolves when one of the descriptors tells of something, or at {@linkcode Waiter.wake} for the first. */
  wait(fd: number, other?: number): Promise<void>;
  /** Ends a wait. */
  wake(fd: number): void;
}

/** A buffer off V8's heap: its address stays the same while libzmq keeps or fills it. */
const fixed = (bytes: number) => new Uint8Array(new ArrayBuffer(bytes));
const EMPTY = fixed(0);
const USER_ID = cString("User-Id");
const PEER_ADDRESS = cString("Peer-Address");

/** More than a system buffers for a socket: a client that is disconnected may go on sending while this is read. */
const MAX_UNREAD = 2 ** 23;
const discardBuffer = fixed(1 << 16);

const optionValue = fixed(256);
const optionView = new DataView(optionValue.buffer);
const optionSize = fixed(8);
const optionSizeView = new DataView(optionSize.buffer);

/** One ZeroMQ socket. No call blocks; {@linkcode Socket.wait} waits. */
export class Socket {
  readonly #zmq: Libzmq;
  #pointer: Deno.PointerValue;
  readonly #poller: Waiter | undefined;
  readonly #monitor: Socket | undefined;
  readonly #peerState = new PeerState();
  /** The descriptor on which libzmq tells that the state may have changed. */
  readonly fd: number;
  /** A `zmq_msg_t`, used again for every frame. */
  readonly #message = fixed(64);
  /** Another, for an empty frame that is counted. */
  readonly #counted = fixed(64);
  /** The state that was last told to the caller, who has acted on it. */
  #told = 0;
  /** Whether a wait is under way. */
  #waiting = false;

  /** Use {@linkcode Context.socket}. */
  constructor(
    zmq: Libzmq,
    pointer: Deno.PointerValue,
    options: SocketOptions,
    poller?: Waiter,
    monitor?: Socket,
  ) {
    this.#zmq = zmq;
    this.#pointer = pointer;
    this.#poller = poller;
    this.#monitor = monitor;
    zmq.zmq_msg_init(this.#message);
    this.#set(ZMQ.LINGER, options.linger);
    if (options.reconnectInterval) this.#set(ZMQ.RECONNECT_IVL, options.reconnectInterval);
    if (options.reconnectIntervalMax) this.#set(ZMQ.RECONNECT_IVL_MAX, options.reconnectIntervalMax);
    if (options.sendHighWaterMark !== undefined) this.#set(ZMQ.SNDHWM, options.sendHighWaterMark);
    if (options.receiveHighWaterMark !== undefined) this.#set(ZMQ.RCVHWM, options.receiveHighWaterMark);
    if (options.handover) this.#set(ZMQ.ROUTER_HANDOVER, 1);
    if (options.readSize) this.#set(ZMQ.IN_BATCH_SIZE, options.readSize);
    if (options.backlog) this.#set(ZMQ.BACKLOG, options.backlog);
    if (options.handshakeInterval) this.#set(ZMQ.HANDSHAKE_IVL, options.handshakeInterval);
    if (options.ioThread !== undefined) this.#set(ZMQ.AFFINITY, 1 << options.ioThread, 8);
    if (options.curve) this.#encrypt(options.curve);
    if (options.maxMessageSize) this.#set(ZMQ.MAXMSGSIZE, options.maxMessageSize, 8);
    this.fd = this.#get(ZMQ.FD);
  }

  /** A message is there to receive. */
  get readable(): boolean {
    return (this.#state() & ZMQ.POLLIN) !== 0;
  }

  /** A message can be sent, or queued for a peer that is not there yet. */
  get writable(): boolean {
    return (this.#state() & ZMQ.POLLOUT) !== 0;
  }

  /**
   * With `watchPeer`: how the connection to the peer stands. Replies that arrived before the peer was lost can still be
   * received.
   */
  get peer(): "none" | "connected" | "lost" {
    for (let event; (event = this.nextEvent());) this.#peerState.update(event);
    return this.#peerState.peer;
  }

  /** With `watchPeer`: whether the peer refuses us, when {@linkcode Socket.peer} was last read. */
  get refused(): boolean {
    return this.#peerState.refused;
  }

  /** With `watchPeer`: whether a peer was found that has not completed the handshake. */
  get reached(): boolean {
    return this.#peerState.reached;
  }

  /** With `watchPeer`: whether the last attempt to connect found no peer. Another one follows. */
  get unreachable(): boolean {
    return this.#peerState.unreachable;
  }

  /** With `events`: the next of them that was not told yet; undefined if there is none. */
  nextEvent(): SocketEvent | undefined {
    const frames = this.#monitor?.receive();
    if (!frames) return undefined;
    // (The caller that waits has not seen it.)
    if (this.#waiting) this.wake();
    return readEvent(frames[0]);
  }

  /**
   * Has the system detect clients that vanished: over TCP nothing else does.
   *
   * A host sends no heartbeats itself. libzmq ends the process if one is due on a connection that was lost while its
   * input was stopped, since more had arrived than was received.
   */
  #keepAlive(): void {
    this.#set(ZMQ.TCP_KEEPALIVE, 1);
    this.#set(ZMQ.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S);
    this.#set(ZMQ.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S);
    this.#set(ZMQ.TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT);
  }

  /** Sends heartbeats to a host, and has it disconnect us when they stop. */
  #sendHeartbeats(): void {
    this.#set(ZMQ.HEARTBEAT_IVL, HEARTBEAT_MS);
    this.#set(ZMQ.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS);
    this.#set(ZMQ.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS);
    // (Input must never be stopped, see above: a client bounds what it asks for.)
    this.#set(ZMQ.RCVHWM, 0);
  }

  /**
   * Serves an address. Answers with the address bound, which differs where the one given has a wildcard.
   *
   * @param mode Of the socket file, if the address has one.
   */
  bind(address: string, mode = 0o600): string {
    this.#allowIpv6(address);
    if (address.startsWith("tcp://")) this.#keepAlive();
    // (A file that is closed to others later could have been opened by them before.)
    const mask = this.#zmq.umask(0o777 & ~mode);
    const result = this.#zmq.zmq_bind(this.#pointer, cString(address));
    this.#zmq.umask(mask);
    this.#check(result, `serve ${address}`);
    optionSizeView.setUint32(0, optionValue.length, true);
    this.#zmq.zmq_getsockopt(this.#pointer, ZMQ.LAST_ENDPOINT, optionValue, optionSize);
    return new TextDecoder().decode(optionValue.slice(0, optionSizeView.getUint32(0, true) - 1));
  }

  /** Stops serving an address. */
  unbind(address: string): void {
    this.#check(this.#zmq.zmq_unbind(this.#pointer, cString(address)), `stop to serve ${address}`);
  }

  /** From now on, only processes of this user can connect over `ipc://`; libzmq closes others as it accepts them. */
  allowUser(uid: number): void {
    this.#set(ZMQ.IPC_FILTER_UID, uid);
  }

  /** Connects, and connects again whenever the peer is back, in libzmq's own thread. */
  connect(address: string): void {
    this.#allowIpv6(address);
    if (address.startsWith("tcp://")) this.#sendHeartbeats();
    this.#check(this.#zmq.zmq_connect(this.#pointer, cString(address)), `connect to ${address}`);
  }

  /** The next message, or undefined if none is there. */
  receive(): Frames | undefined {
    const zmq = this.#zmq, message = this.#message;
    if (this.#pointer === null) return undefined;
    let length = this.#receiveFrame();
    if (length < 0) return undefined;
    const frames = [this.#frame(length)];
    while (zmq.zmq_msg_more(message) !== 0) {
      length = this.#receiveFrame();
      if (frames.length < MAX_FRAMES) frames.push(this.#frame(length));
    }
    return frames;
  }

  /** The key of the client that sent the last message received; undefined where clients have no keys. */
  get user(): string | undefined {
    return this.#property(USER_ID);
  }

  /**
   * Where the last message received came from: the address of a machine, or `:uid:gid:pid` of a process over `ipc://` (on
   * macOS without the process).
   */
  get peerAddress(): string {
    return this.#property(PEER_ADDRESS) ?? "";
  }

  #property(name: Uint8Array<ArrayBuffer>): string | undefined {
    const value = this.#zmq.zmq_msg_gets(this.#message, name);
    return value === null ? undefined : Deno.UnsafePointerView.getCString(value);
  }

  /** The descriptor of the connection by which the last message received came; or -1. */
  get source(): number {
    return this.#zmq.zmq_msg_get(this.#message, ZMQ.SRCFD);
  }

  /**
   * Ends the connection that has a descriptor. Messages to its peer are dropped, and so is what the peer has sent and
   * libzmq has not read: libzmq would read it first.
   */
  disconnect(fd: number): void {
    for (let unread = MAX_UNREAD; unread > 0;) {
      const length = Number(this.#zmq.recv(fd, discardBuffer, size(discardBuffer.length), ZMQ.MSG_DONTWAIT));
      if (length <= 0) break;
      unread -= length;
    }
    this.#zmq.shutdown(fd, ZMQ.SHUT_RDWR);
  }

  /** Returns memory to the system that libzmq used for connections. It may take some milliseconds. */
  releaseMemory(): void {
    this.#zmq.malloc_trim?.(size(0));
  }

  /**
   * Sends a message. False where it could not leave: nothing was sent.
   *
   * @param released The address of a number, 32 bits, that grows by one when the first empty frame has been sent, or
   * was dropped: a thread of libzmq writes it, at any time until then.
   */
  send(frames: Frames, released?: Deno.PointerValue): boolean {
    if (this.#pointer === null) return false;
    const last = frames.length - 1;
    let address = released;
    for (let i = 0; i <= last; i++) {
      const frame = frames[i] as Uint8Array<ArrayBuffer>;
      const flags = i < last ? ZMQ.DONTWAIT | ZMQ.SNDMORE : ZMQ.DONTWAIT;
      if (address !== undefined && frame.length === 0 && i < last) {
        if (!this.#sendCounted(address, flags)) return false;
        address = undefined;
        continue;
      }
      while (this.#zmq.zmq_send(this.#pointer, frame, size(frame.length), flags) < 0) {
        // A signal may interrupt any call of libzmq; half a message must not stay behind.
        if (this.#zmq.zmq_errno() !== ZMQ.EINTR) return false;
      }
    }
    if (this.#waiting) this.#state();
    return true;
  }

  /** Resolves when a message is there, when the state may have changed, or at {@linkcode Socket.wake}. */
  async wait(): Promise<void> {
    // (Reading the state may have swallowed the edge of a change that the caller has not seen.)
    if (this.changed || !this.#poller) return;
    this.#waiting = true;
    await this.#poller.wait(this.fd, this.#monitor?.fd);
    this.#waiting = false;
  }

  /** Whether a message is there, or the state or the peer may have changed since the caller last looked. */
  get changed(): boolean {
    const told = this.#told, state = this.#state();
    return this.#pointer === null || (state & ZMQ.POLLIN) !== 0 || state !== told ||
      this.#monitor?.readable === true;
  }

  /** Looks for a while, and lets other processes run in between. {@linkcode Socket.changed}. */
  spin(): boolean {
    const end = performance.now() + SPIN_MS;
    do {
      if (this.changed) return true;
      this.#zmq.sched_yield?.();
    } while (performance.now() < end);
    return false;
  }

  /** {@linkcode Socket.wait}, which blocks the thread: for `timeout` milliseconds at most. */
  waitSync(timeout: number): void {
    if (this.changed) return;
    const fds = this.#monitor ? [this.fd, this.#monitor.fd] : [this.fd];
    const items = new Uint8Array(pollItems(fds).buffer);
    this.#zmq.poll_sync(items, fds.length, size(Math.min(Math.ceil(timeout), MAX_POLL_MS)));
  }

  /** Ends a wait. */
  wake(): void {
    this.#poller?.wake(this.fd);
  }

  /** Ends a wait and closes. What was sent still leaves, until the linger has passed. */
  close(): void {
    if (this.#pointer === null) return;
    this.wake();
    // (Otherwise libzmq's thread would wait forever to send the next event: zeromq/libzmq#3575.)
    if (this.#monitor) this.#zmq.zmq_socket_monitor(this.#pointer, null, 0);
    this.#monitor?.close();
    this.#zmq.zmq_msg_close(this.#message);
    this.#zmq.zmq_close(this.#pointer);
    this.#pointer = null;
  }

  /** Sends an empty frame that raises a number when libzmq frees it. */
  #sendCounted(address: Deno.PointerValue, flags: number): boolean {
    const zmq = this.#zmq;
    zmq.zmq_msg_init_data(this.#counted, address, size(0), zmq.zmq_atomic_counter_inc, null);
    while (zmq.zmq_msg_send(this.#counted, this.#pointer, flags) < 0) {
      if (zmq.zmq_errno() === ZMQ.EINTR) continue;
      zmq.zmq_msg_close(this.#counted);
      return false;
    }
    return true;
  }

  /** Bytes of the frame that is in {@linkcode Socket.#message} now; less than 0 if none has come. */
  #receiveFrame(): number {
    for (;;) {
      const length = this.#zmq.zmq_msg_recv(this.#message, this.#pointer, ZMQ.DONTWAIT);
      if (length >= 0 || this.#zmq.zmq_errno() !== ZMQ.EINTR) return length;
    }
  }

  #frame(length: number): Uint8Array {
    if (length <= 0) return EMPTY;
    const bytes = new Uint8Array(length);
    Deno.UnsafePointerView.copyInto(this.#zmq.zmq_msg_data(this.#message)!, bytes);
    return bytes;
  }

  /** `ZMQ_EVENTS`. Reading it may swallow the edge that a wait is waiting for, so a change ends the wait. */
  #state(): number {
    const state = this.#get(ZMQ.EVENTS);
    if (this.#waiting && state !== this.#told) this.wake();
    this.#told = state;
    return state;
  }

  #get(name: number): number {
    if (this.#pointer === null) return 0;
    optionSizeView.setUint32(0, 4, true);
    while (this.#zmq.zmq_getsockopt(this.#pointer, name, optionValue, optionSize) < 0) {
      if (this.#zmq.zmq_errno() !== ZMQ.EINTR) return 0;
    }
    return optionView.getInt32(0, true);
  }

  #encrypt({ publicKey, secretKey, serverKey }: KeyPair & { serverKey?: string }): void {
    this.#setText(ZMQ.CURVE_SECRETKEY, secretKey);
    this.#setText(ZMQ.CURVE_PUBLICKEY, publicKey);
    if (serverKey === undefined) {
      this.#set(ZMQ.CURVE_SERVER, 1);
      this.#setText(ZMQ.ZAP_DOMAIN, "memstore");
    } else {
      this.#setText(ZMQ.CURVE_SERVERKEY, serverKey);
    }
  }

  #setText(name: number, value: string): void {
    const bytes = cString(value);
    // (The value may be a secret.)
    const result = this.#zmq.zmq_setsockopt(this.#pointer, name, bytes, size(bytes.length - 1));
    this.#check(result, `set option ${name}`);
  }

  /** (With the option, libzmq serves IPv4 addresses through IPv6, which the system may not have: so only where needed.) */
  #allowIpv6(address: string): void {
    if (address.includes("[")) this.#set(ZMQ.IPV6, 1);
  }

  #set(name: number, value: number, bytes: 4 | 8 = 4): void {
    optionView.setBigInt64(0, BigInt(value), true);
    const result = this.#zmq.zmq_setsockopt(this.#pointer, name, optionValue, size(bytes));
    this.#check(result, `set option ${name} to ${value}`);
  }

  #check(result: number, what: string): void {
    if (result < 0) throw new Error(`Cannot ${what}: ${lastError(this.#zmq)}`);
  }
}
