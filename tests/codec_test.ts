/** The codec: what goes in comes out, what cannot is refused, and another library agrees. */

import assert from "node:assert/strict";
import { decode, ExtensionCodec } from "@msgpack/msgpack";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { Exam } from "msgpack-test-js";
import { decoded, encode, encoded, Extension, Reader } from "../msgpack/codec.ts";
import { MalformedError, MAX_DEPTH, skip, Writer } from "../msgpack/msgpack.ts";

const bytes = (...values: number[]) => new Uint8Array(values);
const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 60 }),
  fc.constantFrom("__proto__", "toString", "constructor", "\ufeffbom", "\0"),
);
/** Bigints that no number is equal to: those come back as they are. */
const large = fc.bigInt(-(2n ** 63n), 2n ** 64n - 1n).filter((value) => !Number.isSafeInteger(Number(value)));
const scalar = fc.oneof(
  fc.boolean(),
  fc.constant(null),
  fc.maxSafeInteger(),
  fc.double(),
  fc.constantFrom(-0, NaN, Infinity, -Infinity, 2 ** 53, -(2 ** 63), 2 ** 64),
  large,
  text,
);
const data = fc.oneof(
  scalar,
  fc.uint8Array({ maxLength: 300 }),
  fc.date({ noInvalidDate: true }),
  fc.record({ type: fc.integer({ min: 0, max: 127 }), data: fc.uint8Array({ maxLength: 300 }) })
    .map(({ type, data }) => new Extension(type, data)),
);
/** Values of the codec's own types, each of which is decoded to itself. */
const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    data,
    fc.array(tie("value"), { maxLength: 20 }),
    fc.dictionary(text, tie("value"), { maxKeys: 20, noNullPrototype: true }),
    // A map whose keys are all strings comes back as an object: one key more makes it a Map for sure.
    fc.array(fc.tuple(scalar, tie("value")), { maxLength: 20 })
      .map((pairs) => new Map<unknown, unknown>([...pairs, [bytes(1, 2), 1]])),
  ),
}));

Deno.test("decoded() gives back any value that encoded() took", () => {
  fc.assert(
    fc.property(value, (value) => {
      const written = encoded(value);
      assert.equal(skip(written, 0), written.length);
      assert.deepEqual(decoded(written), value);
    }),
    { numRuns: 500 },
  );
});

Deno.test("what is decoded is encoded to the same bytes again", () => {
  fc.assert(fc.property(value, (value) => {
    const written = encoded(value);
    assert.deepEqual(encoded(decoded(written)), written);
  }));
});

Deno.test("another library decodes what encoded() wrote", () => {
  // Its maps have string keys alone, and it refuses __proto__.
  const extensionCodec = new ExtensionCodec();
  for (let type = 0; type < 128; type++) {
    extensionCodec.register({
      type,
      encode: () => null,
      decode: (data) => new Extension(type, data.slice()),
    });
  }
  const common = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      data.filter((item) => typeof item !== "bigint" && !(item instanceof Date)),
      // The library keeps milliseconds exact where seconds are not negative.
      fc.date({ noInvalidDate: true, min: new Date(0) }),
      fc.array(tie("value")),
      fc.dictionary(text.filter((key) => key !== "__proto__"), tie("value"), { noNullPrototype: true }),
    ),
  })).value;
  fc.assert(fc.property(common, (value) => {
    assert.deepEqual(decode(encoded(value), { extensionCodec }), value);
  }));
  fc.assert(fc.property(large, (value) => {
    assert.equal(decode(encoded(value), { useBigInt64: true }), value);
  }));
});

Deno.test("decoded() understands every encoding of the public test suite", () => {
  const unhex = (text: string) => bytes(...text.split("-").filter(Boolean).map((byte) => parseInt(byte, 16)));
  for (const exam of Exam.getExams()) {
    for (const type of exam.getTypes()) {
      const raw = JSON.parse(exam.stringify(type));
      for (const msgpack of exam.getMsgpacks()) {
        const got = decoded(new Uint8Array(msgpack));
        switch (String(type)) {
          case "binary":
            assert.deepEqual(got, unhex(raw));
            break;
          case "bignum":
            assert.equal(BigInt(got as number | bigint), BigInt(raw));
            break;
          case "timestamp": {
            const [seconds, nanoseconds] = raw;
            if (nanoseconds % 1e6 === 0) {
              assert.deepEqual(got, new Date(seconds * 1000 + nanoseconds / 1e6));
            } else {
              assert(got instanceof Extension && got.type === -1);
            }
            assert.deepEqual(encoded(got), new Uint8Array(msgpack));
            break;
          }
          case "ext":
            assert.deepEqual(got, new Extension(raw[0], unhex(raw[1])));
            break;
          default:
            assert.deepEqual(got, raw);
        }
      }
    }
  }
});

