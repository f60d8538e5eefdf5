/**
 * The requests that were sent and have no reply yet, counted as the host counts them: a request whose calls were all
 * given up counts until its reply arrives.
 *
 * @module
 */

import type { Reply } from "../transport/message.ts";
import type { PendingCall, Request } from "./request.ts";
import type { HostLimits } from "./session.ts";
import { MAX_BYTES } from "./queue.ts";

/** How many messages of gathered calls may be in flight. Calls that are made meanwhile gather for the next one. */
const WINDOW = 16;

/** The most bytes of the next message that is made of a request of gathered calls. */
function gatheredBytes({ calls: [first] }: Request): number {
  return Math.max(MAX_BYTES, first.to - first.from);
}

/** Requests in flight, by their numbers. */
export class InFlight {
  readonly #requests = new Map<number, { request: Request; bytes: number }>();
  #gathered = 0;
  #bytes = 0;
  #number = 0;
  /** The expected length of a reply, estimated from the last ones, in bytes. */
  replyBytes = 0;

  /** Whether every request that was sent has its reply. */
  get isEmpty(): boolean {
    return this.#requests.size === 0;
  }

  /** Whether a request may be sent now. */
  hasRoomFor(request: Request, limits: HostLimits): boolean {
    if (this.#requests.size === 0) return true;
    if (this.#requests.size >= limits.requests) return false;
    // A host holds no more bytes of requests than this for a client whose requests wait.
    if (request.kind !== "gathered") return this.#bytes + request.length <= limits.message;
    return this.#gathered < WINDOW && this.#bytes + gatheredBytes(request) <= limits.message;
  }

  /** Adds a request that is being sent. Returns its number. */
  add(request: Request, bytes: number): number {
    // (0 is the number of `hello`.)
    do this.#number = (this.#number + 1) >>> 0; while (
      this.#number === 0 || this.#requests.has(this.#number)
    );
    this.#requests.set(this.#number, { request, bytes });
    this.#bytes += bytes;
    if (request.kind === "gathered") this.#gathered++;
    return this.#number;
  }

  /** Settles the calls whose replies have arrived. */
  settle({ request: number, payload }: Reply): void {
    const sent = this.#requests.get(number);
    if (!sent) return;
    const { request, bytes } = sent;
    this.replyBytes = Math.max(payload.length / request.calls.length, this.replyBytes * 0.9);
    if (!request.settle(payload)) return;
    this.#requests.delete(number);
    this.#bytes -= bytes;
    if (request.kind === "gathered") this.#gathered--;
  }

  /** Removes all requests: their connection is lost. */
  clear(): void {
    this.#requests.clear();
    this.#gathered = this.#bytes = 0;
  }

  /** The calls whose replies are pending. */
  *calls(): Generator<PendingCall> {
    for (const { request } of this.#requests.values()) {
      for (const call of request.calls) if (!call.settled) yield call;
    }
  }
}
