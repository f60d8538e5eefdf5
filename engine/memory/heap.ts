/**
 * The memory of the engine: blocks of bytes in segments, and the cleaner that wins back the room of dead ones.
 *
 * The addresses of a heap are divided into **segments** of {@linkcode SEGMENT} bytes. An **extent** is one
 * buffer from an {@linkcode Allocator}; it takes one segment, or several in a row. A **block** lives in one
 * extent, begins at a multiple of 8 bytes, and is known by its **address**: a segment and where the block
 * begins there, in units of 8 bytes (so 32 bits reach 32 GiB). There are no pointers, only addresses: the same
 * bytes mean the same wherever they are mapped.
 *
 * ```text
 * address   31        17 16              0
 *          ┌────────────┬─────────────────┐    0 is no block: segment 0 is never used
 *          │ segment    │ byte / 8        │
 *          └────────────┴─────────────────┘
 *
 * block     word 0                 word 1                    then (words of 32 bits, little-endian)
 * entry    │ owner  · kind 0     │ key length 0-7          │ [expiry] key bytes, value bytes, 0-7 of padding
 *          │        · EXPIRES?   │ value length 8-31       │
 * long     │ owner  · LONG       │ key length              │ value length, 0, [expiry] key, value, padding
 * entry    │        · EXPIRES?   │                         │
 * table    │ as an entry · TABLE │ …                       │ 8 words of the table's state, name, padding
 * page     │ owner  · PAGE       │ bits 0-7, depth 8-15,   │ prefix, epoch, 2^bits slots of hash and address
 *          │                     │ entries 16-31           │
 *
 * directory│ owner · PAGE · LONG │ depth                   │ 0, epoch, 2^depth addresses of pages
 *
 * owner    bits 0-27 of word 0: the number of the table that the block belongs to, or that it describes;
 *          PAGE bit 28, LONG bit 29, EXPIRES bit 30, TABLE bit 31
 * expiry   two words: milliseconds since 1970, the lower half first
 * ```
 *
 * Blocks are appended to a log. There are two, so that no end of an extent stays empty because a block that
 * comes next is too large for it:
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
 * A block that is freed leaves a hole, which is **dead** until its extent is given back; that happens when
 * nothing lives there any more. A **cleaner** sees to it: it takes the extent of which the largest share is
 * dead, has the owner of each block move it to the end of the log, and gives the extent back. (As in
 * Rosenblum, Ousterhout: The Design and Implementation of a Log-Structured File System, 1992.) How much it does
 * depends on how full the memory is:
 *
 * - With room below the limit, it begins when more than a quarter is dead. For each write it moves 4 times as
 *   many bytes as were written, and 4 KiB.
 * - Near the limit, it begins when more than 1/32 is dead: 16 times as many, and 16 KiB.
 * - Where there is no room for a block, it moves 4 MiB at most (less if blocks are small), and if that does not
 *   make the room, the block is refused. It goes on when the host is idle, so that a later write is taken.
 *
 * An idle host cleans while more than 1/8 is dead, and near the limit whatever is worth it.
 *
 * An extent of which less than 1/32 is dead is left alone: its room would cost more than it is worth.
 *
 * While the heap is **frozen** nothing that was in it changes or is given back, so that a snapshot can be
 * read: owners write to copies, and the cleaner rests.
 *
 * @module
 */

/** Where segments come from and go to: the process's own memory, or some day memory that is shared. */
export interface Allocator {
  /** A buffer of so many bytes, all zero. */
  allocate(bytes: number): ArrayBuffer;
  /** Gives a buffer's memory back to the system. Nothing reads it any more. */
  release(buffer: ArrayBuffer): void;
}

/** Who owns the blocks of a heap, and can move them. */
export interface Owner {
  /** Copies the block elsewhere if it is in use: {@linkcode Heap.copy}, then tell those who know its address. */
  move(address: number): void;
}

/** There is no room for another block. */
export class OutOfMemory extends Error {
  override name = "OutOfMemory";
}

/** Bytes of a segment. */
export const SEGMENT: number = 1 << 20;
/** Units of 8 bytes in a segment, as bits. */
export const UNIT_BITS = 17;
/** The part of an address that says where in its segment a block begins. */
export const UNIT_MASK: number = (1 << UNIT_BITS) - 1;
const SEGMENT_UNITS = 1 << UNIT_BITS;
const SEGMENTS = 1 << (32 - UNIT_BITS);
/** Segments that only moved blocks may take: the cleaner needs some to win others. */
const RESERVED_SEGMENTS = 64;
/** Units of the largest block in the small log. */
const SMALL = SEGMENT_UNITS >>> 5;
/** Units of the longest extent with several blocks. */
const MAX_EXTENT = 4 * SEGMENT_UNITS;

