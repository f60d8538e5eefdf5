/**
 * Extents: the buffers in which a heap's blocks lie, and which segments they take.
 *
 * ```text
 * segment   0        1        2        3        4        5
 *          ┌────────┬────────┬────────────────────┬────────┬ …
 *          │ none   │ extent │ extent 2           │ free   │
 *          │        │ 1      │ (2.5 MiB)          │        │
 *          └────────┴────────┴────────────────────┴────────┴ …
 * ```
 *
 * An extent is one buffer from an {@linkcode Allocator}. It takes one segment, or several in a row, and is known by its
 * first segment; a block lies in one extent. Of each extent it is counted how much of it was written and how much of
 * that is live: the heap ({@link ./heap.ts}) decides by it what to clean and what to give back.
 *
 * @module
 */

import type { MemoryOffer } from "../../transport/shared/offer.ts";
import { SEGMENT, type Segments, UNIT_BITS } from "../../blocks/block.ts";

/** Where buffers come from and go to: the process's own memory, or memory that is shared. */
export interface Allocator {
  /** The head, if other processes may read the memory: see {@link ../../blocks/head.ts}. */
  readonly head: Int32Array | undefined;
  /** Where it is, for those processes; undefined if there are none, or it is closed. */
  readonly offer: MemoryOffer | undefined;
  /**
   * A buffer of so many bytes, all zero, for the extent that begins with a segment.
   *
   * @throws {Error} if the system has no memory.
   */
  allocate(segment: number, bytes: number): ArrayBuffer;
  /** Gives the memory of an extent back to the system. Nothing in this process reads it any more. */
  release(segment: number, buffer: ArrayBuffer): void;
  /** Memory for another heap, which other processes may read if they may read this. */
  another(): Allocator;
  /** Tells those who read the memory from other processes that they may read no more. */
  retire(): void;
  /** Gives back what is not part of an extent. */
  close(): void;
}

/** Takes the process's own memory. */
export const ownMemory: Allocator = {
  head: undefined,
  offer: undefined,
  allocate: (_segment, bytes) => new ArrayBuffer(bytes),
  // A buffer that is detached is freed at once; the garbage collector would take its time.
  release: (_segment, buffer) => void buffer.transfer(0),
  another: () => ownMemory,
  retire() {},
  close() {},
};

/** There is no room for another block. */
export class OutOfMemory extends Error {
  override name = "OutOfMemory";
}

/** The units of 8 bytes in a segment. */
export const SEGMENT_UNITS: number = 1 << UNIT_BITS;
/** How many segments have addresses. */
export const SEGMENTS: number = 1 << (32 - UNIT_BITS);
/** Segments that only moved blocks may take: the cleaner needs some to free others. */
const RESERVED_SEGMENTS = 64;
/** Extents that {@linkcode Extents.closeNext} releases: 1 GiB takes the system 100 ms. */
const CLOSED_AT_ONCE = 8;

/** In place of the memory of free segments. (Two words: address 0 can be read.) */
const NO_WORDS = new Int32Array(2);
const NO_BYTES = new Uint8Array(0);

/** The extents of one heap. */
export class Extents implements Segments {
  readonly bytes: Uint8Array[] = [NO_BYTES];
  readonly words: Int32Array[] = [NO_WORDS];
  /** Of each segment the extent that it belongs to, or 0 if it is free. */
  of: Int32Array = new Int32Array(64);
  /** Of each extent, how many units were written, … */
  written: Int32Array = new Int32Array(64);
  /** … and how many of those are live. */
  live: Int32Array = new Int32Array(64);
  /** The units of all extents. */
  units = 0;
  readonly #allocator: Allocator;

  constructor(allocator: Allocator) {
    this.#allocator = allocator;
  }

  /**
   * Takes another extent.
   *
   * @param reserve Whether it may take the segments that are kept for moved blocks.
   * @throws {OutOfMemory} if there are no segments left, or the system has no memory.
   */
  take(units: number, reserve: boolean): number {
    const count = Math.ceil(units / SEGMENT_UNITS);
    const extent = this.#findSegments(count, reserve);
    let buffer: ArrayBuffer;
    try {
      buffer = this.#allocator.allocate(extent, units * 8);
    } catch (cause) {
      throw new OutOfMemory("Cannot store more: the system has no more memory", { cause });
    }
    for (let i = 0; i < count; i++) {
      this.of[extent + i] = extent;
      this.bytes[extent + i] = new Uint8Array(buffer, i * SEGMENT);
      this.words[extent + i] = new Int32Array(buffer, i * SEGMENT);
    }
    this.units += units;
    return extent;
  }

  /** Gives an extent back. */
  release(extent: number): void {
    const words = this.words[extent];
    const units = words.length >>> 1;
    const end = extent + Math.ceil(units / SEGMENT_UNITS);
    this.of.fill(0, extent, end);
    this.words.fill(NO_WORDS, extent, end);
    this.bytes.fill(NO_BYTES, extent, end);
    this.units -= units;
    this.written[extent] = 0;
    this.#allocator.release(extent, words.buffer as ArrayBuffer);
  }

  /** Gives back a few of the extents, of which none is used any more. Returns whether there are more. */
  closeNext(): boolean {
    let left = CLOSED_AT_ONCE;
    while (this.words.length > 1) {
      const extent = this.of[this.words.length - 1];
      if (extent === 0) {
        this.words.length--;
      } else {
        if (left-- === 0) return true;
        const { buffer } = this.words[extent];
        this.words.length = extent;
        this.#allocator.release(extent, buffer as ArrayBuffer);
      }
    }
    if (this.bytes.length > 0) this.#allocator.close();
    this.bytes.length = 0;
    return false;
  }

  /** The first of so many free segments in a row. */
  #findSegments(count: number, reserve: boolean): number {
    const { of } = this;
    let first = of.indexOf(0, 1);
    for (let next = first; first >= 0 && next < Math.min(first + count, of.length); next++) {
      if (of[next] !== 0) next = first = of.indexOf(0, next + 1);
    }
    if (first < 0) first = of.length;
    const end = first + count;
    if (end > SEGMENTS - (reserve ? 0 : RESERVED_SEGMENTS)) {
      const why = `no ${count} MiB in a row are left of the 32 GiB that have addresses`;
      throw new OutOfMemory(`Cannot store more: ${why}`);
    }
    if (end > of.length) {
      const length = Math.min(SEGMENTS, Math.max(end, of.length * 2));
      this.of = grown(length, of);
      this.live = grown(length, this.live);
      this.written = grown(length, this.written);
    }
    for (let i = this.words.length; i < end; i++) this.words[i] = NO_WORDS, this.bytes[i] = NO_BYTES;
    return first;
  }
}

function grown(length: number, array: Int32Array): Int32Array {
  const larger = new Int32Array(length);
  larger.set(array);
  return larger;
}
