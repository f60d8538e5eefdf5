/**
 * Accepts or rejects the clients that connect with a key: libzmq asks about each, over a socket inside the process.
 *
 * ```text
 * request   (routing id) · empty · "1.0" · request id · domain · address · identity · "CURVE" · public key
 * reply     (routing id) · empty · "1.0" · request id · status · text · user id · empty
 * ```
 *
 * The status is "200" for a client that may connect, "400" for one that may not, and "300" for one that may try
 * again later. The user id is the client's public key in Z85: every message of its connection carries it.
 *
 * @see https://rfc.zeromq.org/spec/27/ (ZAP)
 * @module
 */

import { type Libzmq, ZMQ } from "../transport/zeromq/libzmq.ts";
import type { Context } from "../transport/zeromq/context.ts";
import type { Frames } from "../transport/zeromq/frames.ts";
import type { Socket } from "../transport/zeromq/socket.ts";

const KEY_BYTES = 32;
/**
 * How many connections a key may make in a second, and at once after a pause. Each takes one of the 2³² routing ids that
 * libzmq assigns one after another; a client that made millions would be assigned one that it claims itself, which ends
 * the process.
 */
const CONNECTIONS_PER_SECOND = 20;
const CONNECTIONS_AT_ONCE = 1000;

const text = new TextDecoder();
const bytes = (value: string) => new TextEncoder().encode(value);

/** Whether the client of a public key may connect from an address. */
export type MayConnect = (publicKey: string, address: string) => boolean;

/** Answers libzmq's requests until it is closed. */
export class ZapHandler {
  readonly #zmq: Libzmq;
  readonly #socket: Socket;
  readonly #mayConnect: MayConnect;
  readonly #rates = new Map<string, Rate>();
  readonly #running: Promise<void>;
  #closed = false;

  constructor(context: Context, zmq: Libzmq, mayConnect: MayConnect) {
    this.#zmq = zmq;
    this.#mayConnect = mayConnect;
    this.#socket = context.socket(ZMQ.ROUTER, { linger: 0 });
    this.#socket.bind("inproc://zeromq.zap.01");
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#socket.wake();
    await this.#running;
    this.#socket.close();
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const request = this.#socket.receive();
      if (request) this.#socket.send(this.#answer(request));
      else await this.#socket.wait();
    }
  }

  #answer([id, empty, version, request, , address, , mechanism, credentials]: Frames): Frames {
    const hasKey = text.decode(mechanism) === "CURVE" && credentials?.length === KEY_BYTES;
    const key = hasKey ? z85(this.#zmq, credentials) : "";
    const [status, why] = hasKey ? this.#decide(key, text.decode(address)) : ["400", "a key is needed"];
    const user = status === "200" ? key : "";
    return [id, empty, version, request, ...[status, why, user].map(bytes), new Uint8Array(0)];
  }

  #decide(key: string, address: string): [status: string, why: string] {
    try {
      if (!this.#mayConnect(key, address)) return ["400", "no authorized client"];
    } catch {
      // (It calls the application's log. If that fails, nobody is let in.)
      return ["400", "no authorized client"];
    }
    let rate = this.#rates.get(key);
    if (!rate) this.#rates.set(key, rate = new Rate());
    return rate.take() ? ["200", ""] : ["300", "too many connections"];
  }
}

/** A token bucket: bounds how often a key may connect. */
class Rate {
  #tokens = CONNECTIONS_AT_ONCE;
  #filledAt = performance.now();

  /** Whether one more may connect now. */
  take(): boolean {
    const now = performance.now();
    const filled = this.#tokens + (now - this.#filledAt) / 1000 * CONNECTIONS_PER_SECOND;
    this.#tokens = Math.min(CONNECTIONS_AT_ONCE, filled);
    this.#filledAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

function z85(zmq: Libzmq, key: Uint8Array): string {
  const to = new Uint8Array(new ArrayBuffer(41));
  zmq.zmq_z85_encode(to, key as Uint8Array<ArrayBuffer>, BigInt(KEY_BYTES));
  return text.decode(to.subarray(0, 40));
}
