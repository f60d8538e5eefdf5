/**
 * Where a state can be kept: in a file ({@link ./file.ts}) or an object in S3 ({@link ./s3.ts}).
 *
 * @module
 */

import type { FileLock } from "../system/file_lock.ts";

/** The writes that are running, by their targets. */
const writing = new Map<string, Promise<void>>();

/** What a write does while another one to the same target is running: with both at once, the older state might win. */
export type WhenBusy = "refuse" | "wait";

/**
 * Writes to a location, one write at a time.
 *
 * @param target Identifies the location.
 */
export async function writeAlone(
  target: string,
  whenBusy: WhenBusy,
  write: () => Promise<void>,
): Promise<void> {
  for (let other; (other = writing.get(target));) {
    if (whenBusy === "refuse") throw new Error("another store to it is running");
    await other.catch(() => {});
  }
  const work = write();
  writing.set(target, work);
  try {
    await work;
  } finally {
    writing.delete(target);
  }
}

/** One location for one state. */
export interface StateLocation {
  /** Its name for people: a path, or `s3://bucket/key`. It has no secret. */
  readonly name: string;
  /**
   * Replaces what is stored atomically: a reader at the same time, or after a crash,
   * finds the old state or the new one. A piece is good only until the next is asked for.
   *
   * @throws {Error} whose text names the cause; what was there is whole.
   */
  write(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, whenBusy?: WhenBusy): Promise<void>;
  /**
   * Returns what is stored, or undefined. The caller reads it to the end or cancels it.
   *
   * @throws {Error} whose text names the cause; so does the stream where it breaks off.
   */
  read(): Promise<Stored | undefined>;
  /**
   * Keeps other hosts from keeping their data there. A location that cannot do that has no such method.
   *
   * @throws {Error} if another host does.
   */
  lock?(): Promise<FileLock>;
}

/** What is stored at a location. */
export interface Stored {
  /** Its bytes, piece by piece. */
  readonly pieces: ReadableStream<Uint8Array>;
  /** The number of bytes. */
  readonly size: number;
  /** When it was stored, if that is known. */
  readonly time?: Date;
}