/** Bits of a block's word 0. */
export const OWNER: number = (1 << 28) - 1;
export const PAGE: number = 1 << 28;
export const LONG: number = 1 << 29;
export const EXPIRES: number = 1 << 30;
export const TABLE: number = 1 << 31;
/** Bytes of a table's state. */
export const TABLE_BYTES = 32;
/** Words before a page's slots, and before a directory's addresses. */
export const PAGE_HEAD = 4;

/** Units of work for each block beside its own: to find it in its table takes as long as to copy 1 KiB. */
const BLOCK_WORK = 128;
/** Work of the cleaner for each unit of work that is written, with room below the limit, … */
const PACE = 4;
/** … and near the limit: it keeps up while 1/17 of what it cleans is dead. */
const FULL_PACE = 16;
/** Work that must have come together before the cleaner is called. */
const MIN_WORK = 1 << 12;
/** Work at most for one allocation or one write: 4 MiB, or 4,000 small blocks; 2 to 3 ms. */
const MAX_WORK = 1 << 19;
/** Work in a step while the host is idle. */
const IDLE_WORK = 1 << 16;
/** Work that one call of {@linkcode Heap.relieve} counts as: it frees a page and its entries. */
const RELIEVE_WORK = 1 << 11;
/** Extents without a living block that are given back in one step. */
const RELEASES = 8;

/** Where blocks are appended. */
interface Log {
  /** The first segment of its extent; 0 if it has none. */
  segment: number;
  /** Units that are written, and units of the extent. */
  end: number;
  length: number;
}

const own: Allocator = {
  allocate: (bytes) => new ArrayBuffer(bytes),
  // Detached, a buffer's memory is freed at once; the garbage collector would take its time.
  release: (buffer) => void buffer.transfer(0),
};

const CANNOT = "Cannot store more";
/** In place of what is not there. (Two words: address 0 can be read.) */
const NO_WORDS = new Int32Array(2);
const NO_BYTES = new Uint8Array(0);

/** Blocks in segments. */
export class Heap {
  /** Of each segment its bytes, up to the end of its extent, … */
  readonly bytes: Uint8Array[] = [NO_BYTES];
  /** … and the same as words. */
  readonly words: Int32Array[] = [NO_WORDS];
  /** Changes with every snapshot: blocks of another epoch may belong to one. */
  epoch = 0;
  readonly #allocator: Allocator;
  /** Who owns the blocks. */
  owner: Owner | undefined;
  /** Of each segment: the first one of its extent, or 0 if it is free. */
  #extents = new Int32Array(64);
  /** Of each extent, by its first segment: units that were written, and units that live. */
  #written = new Int32Array(64);
  #live = new Int32Array(64);
  readonly #small: Log = { segment: 0, end: 0, length: 0 };
  readonly #large: Log = { segment: 0, end: 0, length: 0 };
  /** Units that live, units that were written and live no more, and units of all extents. */
  #liveUnits = 0;
  #dead = 0;
  #units = 0;
  /** Bytes outside of extents that count toward the limit, see {@linkcode Heap.charge}. */
  #charged = 0;
  #frozen = 0;
  /** Extents in which nothing lives any more, and that could not be given back at once. */
  readonly #gone: number[] = [];
  /** The extent that is being cleaned, or 0, and how far the cleaner is. */
  #cleaning = 0;
  #cleaned = 0;
  /** Units of work that writes have paid for and that was not done yet. */
  #credit = 0;
  /** Writes need not clean while no more units than this are dead. */
  #tolerated = 0;
  /** While fewer units than this are dead, there is no extent worth cleaning. */
  #futile = 0;
  /** Units for which there was no room: the idle cleaner makes it. */
  #wanted = 0;
  /** What is written now may go beyond the limit: blocks that are moved, for example. */
  #beyond = false;
  /** How often what the heap holds was changed by its owners. */
  changes = 0;
  /** Units of the heap at most. */
  #most = SEGMENTS * SEGMENT_UNITS;
  /** Frees something that is not in use any more, where the memory is full; whether there was something. */
  relieve: (() => boolean) | undefined;

  constructor(allocator: Allocator = own) {
    this.#allocator = allocator;
    this.#setPace();
  }

