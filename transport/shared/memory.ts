/**
 * Memory that two processes read and write: parts of a file in memory ({@link ./system.ts}), mapped by both.
 *
 * @module
 */

import { size } from "../zeromq/libzmq.ts";
import type { Word } from "./futex.ts";
import { createFile, failed, MAP_SHARED, O_RDWR, openFile, PROT_READ_WRITE, system } from "./system.ts";

const PROT_NONE = 0;
/** Takes addresses, and no memory: `MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE`. */
const MAP_RESERVE = 0x02 | 0x20 | 0x4000;
const MAP_FIXED = 0x10;

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
    let mapped = !failed(address);
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
      mapped = !failed(got);
    }
    if (!mapped) {
      system!.close(fd);
      if (!failed(address)) system!.munmap(address, size(bytes));
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
