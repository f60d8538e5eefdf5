/**
 * The client's {@linkcode Transport} over ZeroMQ: a DEALER socket for each connection.
 *
 * @module
 */

import type { Reply } from "../message.ts";
import type { Connector, KeyPair, Transport } from "../transport.ts";
import { Context } from "./context.ts";
import { parseReply } from "./frames.ts";
import { ZMQ } from "./libzmq.ts";
import type { Socket } from "./socket.ts";

/** How long libzmq waits before its second attempt to connect, in milliseconds. Each interval doubles the last … */
const RECONNECT_MS = 50;
/** … up to this: a host that comes back is found within a second. */
const RECONNECT_MAX_MS = 1000;

const NO_BYTES = new Uint8Array(0);

/** A client's keys, and the public key of the host that it talks to. */
export type ClientKeys = KeyPair & { serverKey: string };

/** Connects to a ZeroMQ address. The context and the keys are made and read at the first connection. */
export class ZeroMqConnector implements Connector {
  readonly #address: string;
  readonly #readKeys: (() => Promise<ClientKeys>) | undefined;
  #context: Context | undefined;
  #keys: ClientKeys | undefined;

  constructor(address: string, readKeys: (() => Promise<ClientKeys>) | undefined) {
    this.#address = address;
    this.#readKeys = readKeys;
  }

  async open(): Promise<void> {
    this.#context ??= await Context.open();
    this.#keys ??= await this.#readKeys?.();
  }

  connect(): ZeroMqTransport {
    const socket = this.#context!.socket(ZMQ.DEALER, {
      linger: 0,
      watchPeer: true,
      // The client bounds what is in flight itself.
      sendHighWaterMark: 0,
      curve: this.#keys,
      reconnectInterval: RECONNECT_MS,
      reconnectIntervalMax: RECONNECT_MAX_MS,
    });
    try {
      socket.connect(this.#address);
    } catch (error) {
      socket.close();
      throw error;
    }
    return new ZeroMqTransport(socket);
  }

  readonly wantsLane = false;

  useLane(transport: Transport): Transport {
    return transport;
  }

  async close(): Promise<void> {
    await this.#context?.close();
  }

  closeSync(): void {
    this.#context?.closeSync();
  }
}

/** One connection to a host. */
export class ZeroMqTransport implements Transport {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  get state(): "connecting" | "connected" | "lost" {
    const { peer } = this.#socket;
    return peer === "none" ? "connecting" : peer;
  }

  /** (It asks for the state whenever it is asked.) */
  refresh(_now: number): void {}

  get failure(): "unreachable" | "refused" | undefined {
    if (this.#socket.refused) return "refused";
    return this.#socket.unreachable ? "unreachable" : undefined;
  }

  get reached(): boolean {
    return this.#socket.reached;
  }

  send(header: Uint8Array, payload: Uint8Array): void {
    this.#socket.send([NO_BYTES, header, payload]);
  }

  receive(): Reply | undefined {
    for (let frames; (frames = this.#socket.receive());) {
      const reply = parseReply(frames);
      if (reply) return reply;
    }
  }

  /** Sends an empty message, which is none, and wakes the host. */
  ring(): void {
    this.#socket.send([NO_BYTES]);
  }

  /** Whether something has arrived, or the state may have changed, since the caller last looked. */
  get changed(): boolean {
    return this.#socket.changed;
  }

  spin(): boolean {
    return this.#socket.spin();
  }

  wait(): Promise<void> {
    return this.#socket.wait();
  }

  waitSync(timeout: number): void {
    this.#socket.waitSync(timeout);
  }

  wake(): void {
    this.#socket.wake();
  }

  close(): void {
    this.#socket.close();
  }
}
