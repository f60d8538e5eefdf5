/**
 * The requests that have left and have no reply yet, counted as the host counts them: one whose calls were all given
 * up stays until its reply is there, since the host has it all the same.
 *
 * @module
 */

import type { Reply } from "../transport/message.ts";
import type { PendingCall, Request } from "./request.ts";
import type { HostLimits } from "./session.ts";
import { MAX_BYTES } from "./queue.ts";

/** Messages of gathered calls that may be in flight. What is called meanwhile gathers for the next. */
const WINDOW = 16;

/** How many bytes a message of gathered calls has at most, of which this request may hold several. */
function gatheredBytes({ calls: [first] }: Request): number {
  return Math.max(MAX_BYTES, first.to - first.from);
}

/** Requests in flight, by their numbers. */
export class InFlight {
  readonly #requests = new Map<number, { request: Request; bytes: number }>();
  #gathered = 0;
  #bytes = 0;
  #number = 0;
  /** What a reply has, going by the last ones. */
  replyBytes = 0;

  /** Whether a request may leave now. */
  hasRoomFor(request: Request, limits: HostLimits): boolean {
    if (this.#requests.size === 0) return true;
    if (this.#requests.size >= limits.requests) return false;
    // A host keeps no more bytes of requests than this for a client that it lets wait.
    if (request.kind !== "gathered") return this.#bytes + request.length <= limits.message;
    return this.#gathered < WINDOW && this.#bytes + gatheredBytes(request) <= limits.message;
  }

  /** Adds a request that leaves; returns its number. */
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

  /** Forgets all requests: the connection by which they left is lost. */
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
