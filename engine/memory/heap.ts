/**
 * The heap: a log of blocks, with a limit, and the cleaner that makes room in it.
 *
 * What a block is and how it is laid out is said in {@link ../../blocks/block.ts}; in which buffers blocks lie, in
 * {@link ./extents.ts}. This file holds one idea: blocks are appended, and a **cleaner** frees the extents that
 * are mostly dead, at a pace that depends on how near the limit is. Log, limit and cleaner read and change the
 * same few counters, so they are not divided.
 *
 * There are two logs, so that no end of an extent stays empty because a block that comes next is too large for it:
 *
 * ```text
 * block                       goes to                             and may leave unused
 * up to 32 KiB                the small log: one segment each     1/32 of it
 * up to 1/8 of an extent      the large log: extents of 1 to      nothing where blocks are of one size: an
 *                             4 MiB, 1/32 of the heap             extent has room for a whole number of them
 * larger                      an extent of its own, just as long  no memory, up to half of its addresses
 * ```
 *
 * So blocks of every size can have half of the addresses at least, 16 GiB.
 *
 * A block that is freed leaves a hole, which is **dead** until its extent is given back; that happens when nothing
 * in it is live any more. The cleaner takes the extent of which the largest share is dead, tells the owner of each
 * block to move it to the end of the log, and gives the extent back. (As in Rosenblum, Ousterhout: The Design and
 * Implementation of a Log-Structured File System, 1992.) How much it does depends on how full the memory is:
 *
 * - With room below the limit, it begins when more than a quarter is dead. For each write it moves 4 times as
 *   many bytes as were written, and 4 KiB.
 * - Near the limit, it begins when more than 1/32 is dead: 16 times as many, and 16 KiB.
 * - Where there is no room for a block, it moves 4 MiB at most (less if blocks are small), and if that does not
 *   make the room, the block is refused. It goes on when the host is idle, so that a later write is taken.
 *
 * An idle host cleans while more than 1/8 is dead, and near the limit whatever is worth it. An extent of which less
 * than 1/32 is dead is left alone: its room would cost more than it is worth.
 *
 * While the heap is **frozen**, nothing that was in it changes or is given back, so that a snapshot can be read:
 * owners write to copies, and the cleaner rests.
 *
 * @module
 */

import { LONG, PAGE, type Segments, TABLE, UNIT_BITS, wordAt } from "../../blocks/block.ts";
import { sizeOfDescriptor } from "../../blocks/descriptor.ts";
import { directorySize } from "../../blocks/directory.ts";
import { sizeOfEntry } from "../../blocks/entry.ts";
import { Changes } from "./changes.ts";
import { type Allocator, Extents, OutOfMemory, ownMemory, SEGMENT_UNITS, SEGMENTS } from "./extents.ts";
import type { MemoryOffer } from "../../transport/shared/offer.ts";
import { bitsOf, pageSize } from "../../blocks/page.ts";

/** Who owns the blocks of a heap, and can move them. */
export interface Owner {
  /** Moves a block if it is in use: with {@linkcode Heap.copy}, and then changes whatever holds its address. */
  move(address: number): void;
}

/** The units of the largest block in the small log. */
const SMALL = SEGMENT_UNITS >>> 5;
/** The units of the longest extent with several blocks. */
const MAX_EXTENT = 4 * SEGMENT_UNITS;

/** Work for each block beside its units: to find it in its table takes as long as to copy 1 KiB. */
const BLOCK_WORK = 128;
/** Work of the cleaner for each unit that is written, with room below the limit, … */
const PACE = 4;
/** … and near the limit: it keeps up while 1/17 of what it cleans is dead. */
const FULL_PACE = 16;
/** The cleaner is not called for less work than this. */
const MIN_WORK = 1 << 12;
/** The most work for one allocation or one write: 4 MiB, or 4,000 small blocks; 2 to 3 ms. */
const MAX_WORK = 1 << 19;
/** The work of a step while the host is idle. */
const IDLE_WORK = 1 << 16;
/** The work that one call of {@linkcode Heap.onMemoryPressure} counts as: it frees a page and its entries. */
const PRESSURE_WORK = 1 << 11;
/** The most empty extents that are given back in one step. */
const RELEASES = 8;

