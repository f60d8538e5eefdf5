/**
 * Every store that an engine makes into memory that others read, written down and played again, one by one, in front of a
 * reader.
 *
 * ```text
 * engine ─► views that write down ─► StoreLog ─► Replay: a copy of the memory, a store at a time ─► MemoryReader
 *                                                   ▲                                                  │
 *                                                   └────── some more, each time it loads a number ◄───┘
 * ```
 *
 * The engine runs as it is: while it does, the global constructors of typed arrays make views of its memory that tell what
 * is stored. In the same way the reader's views let the engine's stores go on between two of its loads. So a reader meets
 * every state of the memory, and every two of them that may lie between two of its loads.
 *
 * @module
 */

import { MemoryReader } from "../blocks/reader.ts";
import { SEGMENT } from "../blocks/block.ts";
import { HEAD_OWNER, HEAD_TOKEN, HEAD_TOKEN_BYTES, SEGMENT_COUNT, STRUCTURE } from "../blocks/head.ts";
import type { Allocator } from "../engine/memory/extents.ts";
import { RANGE_BYTES } from "../blocks/block.ts";
import { SharedSegments } from "../engine/memory/shared.ts";
import { SharedView } from "../transport/shared/range.ts";

type View = Int32Array | Uint8Array;
type Wrap = <Each extends View>(view: Each) => Each;

/** How views of some buffers are made, … */
const wraps = new WeakMap<ArrayBufferLike, Wrap>();
/** … and what is behind a view that was made so. */
const targets = new WeakMap<View, View>();
/** Is called with each atomic load of a reader. */
let onLoad: ((index: number) => void) | undefined;
/** What time it is, in milliseconds since 1970, for the engine and for readers. */
let clock = 0;

/** Runs something while views of watched buffers are watched, and `Date.now()` is the clock of the log. */
export function watching<Result>(run: () => Result): Result {
  const construct = {
    construct(target: new (...args: unknown[]) => View, args: unknown[], made: new () => View): View {
      const view = Reflect.construct(target, args, made) as View;
      return wraps.get(args[0] as ArrayBuffer)?.(view) ?? view;
    },
  };
  const { load, store } = Atomics, { now } = Date, { Int32Array: words, Uint8Array: bytes } = globalThis;
  globalThis.Int32Array = new Proxy(words, construct as ProxyHandler<typeof words>);
  globalThis.Uint8Array = new Proxy(bytes, construct as ProxyHandler<typeof bytes>);
  Atomics.load = ((array: Int32Array, index: number) => {
    onLoad?.(index);
    return load((targets.get(array) ?? array) as Int32Array, index);
  }) as typeof load;
  Atomics.store = ((array: Int32Array, index: number, value: number) => {
    if (!targets.has(array)) return store(array, index, value);
    array[index] = value;
    return value;
  }) as typeof store;
  Date.now = () => clock;
  try {
    return run();
  } finally {
    Object.assign(globalThis, { Int32Array: words, Uint8Array: bytes });
    Object.assign(Atomics, { load, store });
    Date.now = now;
  }
}

/** The bytes of a view. */
const bytesOf = (view: View, from = 0, to = view.length) =>
  new Uint8Array(
    view.buffer,
    view.byteOffset + from * view.BYTES_PER_ELEMENT,
    (to - from) * view.BYTES_PER_ELEMENT,
  );

/** What is in the log. */
const WORD = 0, BYTE = 1, RANGE = 2, ZEROS = 3, BEGIN = 4, END = 5, CLOCK = 6, HINT = 7;
/** In how many parts, about, a range of bytes is written: the processor may take it in any. */
const PARTS = 6;

/** What {@linkcode StoreLog.redo} did: a store, memory that was given back, or what is no store. */
export type Done = "store" | "zeros" | "begin" | "end" | "clock" | "hint";

/** The stores into some memories, one after the other, and which operation made them. */
export class StoreLog {
  readonly memories: LoggedMemory[] = [];
  readonly #kinds: number[] = [];
  readonly #memories: number[] = [];
  readonly #places: number[] = [];
  readonly #values: number[] = [];
  readonly #ranges: Uint8Array[] = [];
  readonly #hints: unknown[] = [];

  /** The bytes of the largest memory. */
  bytes: number = SEGMENT;

  /** How much was written down. */
  get length(): number {
    return this.#kinds.length;
  }

  /** An operation begins, the only one until it ends. */
  begin(): void {
    this.#add(BEGIN, 0, 0, 0);
  }

  end(): void {
    this.#add(END, 0, 0, 0);
  }

  /** Sets the clock. */
  time(time: number): void {
    clock = time;
    this.#add(CLOCK, 0, 0, time);
  }

  /** Notes what is about to be done, for who looks. */
  hint(hint: unknown): void {
    this.#add(HINT, 0, 0, this.#hints.push(hint) - 1);
  }

