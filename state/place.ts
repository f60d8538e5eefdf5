/**
 * Where a state can be kept: a file ({@link ./file.ts}), an object in S3 ({@link ./s3.ts}).
 *
 * @module
 */

import type { Lock } from "../wire/lock.ts";

/** The places that are being written. */
const underWay = new Set<string>();

/**
 * Writes to a place unless a write to it is under way: of two, the later would not always win.
 *
 * @param target What tells the place from all others.
 */
export async function alone(target: string, write: () => Promise<void>): Promise<void> {
  if (underWay.has(target)) throw new Error("another store to it is under way");
  underWay.add(target);
  try {
    await write();
  } finally {
    underWay.delete(target);
  }
}

/** One place for one state. */
export interface Place {
  /** How people know it: a path, or `s3://bucket/key`. Never holds a secret. */
  readonly name: string;
  /**
   * Replaces what is there, by all of these bytes or not at all: whoever reads meanwhile, or after a crash,
   * finds the old state or the new one. A piece is good only until the next is asked for.
   *
   * @throws {Error} whose text names the cause; what was there is whole.
   */
  write(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void>;
  /**
   * What is there; undefined if nothing is. Whoever reads it goes to the end or cancels it.
   *
   * @throws {Error} whose text names the cause; so does the stream where it breaks off.
   */
  read(): Promise<Stored | undefined>;
  /**
   * Keeps other hosts from keeping their data there. A place that cannot do that has no such method.
   *
   * @throws {Error} if another host does.
   */
  lock?(): Promise<Lock>;
}

/** What is kept at a place. */
export interface Stored {
  /** Its bytes, piece by piece. */
  readonly pieces: ReadableStream<Uint8Array>;
  /** How many there are. */
  readonly size: number;
}
