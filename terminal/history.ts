/**
 * The prompt's history: the lines that were typed, in `$XDG_STATE_HOME/memstore/history`, or else in
 * `~/.local/state/memstore/history`. Only the file's owner can read it.
 *
 * If the file cannot be read or written, the history is lost when the prompt is left.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { visible } from "./output.ts";

/** How many lines are kept. */
export const MAX_LINES = 1000;

/** The file's path; undefined if the environment names none or may not be read. */
export function historyPath(): string | undefined {
  try {
    const state = Deno.env.get("XDG_STATE_HOME");
    const home = Deno.env.get("HOME");
    const base = state || (home && join(home, ".local", "state"));
    return base ? join(base, "memstore", "history") : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The lines of the file, the oldest first. Those beyond {@linkcode MAX_LINES} are dropped from it, and so are lines
 * that hold control characters: the prompt would write them to the terminal as they are.
 */
export function loadHistory(path: string): string[] {
  try {
    const all = Deno.readTextFileSync(path).split("\n")
      .filter((line) => line !== "" && line === visible(line));
    const lines = all.slice(-MAX_LINES);
    if (lines.length < all.length) Deno.writeTextFileSync(path, lines.join("\n") + "\n");
    return lines;
  } catch {
    return [];
  }
}

/** Adds a line. */
export function appendHistory(path: string, line: string): void {
  try {
    Deno.mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    Deno.writeTextFileSync(path, `${line}\n`, { append: true, mode: 0o600 });
  } catch {
    // (See above.)
  }
}
