/**
 * The client's {@linkcode Transport} through shared memory: a ZeroMQ connection and the {@link ./lane.ts | lane} beside it.
 *
 * @module
 */

import { type Reply, requestNumber } from "../message.ts";
import type { Connector, Transport } from "../transport.ts";
import { type ZeroMqConnector, ZeroMqTransport } from "../zeromq/dealer.ts";
import { AT_CONNECTION, Lane } from "./lane.ts";
import type { MemoryOffer } from "./offer.ts";
import { loadSharedMemory } from "./system.ts";
import { NAP_MS, Waiter } from "./waiter.ts";

/** How long the state of the connection is believed without asking for it again, in milliseconds. */
const FRESH_MS = 1;

/** Connects over ZeroMQ, and adds a lane to a connection when the host offers one. */
export class LaneConnector implements Connector {
  readonly #zeromq: ZeroMqConnector;
  #wantsLane = false;

  constructor(zeromq: ZeroMqConnector) {
    this.#zeromq = zeromq;
  }

  get wantsLane(): boolean {
    return this.#wantsLane;
  }

  async open(): Promise<void> {
    await this.#zeromq.open();
    this.#wantsLane = loadSharedMemory();
  }

  connect(): Transport {
    return this.#zeromq.connect();
  }

  useLane(transport: Transport, offer: MemoryOffer): Transport {
    if (!(transport instanceof ZeroMqTransport)) return transport;
    try {
      return new LaneTransport(transport, Lane.open(offer));
    } catch {
      // (The host may be in another container: its processes have other numbers there. Messages go on as they are.)
      return transport;
    }
  }

  close(): Promise<void> {
    return this.#zeromq.close();
  }

  closeSync(): void {
    this.#zeromq.closeSync();
  }
}

/** A connection that has a lane. */
class LaneTransport implements Transport {
  readonly #connection: ZeroMqTransport;
  readonly #lane: Lane;
  readonly #lanes: readonly [Lane];
  readonly #waiter = new Waiter();
  readonly #isReady = () => this.#lane.ready;
  /** Whether the connection may have changed, or have a message, since it was last asked. */
  #stale = true;
  /** Whether {@linkcode Transport.wait} is under way. */
  #waiting = false;
  /** When the connection was last asked, as of `performance.now()`. */
  #lookedAt = 0;
  #state: "connecting" | "connected" | "lost" = "connected";
  /** Whether the reply that was received last lies in the lane: the next call of `receive()` gives its room back. */
  #taking = false;
  readonly figures: Float64Array;
  /** A reply that came outside, until those before it were taken from the lane. */
  #outside: Reply | undefined;

  constructor(connection: ZeroMqTransport, lane: Lane) {
    this.#connection = connection;
    this.#lane = lane;
    this.#lanes = [lane];
    this.figures = lane.figures;
  }

  /** (To ask the connection takes longer than to send a message: so it is asked when there is nothing else to do.) */
  get state(): "connecting" | "connected" | "lost" {
    if (this.#stale) this.#state = this.#connection.state;
    return this.#lane.broken ? "lost" : this.#state;
  }

  refresh(now: number): void {
    if (now - this.#lookedAt > FRESH_MS) this.#stale = true;
  }

  // (A connection that has a lane was made before.)
  readonly failure = undefined;
  readonly reached = true;

  send(header: Uint8Array, payload: Uint8Array): void {
    const lane = this.#lane;
    if (!lane.write(header, payload)) {
      this.#connection.send(header, payload);
      lane.endNap();
    } else if (lane.wakePeer()) this.#connection.ring();
  }

  receive(): Reply | undefined {
    const lane = this.#lane;
    if (this.#taking) {
      this.#taking = false;
      lane.take();
    }
    for (;;) {
      if (lane.next()) {
        const { bytes, header, payload, end } = lane;
        const request = requestNumber(bytes, header, payload - header);
        if (request === undefined) {
          lane.take();
          continue;
        }
        this.#taking = true;
        return { request, payload: bytes.subarray(payload, end) };
      }
      if (this.#outside) {
        const reply = this.#outside;
        this.#outside = undefined;
        lane.tookOutside();
        return reply;
      }
      if (!this.#stale && !lane.waitsForOutside) return undefined;
      this.#outside = this.#connection.receive();
      if (!this.#outside) {
        // (A doorbell may have come for a record that was not there yet.)
        if (lane.ready && !lane.broken) continue;
        // (While it waits, something may come at any moment.)
        this.#stale = this.#waiting;
        this.#lookedAt = performance.now();
        return undefined;
      }
    }
  }

  spin(): boolean {
    if (this.#waiter.spin(this.#lanes, this.#isReady)) return true;
    return this.#connection.changed && (this.#stale = true);
  }

  async wait(): Promise<void> {
    // (Whoever receives meanwhile must not miss what comes outside.)
    this.#stale = this.#waiting = true;
    this.#lane.sleep(AT_CONNECTION);
    const start = performance.now();
    if (!this.#lane.ready) await this.#connection.wait();
    this.#waiting = false;
    // (It may have been closed meanwhile.)
    if (this.#lane.closed) return;
    this.#lane.awake();
    if (this.#lane.ready) this.#waiter.slept(start);
  }

  waitSync(timeout: number): void {
    if (timeout > NAP_MS && this.#waiter.nap(this.#lanes, this.#isReady)) return;
    this.#lane.sleep(AT_CONNECTION);
    if (!this.#lane.ready) this.#connection.waitSync(timeout);
    this.#lane.awake();
    this.#stale = true;
  }

  wake(): void {
    this.#connection.wake();
  }

  close(): void {
    this.#connection.close();
    this.#lane[Symbol.dispose]();
  }
}
