/**
 * Where a state can be kept: a file ({@link ./file.ts}), an object in S3 ({@link ./s3.ts}).
 *
 * @module
 */

import type { FileLock } from "../system/file_lock.ts";

/** The writes that are under way, by what they write to. */
const writing = new Map<string, Promise<void>>();

/** What a write does while another one to the same location is under way: of two, the later would not always win. */
export type WhenBusy = "refuse" | "wait";

/**
 * Writes to a location, one write at a time.
 *
 * @param target What tells the location from all others.
 */
export async function writeAlone(
  target: string,
  whenBusy: WhenBusy,
  write: () => Promise<void>,
): Promise<void> {
  for (let other; (other = writing.get(target));) {
    if (whenBusy === "refuse") throw new Error("another store to it is under way");
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
  /** How people know it: a path, or `s3://bucket/key`. Never holds a secret. */
  readonly name: string;
  /**
   * Replaces what is there, by all of these bytes or not at all: whoever reads meanwhile, or after a crash,
   * finds the old state or the new one. A piece is good only until the next is asked for.
   *
   * @throws {Error} whose text names the cause; what was there is whole.
   */
  write(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, whenBusy?: WhenBusy): Promise<void>;
  /**
   * What is there; undefined if nothing is. Whoever reads it goes to the end or cancels it.
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

/** What is kept at a location. */
export interface Stored {
  /** Its bytes, piece by piece. */
  readonly pieces: ReadableStream<Uint8Array>;
  /** How many there are. */
  readonly size: number;
  /** When it was stored, if that is known. */
  readonly time?: Date;
}
