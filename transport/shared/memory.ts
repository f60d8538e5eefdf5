/**
 * Shared memory between processes of one user: a file that exists in memory alone (`memfd_create(2)`), sealed so that
 * nobody can change its size, and mapped by those who know where it is.
 *
 * ```text
 * one process                                    another
 *   createMemory ─► descriptor n, mapped           openMemory(pid, n) ─► mapped
 *                   /proc/<pid>/fd/<n>  ◄────────── opens
 * ```
 *
 * The system lets a process open another one's descriptor if both belong to the same user, and are in the same PID
 * namespace. Sealed memory cannot shrink, so reading it never ends a process (`SIGBUS`). Linux only.
 *
 * @see https://man7.org/linux/man-pages/man2/memfd_create.2.html
 * @module
 */

import { cString, size } from "../zeromq/libzmq.ts";

const symbols = {
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  madvise: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  fchmod: { parameters: ["i32", "u32"], result: "i32" },
  pthread_mutexattr_init: { parameters: ["buffer"], result: "i32" },
  pthread_mutexattr_setpshared: { parameters: ["buffer", "i32"], result: "i32" },
  pthread_mutexattr_setrobust: { parameters: ["buffer", "i32"], result: "i32" },
  pthread_mutex_init: { parameters: ["pointer", "buffer"], result: "i32" },
  pthread_mutex_lock: { parameters: ["pointer"], result: "i32" },
  pthread_mutex_unlock: { parameters: ["pointer"], result: "i32" },
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  sched_yield: { parameters: [], result: "i32" },
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  // (The C library has no functions for these two, and `syscall` takes other parameters for each.)
  futex: {
    name: "syscall",
    parameters: ["usize", "pointer", "i32", "u32", "buffer", "usize", "usize"],
    result: "isize",
  },
  futex_waitv: {
    name: "syscall",
    parameters: ["usize", "buffer", "u32", "u32", "buffer", "i32"],
    result: "isize",
  },
} as const;

/** The calls of the system. */
type System = Deno.DynamicLibrary<typeof symbols>["symbols"];

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
/** No other seals, no shrinking, no growing. */
const SEALS = 1 | 2 | 4;
const O_RDONLY = 0;
const O_RDWR = 2;
/** So that to open something else (a pipe, which another process named) does not wait for anybody. */
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const SEEK_END = 2;
const PROT_NONE = 0;
const PROT_READ = 1;
const PROT_READ_WRITE = 1 | 2;
const MAP_SHARED = 1;
/** Takes addresses, and no memory: `MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE`. */
const MAP_RESERVE = 0x02 | 0x20 | 0x4000;
const MAP_FIXED = 0x10;
const MAP_NORESERVE = 0x4000;
const MAP_FAILED = 2n ** 64n - 1n;

const RLIMIT_FSIZE = 1;

const LIBRARY = "libc.so.6";
let system: System | undefined;

/**
 * Loads the calls of the system, like {@linkcode loadSharedMemory}, but has Deno ask nobody for the permission: if there is
 * none, there is no shared memory.
 */
export function loadSharedMemoryIfGranted(): boolean {
  if (Deno.build.os !== "linux") return false;
  const granted = () => Deno.permissions.querySync({ name: "ffi", path: LIBRARY }).state === "granted";
  return (system !== undefined || granted()) && loadSharedMemory();
}

/**
 * Loads the calls of the system. Call it before anything else of this file.
 *
 * @returns Whether there is shared memory here.
 */
export function loadSharedMemory(): boolean {
  if (Deno.build.os !== "linux") return false;
  try {
    system ??= Deno.dlopen(LIBRARY, symbols).symbols;
    return true;
  } catch {
    // (A libc that is not GNU's, or `--allow-ffi` for libzmq's file alone: messages go over the socket.)
    return false;
  }
}

const SYS_FUTEX = Deno.build.arch === "aarch64" ? 98n : 202n;
const SYS_FUTEX_WAITV = 449n;
const FUTEX_WAIT = 0;
const FUTEX_WAKE = 1;
/** A `futex_waitv`: value, address, flags; and that the word has 32 bits. */
const WAITER_BYTES = 24;
const FUTEX_32 = 2;
/** The most words at which a thread can sleep at once: the limit of `futex_waitv(2)`. */
export const MAX_WORDS = 128;
const CLOCK_MONOTONIC = 1;

