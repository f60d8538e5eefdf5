/**
 * The memory of the engine: blocks of bytes in segments, and what gives back the room of those that died.
 *
 * A **segment** is {@linkcode SEGMENT} bytes from an {@linkcode Allocator}. A **block** lives in one segment,
 * begins at a multiple of 8 bytes, and is known by its **address**: the number of its segment and where it
 * begins there, in units of 8 bytes (so 32 bits reach 32 GiB). A block larger than {@linkcode LARGE} has a
 * buffer of its own, which takes the numbers of as many segments as it is long. There are no pointers, only
 * addresses: the same bytes mean the same wherever they are mapped.
 *
 * ```text
 * address   31        17 16              0
 *          ┌────────────┬─────────────────┐    0 is no block: nothing begins at byte 0 of segment 0
 *          │ segment    │ byte / 8        │
 *          └────────────┴─────────────────┘
 *
 * block     word 0                 word 1                    then (words of 32 bits, little-endian)
 * entry    │ owner  · kind 0     │ key length 0-7          │ [expiry] key bytes, value bytes, 0-7 of padding
 *          │        · EXPIRES?   │ value length 8-31       │
 * long     │ owner  · LONG       │ key length              │ value length, 0, [expiry] key, value, padding
 * entry    │        · EXPIRES?   │                         │
 * page     │ owner  · PAGE       │ bits 0-7, depth 8-15,   │ prefix, epoch, 2^bits slots of hash and address
 *          │                     │ entries 16-31           │
 *
 * owner    bits 0-27 of word 0: the table that the block belongs to; PAGE bit 28, LONG bit 29, EXPIRES bit 30
 * expiry   two words: milliseconds since 1970, the lower half first
 * ```
 *
 * Blocks are written one after another, as in a log: the current segment is filled, then another is taken. A
 * block that is freed leaves a hole. For each segment the heap counts what lives; when more than a quarter
 * of the heap is holes, a **cleaner** takes the emptiest segment and asks the owner of each of its blocks to
 * move it to the end of the log, a few kilobytes at each write, and then gives the segment back. (As in
 * Rosenblum, Ousterhout: The Design and Implementation of a Log-Structured File System, 1992.)
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

/** Whoever owns blocks (a table), and can move them. */
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
/** Units; larger blocks have a buffer of their own. */
const LARGE = 1 << (UNIT_BITS - 2);
const SEGMENT_UNITS = 1 << UNIT_BITS;
const SEGMENTS = 1 << (32 - UNIT_BITS);

/** Bits of a block's word 0. */
export const OWNER: number = (1 << 28) - 1;
export const PAGE: number = 1 << 28;
export const LONG: number = 1 << 29;
export const EXPIRES: number = 1 << 30;
/** Words before a page's slots. */
export const PAGE_HEAD = 4;

/** For each unit that is written, so many units of the emptiest segment are cleaned. */
const CLEAN_PER_UNIT = 4;
/** No less than this many units at once, so that it is worth the call. */
const CLEAN_UNITS = 512;

const own: Allocator = {
  allocate: (bytes) => new ArrayBuffer(bytes),
  // Detached, a buffer's memory is freed at once; the garbage collector would take its time.
  release: (buffer) => void buffer.transfer(0),
};

/** Blocks in segments. */
export class Heap {
  /** Of each segment its bytes, … */
  readonly bytes: Uint8Array[] = [];
  /** … and the same as words. */
  readonly words: Int32Array[] = [];
  /** Changes with every snapshot: blocks of another epoch may belong to one. */
  epoch = 0;
  readonly #allocator: Allocator;
  readonly #owners: (Owner | undefined)[] = [undefined];
  readonly #freeOwners: number[] = [];
  /** Of each segment: units that were written, and units that live. */
  #written = new Int32Array(64);
  #live = new Int32Array(64);
  /** Which numbers of segments are taken. */
  #taken = new Uint8Array(64);
  /** Where the log goes on. */
  #current = -1;
  #end = SEGMENT_UNITS;
  /** Units that live, and units of all segments. */
  #liveUnits = 0;
  #units = 0;
  /** Bytes outside of segments that count toward the limit, see {@linkcode Heap.charge}. */
  #charged = 0;
  #frozen = 0;
  /** The segment that is being cleaned, and how far it is. */
  #cleaning = -1;
  #cleaned = 0;
  /** What is written now may go beyond the limit: blocks that are moved, for example. */
  #beyond = false;
  /** How often what the heap holds was changed by its owners. */
  changes = 0;
  /** Changes whenever blocks were moved: addresses from before must be looked up again. */
  moves = 0;
  /** Units of the heap at most. */
  #most = SEGMENTS * SEGMENT_UNITS;
  /** Frees something that is not in use any more, where the memory is full; whether there was something. */
  relieve: (() => boolean) | undefined;