/** Where blocks are appended. */
interface Log {
  /** Its extent, or 0 if it has none. */
  extent: number;
  /** The units of the extent that are written. */
  end: number;
  /** The units of the extent. */
  length: number;
}

/** Blocks in segments. */
export class Heap implements Segments {
  readonly bytes: readonly Uint8Array[];
  readonly words: readonly Int32Array[];
  /** Changes with every snapshot: blocks of an older epoch may belong to one. */
  epoch = 0;
  /** Who owns the blocks. */
  owner: Owner | undefined;
  /** Frees something that is not in use any more, where the memory is full. Returns whether there was something. */
  onMemoryPressure: (() => boolean) | undefined;
  /** Called when the last snapshot has been read. */
  onThaw: (() => void) | undefined;
  /** How often the owners have changed what the heap holds. */
  changeCount = 0;
  /** Tells other processes that read the heap what is changing. */
  readonly changes: Changes;
  /** The head of the memory, if other processes may read it: see {@link ../../blocks/head.ts}. */
  readonly head: Int32Array | undefined;
  readonly #allocator: Allocator;
  readonly #extents: Extents;
  readonly #small: Log = { extent: 0, end: 0, length: 0 };
  readonly #large: Log = { extent: 0, end: 0, length: 0 };
  /** The units that are live. */
  #live = 0;
  /** The units that were written and are not live any more, in extents that are still there. */
  #dead = 0;
  /** Bytes outside of extents that count toward the limit, see {@linkcode Heap.charge}. */
  #charged = 0;
  /** The most units that the heap may take. */
  #limit = SEGMENTS * SEGMENT_UNITS;
  /** How many snapshots are being read. */
  #frozen = 0;
  /** Extents in which nothing is live, and which could not be given back while the heap was frozen. */
  readonly #empty: number[] = [];
  /** Whether the limit does not hold for what is written now: blocks that are moved, for example. */
  #beyond = false;
  /** The extent that is being cleaned, or 0. */
  #cleaning = 0;
  /** The units of it that the cleaner has gone through. */
  #cleaned = 0;
  /** Work that writes have paid for and that was not done yet. */
  #credit = 0;
  /** Writes do not clean while no more units than this are dead. */
  #tolerated = 0;
  /** While fewer units than this are dead, there is no extent worth cleaning. */
  #futile = 0;
  /** Units for which there was no room: the idle cleaner makes it. */
  #refused = 0;

  constructor(allocator: Allocator = ownMemory) {
    this.#allocator = allocator;
    this.#extents = new Extents(allocator);
    this.head = allocator.head;
    this.changes = new Changes(allocator.head);
    this.words = this.#extents.words;
    this.bytes = this.#extents.bytes;
    this.#setPace();
  }

  /**
   * An empty heap of the same limit, which counts for itself.
   *
   * @param allocator What it takes its memory from. Left out, other processes may read it if they may read this one.
   */
  sibling(allocator: Allocator = this.#allocator.another()): Heap {
    const heap = new Heap(allocator);
    heap.#limit = this.#limit;
    return heap;
  }

  /** Where the memory is, for processes that read it; undefined if they cannot. */
  get offer(): MemoryOffer | undefined {
    return this.#allocator.offer;
  }

  /** Tells other processes that they may read no more: another heap takes this one's place, or none does. */
  retire(): void {
    this.#allocator.retire();
  }

  /** Bytes that the heap has taken, those that were charged to it included. */
  get size(): number {
    return this.#extents.units * 8 + this.#charged;
  }

  /** Bytes of blocks that are in use. */
  get live(): number {
    return this.#live * 8;
  }

  /** Bytes of blocks that were freed and whose extents are not given back yet. */
  get dead(): number {
    return this.#dead * 8;
  }

  /**
   * The most bytes that the heap may take: beyond it, {@linkcode Heap.allocate} throws. While an extent is cleaned, its
   * blocks may be there twice: the heap is then larger by what it moves, 1/32 of the heap or two segments.
   */
  set limit(bytes: number) {
    this.#limit = Math.min(SEGMENTS * SEGMENT_UNITS, Math.floor(bytes / 8));
    this.#futile = 0;
    this.#setPace();
  }

