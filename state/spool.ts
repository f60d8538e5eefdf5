/**
 * Bytes that are kept until it is known how many there are: in memory while they are few, then in a temporary file.
 *
 * @module
 */

import { Writer } from "../msgpack/msgpack.ts";

/** How many bytes are kept in memory. */
const IN_MEMORY = 1 << 22;
/** How many bytes of a file are read at once. */
const CHUNK = 1 << 17;

/** Bytes that are written first and read later. */
export class Spool implements Disposable {
  /** For what is short. */
  readonly writer = new Writer(1 << 16);
  #file: Deno.FsFile | undefined;

  /** Adds bytes. */
  add(bytes: Uint8Array): void {
    this.writer.raw(bytes);
    if (this.writer.length >= IN_MEMORY) this.#flush();
  }

  #flush(): void {
    if (!this.#file) {
      const path = Deno.makeTempFileSync({ prefix: "memstore-" });
      this.#file = Deno.openSync(path, { read: true, write: true });
      // (It is gone when it is closed, even if the process is killed.)
      Deno.removeSync(path);
    }
    for (let at = 0; at < this.writer.length;) {
      at += this.#file.writeSync(this.writer.bytes.subarray(at, this.writer.length));
    }
    this.writer.length = 0;
  }

  /** What was written, piece by piece, and then forgotten. */
  *read(): Generator<Uint8Array> {
    if (this.#file) {
      this.#file.seekSync(0, Deno.SeekMode.Start);
      const buffer = new Uint8Array(CHUNK);
      for (let count; (count = this.#file.readSync(buffer));) yield buffer.subarray(0, count);
      this.#file.truncateSync(0);
      this.#file.seekSync(0, Deno.SeekMode.Start);
    }
    yield this.writer.written;
    this.writer.reset();
  }

  [Symbol.dispose](): void {
    this.#file?.close();
    this.#file = undefined;
  }
}
