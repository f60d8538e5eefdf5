/**
 * What the client needs of whatever carries its messages: a few methods, of which {@link ./zeromq/dealer.ts | ZeroMQ} is one
 * implementation. A transport knows no command.
 *
 * @module
 */

import type { Reply } from "./message.ts";

/** One connection to a host, from the first attempt to connect until it is closed. */
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
  /** Sends a message to the host, which must be connected. The bytes may be used again at once. */
  send(header: Uint8Array, payload: Uint8Array): void;
  /** The next reply that has arrived; undefined if there is none. */
  receive(): Reply | undefined;
  /** Resolves when a reply may have arrived, when the state may have changed, or at {@linkcode Transport.wake}. */
  wait(): Promise<void>;
  /** Ends a wait. */
  wake(): void;
  /** Closes the connection; messages that have not left are dropped. */
  close(): void;
}

/** Makes transports to one host. */
export interface Connector {
  /** Begins to connect. */
  connect(): Promise<Transport>;
  /** Releases what the transports shared; they must be closed. */
  close(): Promise<void>;
}
