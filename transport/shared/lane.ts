/**
 * A lane: memory that a host and one of its clients share, with a ring of messages in each direction. The messages are
 * those of {@link ../message.ts}, header and payload; this file owns how they lie in memory, and their order.
 *
 * ```text
 * the file, 320 KiB
 *     0 KiB  header     64 KiB
 *    64 KiB  requests  128 KiB   a ring: the client writes, the host reads
 *   192 KiB  replies   128 KiB   a ring: the host writes, the client reads
 *
 * its header: numbers of 32 bits, little-endian, at these bytes
 *     0 magic: "MSML"    4 version: 1    8 bytes of a ring: 131072
 *    16 token: 16 random bytes, which name the lane
 *    64 state: 0 offered, 1 attached (the client uses it), 2 withdrawn (the host has given it up)
 *   128 tail of the requests   192 head of the requests   256 sleeps of the host
 *   320 tail of the replies    384 head of the replies    448 sleeps of the client
 *   512 figures: 3 floats of 64 bits, in which the client counts what it does without messages
 *
 * a record of a ring: four numbers, then bytes
 *     0 bytes of header and payload   4 bytes of the header: 255 at most   8 outside   12 0
 *    16 header | payload | padding, up to a multiple of 16
 * ```
 *
 * **Ring.** Tail and head count the bytes that were ever written and read, modulo 2^32: what lies in between is unread.
 * The writer alone moves the tail, the reader alone the head. A byte of the ring is found at its count modulo the size.
 * Both ends map each ring twice, one behind the other, so that every record is in one piece.
 *
 * **Outside.** The ZeroMQ connection stays open beside the lane, and carries what finds no room in it. `outside` is how
 * many messages the writer has sent that way before the record: the reader takes a record only when it has taken that
 * many from the connection, and a message from the connection only when it has taken every record that was there
 * when the message arrived. So messages are taken in the order in which they were sent. Both begin to count when
 * the client attaches: it sends nothing between its request for a lane and the reply.
 *
 * **Sleep.** Before an end sleeps, it says where in its `sleeps`, and looks at its ring once more: 2 at that word itself
 * (`futex(2)`), 1 at the connection; 0 is awake. An end that has moved a tail looks at the other's `sleeps`. If that is not
 * 0, it changes it to 0 and wakes the other: at the word, or with an empty message. An end that has sent a message outside
 * changes 2 alone: the message itself wakes whoever sleeps at the connection. {@link ./waiter.ts} says when an end sleeps
 * where.
 *
 * **Memory order.** A writer stores a record, then the tail; a reader loads the tail, then the record. Tails, heads and
 * sleeps are accessed with `Atomics`, which are sequentially consistent: plain accesses before an atomic store are
 * visible to whoever loads what it stored, and tail and sleeps cannot pass each other (store tail, load sleeps; store
 * sleeps, load tail). V8 compiles them to `xchg` on x86-64, where all this was tested, and to `stlr` and `ldar` on arm64,
 * which have the same order among each other by ARM's definition (load-acquire, store-release: RCsc); not tested there.
 *
 * **Trust.** Neither end believes what the other writes: counts and lengths are read once, and checked against the ring.
 * The host copies a message before it looks at it. An end that breaks the format loses the lane, and its connection.
 *
 * @module
 */

import type { MemoryOffer } from "./offer.ts";
import { FIGURES } from "../transport.ts";
import { wakeAt, type Word } from "./futex.ts";
import { type Part, SharedMemory } from "./memory.ts";

const MAGIC = 0x4c4d534d;
const VERSION = 1;
const HEADER_BYTES = 1 << 16;
/** Bytes of a ring. */
export const RING_BYTES: number = 1 << 17;
/** Bytes of a lane. */
export const LANE_BYTES: number = HEADER_BYTES + 2 * RING_BYTES;
const MASK = RING_BYTES - 1;

const NO_BYTES = new Uint8Array(0);

const HEADER: Part = { at: 0, bytes: HEADER_BYTES };
const REQUESTS: Part = { at: HEADER_BYTES, bytes: RING_BYTES };
const REPLIES: Part = { at: HEADER_BYTES + RING_BYTES, bytes: RING_BYTES };
const PARTS = [HEADER, REQUESTS, REQUESTS, REPLIES, REPLIES];

