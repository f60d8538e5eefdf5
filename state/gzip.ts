/**
 * Compression of states with gzip (RFC 1952). A compressed state is recognised by its first bytes.
 *
 * @module
 */

import { turn } from "../system/turn.ts";

/** How many compressed bytes are decompressed at once. They become at most a thousand times as many. */
const SLICE = 1 << 11;

/** The bytes of a state, piece by piece. A piece is good until the next is asked for. */
export type Pieces = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** Compresses a stream. Each piece is compressed before the next one is read. */
export async function* gzip(pieces: Pieces): AsyncGenerator<Uint8Array> {
  const { readable, writable } = new CompressionStream("gzip");
  const writing = feed(pieces, writable.getWriter());
  // (If it fails, the stream fails with the same error.)
  writing.catch(() => {});
  yield* readable;
  await writing;
}

async function feed(pieces: Pieces, to: WritableStreamDefaultWriter): Promise<void> {
  try {
    for await (const piece of pieces) {
      await to.write(piece);
      // Data that compresses well gives no output for a long time: let other work run.
      await turn();
    }
    await to.close();
  } catch (error) {
    await to.abort(error);
    throw error;
  }
}

/** Returns the bytes of a stream, decompressed if they are compressed with gzip. */
export async function* plain(pieces: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const [begin, all] = await peek(pieces, 2);
  if (begin[0] !== 0x1f || begin[1] !== 0x8b) return yield* all;
  try {
    const slices = new TransformStream<Uint8Array, BufferSource>({
      transform(piece, controller) {
        for (let at = 0; at < piece.length; at += SLICE) {
          controller.enqueue(piece.slice(at, at + SLICE));
        }
      },
    });
    yield* all.pipeThrough(slices).pipeThrough(new DecompressionStream("gzip"));
  } catch (error) {
    // (Deno's error text for damaged or truncated input does not name the cause.)
    if (error instanceof TypeError) {
      throw new Error(`the compressed bytes are damaged or cut: ${error.message}`);
    }
    throw error;
  }
}

/** Returns the first bytes of a stream, and a stream of all of its bytes. */
async function peek(
  pieces: ReadableStream<Uint8Array>,
  length: number,
): Promise<[begin: Uint8Array, all: ReadableStream<Uint8Array>]> {
  const reader = pieces.getReader();
  const first: Uint8Array[] = [];
  let begin = new Uint8Array(0);
  while (begin.length < length) {
    const { value, done } = await reader.read();
    if (done) break;
    first.push(value);
    begin = new Uint8Array([...begin, ...value.subarray(0, length - begin.length)]);
  }
  const all = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = first.shift() ?? (await reader.read()).value;
      if (next) controller.enqueue(next);
      else controller.close();
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
  return [begin, all];
}