  constructor(allocator: Allocator = own) {
    this.#allocator = allocator;
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

  /** How many bytes the heap may take: beyond, {@linkcode Heap.allocate} throws. */
  set limit(bytes: number) {
    this.#most = Math.min(SEGMENTS * SEGMENT_UNITS, Math.floor(bytes / 8));
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
  }

  /** Counts that many bytes no longer, see {@linkcode Heap.charge}. */
  discharge(bytes: number): void {
    this.#charged -= bytes;
  }

  /** A snapshot is being read. */
  get frozen(): boolean {
    return this.#frozen > 0;
  }

  /** A number for an owner of blocks. */
  adopt(owner: Owner): number {
    const id = this.#freeOwners.pop() ?? this.#owners.length;
    if (id > OWNER) throw new OutOfMemory("there are too many tables and sets");
    this.#owners[id] = owner;
    return id;
  }

  /** Who has a number. */
  owner(id: number): Owner | undefined {
    return this.#owners[id];
  }

  /** Takes an owner's number back. Its blocks are freed or will be. */
  abandon(id: number): void {
    this.#owners[id] = undefined;
    this.#freeOwners.push(id);
  }

  /**
   * Room for a block of so many bytes; what is there is rubbish until it is written. May move other blocks:
   * addresses that were read before must be read again.
   *
   * @throws {OutOfMemory} if the heap may not grow.
   */
  allocate(bytes: number): number {
    const units = (bytes + 7) >>> 3;
    if (units > LARGE) return this.#allocateLarge(units);
    if (this.#end + units > SEGMENT_UNITS) this.#nextSegment(units);
    const address = this.#current << UNIT_BITS | this.#end;
    this.#end += units;
    this.#written[this.#current] = this.#end;
    this.#live[this.#current] += units;
    this.#liveUnits += units;
    return address;
  }

  /** Frees a block of so many bytes. */
  free(address: number, bytes: number): void {
    const units = (bytes + 7) >>> 3;
    const segment = address >>> UNIT_BITS;
    this.#live[segment] -= units;
    this.#liveUnits -= units;
    if (this.#live[segment] === 0 && this.#frozen === 0) this.#release(segment);
  }

  /** Copies a block of so many bytes to the end of the log and frees it. */
  copy(address: number, bytes: number): number {
    const to = this.beyondLimit(() => this.allocate(bytes));
    const from = (address & UNIT_MASK) << 1, target = (to & UNIT_MASK) << 1;
    const source = this.words[address >>> UNIT_BITS], words = this.words[to >>> UNIT_BITS];
    const count = (bytes + 7) >>> 3 << 1;
    for (let i = 0; i < count; i++) words[target + i] = source[from + i];
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

  /** Ends one {@linkcode Heap.freeze}. */
  thaw(): void {
    if (--this.#frozen > 0) return;
    for (let segment = 0; segment < this.words.length; segment++) {
      if (this.#written[segment] > 0 && this.#live[segment] === 0) this.#release(segment);
    }
  }

  /**
   * Cleans in step with what is written: so many bytes were. Call it between two changes, since it moves
   * blocks.
   */
  tend(bytes: number): void {
    if (this.#units - this.#liveUnits <= (this.#units >>> 2) + (2 << UNIT_BITS)) return;
    this.#clean(Math.max(CLEAN_UNITS, (bytes >>> 3) * CLEAN_PER_UNIT));
  }

  /** Cleans while there is nothing else to do; false once there is little to gain. */
  tidy(): boolean {
    if (this.#frozen > 0 || this.#units - this.#liveUnits <= (this.#units >>> 3) + (2 << UNIT_BITS)) {
      return false;
    }
    return this.#clean(1 << (UNIT_BITS - 2));
  }

  /** Gives everything back. Nobody may use the heap any more. */
  close(): void {
    for (const words of this.words) {
      if (words.length > 0) this.#allocator.release(words.buffer as ArrayBuffer);
    }
    this.words.length = this.bytes.length = 0;
  }

  #nextSegment(units: number): void {
    if (this.#makeRoom(SEGMENT_UNITS) && this.#end + units <= SEGMENT_UNITS) return;
    const full = this.#current;
    this.#current = this.#take(0, 1, SEGMENT_UNITS);
    // Nothing begins at address 0.
    this.#end = this.#current === 0 ? 1 : 0;
    this.#written[this.#current] = this.#end;
    if (full >= 0 && this.#live[full] === 0 && this.#frozen === 0) this.#release(full);
  }

  #allocateLarge(units: number): number {
    this.#makeRoom(units);
    // Not number 0: it would have the address 0.
    const segment = this.#take(1, Math.ceil(units / SEGMENT_UNITS), units);
    this.#written[segment] = this.#live[segment] = units;
    this.#liveUnits += units;
    return segment << UNIT_BITS;
  }

  /** Takes a buffer, and as many numbers in a row, none below `from`. */
  #take(from: number, numbers: number, units: number): number {
    const segment = this.#findNumbers(from, numbers);
    const buffer = this.#allocator.allocate(units * 8);
    this.bytes[segment] = new Uint8Array(buffer);
    this.words[segment] = new Int32Array(buffer);
    this.#units += units;
    return segment;
  }

  #findNumbers(from: number, count: number): number {
    const taken = this.#taken;
    let first = taken.indexOf(0, from);
    for (let next = first; first >= 0 && next < first + count; next++) {
      if (taken[next] === 1) first = taken.indexOf(0, next + 1);
    }
    if (first < 0) first = taken.length;
    const end = first + count;
    if (end > SEGMENTS) throw new OutOfMemory("the heap has no more addresses");
    if (end > taken.length) {
      this.#taken = grown(new Uint8Array(Math.max(end, taken.length * 2)), taken);
      this.#live = grown(new Int32Array(this.#taken.length), this.#live);
      this.#written = grown(new Int32Array(this.#taken.length), this.#written);
    }
    for (let i = this.words.length; i < end; i++) this.words[i] = NO_WORDS, this.bytes[i] = NO_BYTES;
    this.#taken.fill(1, first, end);
    return first;
  }

  #release(segment: number): void {
    if (segment === this.#current) return;
    const words = this.words[segment];
    const units = words.length >>> 1;
    this.words[segment] = NO_WORDS;
    this.bytes[segment] = NO_BYTES;
    this.#written[segment] = 0;
    this.#units -= units;
    this.#taken.fill(0, segment, segment + Math.ceil(units / SEGMENT_UNITS));
    if (segment === this.#cleaning) this.#cleaning = -1;
    this.#allocator.release(words.buffer as ArrayBuffer);
  }

  /** Moves what lives in the emptiest segment, up to so many units of it. False if none can be cleaned. */
  #clean(units: number): boolean {
    if (this.#frozen > 0) return false;
    if (this.#cleaning < 0 && !this.#choose()) return false;
    const segment = this.#cleaning;
    const end = Math.min(this.#cleaned + units, this.#written[segment]);
    this.moves++;
    while (this.#cleaned < end && this.#cleaning === segment) {
      const at = this.#cleaned;
      this.#cleaned = at + ((this.blockSize(segment << UNIT_BITS | at) + 7) >>> 3);
      this.#owners[this.words[segment][at << 1] & OWNER]?.move(segment << UNIT_BITS | at);
    }
    if (this.#cleaning === segment && this.#cleaned >= this.#written[segment]) this.#cleaning = -1;
    return true;
  }

  /** Takes the segment in which the least lives. */
  #choose(): boolean {
    let least = SEGMENT_UNITS;
    for (let segment = 0; segment < this.words.length; segment++) {
      if (segment === this.#current) continue;
      // Large blocks are not moved: nothing would be gained.
      if (this.words[segment].length !== SEGMENT_UNITS * 2) continue;
      if (this.#live[segment] < least) least = this.#live[segment], this.#cleaning = segment;
    }
    this.#cleaned = this.#cleaning === 0 ? 1 : 0;
    return this.#cleaning >= 0;
  }

  /**
   * Makes sure that the heap may grow by so many units: at the limit it cleans as long as that helps.
   * Answers whether it has cleaned. What moves may go beyond the limit: it makes more room than it takes.
   */
  #makeRoom(units: number): boolean {
    if (this.#beyond || this.size + units * 8 <= this.#most * 8) return false;
    while (this.size + units * 8 > this.#most * 8) {
      if (this.#units - this.#liveUnits < 2 * SEGMENT_UNITS || !this.#clean(SEGMENT_UNITS)) {
        if (this.#frozen === 0 && this.relieve?.()) continue;
        throw new OutOfMemory(`the memory is full: it may have ${this.#most * 8} bytes`);
      }
    }
    return true;
  }

  /** Bytes of a block, its head included. */
  blockSize(address: number): number {
    const words = this.words[address >>> UNIT_BITS], at = (address & UNIT_MASK) << 1;
    const word = words[at];
    if (word & PAGE) return (PAGE_HEAD + (2 << (words[at + 1] & 255))) * 4;
    const expiry = word & EXPIRES ? 8 : 0;
    if (word & LONG) return 16 + expiry + (words[at + 1] >>> 0) + (words[at + 2] >>> 0);
    return 8 + expiry + (words[at + 1] & 255) + (words[at + 1] >>> 8);
  }
}

const NO_WORDS = new Int32Array(0);
const NO_BYTES = new Uint8Array(0);

function grown<T extends Int32Array | Uint8Array>(larger: T, array: T): T {
  larger.set(array);
  return larger;
}