Deno.test("encoded() writes an integer in its shortest form, and -0 so that it stays one", () => {
  assert.deepEqual(encoded(1), bytes(1));
  assert.deepEqual(encoded(1n), bytes(1));
  assert.deepEqual(encoded(-0), bytes(0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0));
  assert.deepEqual(encoded(2n ** 64n - 1n), bytes(0xcf, ...Array(8).fill(0xff)));
  assert.equal(encoded(2 ** 53)[0], 0xcb);
});

Deno.test("a 64-bit integer is a number where that is exact, else a bigint", () => {
  assert.equal(decoded(encoded(BigInt(Number.MAX_SAFE_INTEGER))), Number.MAX_SAFE_INTEGER);
  assert.equal(decoded(encoded(BigInt(Number.MIN_SAFE_INTEGER))), Number.MIN_SAFE_INTEGER);
  for (const value of [2n ** 53n, 2n ** 53n + 1n, -(2n ** 53n) - 1n, -(2n ** 63n), 2n ** 63n]) {
    assert.equal(decoded(encoded(value)), value);
  }
});

Deno.test("a map whose keys are all strings is decoded to a plain object, any other to a Map", () => {
  assert.deepEqual(decoded(encoded(new Map([["a", 1]]))), { a: 1 });
  assert.deepEqual(decoded(encoded(new Map())), {});
  assert.deepEqual(
    decoded(encoded(new Map<unknown, number>([["1", 1], [1, 2]]))),
    new Map<unknown, number>([["1", 1], [1, 2]]),
  );
  assert.deepEqual(
    new Reader(encoded({ a: [1], b: {} })).map(),
    new Map<string, unknown>([["a", [1]], ["b", {}]]),
  );
  assert.throws(() => new Reader(encoded([1])).map(), MalformedError);
});

Deno.test("a __proto__ key is a key like any other", () => {
  const sent = JSON.parse('{"__proto__": {"admin": true}, "a": 1}');
  // Deno has taken the accessor away, other runtimes (and its own flag --unstable-unsafe-proto) have it.
  const set = function (this: unknown, value: object) {
    Object.setPrototypeOf(this, value);
  };
  Object.defineProperty(Object.prototype, "__proto__", { set, configurable: true });
  let got: Record<string, unknown>;
  try {
    got = decoded(encoded(sent)) as Record<string, unknown>;
  } finally {
    Reflect.deleteProperty(Object.prototype, "__proto__");
  }
  assert.equal(Object.getPrototypeOf(got), Object.prototype);
  assert.equal(got.admin, undefined);
  assert.deepEqual(Object.keys(got), ["__proto__", "a"]);
  assert.deepEqual(Object.getOwnPropertyDescriptor(got, "__proto__")?.value, { admin: true });
});

Deno.test("a str that is not UTF-8 is decoded to its bytes, as a value and as a key", () => {
  for (const raw of [[0xff], [0x61, 0x80], [0xed, 0xa0, 0x80], [0xc3], Array(40).fill(0xfe)]) {
    const str = raw.length < 32 ? bytes(0xa0 | raw.length, ...raw) : bytes(0xda, 0, raw.length, ...raw);
    assert.deepEqual(decoded(str), bytes(...raw));
    assert.deepEqual(decoded(bytes(0x81, ...str, 0x01)), new Map([[bytes(...raw), 1]]));
    // What follows is found all the same.
    assert.deepEqual(decoded(bytes(0x92, ...str, 0x05)), [bytes(...raw), 5]);
  }
});

Deno.test("encoded() writes what JavaScript has beyond MessagePack as the table in codec.ts says", () => {
  const buffer = Uint8Array.of(1, 2, 3, 4).buffer;
  assert.deepEqual(decoded(encoded(new Set([1, "a"]))), [1, "a"]);
  assert.deepEqual(decoded(encoded(buffer)), bytes(1, 2, 3, 4));
  assert.deepEqual(decoded(encoded(new Uint16Array(buffer, 2))), bytes(3, 4));
  assert.deepEqual(decoded(encoded(new DataView(buffer, 1, 2))), bytes(2, 3));
  assert.deepEqual(decoded(encoded([undefined, , 1])), [null, null, 1]);
  assert.deepEqual(decoded(encoded(new Map([[1, undefined]]))), new Map([[1, null]]));
  assert.deepEqual(decoded(encoded({ a: undefined, b: 1 })), { b: 1 });
  assert.deepEqual(decoded(encoded(Object.assign(Object.create(null), { a: 1 }))), { a: 1 });
  assert.deepEqual(
    decoded(encoded(
      new class Point {
        x = 1;
      }(),
    )),
    { x: 1 },
  );
});

