/**
 * The syntax of a line at the prompt: `command arg arg`. Arguments are read as on the command line, and JSON needs
 * no quotes around it.
 *
 * | a word that begins with | ends at | its value |
 * |---|---|---|
 * | `"` | the closing quote | the JSON string |
 * | `'` | the next `'` | the text between: JSON if it is valid JSON, else a string |
 * | `{` or `[` | its closing bracket | the JSON |
 * | anything else | the next space | JSON if it is valid JSON, else a string |
 *
 * @module
 */

import { parseArgument, parseJson, toLine } from "./json.ts";
import { visible } from "./output.ts";

/** A word of a line. */
export interface Word {
  /** Its position in the line. */
  start: number;
  /** As it was typed. */
  source: string;
  /** Whether its closing quote or bracket is there. */
  closed: boolean;
}

/** Splits a line into words. The last one may not be closed yet. */
export function words(line: string): Word[] {
  const found: Word[] = [];
  for (let at = 0; at < line.length;) {
    if (/\s/.test(line[at])) {
      at++;
      continue;
    }
    const end = endOf(line, at);
    found.push({ start: at, source: line.slice(at, end ?? line.length), closed: end !== undefined });
    at = end ?? line.length;
  }
  return found;
}

/** Where the word at `at` ends; undefined if it is not closed. */
function endOf(line: string, at: number): number | undefined {
  const first = line[at];
  if (first === '"') return endOfString(line, at);
  if (first === "'") return line.indexOf("'", at + 1) + 1 || undefined;
  if (first === "{" || first === "[") return endOfBrackets(line, at);
  return at + /^\S+/.exec(line.slice(at))![0].length;
}

function endOfString(line: string, at: number): number | undefined {
  const string = /^"(?:[^"\\]|\\.)*"/.exec(line.slice(at));
  return string ? at + string[0].length : undefined;
}

function endOfBrackets(line: string, from: number): number | undefined {
  let depth = 0;
  for (let at: number | undefined = from; at !== undefined && at < line.length;) {
    if (line[at] === '"') {
      at = endOfString(line, at);
      continue;
    }
    if ("{[".includes(line[at])) depth++;
    if ("}]".includes(line[at])) depth--;
    at++;
    if (depth === 0) return at;
  }
}

/**
 * The text of a word, without its quotes.
 *
 * @throws {SyntaxError} if it is not closed or not valid JSON.
 */
export function textOf({ source, closed }: Word): string {
  if (!closed) throw new SyntaxError(`Cannot read the line: a word is not closed: received ${source}`);
  if (source.startsWith("'")) return source.slice(1, -1);
  return source.startsWith('"') ? jsonOf(source) as string : source;
}

/**
 * The value of a word.
 *
 * @throws {SyntaxError} if it is not closed or not valid JSON.
 * @throws {RangeError} if a number in it does not fit.
 */
export function valueOf(word: Word): unknown {
  const text = textOf(word);
  if (word.source.startsWith('"')) return text;
  return /^[{[]/.test(word.source) ? jsonOf(text) : parseArgument(text);
}

function jsonOf(text: string): unknown {
  try {
    return parseJson(text);
  } catch (error) {
    if (error instanceof RangeError) throw error;
    throw new SyntaxError(`Cannot read the line: a word is not valid JSON: received ${text}`);
  }
}

/**
 * Returns how a value is typed as a completion of `begun`: without quotes if it is then read as the same value. The result
 * is safe to print on a terminal.
 */
export function typed(value: unknown, begun: string): string {
  const bare = typeof value === "string" && /^[^\s"'{[]\S*$/.test(value) && visible(value) === value &&
    isItself(value);
  return bare && !begun.startsWith('"') ? value : toLine(value);
}

/** Whether a text that is typed without quotes is read as that string. */
function isItself(text: string): boolean {
  try {
    return parseArgument(text) === text;
  } catch {
    // A number that does not fit.
    return false;
  }
}
