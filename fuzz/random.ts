/**
 * Random numbers from a seed, and what is made of them: values, commands, and damaged bytes.
 *
 * @module
 */

import { commands } from "../commands/list.ts";
import { concat } from "../tests/hostiles.ts";
import { encoded } from "../msgpack/codec.ts";

/** Bytes at which MessagePack, ZMTP or our headers change their meaning, … */
const BYTES = [
  0,
  1,
  0x4d,
  0x7f,
  0x80,
  0x90,
  0x91,
  0xa0,
  0xbf,
  0xc0,
  0xc1,
  0xc4,
  0xc6,
  0xc7,
  0xc9,
  0xca,
  0xcb,
];
BYTES.push(0xcf, 0xd3, 0xd8, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xff);
/** … numbers at which it writes them another way, … */
const NUMBERS = [
  0,
  1,
  -1,
  127,
  128,
  255,
  256,
  65535,
  65536,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53 - 1,
  -(2 ** 53),
  1.5,
];
/** … and lengths at which it does. */
const LENGTHS = [0, 1, 15, 16, 31, 32, 255, 256, 300];

/** A source of numbers: the same for the same seed (xorshift32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    // (Neighbouring seeds begin far from each other.)
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 1;
    for (let i = 0; i < 8; i++) this.#next();
  }

  #next(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    return this.#state ^= this.#state << 5;
  }

  /** An integer of 0 to `end` - 1. */
  below(end: number): number {
    return (this.#next() >>> 0) % end;
  }

  /** True in one of so many cases. */
  one(of: number): boolean {
    return this.below(of) === 0;
  }

  pick<Value>(values: readonly Value[]): Value {
    return values[this.below(values.length)];
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(length).map(() => this.one(3) ? this.pick(BYTES) : this.below(256));
  }
}

/** Any value. */
export function anyValue(random: Random, depth = 0): unknown {
  switch (random.below(depth > 3 ? 6 : 9)) {
    case 0:
      return random.pick(NUMBERS);
    case 1:
      return random.below(2 ** 20) - 2 ** 19;
    case 2:
      return random.pick([null, true, false, 2n ** 63n, -(2n ** 63n), 2n ** 64n - 1n]);
    case 3:
      return "x".repeat(random.pick(LENGTHS));
    case 4:
      return random.bytes(random.pick(LENGTHS));
    case 5:
      return random.pick(["a", "b", "c", "é", ""]);
    case 6:
      return Array.from({ length: random.below(5) }, () => anyValue(random, depth + 1));
    case 7:
      return new Map(Array.from({ length: random.below(4) }, () => [
        anyValue(random, depth + 1),
        anyValue(random, depth + 1),
      ]));
    default: {
      let value: unknown = 1;
      for (let i = random.below(40); i > 0; i--) value = [value];
      return value;
    }
  }
}

/** A name or a key: few, so that they meet again. */
export function anyKey(random: Random): unknown {
  return random.one(8)
    ? anyValue(random)
    : random.pick(["a", "b", "c", 1, 2, 3.5, true, null, "k".repeat(40)]);
}

/** Commands that are done at once, and end nothing. */
const QUICK = commands.filter(({ slow, name }) =>
  !slow && !["done", "stats", "info", "transfers"].includes(name)
);

/** A command whose arguments are of the right types, mostly. */
export function anyCommand(random: Random): unknown[] {
  const { name, args } = random.pick(QUICK);
  const given = args.filter(({ optional }) => !optional || random.one(2)).map(({ type }) => {
    if (random.one(30)) return anyValue(random);
    switch (type) {
      case "string":
        return random.pick(["a", "b"]);
      case "bool":
        return random.one(2);
      case "key":
        return anyKey(random);
      case "keys":
        return Array.from({ length: random.below(6) }, () => anyKey(random));
      case "entries":
        return new Map(Array.from({ length: random.below(6) }, () => [anyKey(random), anyValue(random)]));
      case "number":
        return random.pick([1, -1, 0.5, 2 ** 53, 10n ** 18n]);
      case "seconds":
        return random.pick([-1, 0, 0.001, 1, 1e9, 1e12]);
      case "uint32":
        return random.one(2) ? random.below(20) : random.below(2 ** 32);
      default:
        return anyValue(random);
    }
  });
  return [name, ...given];
}

/** A payload of some commands. */
export function anyPayload(random: Random): Uint8Array<ArrayBuffer> {
  const parts = Array.from(
    { length: 1 + random.below(random.one(4) ? 12 : 3) },
    () => encoded(anyCommand(random)),
  );
  return concat(...parts);
}

/** Bytes in which some went wrong, in one or several places. */
export function mutated(original: Uint8Array, random: Random): Uint8Array<ArrayBuffer> {
  let bytes = new Uint8Array(original);
  for (let times = 1 + random.below(random.one(3) ? 8 : 2); times > 0; times--) {
    const at = random.below(bytes.length + 1), to = Math.min(bytes.length, at + random.below(9));
    const before = bytes.subarray(0, at), after = bytes.subarray(to);
    switch (random.below(7)) {
      case 0: // a bit
        if (at < bytes.length) bytes[at] ^= 1 << random.below(8);
        break;
      case 1: // a byte with a meaning
        if (at < bytes.length) bytes[at] = random.pick(BYTES);
        break;
      case 2: // something more
        bytes = concat(before, random.bytes(random.below(9)), bytes.subarray(at));
        break;
      case 3: // something less
        bytes = concat(before, after);
        break;
      case 4: // something twice
        bytes = concat(bytes.subarray(0, to), bytes.subarray(at));
        break;
      case 5: // the end missing
        bytes = bytes.slice(0, at);
        break;
      default: { // a number that says how many
        const view = new DataView(bytes.buffer);
        if (at + 4 <= bytes.length) {
          view.setUint32(at, random.pick([0, 1, 2 ** 16, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]));
        }
      }
    }
  }
  return bytes;
}

/** A word in place of another one: a bit is changed, or it is a number, an address or a length that nobody expects. */
export function anyWord(random: Random, word: number): number {
  switch (random.below(5)) {
    case 0:
      return word ^ 1 << random.below(32);
    case 1:
      return random.pick([0, 1, -1, 255, 2 ** 24, 2 ** 31 - 1, -(2 ** 31), 1 << 28, 1 << 29, 1 << 30]);
    case 2:
      // (An address in one of the first segments.)
      return random.below(6) << 17 | random.below(2 ** 17);
    case 3:
      return word + random.below(17) - 8 | 0;
    default:
      return random.below(2 ** 32) | 0;
  }
}