  /** Memory begins to be used: that it is zero was written down when it was given back. */
  take(place: number, length: number): void {
    this.bytes = Math.max(this.bytes, Math.ceil((place + length) / SEGMENT) * SEGMENT);
  }

  store(view: View, memory: number, place: number, value: number): void {
    this.#add(view.BYTES_PER_ELEMENT === 4 ? WORD : BYTE, memory, place, value);
  }

  range(memory: number, place: number, bytes: Uint8Array): void {
    const step = Math.max(4, Math.ceil(bytes.length / PARTS / 4) * 4);
    for (let from = 0; from < bytes.length; from += step) {
      this.#add(RANGE, memory, place + from, this.#ranges.length);
      this.#ranges.push(bytes.slice(from, from + step));
    }
  }

  zeros(memory: number, place: number, length: number): void {
    this.#add(ZEROS, memory, place, length);
  }

  /** Does what is at an index, to the bytes of copies of the memories. Returns what it was. */
  redo(index: number, to: readonly Uint8Array[]): Done {
    const bytes = to[this.#memories[index]], place = this.#places[index], value = this.#values[index];
    switch (this.#kinds[index]) {
      case WORD:
        for (let i = 0; i < 4; i++) bytes[place + i] = value >>> (8 * i);
        return "store";
      case BYTE:
        bytes[place] = value;
        return "store";
      case RANGE:
        bytes.set(this.#ranges[value], place);
        return "store";
      case ZEROS:
        bytes.fill(0, place, place + value);
        return "zeros";
      case BEGIN:
        return "begin";
      case END:
        return "end";
      case HINT:
        return "hint";
      default:
        clock = value;
        return "clock";
    }
  }

  /** Whether the clock is set at an index. */
  setsClock(index: number): boolean {
    return this.#kinds[index] === CLOCK;
  }

  /** What was noted at an index. */
  hintAt(index: number): unknown {
    return this.#hints[this.#values[index]];
  }

  #add(kind: number, memory: number, place: number, value: number): void {
    this.#kinds.push(kind);
    this.#memories.push(memory);
    this.#places.push(place);
    this.#values.push(value);
  }
}

/** Shared memory whose stores are written down. Make it, and use it, while {@linkcode watching}. */
export class LoggedMemory extends SharedSegments {
  readonly #log: StoreLog;
  readonly #number: number;
  /** The token by which readers know it. */
  readonly token: Uint8Array;

