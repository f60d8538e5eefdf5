/**
 * Why a call has no reply: the client's own errors, in the same words for calls that wait and calls that block.
 *
 * @module
 */

import { MemStoreError } from "../transport/message.ts";

/** The errors of the calls to one host. */
export class CallErrors {
  readonly #endpoint: string;

  /** @param endpoint The address of the host. */
  constructor(endpoint: string) {
    this.#endpoint = endpoint;
  }

  /** `TIMEOUT`. @param reached Whether a host was found at all. */
  timeout(name: string, timeout: number, reached: boolean): MemStoreError {
    const who = reached ? `the host at ${this.#endpoint} did not answer` : `no host at ${this.#endpoint}`;
    return new MemStoreError("TIMEOUT", `Cannot ${name}: ${who} within ${timeout} ms`);
  }

  /** `UNAVAILABLE`. @param connectTimeout How long a connection was tried, in milliseconds. */
  unavailable(name: string, connectTimeout: number): MemStoreError {
    const why = connectTimeout === 0
      ? "nobody serves it"
      : `no connection could be made within ${connectTimeout} ms (connectTimeout)`;
    return new MemStoreError("UNAVAILABLE", `Cannot ${name}: no host at ${this.#endpoint}: ${why}`);
  }

  /** `DENIED`. */
  denied(name: string): MemStoreError {
    const why = "it does not accept the key of this client, or has another key than this client expects";
    const text = `no connection to the host at ${this.#endpoint}: ${why}`;
    return new MemStoreError("DENIED", `Cannot ${name}: ${text}`);
  }

  /** `DISCONNECTED`. */
  disconnected(name: string): MemStoreError {
    const text = `the host at ${this.#endpoint} went away before it answered`;
    return new MemStoreError("DISCONNECTED", `Cannot ${name}: ${text}`);
  }

  /** `CLOSED`. */
  closed(name: string): MemStoreError {
    return new MemStoreError("CLOSED", `Cannot ${name}: the client of ${this.#endpoint} is closed`);
  }
}
