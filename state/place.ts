/**
 * Where a state can be kept: a file ({@link ./file.ts}), an object in S3 ({@link ./s3.ts}).
 *
 * @module
 */

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
   * What is there, piece by piece; undefined if nothing is. Whoever reads it goes to the end or cancels it.
   *
   * @throws {Error} whose text names the cause; so does the stream where it breaks off.
   */
  read(): Promise<ReadableStream<Uint8Array> | undefined>;
}