/** The index of the state among the words of the header, and its values. */
const STATE = 64 / 4;
const OFFERED = 0;
const ATTACHED = 1;
const WITHDRAWN = 2;
/** Where the token is, in bytes. */
const TOKEN = 16;
const TOKEN_BYTES = 16;

/** The indexes of the words of a ring, and where the ring begins as it is mapped, in bytes. */
interface RingPlace {
  readonly tail: number;
  readonly head: number;
  /** Says whether its reader sleeps, and where. */
  readonly sleeps: number;
  readonly at: number;
}
const REQUEST_RING: RingPlace = { tail: 128 / 4, head: 192 / 4, sleeps: 256 / 4, at: HEADER_BYTES };
const REPLY_RING: RingPlace = {
  tail: 320 / 4,
  head: 384 / 4,
  sleeps: 448 / 4,
  at: HEADER_BYTES + 2 * RING_BYTES,
};

/** Where the figures are, in bytes. */
const FIGURES_AT = 512;

/** Values of `sleeps`. */
const AWAKE = 0;
export const AT_CONNECTION = 1;
export const AT_WORD = 2;
/** Bytes before a record's header. */
const RECORD_HEAD = 16;
/** The longest header of a message: each reply repeats it. */
const MAX_HEADER = 255;
/** Copies of records up to this length share an array … */
const POOLED_BYTES = 1 << 12;
/** … of this length. */
const POOL_BYTES = 1 << 15;
/** Longer ones are copied by a call. */
const LOOP_BYTES = 64;

/** One end of a lane. */
export class Lane implements Disposable {
  readonly #memory: SharedMemory;
  readonly #words: Int32Array;
  /** The memory, as it is mapped: the header, and each ring twice. */
  readonly bytes: Uint8Array;
  /** What the client counts. The host believes none of it. */
  readonly figures: Float64Array;
  /** Where the header and the payload of the record that was found last begin, and where it ends. */
  header = 0;
  payload = 0;
  end = 0;
  #next = 0;
  #pool = NO_BYTES;
  #pooled = POOL_BYTES;
  readonly #in: RingPlace;
  readonly #out: RingPlace;
  /** The words at which this end sleeps, and the other one. */
  readonly word: Word;
  readonly #outWord: Word;
  /** How far this end has read, and written. */
  #head = 0;
  #tail = 0;
  /** How far the other end is known to have written, and to have read. */
  #knownTail = 0;
  #knownHead = 0;
  #outsideSent = 0;
  #outsideTaken = 0;
  #attached = false;
  #ended = false;
  #broken = false;

  private constructor(memory: SharedMemory, incoming: RingPlace, outgoing: RingPlace) {
    this.#memory = memory;
    this.#words = new Int32Array(memory.buffer);
    this.bytes = new Uint8Array(memory.buffer);
    this.figures = new Float64Array(memory.buffer, FIGURES_AT, FIGURES);
    this.#in = incoming;
    this.#out = outgoing;
    this.word = memory.word(incoming.sleeps * 4);
    this.#outWord = memory.word(outgoing.sleeps * 4);
  }

  /**
   * Makes a lane, at the host.
   *
   * @throws {Error} if the system has no memory or descriptors for it.
   */
  static create(): Lane {
    const memory = SharedMemory.create("memstore lane", LANE_BYTES, PARTS);
    const lane = new Lane(memory, REQUEST_RING, REPLY_RING);
    lane.#words.set([MAGIC, VERSION, RING_BYTES]);
    crypto.getRandomValues(lane.bytes.subarray(TOKEN, TOKEN + TOKEN_BYTES));
    return lane;
  }