Deno.test("encoded() refuses what has no counterpart, and says what it was", () => {
  const refused: [unknown, RegExp][] = [
    [undefined, /Cannot encode a value of type undefined/],
    [() => 1, /type function/],
    [Symbol("s"), /type symbol: received Symbol\(s\)/],
    [Promise.resolve(1), /not plain data: received \[object Promise\]/],
    [new WeakMap(), /\[object WeakMap\]/],
    [/a/, /\[object RegExp\]/],
    [new Error("e"), /\[object Error\]/],
    [new URL("a://b"), /\[object URL\]/],
    [new Date(NaN), /a date that is not valid: received Invalid Date/],
    ["\ud800", /half of a surrogate pair: received "\\ud800"/],
    ["long enough to be written by other means \udc00", /half of a surrogate pair/],
    [new Map([[undefined, 1]]), /type undefined/],
    [{ "\udfff": 1 }, /half of a surrogate pair/],
  ];
  for (const [value, message] of refused) {
    assert.throws(() => encoded(value), { name: "TypeError", message });
    if (value !== undefined) {
      assert.throws(() => encoded([{ a: [value] }]), { name: "TypeError", message });
      assert.throws(() => encoded(new Map([[value, value]])), { name: "TypeError", message });
    }
  }
  for (const value of [2n ** 64n, -(2n ** 63n) - 1n, 10n ** 30n]) {
    assert.throws(() => encoded(value), { name: "RangeError", message: /more than 64 bits/ });
  }
});

Deno.test("encoded() refuses a cycle", () => {
  const array: unknown[] = [], object: Record<string, unknown> = {}, map = new Map<unknown, unknown>();
  array.push(array), object.self = object, map.set("self", [map]);
  for (const cycle of [array, object, map]) {
    assert.throws(() => encoded(cycle), { name: "RangeError", message: /is it a cycle/ });
  }
});

Deno.test("encoded() nests as deep as skip() lets pass, whatever is at the bottom", () => {
  const bottoms = [null, 1, "a", [], {}, new Map(), new Date(1), bytes(1), new Extension(1, bytes(1))];
  for (const bottom of bottoms) {
    let value: unknown = bottom;
    for (let i = 0; i < MAX_DEPTH; i++) value = i % 2 ? [value] : { a: value };
    const written = encoded(value);
    assert.equal(skip(written, 0), written.length);
    assert.deepEqual(encoded(decoded(written)), written);
    assert.throws(() => encoded([value]), { name: "RangeError", message: /nested deeper than 512/ });
    assert.throws(() => skip(bytes(0x91, ...written), 0), MalformedError);
  }
});

Deno.test("a value holds more containers side by side than it may nest", () => {
  for (const each of [[], [1], {}, { a: 1 }, new Map([[1, 2]])]) {
    const value = Array(3 * MAX_DEPTH).fill(each);
    assert.deepEqual(decoded(encoded(value)), value);
  }
});

Deno.test("decoded() takes one whole item and nothing else", () => {
  assert.throws(() => decoded(bytes()), MalformedError);
  assert.throws(() => decoded(bytes(0x92, 1)), MalformedError);
  assert.throws(() => decoded(bytes(1, 2, 3)), /Cannot decode: 2 bytes follow the value/);
});

Deno.test("what is decoded shares no memory with the bytes it came from, also where these are a Buffer", () => {
  const value = [bytes(1, 2), new Extension(3, bytes(4)), bytes(5)];
  const source = Buffer.from(encoded(value));
  const got = decoded(source) as unknown[];
  const str = Buffer.from([0xa1, 0xff]);
  const old = decoded(str);
  source.fill(0), str.fill(0);
  assert.deepEqual(got, value);
  assert.deepEqual(old, bytes(0xff));
});

Deno.test("a Reader reads values one after another, from a view into a larger buffer too", () => {
  const values = [1.5, "é", 2n ** 60n, new Date(1e12 + 1), [true]];
  const to = new Writer(1);
  to.raw(bytes(9, 9, 9));
  for (const value of values) encode(value, to);
  const reader = new Reader(to.bytes.subarray(3, to.length));
  for (const value of values) assert.deepEqual(reader.value(), value);
  assert.equal(reader.at, to.length - 3);
});

