/**
 * What client and host need of whatever carries their messages: a few methods. {@link ./zeromq/dealer.ts} (client) and
 * {@link ./zeromq/port.ts} (host) implement them over ZeroMQ, {@link ./shared/dealer.ts} and {@link ./shared/port.ts} through
 * shared memory. A transport knows no command.
 *
 * ```text
 *  client                                                       host
 *  session ─► Transport.send ─ ─ header, payload ─ ─► Port.next ─► serving loop
 *          ◄─ Transport.receive ◄ ─ header, payload ─ Port.reply ◄─
 * ```
 *
 * A message is bytes, a header and a payload: {@link ./message.ts} says what they mean. Messages of one client arrive in the
 * order in which it sent them, also where it is connected in several ways at once.
 *
 * @module
 */

import type { Reply } from "./message.ts";
import type { MemoryOffer } from "./shared/offer.ts";

/** A secret key and the public key that belongs to it, each as 40 characters of Z85. */
export interface KeyPair {
  secretKey: string;
  publicKey: string;
}

/** A client's connection to a host, from the first attempt to connect until it is closed. */
export interface Transport {
  /**
   * `connecting` until the host is there, then `connected`, and `lost` once it is gone: a transport does not connect
   * a second time. Replies that arrived before it was lost can still be received.
   */
  readonly state: "connecting" | "connected" | "lost";
  /**
   * While `connecting`: why the last attempt failed. `unreachable`: no host is there; another attempt follows.
   * `refused`: the host does not accept our key.
   */
  readonly failure: "unreachable" | "refused" | undefined;
  /** While `connecting`: whether a host was found that has not answered yet, since it is busy for example. */
  readonly reached: boolean;
  /** Notes that some time may have passed since the last call of any method: the state may have changed meanwhile. */
  refresh(now: number): void;
  /** Sends a message to the host, which must be connected. The bytes may be used again at once. */
  send(header: Uint8Array, payload: Uint8Array): void;
  /** The next reply that has arrived; undefined if there is none. */
  receive(): Reply | undefined;
  /**
   * Looks for a moment, and blocks the thread meanwhile: most replies come before a process could be woken. It takes a tenth
   * of a millisecond at most, and in shared memory 5 ms if it naps ({@link ./shared/waiter.ts}). Whether a reply may have
   * arrived, or the state may have changed.
   */
  spin(): boolean;
  /**
   * Resolves when a reply may have arrived, when the state may have changed, or at {@linkcode Transport.wake}. The process may
   * sleep meanwhile.
   */
  wait(): Promise<void>;
  /** {@linkcode Transport.wait}, which blocks the thread: for `timeout` milliseconds at most. */
  waitSync(timeout: number): void;
  /** Ends a wait. */
  wake(): void;
  /** Where the client counts what it does without messages, for the host: {@linkcode FIGURES} numbers. */
  readonly figures?: Float64Array;
  /** Closes the connection; messages that have not left are dropped. */
  close(): void;
}

/** How many numbers a client tells its host without messages. */
export const FIGURES = 3;

/** Makes transports to one host. */
export interface Connector {
  /** Loads what connections need. Call it before the first one. */
  open(): Promise<void>;
  /** Begins to connect. */
  connect(): Transport;
  /** Whether the host should be asked for a lane. */
  readonly wantsLane: boolean;
  /** Has a connection use the lane that the host offers. Returns the connection to use, which is the same one if it cannot. */
  useLane(transport: Transport, offer: MemoryOffer): Transport;
  /** Releases what the transports shared; they must be closed. */
  close(): Promise<void>;
  /** {@linkcode Connector.close}, which blocks the thread. */
  closeSync(): void;
}

/** A client, as a host sees it: who sent a message. All its messages name the same sender, however they arrived. */
export interface Sender {
  /** Whether the host disconnected it: nobody reads a reply. */
  readonly disconnected: boolean;
  /** Whether its connection is closed, by whomever: nobody reads a reply, but what it sent counts. */
  readonly gone: boolean;
}

/** A message that a host received. It is the host's own copy: the sender cannot change it any more. */
export interface IncomingMessage {
  readonly from: Sender;
  /** The public key of the client; undefined where clients come without keys. */
  readonly publicKey: string | undefined;
  /** Whether the client expects pymemstore's replies. */
  readonly legacy: boolean;
  /** Whether a native client sent it by its own connection: no proxy passed it on. */
  readonly direct: boolean;
  /** Whether the commands are one transaction. */
  readonly batch: boolean;
  /** Whether the replies may come in several messages. */
  readonly parts: boolean;
  readonly payload: Uint8Array;
  /** Why the message cannot be read; undefined where it can. */
  readonly fault: string | undefined;
}

/**
 * A host's end of an endpoint: receives the messages of its clients, sends the replies, and disconnects those that do
 * not keep to the limits. What a port is given back (a message, a sender) must be its own.
 */
export interface Port {
  /** Whether clients come with keys. */
  readonly encrypted: boolean;
  /** How many clients are connected. */
  readonly clients: number;
  /** How many of them send through a lane. */
  readonly lanes: number;
  /** The next message to answer; undefined if there is none. Never one of a client that is paused. */
  next(): IncomingMessage | undefined;
  /** Sends a reply. Its bytes are valid only during the call: a port copies what it keeps. */
  reply(to: IncomingMessage, payload: Uint8Array): void;
  /**
   * Puts the rest of a message back, of which a part was answered: it comes again before the other messages of its client,
   * once that has read enough of its replies.
   */
  putBack(message: IncomingMessage, rest: Uint8Array): void;
  /** Holds the next messages of a client back, so that they do not overtake one of it that is paused. */
  pause(from: Sender): void;
  /** Ends one call of {@linkcode Port.pause}. */
  resume(from: Sender): void;
  /** Notes that a client's message will be answered later, and that others may overtake it. */
  begin(from: Sender): void;
  /** Notes that a message that was begun is about to be answered. */
  end(from: Sender): void;
  /** Notes that a client sent a message that cannot be read. */
  fault(from: Sender): void;
  /** Notes that a client sent one that can be read. */
  forgiveFault(from: Sender): void;
  /** Whether a client is one of this port's. */
  has(from: Sender): boolean;
  /** Sums of what clients have told in their {@linkcode Transport.figures}. */
  readonly figures: readonly number[];
  /** Makes a lane for a client; undefined if it cannot have one, for example since it is another port's. */
  openLane(from: Sender): MemoryOffer | undefined;
  /** Disconnects the clients that have a public key. */
  disconnect(publicKey: string): void;
  /** Notices who connected or went away, and what was sent meanwhile. Call it now and then. */
  look(): void;
  /**
   * Looks for a moment, and blocks the thread meanwhile, as {@linkcode Transport.spin} does: most clients send their next
   * message before a process could be woken. Whether there may be one.
   */
  spin(): boolean;
  /** Resolves when there may be a message, or at {@linkcode Port.wake}. The process may sleep meanwhile. */
  wait(): Promise<void>;
  /** Ends a wait. */
  wake(): void;
  /** Receives no more messages. Replies that were sent may still be leaving. */
  close(): void;
}
