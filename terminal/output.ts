/**
 * Output of the command line: replies go to stdout, errors to stderr, a line each.
 *
 * @module
 */

const utf8 = new TextEncoder();

/**
 * Prints a text and a line feed to stdout.
 *
 * @throws {Deno.errors.BrokenPipe} if the reader has closed it.
 */
export function print(text: string): void {
  write(Deno.stdout, `${text}\n`);
}

/** Writes a text as a whole. */
export function write(to: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = utf8.encode(text);
  for (let at = 0; at < bytes.length;) at += to.writeSync(bytes.subarray(at));
}

/**
 * Escapes a text from a host, a client or a file for a terminal. Characters that control the terminal (C0 and C1, such as
 * `\x9b`) or reorder the line (bidirectional marks) are escaped as in JSON. The result is one line.
 */
export function visible(text: string): string {
  return text.replace(
    UNSAFE,
    (char) => SHORT[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

// deno-lint-ignore no-control-regex -- these are what must not get through
const UNSAFE = /[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
const SHORT: Record<string, string> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Writes what went wrong to stderr, in one line. */
export function complain(error: unknown): void {
  const text = error instanceof Error ? error.message : String(error);
  write(Deno.stderr, `memstore: ${visible(text)}\n`);
}