  /**
   * Opens a lane, at the client.
   *
   * @throws {Error} if it cannot be mapped, or is not the lane that was offered.
   */
  static open({ pid, fd, token }: MemoryOffer): Lane {
    const memory = SharedMemory.open(pid, fd, LANE_BYTES, PARTS);
    const lane = new Lane(memory, REPLY_RING, REQUEST_RING);
    const words = lane.#words, own = lane.bytes.subarray(TOKEN, TOKEN + TOKEN_BYTES);
    const known = words[0] === MAGIC && words[1] === VERSION && words[2] === RING_BYTES;
    if (!known || token.length !== TOKEN_BYTES || own.some((byte, i) => byte !== token[i])) {
      lane[Symbol.dispose]();
      throw new Error(`Cannot open a lane: descriptor ${fd} of process ${pid} is another`);
    }
    // (Client and host must agree whether it is used: whoever changes the state first decides.)
    if (Atomics.compareExchange(words, STATE, OFFERED, ATTACHED) === OFFERED) return lane;
    lane[Symbol.dispose]();
    throw new Error("Cannot open a lane: the host has given it up");
  }

  /** Where it is, at the host. */
  get offer(): MemoryOffer {
    return {
      pid: Deno.pid,
      fd: this.#memory.fd,
      token: this.bytes.slice(TOKEN, TOKEN + TOKEN_BYTES),
    };
  }

  /** Whether the client has opened it, and uses it. */
  get attached(): boolean {
    return this.#attached ||= Atomics.load(this.#words, STATE) === ATTACHED;
  }

  /** The descriptor by which the client opens it; -1 once it is closed. */
  get fd(): number {
    return this.#memory.fd;
  }

