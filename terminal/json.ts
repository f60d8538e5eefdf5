/**
 * JSON as people type and read it: arguments become values, replies become text.
 *
 * MessagePack has more kinds of values than JSON. They are printed so that typing them again gives the same
 * value, except where the table says otherwise:
 *
 * | value | text |
 * |---|---|
 * | integer beyond 2⁵³ (`bigint`) | all its digits |
 * | `Uint8Array` | `{"$bytes": "<base64>"}` |
 * | `Extension` | `{"$ext": [type, "<base64>"]}` |
 * | `Map` | an object where every key is a string, else an array of `[key, value]` (not read back) |
 * | `Date` | its ISO string (not read back) |
 * | NaN, ±Infinity | their names as strings (not read back) |
 *
 * @module
 */

import { Extension } from "../msgpack/codec.ts";
import { visible } from "./output.ts";

/** A line that would be longer than this is broken. */
const WIDTH = 80;

/**
 * The value of an argument: JSON where it parses as JSON, else the text itself.
 *
 * @throws {RangeError} if a number in it does not fit.
 */
export function parseArgument(text: string): unknown {
  try {
    return parseJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return text;
    throw error;
  }
}

/**
 * The value of a JSON text; integers keep every digit.
 *
 * @throws {SyntaxError} if it is not JSON.
 * @throws {RangeError} if a number in it does not fit: `1e400` is not infinity, `1e-400` is not 0.
 */
export function parseJson(text: string): unknown {
  return parseWithSource(text, revive);
}

/** What a reviver gets beside a primitive: its source text. */
interface Context {
  source?: string;
}

/** (TypeScript's types lack the third parameter of a reviver.) */
const parseWithSource = JSON.parse as (
  text: string,
  reviver: (key: string, value: unknown, context: Context) => unknown,
) => unknown;

function revive(_key: string, value: unknown, { source = "" }: Context): unknown {
  if (typeof value === "number") return numberOf(value, source);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value);
  return entries.length === 1 ? reviveTagged(entries[0]) ?? value : value;
}

/** A number as it was typed: an integer keeps its digits, a float may lose some, but not all. */
function numberOf(value: number, source: string): number | bigint {
  if (!Number.isSafeInteger(value) && /^-?\d+$/.test(source)) return BigInt(source);
  const lost = !Number.isFinite(value) || value === 0 && /^[^e]*[1-9]/i.test(source);
  if (!lost) return value;
  const why = `it does not fit into a 64-bit float (as a string it is '"${source}"')`;
  throw new RangeError(`Cannot read a number: ${why}: received ${source}`);
}

/** The value of a `$bytes` or `$ext` object; undefined if it is not a valid one. */
function reviveTagged([tag, content]: [string, unknown]): Uint8Array | Extension | undefined {
  try {
    if (tag === "$bytes" && typeof content === "string") return Uint8Array.fromBase64(content);
    if (tag === "$ext" && Array.isArray(content) && content.length === 2) {
      return new Extension(content[0], Uint8Array.fromBase64(content[1]));
    }
  } catch {
    return undefined;
  }
}

/**
 * A value as JSON for programs: one line, no spaces.
 */
export function toLine(value: unknown): string {
  return flat(node(value), ",", ":");
}

/**
 * A value as JSON for people: short values on one line, long ones broken and indented.
 */
export function toText(value: unknown): string {
  return tall(node(value), "", 0);
}

/** A value that is being printed: the text of a scalar, or a container with its items and their labels. */
type Node = string | { open: string; close: string; items: [label: string | undefined, item: Node][] };

function node(value: unknown): Node {
  switch (typeof value) {
    case "string":
      return quote(value);
    case "number":
      return Object.is(value, -0) ? "-0" : Number.isFinite(value) ? String(value) : quote(String(value));
    case "object":
      return value === null ? "null" : objectNode(value);
    default:
      return String(value);
  }
}

function objectNode(value: object): Node {
  if (Array.isArray(value)) return arrayNode(value);
  if (value instanceof Uint8Array) return node({ $bytes: value.toBase64() });
  if (value instanceof Extension) return node({ $ext: [value.type, value.data.toBase64()] });
  if (value instanceof Date) return quote(value.toISOString());
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  if (!entries.every(([key]) => typeof key === "string")) return arrayNode(entries);
  return { open: "{", close: "}", items: entries.map(([key, item]) => [quote(key), node(item)]) };
}

function arrayNode(items: unknown[]): Node {
  return { open: "[", close: "]", items: items.map((item) => [undefined, node(item)]) };
}

/** A JSON string, as it may go to a terminal. */
function quote(text: string): string {
  return visible(JSON.stringify(text));
}

function flat(node: Node, comma: string, colon: string): string {
  if (typeof node === "string") return node;
  const items = node.items.map(([label, item]) => {
    const text = flat(item, comma, colon);
    return label === undefined ? text : label + colon + text;
  });
  return node.open + items.join(comma) + node.close;
}

/** @param taken The columns that are already used on the first line. */
function tall(node: Node, indent: string, taken: number): string {
  const line = flat(node, ", ", ": ");
  if (typeof node === "string" || node.items.length === 0 || taken + line.length <= WIDTH) return line;
  const inner = indent + "  ";
  const items = node.items.map(([label, item]) => {
    const start = label === undefined ? inner : `${inner}${label}: `;
    return start + tall(item, inner, start.length + 1);
  });
  return `${node.open}\n${items.join(",\n")}\n${indent}${node.close}`;
}