  /**
   * Counts memory outside of segments toward the limit: what the engine holds beside blocks (queues, objects,
   * records). Makes room as {@linkcode Heap.allocate} does, and so may move blocks. When that memory is freed,
   * {@linkcode Heap.discharge} is called with the same number.
   *
   * @throws {OutOfMemory} if the heap may not grow; nothing is charged then.
   */
  charge(bytes: number): void {
    this.#makeRoom(Math.ceil(bytes / 8));
    this.#charged += bytes;
    this.#setPace();
  }

  /** Counts that many bytes no longer, see {@linkcode Heap.charge}. */
  discharge(bytes: number): void {
    this.#charged -= bytes;
    this.#setPace();
  }

  /** Whether a snapshot is being read. */
  get frozen(): boolean {
    return this.#frozen > 0;
  }

  /**
   * Makes a block of so many bytes. Its contents are undefined until the caller writes them, which it does before
   * anything else. May move other blocks: addresses that were read before must be read again.
   *
   * @throws {OutOfMemory} if the heap may not grow.
   */
  allocate(bytes: number): number {
    const units = (bytes + 7) >>> 3;
    const log = units <= SMALL ? this.#small : this.#large;
    if (log.end + units > log.length) {
      const extent = this.#advance(log, units);
      if (extent > 0) return extent << UNIT_BITS;
    }
    const address = (log.extent << UNIT_BITS) + log.end, extents = this.#extents;
    log.end += units;
    extents.written[log.extent] = log.end;
    extents.live[log.extent] += units;
    this.#live += units;
    return address | 0;
  }

  /** Frees a block of so many bytes. */
  free(address: number, bytes: number): void {
    const units = (bytes + 7) >>> 3, extents = this.#extents;
    const extent = extents.of[address >>> UNIT_BITS];
    this.#live -= units;
    this.#dead += units;
    if ((extents.live[extent] -= units) === 0) this.#extentIsEmpty(extent);
  }

  /** Copies a block of so many bytes to the end of the log, whatever the limit, and frees it. */
  copy(address: number, bytes: number): number {
    const before = this.#beyond;
    this.#beyond = true;
    let to: number;
    try {
      to = this.allocate(bytes);
    } finally {
      this.#beyond = before;
    }
    const from = wordAt(address), target = wordAt(to);
    const source = this.words[address >>> UNIT_BITS], words = this.words[to >>> UNIT_BITS];
    const count = (bytes + 7) >>> 3 << 1;
    if (count > 256) words.set(source.subarray(from, from + count), target);
    else for (let i = 0; i < count; i++) words[target + i] = source[from + i];
    this.free(address, bytes);
    return to;
  }

  /** The bytes of a block. */
  blockSize(address: number): number {
    const words = this.words[address >>> UNIT_BITS], w = wordAt(address);
    const word = words[w];
    if (word & PAGE) return word & LONG ? directorySize(words[w + 1]) : pageSize(bitsOf(words[w + 1]));
    return word & TABLE ? sizeOfDescriptor(words, w) : sizeOfEntry(words, w);
  }

  /** Runs what may go beyond the limit, since no more is used afterwards than before, or it must not fail. */
  beyondLimit<Result>(run: () => Result): Result {
    const before = this.#beyond;
    this.#beyond = true;
    try {
      return run();
    } finally {
      this.#beyond = before;
    }
  }

  /** Keeps all blocks as they are until {@linkcode Heap.thaw}. */
  freeze(): void {
    this.#frozen++;
    this.epoch = this.epoch + 1 | 0;
  }

  /** Whether what is dead takes more room than is left: it should be won back before the heap is frozen (again). */
  get isPressed(): boolean {
    return this.#dead > this.#room();
  }

