/**
 * What libzmq's monitor tells of a socket's connections, and what that says of the one peer that a client connects to.
 *
 * libzmq connects again by itself and does not tell its caller. (Its option `ZMQ_IMMEDIATE`, under which a socket is not
 * writable without a peer, drops replies that have arrived but were not read when the peer goes away.)
 *
 * @module
 */

import { ZMQ } from "./libzmq.ts";

/** Something that happened to a connection. */
export interface SocketEvent {
  what: number;
  /** A descriptor, or an error. */
  value: number;
}

/** Events that tell of a handshake that failed. */
const FAILURES = ZMQ.EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ.EVENT_HANDSHAKE_FAILED_PROTOCOL |
  ZMQ.EVENT_HANDSHAKE_FAILED_AUTH;

/** The events that {@linkcode PeerState} takes. */
export const PEER_EVENTS: number = ZMQ.EVENT_HANDSHAKE_SUCCEEDED | ZMQ.EVENT_DISCONNECTED | FAILURES |
  ZMQ.EVENT_CONNECTED | ZMQ.EVENT_CONNECT_RETRIED;

/**
 * How many handshakes in a row must end silently until we conclude that the host refuses us: one with another key cannot
 * read what we say, and just closes the connection. A host that is killed does so once.
 */
const SILENT_REFUSALS = 3;

/** The event in the first frame of a monitor's message. */
export function readEvent(frame: Uint8Array): SocketEvent {
  const view = new DataView(frame.buffer, frame.byteOffset);
  return { what: view.getUint16(0, true), value: view.getUint32(2, true) };
}

/** How the connection to one peer stands. */
export class PeerState {
  /** `none` until a peer is connected; `lost` once it is gone: what was sent to it may be lost. */
  peer: "none" | "connected" | "lost" = "none";
  /** Whether the peer refuses us, or is none of ours: a wrong key, or none where one is needed. */
  refused = false;
  /** Handshakes in a row that ended silently. */
  #silentRefusals = 0;
  /** How the last attempt to connect went, before any handshake. */
  #attempt: "none" | "connected" | "failed" = "none";

  /** Whether a peer was found that has not completed the handshake. */
  get reached(): boolean {
    return this.#attempt === "connected";
  }

  /** Whether the last attempt to connect found no peer. Another one follows. */
  get unreachable(): boolean {
    return this.#attempt === "failed";
  }

  /** Takes the next event. */
  update({ what }: SocketEvent): void {
    if (what & FAILURES) {
      const silent = what === ZMQ.EVENT_HANDSHAKE_FAILED_NO_DETAIL;
      if (!silent || ++this.#silentRefusals >= SILENT_REFUSALS) this.refused = true;
    } else if (what === ZMQ.EVENT_CONNECTED) {
      this.#attempt = "connected";
    } else if (what === ZMQ.EVENT_CONNECT_RETRIED) {
      // (After a connection that broke, the first attempt is only begun.)
      this.#attempt = this.#attempt === "connected" ? "none" : "failed";
    } else if (what === ZMQ.EVENT_HANDSHAKE_SUCCEEDED) {
      this.refused = false;
      this.#silentRefusals = 0;
      if (this.peer === "none") this.peer = "connected";
    } else if (this.peer === "connected") {
      this.peer = "lost";
    }
  }
}