  /** Withdraws it, at the host: nobody can attach any more. Returns false if the client has attached before. */
  withdraw(): boolean {
    return !this.#attached &&
      Atomics.compareExchange(this.#words, STATE, OFFERED, WITHDRAWN) !== ATTACHED;
  }

  /** Lets nobody open it any more. */
  closeDescriptor(): void {
    this.#memory.closeDescriptor();
  }

  /** Whether the other end broke the format. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Whether something is there to read, or the other end broke the format. */
  get readable(): boolean {
    return this.#head !== this.#knownTail || this.#look();
  }

  /** Whether a record is there that may be taken, or the other end broke the format. */
  get ready(): boolean {
    return this.readable && (this.#broken || !this.#isAhead(this.#recordAt()));
  }

  /** Whether the next record waits for a message from outside. */
  get waitsForOutside(): boolean {
    return this.readable && !this.#broken && this.#isAhead(this.#recordAt());
  }

  /** Takes nothing that the other end writes from now on: it is gone. */
  endInput(): void {
    if (!this.#ended) this.#look();
    this.#ended = true;
  }

  /** Looks how far the other end has written. Whether there is something to read. */
  #look(): boolean {
    if (this.#ended) return false;
    const tail = Atomics.load(this.#words, this.#in.tail);
    const unread = (tail - this.#head) >>> 0;
    if (unread > RING_BYTES || (unread & 15) !== 0) this.#broken = true;
    this.#knownTail = tail;
    return unread > 0;
  }

  /** The index of the next record's first word. */
  #recordAt(): number {
    return (this.#in.at + (this.#head & MASK)) >> 2;
  }

  #isAhead(record: number): boolean {
    return ((this.#words[record + 2] - this.#outsideTaken) | 0) > 0;
  }

  /**
   * Finds the next record that may be taken: {@linkcode Lane.header} and {@linkcode Lane.payload} tell where it is, until
   * {@linkcode Lane.take}.
   *
   * @returns Whether there is one.
   */
  next(): boolean {
    if (!this.readable || this.#broken) return false;
    const words = this.#words, record = this.#recordAt();
    if (this.#isAhead(record)) return false;
    const length = words[record] >>> 0, headerBytes = words[record + 1] >>> 0;
    const bytes = (length + RECORD_HEAD + 15) & ~15;
    if (
      length > RING_BYTES || headerBytes > Math.min(length, MAX_HEADER) ||
      bytes > ((this.#knownTail - this.#head) >>> 0)
    ) {
      this.#broken = true;
      return false;
    }
    this.header = (record << 2) + RECORD_HEAD;
    this.payload = this.header + headerBytes;
    this.end = this.header + length;
    this.#next = (this.#head + bytes) | 0;
    return true;
  }

  /** Gives the room of the record back to the writer. Its bytes must not be used any more. */
  take(): void {
    this.#head = this.#next;
    Atomics.store(this.#words, this.#in.head, this.#head);
  }

  /** A copy of the record, header and payload in one. */
  copy(): Uint8Array {
    const { bytes: all, header: from, end } = this, length = end - from;
    if (length > POOLED_BYTES) return all.slice(from, end);
    // (To make a small array takes longer than to copy the bytes: many copies share a large one.)
    if (this.#pooled + length > POOL_BYTES) {
      this.#pool = new Uint8Array(POOL_BYTES);
      this.#pooled = 0;
    }
    const pool = this.#pool, at = this.#pooled;
    if (length > LOOP_BYTES) pool.set(all.subarray(from, end), at);
    else for (let i = 0; i < length; i++) pool[at + i] = all[from + i];
    this.#pooled = at + length;
    return pool.subarray(at, at + length);
  }

  /**
   * Writes a message.
   *
   * @returns Whether there was room. If not, it must be sent outside.
   */
  write(header: Uint8Array, payload: Uint8Array): boolean {
    const length = header.length + payload.length;
    const taken = (length + RECORD_HEAD + 15) & ~15;
    if (taken > this.#room(taken)) {
      this.#outsideSent = (this.#outsideSent + 1) | 0;
      return false;
    }
    const words = this.#words, at = this.#out.at + (this.#tail & MASK), record = at >> 2;
    words[record] = length;
    words[record + 1] = header.length;
    words[record + 2] = this.#outsideSent;
    words[record + 3] = 0;
    this.#copy(header, at + RECORD_HEAD);
    this.#copy(payload, at + RECORD_HEAD + header.length);
    this.#tail = (this.#tail + taken) | 0;
    Atomics.store(words, this.#out.tail, this.#tail);
    return true;
  }

  /** Notes that a message from outside was taken. */
  tookOutside(): void {
    this.#outsideTaken = (this.#outsideTaken + 1) | 0;
  }

  /** Whether the other end naps or sleeps. */
  get peerSleeps(): boolean {
    return Atomics.load(this.#words, this.#out.sleeps) !== AWAKE;
  }

  /** Wakes the other end if it sleeps at its word. Whether it sleeps at the connection: wake it with an empty message. */
  wakePeer(): boolean {
    const words = this.#words, { sleeps } = this.#out;
    if (Atomics.load(words, sleeps) === AWAKE) return false;
    const how = Atomics.exchange(words, sleeps, AWAKE);
    if (how === AT_WORD) wakeAt(this.#outWord);
    return how === AT_CONNECTION;
  }

  /**
   * Ends the other end's nap: a message is on its way outside. (If it sleeps at the connection, that wakes it, and it may
   * be asleep again by now: its `sleeps` must stay.)
   */
  endNap(): void {
    const words = this.#words, { sleeps } = this.#out;
    if (Atomics.compareExchange(words, sleeps, AT_WORD, AWAKE) === AT_WORD) wakeAt(this.#outWord);
  }

  /** Says that this end is about to sleep. Look once more whether something is there. */
  sleep(how: typeof AT_WORD | typeof AT_CONNECTION): void {
    Atomics.store(this.#words, this.#in.sleeps, how);
  }

  /** Says that this end does not sleep. */
  awake(): void {
    Atomics.store(this.#words, this.#in.sleeps, AWAKE);
  }

  /** Whether it was disposed of: nothing may be asked of it any more. */
  get closed(): boolean {
    return this.#words.length === 0;
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }

  /** Bytes that can be written. (The other end is asked only if what is known does not suffice.) */
  #room(needed: number): number {
    let room = RING_BYTES - ((this.#tail - this.#knownHead) >>> 0);
    if (room >= needed) return room;
    this.#knownHead = Atomics.load(this.#words, this.#out.head);
    const unread = (this.#tail - this.#knownHead) >>> 0;
    if (unread > RING_BYTES) this.#broken = true;
    room = this.#broken ? 0 : RING_BYTES - unread;
    return room;
  }

  #copy(from: Uint8Array, at: number): void {
    const bytes = this.bytes, { length } = from;
    if (length > LOOP_BYTES) bytes.set(from, at);
    else for (let i = 0; i < length; i++) bytes[at + i] = from[i];
  }
}