  /** Ends one {@linkcode Heap.freeze}. Extents that became empty meanwhile are given back in steps. */
  thaw(): void {
    if (--this.#frozen === 0) this.onThaw?.();
  }

  /**
   * Cleans in step with what is written: so many bytes were. It moves blocks, so it is called between two changes.
   */
  cleanForWrite(bytes: number): void {
    if (this.#dead <= this.#tolerated || this.#frozen > 0) return;
    const pace = this.#isFull(0) ? FULL_PACE : PACE;
    this.#credit = Math.min(MAX_WORK, this.#credit + (BLOCK_WORK + ((bytes + 7) >>> 3)) * pace);
    if (this.#credit >= MIN_WORK && !this.#releaseEmpty(1)) this.#credit -= this.#clean(this.#credit);
  }

  /** Does a step of the work that is left for when the host is idle. Returns false once there is little to gain. */
  cleanWhenIdle(): boolean {
    if (this.#frozen > 0) return false;
    if (this.#releaseEmpty(RELEASES)) return true;
    const tolerated = this.#isFull(this.#refused)
      ? 0
      : Math.max(this.#extents.units >>> 3, SEGMENT_UNITS >>> 1);
    if (this.#dead > tolerated && this.#clean(IDLE_WORK) > 0) return true;
    this.#refused = 0;
    return false;
  }

  /**
   * Gives back a few extents of a heap that nobody uses any more. Returns false after the last. (To give back 1 GiB
   * takes the system 100 ms: where nobody may wait so long, other work is done in between.)
   */
  closeNext(): boolean {
    // (Before the first is gone: readers believe what they read there until they are told.)
    this.retire();
    return this.#extents.closeNext();
  }

  /** Gives back everything at once. Nobody may use the heap any more. */
  close(): void {
    while (this.closeNext());
  }

  /**
   * Takes another extent for a log, with room for a block of so many units. A block that is too large to share one gets
   * its own, which is returned; else 0.
   */
  #advance(log: Log, units: number): number {
    // So a host that is never idle gives back more of what a long snapshot left behind than it takes.
    this.#releaseEmpty(2);
    const extents = this.#extents;
    const longest = Math.max(SEGMENT_UNITS, Math.min(MAX_EXTENT, extents.units >>> 5));
    if (units > Math.max(SMALL, longest >>> 3)) {
      this.#makeRoom(units);
      const extent = this.#take(units);
      extents.written[extent] = extents.live[extent] = units;
      this.#live += units;
      return extent;
    }
    const small = log === this.#small;
    const shortest = small ? SEGMENT_UNITS : multiple(units, SEGMENT_UNITS);
    this.#makeRoom(shortest);
    // The cleaner may have advanced the log.
    if (log.end + units <= log.length) return 0;
    // One that is as long as there is room for, and that such blocks fill to its end.
    const length = small
      ? SEGMENT_UNITS
      : Math.max(shortest, multiple(units, Math.min(longest, this.#room())));
    const full = log.extent;
    log.extent = this.#take(length);
    log.length = length;
    log.end = 0;
    if (full > 0 && extents.live[full] === 0) this.#extentIsEmpty(full);
    return 0;
  }

  #take(units: number): number {
    const extent = this.#extents.take(units, this.#beyond);
    this.#futile = 0;
    this.#setPace();
    return extent;
  }

  /** Nothing in an extent is live any more. */
  #extentIsEmpty(extent: number): void {
    const log = extent === this.#small.extent ? this.#small : this.#large;
    if (extent === log.extent) {
      if (this.#frozen === 0) this.#rewind(log);
    } else if (this.#frozen > 0) {
      this.#empty.push(extent);
    } else {
      this.#release(extent);
    }
  }

  /** Writes a log's extent, in which nothing is live, from its beginning on. */
  #rewind(log: Log): void {
    this.#dead -= log.end;
    this.#extents.written[log.extent] = log.end = 0;
  }

  /** Gives back an extent in which nothing is live. */
  #release(extent: number): void {
    this.#dead -= this.#extents.written[extent];
    this.#extents.release(extent);
    if (extent === this.#cleaning) this.#cleaning = 0;
    this.#futile = 0;
    this.#setPace();
  }

  /** Gives back some extents that became empty while the heap was frozen. Returns whether there was one. */
  #releaseEmpty(most: number): boolean {
    if (this.#frozen > 0) return false;
    const { live } = this.#extents, { extent, end } = this.#small;
    if (end > 0 && live[extent] === 0) this.#rewind(this.#small);
    const large = this.#large.extent;
    if (large > 0 && live[large] === 0) {
      this.#large.extent = this.#large.end = this.#large.length = 0;
      this.#release(large);
      return true;
    }
    if (this.#empty.length === 0) return false;
    while (most-- > 0 && this.#empty.length > 0) this.#release(this.#empty.pop()!);
    return true;
  }

  /**
   * Moves what is live in the extent of which the largest share is dead, for so much work.
   *
   * @returns How much work it was: one block more at most; 0 if no extent is worth it.
   */
  #clean(work: number): number {
    if (this.#frozen > 0 || this.#cleaning === 0 && !this.#choose()) return 0;
    const extents = this.#extents, extent = this.#cleaning, end = extents.written[extent];
    let done = 0;
    while (done < work && this.#cleaned < end) {
      const address = (extent << UNIT_BITS) + this.#cleaned | 0;
      const live = extents.live[extent];
      this.#cleaned += (this.blockSize(address) + 7) >>> 3;
      try {
        this.owner?.move(address);
      } catch (error) {
        // (The block stays where it is.)
        if (!(error instanceof OutOfMemory)) throw error;
      }
      done += BLOCK_WORK + live - extents.live[extent];
      // Its last block was moved, and it was given back.
      if (this.#cleaning !== extent) return done;
    }
    if (this.#cleaned >= end) {
      // Nobody moves what is still live there: that room cannot be had.
      this.#dead -= end - extents.live[extent];
      extents.written[extent] = extents.live[extent];
      this.#cleaning = 0;
    }
    return done;
  }

  /** Chooses the extent of which the largest share is dead. Returns false if none is worth it. */
  #choose(): boolean {
    if (this.#dead < this.#futile) return false;
    const { written, live } = this.#extents;
    let most = 1 / 32;
    for (let extent = 1; extent < this.words.length; extent++) {
      const dead = written[extent] - live[extent];
      if (dead <= written[extent] * most) continue;
      if (extent === this.#small.extent || extent === this.#large.extent) continue;
      most = dead / written[extent];
      this.#cleaning = extent;
    }
    this.#cleaned = 0;
    if (this.#cleaning > 0) return true;
    // There will be none before so many more are dead, or an extent is closed.
    this.#futile = this.#dead + (SEGMENT_UNITS >>> 5);
    this.#setPace();
    return false;
  }

  /** The units that the heap may still take. */
  #room(): number {
    return this.#limit - this.#extents.units - Math.ceil(this.#charged / 8);
  }

  /** Whether the heap is near its limit, or has no room for so many units. */
  #isFull(units: number): boolean {
    return this.#room() < Math.max(units, 2 * SEGMENT_UNITS + (this.#extents.units >>> 6));
  }

  /** Sets how much may be dead before writes clean. */
  #setPace(): void {
    const { units } = this.#extents;
    const tolerated = this.#isFull(0) ? units >>> 5 : (units >>> 2) + 2 * SEGMENT_UNITS;
    this.#tolerated = Math.max(tolerated, this.#futile);
  }

  /** Makes sure that the heap may grow by so many units: at the limit it cleans, for a bounded time. */
  #makeRoom(units: number): void {
    if (this.#beyond || units <= this.#room()) return;
    let work = MAX_WORK;
    while (units > this.#room()) {
      if (this.#releaseEmpty(1)) continue;
      let done = 0;
      if (this.#frozen === 0 && work > 0) {
        if (this.onMemoryPressure?.()) done = PRESSURE_WORK;
        else if (units <= this.#room() + this.#dead) done = this.#clean(work);
      }
      if (done === 0) {
        if (units <= this.#room() + this.#dead) this.#refused = Math.max(this.#refused, units);
        const why = `the memory is full: ${this.size} of ${this.#limit * 8} bytes are used`;
        throw new OutOfMemory(`Cannot store more: ${why}`);
      }
      work -= done;
    }
    this.#refused = 0;
  }
}

/** The most units that are a multiple of a block's and not more than so many; one block at least. */
function multiple(units: number, most: number): number {
  return units * Math.max(1, Math.floor(most / units));
}
