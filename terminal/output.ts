/**
 * What the command line writes: replies to stdout, one line for each error to stderr.
 *
 * @module
 */

const utf8 = new TextEncoder();

/**
 * Prints a text and a line's end to stdout.
 *
 * @throws {Deno.errors.BrokenPipe} if nobody reads it any more.
 */
export function print(text: string): void {
  write(Deno.stdout, `${text}\n`);
}

/** Writes a whole text. */
export function write(to: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = utf8.encode(text);
  for (let at = 0; at < bytes.length;) at += to.writeSync(bytes.subarray(at));
}

/** A text without line ends and other orders to the terminal: it may be a host's or a client's. */
export function oneLine(text: string): string {
  // deno-lint-ignore no-control-regex -- these are what must not get through
  return text.replace(/[\0-\x1f\x7f-\x9f]+/g, " ");
}

/** Tells on stderr, in one line, what went wrong. */
export function complain(error: unknown): void {
  const text = error instanceof Error ? error.message : String(error);
  write(Deno.stderr, `memstore: ${oneLine(text)}\n`);
}
