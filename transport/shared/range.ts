/**
 * Memory that one process writes and others read: a range of addresses with holes, in a file in memory
 * ({@link ./system.ts}). Readers map all of it, once; what the writer takes or gives back later, they see.
 *
 * Who has made a range says in it that its thread lives: by a robust mutex of the C library, which the thread holds. When it
 * ends, however it ends, the system changes the mutex, and readers see it with the next load.
 *
 * @see https://man7.org/linux/man-pages/man3/pthread_mutexattr_setrobust.3.html
 * @module
 */

import { size } from "../zeromq/libzmq.ts";
import { createFile, failed, MAP_SHARED, O_RDONLY, openFile, PROT_READ_WRITE, system } from "./system.ts";

const PROT_READ = 1;
const MAP_NORESERVE = 0x4000;
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
    if (address === null || failed(address)) {
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
    if (failed(address)) {
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