Deno.test("a date is decoded to a Date to its bounds, and stays an Extension where a Date is not exact", () => {
  for (const time of [8.64e15, -8.64e15, -1, -999, 0, 2 ** 34 * 1000, 2 ** 34 * 1000 - 1, 2 ** 32 * 1000]) {
    assert.deepEqual(decoded(encoded(new Date(time))), new Date(time));
  }
  // A nanosecond; a thousand million of them, which the specification forbids; a year no Date has.
  const inexact = [
    [0xd7, 0xff, 0, 0, 0, 4, 0, 0, 0, 0],
    [0xc7, 12, 0xff, 0x3b, 0x9a, 0xca, 0, ...Array(8).fill(0)],
    [0xc7, 12, 0xff, 0, 0, 0, 0, 0x7f, ...Array(7).fill(0xff)],
    [0xd4, 0xff, 1],
  ];
  for (const raw of inexact) {
    const got = decoded(bytes(...raw));
    assert(got instanceof Extension && got.type === -1);
    assert.deepEqual(encoded(got), bytes(...raw));
  }
});

Deno.test("Extension takes types of -128 to 127", () => {
  for (const type of [-128, -1, 0, 127]) {
    assert.deepEqual(
      decoded(encoded(new Extension(type, bytes(1, 2, 3)))),
      new Extension(type, bytes(1, 2, 3)),
    );
  }
  for (const type of [-129, 128, 1.5, NaN]) assert.throws(() => new Extension(type, bytes()), RangeError);
});

Deno.test("encoded() counts what it writes, whatever a Map, a Set or an array says of its size", () => {
  class Liar extends Map<unknown, unknown> {
    override get size(): number {
      return this.claims;
    }
    claims = 0;
  }
  class LyingSet extends Set<unknown> {
    override get size(): number {
      return 1;
    }
  }
  const lying = (size: unknown, values: unknown[]) =>
    new Proxy(new Set(values), {
      get: (target, name) =>
        name === "size"
          ? size
          : Reflect.get(target, name, target) instanceof Function
          ? Reflect.get(target, name, target).bind(target)
          : Reflect.get(target, name, target),
    });
  const array = (length: unknown) =>
    new Proxy([1, 2], { get: (target, name) => name === "length" ? length : Reflect.get(target, name) });
  const grows = [{
    get x() {
      grows.push({ x: 0 } as never);
      return 1;
    },
  }];
  for (const claims of [0, 1, 3, 100_000]) {
    const map = new Liar([["a", 1], ["b", 2]]);
    map.claims = claims;
    assert.deepEqual(decoded(encoded([map, "next"])), [{ a: 1, b: 2 }, "next"]);
  }
  assert.deepEqual(decoded(encoded([new LyingSet([1, 2, 3]), "next"])), [[1, 2, 3], "next"]);
  for (const size of [0, 5, 20, 1.5, NaN, "x", undefined]) {
    assert.deepEqual(decoded(encoded([lying(size, [1, 2]), "next"])), [[1, 2], "next"]);
  }
  for (const length of [0, 1, 1.5, 3, 20, "2", NaN, -1]) {
    const [items, next] = decoded(encoded([array(length), "next"])) as [unknown[], string];
    assert.equal(next, "next");
    assert.deepEqual(items.filter((item) => item !== null), [1, 2].slice(0, items.length));
  }
  assert.deepEqual(decoded(encoded([grows, 7])), [[{ x: 1 }], 7]);
});

Deno.test("encoded() refuses an array that no message can hold at once", () => {
  const start = performance.now();
  assert.throws(() => encoded(new Array(2 ** 32 - 1)), {
    name: "RangeError",
    message: /received 4294967295/,
  });
  const to = new Writer();
  to.limit = 1000;
  assert.throws(() => encode(new Array(2 ** 31 - 1), to), { name: "LimitError" });
  assert.ok(performance.now() - start < 5000);
});

Deno.test("Extension takes bytes and nothing that would be truncated to bytes", () => {
  for (const data of [[300], [1], new Uint16Array([300]), new ArrayBuffer(1), "a", undefined]) {
    assert.throws(() => new Extension(5, data as never), {
      name: "TypeError",
      message: /must be a Uint8Array/,
    });
    const fake = Object.assign(Object.create(Extension.prototype), { type: 5, data });
    assert.throws(() => encoded(fake), { name: "TypeError" });
  }
  assert.deepEqual(decoded(encoded(new Extension(5, Buffer.from([1])))), new Extension(5, bytes(1)));
});