/** A `timespec`: seconds, nanoseconds. */
const time = new BigInt64Array(new ArrayBuffer(16));
const timeBytes = new Uint8Array(time.buffer);
const waiters = new BigUint64Array(new ArrayBuffer(MAX_WORDS * WAITER_BYTES));
const waiterBytes = new Uint8Array(waiters.buffer);

/** Lets another process run that is ready to. */
export function yieldProcessor(): void {
  system!.sched_yield();
}

/** A word of shared memory at which a thread can sleep, of any process that has mapped it: `futex(2)`. */
export interface Word {
  readonly address: Deno.PointerObject;
  readonly number: bigint;
}

/** Wakes the thread that sleeps at a word. */
export function wakeAt({ address }: Word): void {
  system!.futex(SYS_FUTEX, address, FUTEX_WAKE, 1, null, 0n, 0n);
}

/**
 * Blocks the thread until it is woken at one of some words, or for some milliseconds. Does not block it if one of the words
 * does not have the value.
 *
 * @param words {@linkcode MAX_WORDS} at most.
 */
export function sleepAt(words: readonly Word[], value: number, milliseconds: number): void {
  const nanoseconds = BigInt(milliseconds * 1_000_000);
  if (words.length === 1) {
    time[0] = 0n;
    time[1] = nanoseconds;
    system!.futex(SYS_FUTEX, words[0].address, FUTEX_WAIT, value, timeBytes, 0n, 0n);
    return;
  }
  const count = words.length;
  for (let i = 0; i < count; i++) {
    waiters[3 * i] = BigInt(value);
    waiters[3 * i + 1] = words[i].number;
    waiters[3 * i + 2] = BigInt(FUTEX_32);
  }
  // (Unlike the other call, this one takes the time at which it ends.)
  system!.clock_gettime(CLOCK_MONOTONIC, timeBytes);
  const end = time[1] + nanoseconds;
  time[0] += end / 1_000_000_000n;
  time[1] = end % 1_000_000_000n;
  system!.futex_waitv(SYS_FUTEX_WAITV, waiterBytes, count, 0, timeBytes, CLOCK_MONOTONIC);
}

/**
 * Makes a file in memory, with holes alone. Returns its descriptor.
 *
 * @throws {Error} if the system refuses.
 */
