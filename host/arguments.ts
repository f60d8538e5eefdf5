/**
 * Checks the arguments of a command against its description.
 *
 * @module
 */

import { type Arg, type Command, MAX_SECONDS, usage } from "../commands/describe.ts";
import { isShallow, MAX_KEY_BYTES, MAX_KEY_DEPTH } from "../msgpack/key.ts";
import { numberAt } from "../engine/memory/commands/number.ts";
import { head, skip } from "../msgpack/msgpack.ts";

/** Items that an argument may have if its description does not say otherwise. */
const MAX_ITEMS = 2 ** 18;

/**
 * Why the arguments of a command cannot be taken; undefined if they can. Argument `i` is
 * `payload[offsets[first + i]..offsets[first + i + 1])`.
 *
 * @param count How many were sent.
 */
export function argumentsError(
  command: Command,
  payload: Uint8Array,
  offsets: Int32Array,
  first: number,
  count: number,
): string | undefined {
  const { name, args } = command;
  if (count < args.length ? !args[count].optional : count > args.length) {
    const received = count === 1 ? "1 argument" : `${count} arguments`;
    return `Cannot run ${name}: its usage is "${usage(command)}": received ${received}`;
  }
  for (let i = 0; i < args.length && i < count; i++) {
    const arg = args[i], { type } = arg;
    if (type === undefined) continue;
    const at = offsets[first + i], end = offsets[first + i + 1];
    // A short string or a small number is a key, as it stands: nearly all keys are.
    const byte = payload[at];
    if (type === "key" && (byte < 0x80 || byte >= 0xa0 && byte < 0xc0)) continue;
    const { mostBytes = Infinity } = arg;
    const why = end - at > mostBytes
      ? `is too long: ${mostBytes} bytes at most: received ${end - at}`
      : argumentError(arg, payload, at, end);
    if (why) return `Cannot run ${name}: ${arg.name} ${why}`;
  }
}

/** Why an item cannot be an argument; undefined if it can. */
function argumentError(
  { type, most = MAX_ITEMS, mostNested = Infinity }: Arg,
  payload: Uint8Array,
  at: number,
  end: number,
): string | undefined {
  switch (type) {
    case "key":
      return keyError(payload, at, end);
    case "keys":
      return itemsError(payload, at, "array", most, mostNested);
    case "entries":
      return itemsError(payload, at, "map", most, mostNested);
    case "string":
      return head(payload, at).type === "str" ? undefined : "must be a string";
    case "bool":
      return payload[at] === 0xc2 || payload[at] === 0xc3 ? undefined : "must be true or false";
    case "number":
    case "seconds":
    case "uint32":
      return numberError(type, payload, at);
  }
}

function keyError(payload: Uint8Array, at: number, end: number): string | undefined {
  if (end - at > MAX_KEY_BYTES) {
    return `is too long: a key, a name or a member has ${MAX_KEY_BYTES} bytes at most: received ${end - at}`;
  }
  return isShallow(payload, at) ? undefined : TOO_DEEP;
}

const TOO_DEEP = `is nested too deep: a key, a name or a member has ${MAX_KEY_DEPTH} levels at most`;

/** The same for an array of keys, or a map of them. */
function itemsError(
  payload: Uint8Array,
  at: number,
  wanted: "array" | "map",
  most: number,
  mostNested: number,
): string | undefined {
  const { type, length, body } = head(payload, at);
  if (type !== wanted) return `must be ${wanted === "array" ? "an array" : "a map"}`;
  if (length > most) return `has too many items: ${most} at most: received ${length}`;
  let next = body, nested = 0;
  for (let i = 0; i < length; i++) {
    const end = skip(payload, next), first = payload[next];
    // (A short string, or a small number, is a key.)
    if (first >= 0x80 && (first < 0xa0 || first >= 0xc0)) {
      const why = keyError(payload, next, end);
      if (why) return `has an item that ${why}`;
      const { type } = head(payload, next);
      if (type === "array" || type === "map") nested += end - next;
    }
    if (nested > mostNested) {
      return `is too long: its keys that are arrays or maps have ${mostNested} bytes at most together`;
    }
    next = wanted === "map" ? skip(payload, end) : end;
  }
}

function numberError(
  type: "number" | "seconds" | "uint32",
  payload: Uint8Array,
  at: number,
): string | undefined {
  const value = numberAt(payload, at);
  if (type === "uint32") {
    if (typeof value === "number" && value >>> 0 === value) return undefined;
    return "must be an integer of 0 to 4294967295";
  }
  if (value === undefined || typeof value === "number" && !Number.isFinite(value)) return "must be a number";
  if (type === "seconds" && value > MAX_SECONDS) return `must be ${MAX_SECONDS} or less: received ${value}`;
}
