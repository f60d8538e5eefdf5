/**
 * Compression of states: gzip, which is recognised by its content (RFC 1952).
 *
 * @module
 */

import { turn } from "../system/turn.ts";

/** Compressed bytes that are taken at once: they become a thousand times as many at most. */
const SLICE = 1 << 11;

/** Compresses. Each piece is done with before the next is asked for. */
export async function* gzip(pieces: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { readable, writable } = new CompressionStream("gzip");
  const writing = feed(pieces, writable.getWriter());
  // Where it fails, the stream fails with the same error.
  writing.catch(() => {});
  yield* readable;
  await writing;
}

async function feed(pieces: Iterable<Uint8Array>, to: WritableStreamDefaultWriter): Promise<void> {
  try {
    for (const piece of pieces) {
      await to.write(piece);
      // What compresses well gives no output for long: other work goes on meanwhile.
      await turn();
    }
    await to.close();
  } catch (error) {
    await to.abort(error);
    throw error;
  }
}

/** The bytes of a stream, decompressed if they begin as gzip does. */
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
    // Deno's text for compressed bytes that are damaged or cut names no cause.
    if (error instanceof TypeError) {
      throw new Error(`the compressed bytes are damaged or cut: ${error.message}`);
    }
    throw error;
  }
}

/** The first bytes of a stream, and a stream of all. */
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
