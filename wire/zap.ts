/**
 * Lets clients in, or not: libzmq asks about each that connects with a key, over a socket inside the process.
 *
 * ```text
 * request   (routing id) · empty · "1.0" · request id · domain · address · identity · "CURVE" · public key
 * reply     (routing id) · empty · "1.0" · request id · "200" or "400" · text · user id · empty
 * ```
 *
 * The user id is the client's public key in Z85: every message of its connection carries it.
 *
 * @see https://rfc.zeromq.org/spec/27/ (ZAP)
 * @module
 */

import { type Libzmq, ZMQ } from "./libzmq.ts";
import type { Context, Socket } from "./socket.ts";

const KEY_BYTES = 32;
const text = new TextDecoder();
const bytes = (value: string) => new TextEncoder().encode(value);

/** Answers libzmq's questions, until its socket is closed. */
export class Doorman {
  readonly #socket: Socket;
  readonly #running: Promise<void>;
  #closed = false;

  /**
   * @param mayEnter Whether the client of a public key may connect from an address.
   */
  constructor(context: Context, zmq: Libzmq, mayEnter: (publicKey: string, address: string) => boolean) {
    this.#socket = context.socket(ZMQ.ROUTER, { linger: 0 });
    this.#socket.bind("inproc://zeromq.zap.01");
    this.#running = this.#run(zmq, mayEnter);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#socket.wake();
    await this.#running;
    this.#socket.close();
  }

  async #run(zmq: Libzmq, mayEnter: (publicKey: string, address: string) => boolean): Promise<void> {
    while (!this.#closed) {
      const frames = this.#socket.receive();
      if (!frames) {
        await this.#socket.wait(false);
        continue;
      }
      const [id, empty, version, request, , address, , mechanism, credentials] = frames;
      const known = text.decode(mechanism) === "CURVE" && credentials?.length === KEY_BYTES;
      const key = known ? z85(zmq, credentials) : "";
      const entered = known && mayEnter(key, text.decode(address));
      const status = entered ? ["200", "", key] : ["400", "no authorized client", ""];
      this.#socket.send([id, empty, version, request, ...status.map(bytes), new Uint8Array(0)]);
    }
  }
}

function z85(zmq: Libzmq, key: Uint8Array): string {
  const to = new Uint8Array(new ArrayBuffer(41));
  zmq.zmq_z85_encode(to, key as Uint8Array<ArrayBuffer>, BigInt(KEY_BYTES));
  return text.decode(to.subarray(0, 40));
}
