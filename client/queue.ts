/**
 * The calls that have not been sent: which of them share a message, and which message is next.
 *
 * Calls gather in the last request of the queue. A request that exceeds the host's limits is divided: its first part is
 * sent, the rest stays at the head of the queue. Requests are sent in the order in which they were made.
 *
 * @module
 */

import { MAX_DEPTH, skip } from "../msgpack/msgpack.ts";
import { MemStoreError } from "../transport/message.ts";
import { type PendingCall, Request, type RequestKind, tooLong } from "./request.ts";
import type { HostLimits } from "./session.ts";

/** The most gathered calls in a message, so that the host can serve others between two messages, … */
const MAX_COMMANDS = 1024;
/** … and the most bytes of such a message, and of its expected reply. */
export const MAX_BYTES: number = 1 << 20;

/** Requests in the order in which they are sent. */
export class Queue {
  #requests: Request[] = [];
  /** Whether a call in the queue may have been given up. */
  #stale = false;

  /** The request that a call joins: the last one, or a new one that is not in the queue yet. */
  requestFor(kind: RequestKind): Request {
    const last = this.#requests.at(-1);
    const joins = kind === "gathered" && last?.kind === "gathered" && !last.encoding &&
      last.calls.length < MAX_COMMANDS && last.bytes.length < MAX_BYTES;
    return joins ? last : new Request(kind);
  }

  push(request: Request): void {
    this.#requests.push(request);
  }

  /** The request that is sent next. */
  get first(): Request | undefined {
    if (this.#stale) this.#dropSettled();
    return this.#requests[0];
  }

  /** Notes that a call was given up. */
  markStale(): void {
    this.#stale = true;
  }

  /**
   * Takes the first request, or the first part of it if it is too long for one message. A call that exceeds the host's
   * limits fails.
   *
   * @param replyBytes The expected length of a reply, in bytes.
   * @returns Undefined if there is none, or if all of its calls failed.
   */
  take(limits: HostLimits, replyBytes: number): Request | undefined {
    const request = this.#requests.shift();
    if (!request) return undefined;
    if (request.kind === "gathered") {
      const count = fitting(request.calls, limits, replyBytes);
      if (count < request.calls.length) this.#requests.unshift(request.split(count));
    }
    if (request.kind === "batch") checkBatch(request, limits);
    for (const call of request.calls) checkCall(call, request, limits);
    if (!request.calls.some(({ settled }) => settled)) return request;
    if (request.kind === "batch") request.fail(() => request.failure);
    request.dropSettled();
    return request.calls.length > 0 ? request : undefined;
  }

  /** The calls whose replies are pending. */
  *calls(): Generator<PendingCall> {
    for (const { calls } of this.#requests) for (const call of calls) if (!call.settled) yield call;
  }

  /** Removes calls that were given up. A batch is removed whole: a part of it must not be sent. */
  #dropSettled(): void {
    this.#stale = false;
    for (const request of this.#requests) {
      if (request.kind === "batch" && request.calls.some(({ settled }) => settled)) {
        request.fail(({ name }) =>
          new MemStoreError("NOT_RUN", `Cannot ${name}: another call of its batch was given up`)
        );
      }
      request.dropSettled();
    }
    this.#requests = this.#requests.filter(({ calls }) => calls.length > 0);
  }
}

/** How many of the calls fit into one message: at least one. */
function fitting(calls: readonly PendingCall[], limits: HostLimits, replyBytes: number): number {
  const maxBytes = Math.min(MAX_BYTES, limits.message);
  const maxCount = Math.min(calls.length, MAX_COMMANDS, limits.commands);
  let bytes = 0;
  for (let i = 0; i < maxCount; i++) {
    bytes += calls[i].to - calls[i].from;
    if (i > 0 && (bytes > maxBytes || (i + 1) * replyBytes > maxBytes)) return i;
  }
  return maxCount;
}

/** Fails a call that exceeds the host's limits: the host would refuse the whole message. */
function checkCall(call: PendingCall, request: Request, limits: HostLimits): void {
  const { name, from, to } = call;
  const error = commandError(name, request.bytes.bytes, from, to, limits);
  if (!error) return;
  request.failure ??= error;
  call.fail(error);
}

/** Why a command exceeds the host's limits; undefined if it does not. */
export function commandError(
  name: string,
  bytes: Uint8Array,
  from: number,
  to: number,
  { message, depth }: HostLimits,
): MemStoreError | undefined {
  if (to - from > message) return tooLong(name, to - from, message);
  if (depth >= MAX_DEPTH || !isDeeper(bytes, from, to, depth)) return undefined;
  return new MemStoreError("TOO_LARGE", `Cannot ${name}: the host takes values nested ${depth - 1} deep`);
}

/** Fails a batch that exceeds the host's limits. */
function checkBatch(request: Request, limits: HostLimits): void {
  request.failure = batchError(request.calls.length, request.length, limits);
  if (request.failure) request.fail(() => request.failure);
}

/** Why a batch exceeds the host's limits; undefined if it does not. */
export function batchError(
  count: number,
  bytes: number,
  { message, commands, batch }: HostLimits,
): MemStoreError | undefined {
  if (bytes > message) return tooLong("run a batch", bytes, message);
  const most = Math.min(commands, batch);
  if (count <= most) return undefined;
  return new MemStoreError(
    "TOO_LARGE",
    `Cannot run a batch: the host takes ${most} commands in a batch: received ${count}`,
  );
}

function isDeeper(bytes: Uint8Array, from: number, to: number, depth: number): boolean {
  try {
    skip(bytes.subarray(0, to), from, depth);
    return false;
  } catch {
    return true;
  }
}