function createFile(name: string, bytes: number): number {
  // (To go beyond it would end the process: SIGXFSZ.)
  const limit = new BigUint64Array(new ArrayBuffer(16));
  if (system!.getrlimit(RLIMIT_FSIZE, new Uint8Array(limit.buffer)) === 0 && limit[0] < BigInt(bytes)) {
    throw new Error(`Cannot share memory: the system allows no files of ${bytes} bytes (ulimit -f)`);
  }
  const fd = system!.memfd_create(cString(name), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw new Error("Cannot share memory: the system has no descriptor for it");
  if (system!.ftruncate(fd, size(bytes)) === 0 && system!.fcntl(fd, F_ADD_SEALS, SEALS) === 0) return fd;
  system!.close(fd);
  throw new Error("Cannot share memory: the system does not seal it");
}

/**
 * Opens a file in the memory of another process. Returns an own descriptor.
 *
 * @throws {Error} if it cannot be opened, or is not sealed memory of this size.
 */
function openFile(pid: number, fd: number, bytes: number, how: number): number {
  const own = system!.open(cString(`/proc/${pid}/fd/${fd}`), how | O_CLOEXEC | O_NONBLOCK);
  if (own < 0) throw new Error(`Cannot share memory: descriptor ${fd} of process ${pid} cannot be opened`);
  const seals = system!.fcntl(own, F_GET_SEALS, 0);
  if (seals >= 0 && (seals & SEALS) === SEALS && Number(system!.lseek(own, 0n, SEEK_END)) === bytes) {
    return own;
  }
  system!.close(own);
  throw new Error(
    `Cannot share memory: descriptor ${fd} of process ${pid} is no sealed memory of ${bytes} bytes`,
  );
}

/** A part of a file that is mapped. */
export interface Part {
  /** Where it begins in the file, in bytes: a multiple of 65,536, which every system has as a multiple of its pages. */
  readonly at: number;
  readonly bytes: number;
}

/** Memory that this process shares, until it is disposed of. */
export class SharedMemory implements Disposable {
  /** Its bytes. Detached once it is disposed of, so that nothing reads addresses that are gone. */
  readonly buffer: ArrayBuffer;
  readonly #address: Deno.PointerObject;
  readonly #bytes: number;
  #fd: number;

  private constructor(buffer: ArrayBuffer, address: Deno.PointerObject, bytes: number, fd: number) {
    this.buffer = buffer;
    this.#address = address;
    this.#bytes = bytes;
    this.#fd = fd;
  }

  /**
   * Makes memory.
   *
   * @param name Names it in /proc, for people who look there.
   * @param parts Which parts to map one behind the other; a part may be mapped several times.
   * @throws {Error} if the system refuses.
   */
  static create(name: string, bytes: number, parts: readonly Part[]): SharedMemory {
    return SharedMemory.#map(createFile(name, bytes), parts);
  }

  /**
   * Maps the memory of another process.
   *
   * @param fd Its descriptor there.
   * @throws {Error} if it cannot be opened, or is not sealed memory of this size.
   */
  static open(pid: number, fd: number, bytes: number, parts: readonly Part[]): SharedMemory {
    const own = openFile(pid, fd, bytes, O_RDWR);
    const memory = SharedMemory.#map(own, parts);
    memory.closeDescriptor();
    return memory;
  }

  /** Maps parts of a file, and closes it if that cannot be done. */
  static #map(fd: number, parts: readonly Part[]): SharedMemory {
    const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    const address = system!.mmap(null, size(bytes), PROT_NONE, MAP_RESERVE, -1, 0n);
    let mapped = Deno.UnsafePointer.value(address) !== MAP_FAILED;
    for (let i = 0, at = 0; mapped && i < parts.length; at += parts[i++].bytes) {
      const part = parts[i], target = Deno.UnsafePointer.offset(address!, at);
      const got = system!.mmap(
        target,
        size(part.bytes),
        PROT_READ_WRITE,
        MAP_SHARED | MAP_FIXED,
        fd,
        BigInt(part.at),
      );
      mapped = Deno.UnsafePointer.value(got) !== MAP_FAILED;
    }
    if (!mapped) {
      system!.close(fd);
      if (Deno.UnsafePointer.value(address) !== MAP_FAILED) system!.munmap(address, size(bytes));
      throw new Error(`Cannot share memory: the system does not map ${bytes} bytes`);
    }
    const buffer = Deno.UnsafePointerView.getArrayBuffer(address!, bytes);
    return new SharedMemory(buffer, address!, bytes, fd);
  }

  /** The word at an offset, in bytes. */
  word(offset: number): Word {
    const address = Deno.UnsafePointer.offset(this.#address, offset)!;
    return { address, number: Deno.UnsafePointer.value(address) };
  }

  /** The descriptor by which others open it; -1 once it is closed. */
  get fd(): number {
    return this.#fd;
  }

  /** Closes the descriptor: nobody can open the memory any more. What is mapped stays. */
  closeDescriptor(): void {
    if (this.#fd >= 0) system!.close(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    if (this.buffer.detached) return;
    this.closeDescriptor();
    this.buffer.transfer(0);
    system!.munmap(this.#address, size(this.#bytes));
  }
}

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
/** Maps the pages of a range that is there, so that they are not mapped one by one: Linux 5.14. */
const MADV_POPULATE_WRITE = 23;
/** Its user may read it. */
const MODE_READ = 0o400;
/** What the C library keeps of a mutex's attributes, and more. */
const ATTRIBUTE_BYTES = 64;

/** What a range has of the system. */
interface Range {
  readonly address: Deno.PointerObject;
  readonly bytes: number;
  readonly owner: Deno.PointerObject;
  readonly fd: number;
  /** Whether this thread has said that it lives. */
  owned: boolean;
}

/**
 * Gives back the memory of ranges that nobody has disposed of. (Some of it may still be reached as an array, so the
 * addresses stay.)
 */
const abandoned = new FinalizationRegistry<Range>((range) => {
  if (range.owned) system!.pthread_mutex_unlock(range.owner);
  system!.fallocate(range.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0n, BigInt(range.bytes));
  system!.close(range.fd);
});

/**
 * Memory that this process writes and others read: a range of addresses as large as the data may ever be, of which only
 * the parts in use take memory. It is in this process until it is disposed of.
 */
export class SharedRange implements Disposable {
  readonly #range: Range;
  #closed = false;

  /**
   * Makes memory, all of it holes.
   *
   * @param name Names it in /proc, for people who look there.
   * @param owner Where this thread says that it lives: 40 bytes, at a multiple of 16. The part must be taken before.
   * @throws {Error} if the system refuses.
   */
  constructor(name: string, bytes: number, owner: number) {
    const fd = createFile(name, bytes);
    const address = system!.fchmod(fd, MODE_READ) < 0
      ? null
      : system!.mmap(null, size(bytes), PROT_READ_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0n);
    if (address === null || Deno.UnsafePointer.value(address) === MAP_FAILED) {
      system!.close(fd);
      throw new Error(`Cannot share memory: the system does not map ${bytes} bytes`);
    }
    this.#range = {
      address,
      bytes,
      owner: Deno.UnsafePointer.offset(address, owner)!,
      fd,
      owned: false,
    };
    abandoned.register(this, this.#range, this);
  }

  /** The descriptor by which others open it. */
  get fd(): number {
    return this.#range.fd;
  }

  /**
   * Takes memory for a part. It is all zero.
   *
   * @throws {Error} if the system has none.
   */
  take(at: number, bytes: number): ArrayBuffer {
    if (system!.fallocate(this.fd, 0, BigInt(at), BigInt(bytes)) < 0) {
      throw new Error(`Cannot share memory: the system has no ${bytes} bytes`);
    }
    const address = Deno.UnsafePointer.offset(this.#range.address, at)!;
    system!.madvise(address, size(bytes), MADV_POPULATE_WRITE);
    return Deno.UnsafePointerView.getArrayBuffer(address, bytes);
  }

  /** Gives back the memory of a part, as {@linkcode SharedRange.take} returned it. */
  giveBack(at: number, part: ArrayBuffer): void {
    const bytes = part.byteLength;
    part.transfer(0);
    system!.fallocate(this.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BigInt(at), BigInt(bytes));
  }

  /** Says that this thread lives, until it ends or the memory is disposed of. Call it once. */
  own(): void {
    const attributes = new Uint8Array(ATTRIBUTE_BYTES);
    system!.pthread_mutexattr_init(attributes);
    system!.pthread_mutexattr_setpshared(attributes, 1);
    system!.pthread_mutexattr_setrobust(attributes, 1);
    system!.pthread_mutex_init(this.#range.owner, attributes);
    this.#range.owned = system!.pthread_mutex_lock(this.#range.owner) === 0;
  }

  /** The parts must have been given back: nothing may read or write them any more. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    abandoned.unregister(this);
    const { address, bytes, owner, fd, owned } = this.#range;
    // (A mutex that is held is in a list of the thread's: it must not be unmapped.)
    if (owned) system!.pthread_mutex_unlock(owner);
    system!.munmap(address, size(bytes));
    system!.close(fd);
  }
}

/** The memory of another process, to be read, until it is disposed of. */
export class SharedView implements Disposable {
  /** Its bytes. Detached once it is disposed of. */
  readonly buffer: ArrayBuffer;
  readonly #address: Deno.PointerObject;
  readonly #bytes: number;

  /**
   * Maps it.
   *
   * @param fd Its descriptor there.
   * @throws {Error} if it cannot be opened, or is not sealed memory of this size.
   */
  constructor(pid: number, fd: number, bytes: number) {
    const own = openFile(pid, fd, bytes, O_RDONLY);
    const address = system!.mmap(null, size(bytes), PROT_READ, MAP_SHARED | MAP_NORESERVE, own, 0n);
    system!.close(own);
    if (Deno.UnsafePointer.value(address) === MAP_FAILED) {
      throw new Error(`Cannot share memory: the system does not map ${bytes} bytes`);
    }
    this.#address = address!;
    this.#bytes = bytes;
    this.buffer = Deno.UnsafePointerView.getArrayBuffer(address!, bytes);
  }

  [Symbol.dispose](): void {
    if (this.buffer.detached) return;
    this.buffer.transfer(0);
    system!.munmap(this.#address, size(this.#bytes));
  }
}