  /** An empty heap of the same memory and the same limit. */
  sibling(): Heap {
    const heap = new Heap(this.#allocator);
    heap.#most = this.#most;
    return heap;
  }

  /** Bytes that the heap has taken, those that were charged to it included. */
  get size(): number {
    return this.#units * 8 + this.#charged;
  }

  /** Bytes of blocks that are in use. */
  get live(): number {
    return this.#liveUnits * 8;
  }

  /** Bytes of blocks that were freed and whose extents are not given back yet. */
  get dead(): number {
    return this.#dead * 8;
  }

  /**
   * How many bytes the heap may take: beyond, {@linkcode Heap.allocate} throws. While an extent is cleaned, its
   * blocks may be there twice: the heap is then larger by what it moves, 1/32 of the heap or two segments.
   */
  set limit(bytes: number) {
    this.#most = Math.min(SEGMENTS * SEGMENT_UNITS, Math.floor(bytes / 8));
    this.#futile = 0;
    this.#setPace();
  }

  /**
   * Counts memory outside of segments toward the limit: what the engine holds beside blocks (queues, objects,
   * records). Makes room as {@linkcode Heap.allocate} does, and so may move blocks. Whoever frees that memory
   * calls {@linkcode Heap.discharge} with the same number.
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

  /** A snapshot is being read. */
  get frozen(): boolean {
    return this.#frozen > 0;
  }

  /**
   * Room for a block of so many bytes; what is there is rubbish until it is written, which the caller does
   * before anything else. May move other blocks: addresses that were read before must be read again.
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
    const address = (log.segment << UNIT_BITS) + log.end;
    log.end += units;
    this.#written[log.segment] = log.end;
    this.#live[log.segment] += units;
    this.#liveUnits += units;
    return address | 0;
  }

  /** Frees a block of so many bytes. */
  free(address: number, bytes: number): void {
    const units = (bytes + 7) >>> 3;
    const extent = this.#extents[address >>> UNIT_BITS];
    this.#liveUnits -= units;
    this.#dead += units;
    if ((this.#live[extent] -= units) === 0) this.#empty(extent);
  }

  /** Copies a block of so many bytes to the end of the log and frees it. */
  copy(address: number, bytes: number): number {
    const before = this.#beyond;
    this.#beyond = true;
    let to: number;
    try {
      to = this.allocate(bytes);
    } finally {
      this.#beyond = before;
    }
    const from = (address & UNIT_MASK) << 1, target = (to & UNIT_MASK) << 1;
    const source = this.words[address >>> UNIT_BITS], words = this.words[to >>> UNIT_BITS];
    const count = (bytes + 7) >>> 3 << 1;
    if (count > 256) words.set(source.subarray(from, from + count), target);
    else for (let i = 0; i < count; i++) words[target + i] = source[from + i];
    this.free(address, bytes);
    return to;
  }

  /** Does what may go beyond the limit, since there is no more afterwards than there was. */
  beyondLimit<Result>(run: () => Result): Result {
    const before = this.#beyond;
    this.#beyond = true;
    try {
      return run();
    } finally {
      this.#beyond = before;
    }
  }

  /** Keeps all that is there as it is, until {@linkcode Heap.thaw}. */
  freeze(): void {
    this.#frozen++;
    this.epoch = this.epoch + 1 | 0;
  }

  /** Ends one {@linkcode Heap.freeze}. What has died meanwhile is given back in steps. */
  thaw(): void {
    this.#frozen--;
  }

  /**
   * Cleans in step with what is written: so many bytes were. Call it between two changes, since it moves
   * blocks.
   */
  tend(bytes: number): void {
    if (this.#dead <= this.#tolerated || this.#frozen > 0) return;
    const pace = this.#isFull(0) ? FULL_PACE : PACE;
    this.#credit = Math.min(MAX_WORK, this.#credit + (BLOCK_WORK + ((bytes + 7) >>> 3)) * pace);
    if (this.#credit >= MIN_WORK && !this.#releaseGone(1)) this.#credit -= this.#clean(this.#credit);
  }

  /** Cleans while there is nothing else to do, a step at each call; false once there is little to gain. */
  tidy(): boolean {
    if (this.#frozen > 0) return false;
    if (this.#releaseGone(RELEASES)) return true;
    const tolerated = this.#isFull(this.#wanted) ? 0 : Math.max(this.#units >>> 3, SEGMENT_UNITS >>> 1);
    if (this.#dead > tolerated && this.#clean(IDLE_WORK) > 0) return true;
    this.#wanted = 0;
    return false;
  }

  /** Gives everything back. Nobody may use the heap any more. */
  close(): void {
    while (this.closeNext());
  }

  /**
   * Gives back a few extents of a heap that nobody uses any more; false after the last. (To give back 1 GiB
   * takes the system 100 ms: who must not wait so long calls this again and again.)
   */
  closeNext(): boolean {
    let left = RELEASES;
    while (this.words.length > 1) {
      const extent = this.#extents[this.words.length - 1];
      if (extent === 0) {
        this.words.length--;
      } else {
        if (left-- === 0) return true;
        const { buffer } = this.words[extent];
        this.words.length = extent;
        this.#allocator.release(buffer as ArrayBuffer);
      }
    }
    this.bytes.length = 0;
    return false;
  }

  /**
   * Takes another extent for a log, with room for a block of so many units. A block that is too large to share
   * one gets its own, which is the answer; else 0.
   */
  #advance(log: Log, units: number): number {
    // Of what a long snapshot left behind, a host that is never idle gives back more than it takes.
    this.#releaseGone(2);
    const longest = Math.max(SEGMENT_UNITS, Math.min(MAX_EXTENT, this.#units >>> 5));
    if (units > Math.max(SMALL, longest >>> 3)) {
      this.#makeRoom(units);
      const extent = this.#take(units);
      this.#written[extent] = this.#live[extent] = units;
      this.#liveUnits += units;
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
    const full = log.segment;
    log.segment = this.#take(length);
    log.length = length;
    log.end = 0;
    if (full > 0 && this.#live[full] === 0) this.#empty(full);
    return 0;
  }

  /** Takes a buffer, and as many segments in a row as it is long. */
  #take(units: number): number {
    const count = Math.ceil(units / SEGMENT_UNITS);
    const first = this.#findSegments(count);
    let buffer: ArrayBuffer;
    try {
      buffer = this.#allocator.allocate(units * 8);
    } catch (cause) {
      throw new OutOfMemory(`${CANNOT}: the system has no more memory`, { cause });
    }
    for (let i = 0; i < count; i++) {
      this.#extents[first + i] = first;
      this.bytes[first + i] = new Uint8Array(buffer, i * SEGMENT);
      this.words[first + i] = new Int32Array(buffer, i * SEGMENT);
    }
    this.#units += units;
    this.#futile = 0;
    this.#setPace();
    return first;
  }

  /** The first of so many free segments in a row. */
  #findSegments(count: number): number {
    const extents = this.#extents;
    let first = extents.indexOf(0, 1);
    for (let next = first; first >= 0 && next < Math.min(first + count, extents.length); next++) {
      if (extents[next] !== 0) next = first = extents.indexOf(0, next + 1);
    }
    if (first < 0) first = extents.length;
    const end = first + count;
    if (end > SEGMENTS - (this.#beyond ? 0 : RESERVED_SEGMENTS)) {
      throw new OutOfMemory(`${CANNOT}: no ${count} MiB in a row are left of the 32 GiB that have addresses`);
    }
    if (end > extents.length) {
      const length = Math.min(SEGMENTS, Math.max(end, extents.length * 2));
      this.#extents = grown(length, extents);
      this.#live = grown(length, this.#live);
      this.#written = grown(length, this.#written);
    }
    for (let i = this.words.length; i < end; i++) this.words[i] = NO_WORDS, this.bytes[i] = NO_BYTES;
    return first;
  }

  /** Nothing lives in an extent any more. */
  #empty(extent: number): void {
    const log = extent === this.#small.segment ? this.#small : this.#large;
    if (extent === log.segment) {
      if (this.#frozen === 0) this.#rewind(log);
    } else if (this.#frozen > 0) {
      this.#gone.push(extent);
    } else {
      this.#release(extent);
    }
  }

  /** Writes a log's extent, in which nothing lives, from its beginning on. */
  #rewind(log: Log): void {
    this.#dead -= log.end;
    this.#written[log.segment] = log.end = 0;
  }

  /** Gives back an extent in which nothing lives. */
  #release(extent: number): void {
    const words = this.words[extent];
    const units = words.length >>> 1;
    const end = extent + Math.ceil(units / SEGMENT_UNITS);
    this.#extents.fill(0, extent, end);
    this.words.fill(NO_WORDS, extent, end);
    this.bytes.fill(NO_BYTES, extent, end);
    this.#units -= units;
    this.#dead -= this.#written[extent];
    this.#written[extent] = 0;
    if (extent === this.#cleaning) this.#cleaning = 0;
    this.#futile = 0;
    this.#setPace();
    this.#allocator.release(words.buffer as ArrayBuffer);
  }

  /** Gives back some extents that had to stay when they became empty; whether there was one. */
  #releaseGone(most: number): boolean {
    if (this.#frozen > 0) return false;
    const { segment, end } = this.#small;
    if (end > 0 && this.#live[segment] === 0) this.#rewind(this.#small);
    const large = this.#large.segment;
    if (large > 0 && this.#live[large] === 0) {
      this.#large.segment = this.#large.end = this.#large.length = 0;
      this.#release(large);
      return true;
    }
    if (this.#gone.length === 0) return false;
    while (most-- > 0 && this.#gone.length > 0) this.#release(this.#gone.pop()!);
    return true;
  }

  /**
   * Moves what lives in the extent of which the largest share is dead, for so much work.
   *
   * @returns How much work it was: one block more at most; 0 if no extent is worth it.
   */
  #clean(work: number): number {
    if (this.#frozen > 0 || this.#cleaning === 0 && !this.#choose()) return 0;
    const extent = this.#cleaning, end = this.#written[extent];
    let done = 0;
    while (done < work && this.#cleaned < end) {
      const address = (extent << UNIT_BITS) + this.#cleaned | 0;
      const live = this.#live[extent];
      this.#cleaned += (this.blockSize(address) + 7) >>> 3;
      try {
        this.owner?.move(address);
      } catch (error) {
        // (The block stays where it is.)
        if (!(error instanceof OutOfMemory)) throw error;
      }
      done += BLOCK_WORK + live - this.#live[extent];
      // Its last block was moved, and it was given back.
      if (this.#cleaning !== extent) return done;
    }
    if (this.#cleaned >= end) {
      // Nobody moves what still lives there: that room cannot be won.
      this.#dead -= end - this.#live[extent];
      this.#written[extent] = this.#live[extent];
      this.#cleaning = 0;
    }
    return done;
  }

  /** Takes the extent of which the largest share is dead. */
  #choose(): boolean {
    if (this.#dead < this.#futile) return false;
    const written = this.#written, live = this.#live;
    let most = 1 / 32;
    for (let extent = 1; extent < this.words.length; extent++) {
      const dead = written[extent] - live[extent];
      if (dead <= written[extent] * most) continue;
      if (extent === this.#small.segment || extent === this.#large.segment) continue;
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

  /** Units that the heap may still take. */
  #room(): number {
    return this.#most - this.#units - Math.ceil(this.#charged / 8);
  }

  /** Whether the heap is near its limit, or has no room for so many units. */
  #isFull(units: number): boolean {
    return this.#room() < Math.max(units, 2 * SEGMENT_UNITS + (this.#units >>> 6));
  }

  #setPace(): void {
    const tolerated = this.#isFull(0) ? this.#units >>> 5 : (this.#units >>> 2) + 2 * SEGMENT_UNITS;
    this.#tolerated = Math.max(tolerated, this.#futile);
  }

  /** Makes sure that the heap may grow by so many units: at the limit it cleans, for a bounded time. */
  #makeRoom(units: number): void {
    if (this.#beyond || units <= this.#room()) return;
    let work = MAX_WORK;
    while (units > this.#room()) {
      if (this.#releaseGone(1)) continue;
      let done = 0;
      if (this.#frozen === 0 && work > 0) {
        if (this.relieve?.()) done = RELIEVE_WORK;
        else if (units <= this.#room() + this.#dead) done = this.#clean(work);
      }
      if (done === 0) {
        if (units <= this.#room() + this.#dead) this.#wanted = Math.max(this.#wanted, units);
        throw new OutOfMemory(
          `${CANNOT}: the memory is full: ${this.size} of ${this.#most * 8} bytes are used`,
        );
      }
      work -= done;
    }
    this.#wanted = 0;
  }

  /** Bytes of a block, its head included. */
  blockSize(address: number): number {
    const words = this.words[address >>> UNIT_BITS], at = (address & UNIT_MASK) << 1;
    const word = words[at];
    if (word & PAGE) {
      return (PAGE_HEAD + (word & LONG ? 1 << words[at + 1] : 2 << (words[at + 1] & 255))) * 4;
    }
    const more = (word & EXPIRES ? 8 : 0) + (word & TABLE ? TABLE_BYTES : 0);
    if (word & LONG) return 16 + more + (words[at + 1] >>> 0) + (words[at + 2] >>> 0);
    return 8 + more + (words[at + 1] & 255) + (words[at + 1] >>> 8);
  }
}

/** The most units that are a multiple of a block's and not more than so many; one block at least. */
function multiple(units: number, most: number): number {
  return units * Math.max(1, Math.floor(most / units));
}

function grown(length: number, array: Int32Array): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(length);
  larger.set(array);
  return larger;
}
