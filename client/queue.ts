/**
 * The calls that have not left yet: which travel together, and what may leave next.
 *
 * Calls gather in the last request of the queue. What leaves is cut to what the host takes in one message; the rest
 * stays at the head. Requests leave in the order in which they were made.
 *
 * @module
 */

import { MAX_DEPTH, skip } from "../msgpack/msgpack.ts";
import { MemStoreError } from "../transport/message.ts";
import { type PendingCall, Request, type RequestKind, tooLong } from "./request.ts";
import type { HostLimits } from "./session.ts";

/** A message takes no more gathered calls than this, so that the host can serve others between two … */
const MAX_COMMANDS = 1024;
/** … nor more once it, or its reply as far as can be foreseen, has this many bytes. */
export const MAX_BYTES: number = 1 << 20;

/** Requests in the order in which they leave. */
export class Queue {
  #requests: Request[] = [];
  /** Whether a call was given up that may still be here. */
  #stale = false;

  /** Whether there is nothing to send. */
  get empty(): boolean {
    return this.#requests.length === 0;
  }

  /** The request that a call joins, or a new one that is not in the queue yet. */
  requestFor(kind: RequestKind): Request {
    const last = this.#requests.at(-1);
    const joins = kind === "gathered" && last?.kind === "gathered" && !last.encoding &&
      last.calls.length < MAX_COMMANDS && last.bytes.length < MAX_BYTES;
    return joins ? last : new Request(kind);
  }

  push(request: Request): void {
    this.#requests.push(request);
  }

  /** The request that leaves next. */
  get first(): Request | undefined {
    if (this.#stale) this.#dropSettled();
    return this.#requests[0];
  }

  /** Says that a call was given up. */
  markStale(): void {
    this.#stale = true;
  }

  /**
   * Takes the first request, or as much of it as the host takes in one message. Calls that the host would not take
   * fail.
   *
   * @param replyBytes What a reply has, going by the last ones.
   * @returns Undefined if there is none, or nothing of it is left.
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

  /** Takes out calls that were given up. Of a batch all go: half of it must not leave. */
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

/** How many of the calls one message takes: one at least. */
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

/** Fails a call that the host would refuse, with the message in which it is. */
function checkCall(call: PendingCall, request: Request, { message, depth }: HostLimits): void {
  const { name, from, to } = call;
  let error: MemStoreError | undefined;
  if (to - from > message) error = tooLong(name, to - from, message);
  else if (depth < MAX_DEPTH && isDeeper(request.bytes.bytes, from, to, depth)) {
    error = new MemStoreError("TOO_LARGE", `Cannot ${name}: the host takes values nested ${depth - 1} deep`);
  }
  if (!error) return;
  request.failure ??= error;
  call.fail(error);
}

/** Fails a batch that the host would refuse whole. */
function checkBatch(request: Request, { message, commands, batch }: HostLimits): void {
  const { calls, length } = request;
  if (length > message) {
    request.failure = tooLong("run a batch", length, message);
  } else if (calls.length > Math.min(commands, batch)) {
    const why = `the host takes ${Math.min(commands, batch)} commands in a batch`;
    request.failure = new MemStoreError("TOO_LARGE", `Cannot run a batch: ${why}: received ${calls.length}`);
  }
  if (request.failure) request.fail(() => request.failure);
}

function isDeeper(bytes: Uint8Array, from: number, to: number, depth: number): boolean {
  try {
    skip(bytes.subarray(0, to), from, depth);
    return false;
  } catch {
    return true;
  }
}
