/**
 * Memory for a heap that other processes may read: the segments of a heap in one file in memory, each at its number, and
 * the {@link ../../blocks/head.ts | head} before them. The file is as long as all addresses, 32 GiB, and takes as much
 * memory as there are extents.
 *
 * Memory is there before it is used (`fallocate(2)`), so that a lack of it is an error in this process. Extents that are
 * given back become holes again. A reader that still looks there reads zeros, and finds out that it was late.
 *
 * @module
 */

import { RANGE_BYTES, SEGMENT } from "../../blocks/block.ts";
import { cursorSecret } from "../../blocks/cursor.ts";
import { hashSecret } from "../../blocks/hash.ts";
import {
  CLOSED,
  CURSOR_SECRET,
  HASH_SECRET,
  HEAD_BYTES,
  HEAD_MAGIC,
  HEAD_OWNER,
  HEAD_TOKEN,
  HEAD_TOKEN_BYTES,
  HEAD_VERSION,
  SEGMENT_COUNT,
  STATE,
} from "../../blocks/head.ts";
import { SharedRange } from "../../transport/shared/range.ts";
import { loadSharedMemoryIfGranted } from "../../transport/shared/system.ts";
import type { MemoryOffer } from "../../transport/shared/offer.ts";
import { type Allocator, ownMemory } from "./extents.ts";

/** Whether the order of memory accesses, on which readers rely, is kept here. */
const KEEPS_ORDER = Deno.build.arch === "x86_64";

/** Memory that others may read; that of this process alone where they cannot. */
export function sharedMemory(): Allocator {
  if (!KEEPS_ORDER || !loadSharedMemoryIfGranted()) return ownMemory;
  try {
    return new SharedSegments();
  } catch {
    // (The system limits addresses or descriptors: readers ask this process.)
    return ownMemory;
  }
}

/** The memory of one heap, which other processes may read. */
export class SharedSegments implements Allocator {
  readonly head: Int32Array;
  readonly #range: SharedRange;
  readonly #headBuffer: ArrayBuffer;
  #closed = false;

  constructor() {
    const range = new SharedRange("memstore", RANGE_BYTES, HEAD_OWNER);
    this.#range = range;
    try {
      this.#headBuffer = range.take(0, HEAD_BYTES);
    } catch (error) {
      range[Symbol.dispose]();
      throw error;
    }
    const head = this.head = new Int32Array(this.#headBuffer);
    head.set([HEAD_MAGIC, HEAD_VERSION, 1]);
    head.set(hashSecret, HASH_SECRET);
    head.set(cursorSecret, CURSOR_SECRET);
    crypto.getRandomValues(new Uint8Array(this.#headBuffer, HEAD_TOKEN, HEAD_TOKEN_BYTES));
    range.own();
  }

  /** Where it is, for those who may read it; undefined if it is closed. */
  get offer(): MemoryOffer | undefined {
    if (this.#closed) return undefined;
    const token = new Uint8Array(this.#headBuffer, HEAD_TOKEN, HEAD_TOKEN_BYTES).slice();
    return { pid: Deno.pid, fd: this.#range.fd, token };
  }

  allocate(segment: number, bytes: number): ArrayBuffer {
    const buffer = this.#range.take(segment * SEGMENT, bytes);
    const end = segment + Math.ceil(bytes / SEGMENT);
    if (end > this.head[SEGMENT_COUNT]) Atomics.store(this.head, SEGMENT_COUNT, end);
    return buffer;
  }

  release(segment: number, buffer: ArrayBuffer): void {
    this.#range.giveBack(segment * SEGMENT, buffer);
  }

  another(): Allocator {
    return sharedMemory();
  }

  retire(): void {
    if (!this.#closed) Atomics.store(this.head, STATE, CLOSED);
  }

  close(): void {
    if (this.#closed) return;
    this.retire();
    this.#closed = true;
    this.#headBuffer.transfer(0);
    this.#range[Symbol.dispose]();
  }
}