  constructor(log: StoreLog) {
    super();
    this.#log = log;
    this.#number = log.memories.push(this) - 1;
    const { head } = this;
    log.range(this.#number, 0, bytesOf(head));
    this.token = bytesOf(head).slice(HEAD_TOKEN, HEAD_TOKEN + HEAD_TOKEN_BYTES);
    Reflect.set(this, "head", this.#watch(head, 0));
  }

  override allocate(segment: number, bytes: number): ArrayBuffer {
    this.#log.take(segment * SEGMENT, bytes);
    const buffer = super.allocate(segment, bytes);
    wraps.set(buffer, (view) => this.#watch(view, segment * SEGMENT));
    return buffer;
  }

  override release(segment: number, buffer: ArrayBuffer): void {
    const bytes = buffer.byteLength;
    super.release(segment, buffer);
    this.#log.zeros(this.#number, segment * SEGMENT, bytes);
  }

  override another(): Allocator {
    return new LoggedMemory(this.#log);
  }

  /** A view of memory that begins at a place of this one, which tells what is stored. */
  #watch<Each extends View>(view: Each, begin: number): Each {
    const log = this.#log, number = this.#number, place = begin + view.byteOffset;
    const range = (from: number, to: number) =>
      log.range(number, place + from * view.BYTES_PER_ELEMENT, bytesOf(view, from, to));
    const methods: Record<string, unknown> = {
      set(from: ArrayLike<number>, at = 0) {
        view.set(from, at);
        range(at, at + from.length);
      },
      fill(value: number, from = 0, to = view.length) {
        view.fill(value, from, to);
        range(from, to);
      },
      copyWithin(): never {
        throw new Error("Cannot write down: copyWithin");
      },
    };
    const proxy = new Proxy(view, {
      get(_, key) {
        return methods[key as string] ?? valueOf(view, key);
      },
      set(_, key, value) {
        const index = Number(key as string);
        view[index] = value;
        log.store(view, number, place + index * view.BYTES_PER_ELEMENT, view[index]);
        return true;
      },
    });
    targets.set(proxy, view);
    return proxy;
  }
}

/** A property of a view, for a view in its place. */
function valueOf(view: View, key: string | symbol): unknown {
  const value = Reflect.get(view, key, view);
  return typeof value === "function" ? value.bind(view) : value;
}

/** A read was given up: it would have waited longer than the engine's stores may take. */
class GaveUp {}

/** So many loads of the same sequence, one after the other, are a wait that is given up. */
const GIVE_UP_LOADS = 90;

/** Plays the stores of a log. Use it while {@linkcode watching}. */
export class Replay {
  readonly #log: StoreLog;
  readonly #memories: ArrayBuffer[];
  readonly #bytes: Uint8Array[];
  #next = 0;
  #waited = 0;
  #reading = false;
  /** How many operations have begun, … */
  begun = 0;
  /** … and ended. */
  ended = 0;
  /** What was noted last in the operation under way. */
  hint: unknown;

  /**
   * @param goOn Whether stores are made before a load of a reader: how many. Without it, none are.
   */
  constructor(log: StoreLog, goOn?: () => number) {
    this.#log = log;
    this.#memories = log.memories.map(() => new ArrayBuffer(log.bytes));
    this.#bytes = this.#memories.map((memory) => new Uint8Array(memory));
    const load = () => {
      if (this.#reading) this.#advance(goOn!());
    };
    for (const memory of this.#memories) if (goOn) wraps.set(memory, (view) => watchLoads(view, load));
    onLoad = (index) => {
      if (!this.#reading) return;
      this.#waited = index === STRUCTURE ? this.#waited + 1 : 0;
      if (this.#waited > GIVE_UP_LOADS) throw new GaveUp();
      if (goOn && this.#waited < 2) load();
      else if (goOn && (this.#waited & 3) === 0) this.#advance(1);
    };
  }

  get done(): boolean {
    return this.#next === this.#log.length;
  }

  /** Does the next thing that is in the log. */
  step(): Done {
    const done = this.#log.redo(this.#next, this.#bytes);
    if (done === "begin") this.begun++;
    else if (done === "end") this.ended++;
    if (done === "hint") this.hint = this.#log.hintAt(this.#next);
    else if (done === "begin") this.hint = undefined;
    this.#next++;
    return done;
  }

  /** Whether all is changing in a memory: nothing can be read. */
  isChanging(memory: number): boolean {
    return (this.#bytes[memory][STRUCTURE * 4] & 1) === 1;
  }

  /** A reader of one of the memories. */
  reader(memory: number): MemoryReader {
    const { token } = this.#log.memories[memory];
    return new MemoryReader(this.#memories[memory], token, undefined, () => Date.now());
  }

  /**
   * Runs a read. Returns undefined if it gave up.
   *
   * @param later How much later it is for the reader, in milliseconds.
   */
  read<Result>(later: number, run: () => Result): Result | undefined {
    clock += later;
    this.#reading = true;
    this.#waited = 0;
    try {
      return run();
    } catch (error) {
      if (!(error instanceof GaveUp)) throw error;
    } finally {
      this.#reading = false;
      clock -= later;
    }
  }

  /** Where a memory differs from what the engine has now: a byte, or -1. */
  difference(memory: number): number {
    const { offer } = this.#log.memories[memory];
    using view = new SharedView(offer!.pid, offer!.fd, RANGE_BYTES);
    const count = new DataView(view.buffer).getInt32(SEGMENT_COUNT * 4, true);
    const own = new BigInt64Array(this.#memories[memory], 0, count * SEGMENT / 8);
    const other = new BigInt64Array(view.buffer, 0, own.length);
    for (let i = 0; i < own.length; i++) {
      // (The owner is the system's.)
      if (own[i] !== other[i] && (i < HEAD_OWNER / 8 || i >= HEAD_OWNER / 8 + 5)) return i * 8;
    }
    return -1;
  }

  /** Makes some more stores while a read is under way. */
  #advance(stores: number): void {
    // (Time stands still for a reader, as it does for a command of the engine.)
    while (stores > 0 && !this.done && !this.#log.setsClock(this.#next)) {
      const done = this.step();
      if (done === "store" || done === "zeros") stores--;
    }
  }
}

/** A view that calls a function before each load. */
function watchLoads<Each extends View>(view: Each, load: () => void): Each {
  const proxy = new Proxy(view, {
    get(_, key) {
      if (typeof key === "string" && key >= "0" && key <= "9999999999") {
        load();
        return view[Number(key)];
      }
      if (key !== "subarray") return valueOf(view, key);
      return (from: number, to: number) => {
        const copy = new Uint8Array(Math.max(0, Math.min(to, view.length) - from));
        const step = Math.max(1, Math.ceil(copy.length / PARTS));
        for (let at = 0; at < copy.length; at += step) {
          load();
          copy.set(view.subarray(from + at, Math.min(from + at + step, to)), at);
        }
        return copy;
      };
    },
  });
  targets.set(proxy, view);
  return proxy;
}

/** Ends what {@linkcode Replay} began. */
export function endReplay(): void {
  onLoad = undefined;
}
