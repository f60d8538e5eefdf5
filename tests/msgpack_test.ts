/** The walker and the writer: where items end, whoever wrote them, and what is refused. */

import assert from "node:assert/strict";
import { encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { Exam } from "msgpack-test-js";
import { copyBytes, head, MalformedError, MAX_DEPTH, skip, Writer } from "../msgpack/msgpack.ts";

const concat = (...parts: ArrayLike<number>[]) => new Uint8Array(parts.flatMap((part) => Array.from(part)));
/** `depth` containers around a nil, each with nothing else in it. */
const nested = (depth: number, open: number[]) => new Uint8Array([...Array(depth).fill(open).flat(), 0xc0]);

/** What any encoder can write: strings with bytes beyond ASCII, bytes, all kinds of numbers, nested. */
const value = fc.anything({
  values: [
    fc.boolean(),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.double(),
    fc.string({ unit: "binary", maxLength: 300 }),
    fc.uint8Array({ maxLength: 300 }),
    fc.constant(null),
    fc.date({ noInvalidDate: true, min: new Date(0) }),
  ],
  maxDepth: 4,
});

Deno.test("skip() ends exactly where another library's encoder ended", () => {
  fc.assert(fc.property(value, (value) => {
    const bytes = encode(value);
    assert.equal(skip(bytes, 0), bytes.length);
  }));
});

Deno.test("skip() walks items that follow each other one by one", () => {
  fc.assert(fc.property(fc.array(value, { maxLength: 8 }), (values) => {
    const items = values.map((value) => encode(value));
    const bytes = concat(...items);
    let at = 0;
    for (const item of items) assert.equal(skip(bytes, at), at += item.length);
    assert.equal(at, bytes.length);
  }));
});

Deno.test("skip() refuses every item that is cut short", () => {
  fc.assert(fc.property(value, (value) => {
    const bytes = encode(value);
    for (let length = 0; length < bytes.length; length++) {
      assert.throws(() => skip(bytes.subarray(0, length), 0), MalformedError);
    }
  }));
});

Deno.test("skip() of any bytes ends within them or throws a MalformedError", () => {
  const heads = fc.constantFrom(...Array.from({ length: 0x40 }, (_, i) => 0x80 + i + (i < 0x20 ? 0 : 0x20)));
  const bytes = fc.oneof(fc.uint8Array({ maxLength: 64 }), fc.array(heads).map((bytes) => concat(bytes)));
  fc.assert(
    fc.property(bytes, (bytes) => {
      for (let at = 0; at <= bytes.length; at++) {
        try {
          const end = skip(bytes, at);
          assert(end > at && end <= bytes.length);
        } catch (error) {
          assert(error instanceof MalformedError, String(error));
        }
      }
    }),
    { numRuns: 1000 },
  );
});

const containers = {
  "arrays": [0x91],
  "arrays 16": [0xdc, 0, 1],
  "arrays 32": [0xdd, 0, 0, 0, 1],
  "maps, as values": [0x81, 0x01],
  "maps, as keys": [0xdf, 0, 0, 0, 1],
};
for (const [name, open] of Object.entries(containers)) {
  Deno.test(`skip() passes ${MAX_DEPTH} nested ${name} and refuses more`, () => {
    // A map that is its parent's key is followed by a value, once for each.
    const values = (depth: number) => name === "maps, as keys" ? Array(depth).fill(0xc0) : [];
    const deep = (depth: number) => concat(nested(depth, open), values(depth));
    assert.equal(skip(deep(MAX_DEPTH), 0), deep(MAX_DEPTH).length);
    for (const depth of [MAX_DEPTH + 1, 10_000]) {
      assert.throws(() => skip(deep(depth), 0), {
        name: "MalformedError",
        message: /nested deeper than 512/,
      });
    }
  });
}

Deno.test("skip() walks on after a deep item that was refused", () => {
  assert.throws(() => skip(nested(10_000, [0x92]), 0), MalformedError);
  assert.equal(skip(new Uint8Array([0x92, 0x91, 0x01, 0x02, 0x03]), 0), 4);
});

Deno.test("skip() refuses a length beyond the message, under every head that has one", () => {
  const heads = {
    1: [0xc4, 0xc7, 0xd9],
    2: [0xc5, 0xc8, 0xda, 0xdc, 0xde],
    4: [0xc6, 0xc9, 0xdb, 0xdd, 0xdf],
  };
  for (const [size, firsts] of Object.entries(heads)) {
    for (const first of firsts) {
      const isExt = first >= 0xc7 && first <= 0xc9;
      // One byte more than there is, the most that the head can say, and (of 32 bits) what a sign would spoil.
      for (const length of [9, 2 ** (8 * Number(size)) - 1, 2 ** (8 * Number(size) - 1)]) {
        const claimed = Array.from({ length: Number(size) }, (_, i) => length / 2 ** (8 * i) & 0xff)
          .reverse();
        const bytes = concat([first], claimed, isExt ? [7] : [], Array(8).fill(0x01));
        assert.throws(() => skip(bytes, 0), MalformedError, `${first.toString(16)} of ${length}`);
      }
      assert.throws(() => skip(new Uint8Array([first]), 0), MalformedError, `${first.toString(16)} alone`);
    }
  }
});

Deno.test("skip() refuses fixed sizes beyond the message", () => {
  for (const first of [0x8f, 0x9f, 0xbf, ...Array.from({ length: 15 }, (_, i) => 0xca + i)]) {
    if (first === 0xcc || first === 0xd0) continue;
    assert.throws(() => skip(new Uint8Array([first, 0]), 0), MalformedError, first.toString(16));
  }
  for (const first of [0xcc, 0xd0]) assert.throws(() => skip(new Uint8Array([first]), 0), MalformedError);
});

Deno.test("skip() refuses the byte c1 wherever an item is due, and says where", () => {
  assert.throws(() => skip(new Uint8Array([0xc1]), 0), /the byte c1 begins no item at byte 0/);
  assert.throws(() => skip(new Uint8Array([0x92, 0x00, 0xc1]), 0), /at byte 2/);
  assert.throws(() => skip(new Uint8Array([0x81, 0xc1, 0x00]), 0), /at byte 1/);
  assert.equal(skip(new Uint8Array([0xa1, 0xc1]), 0), 2);
});

Deno.test("skip() walks every encoding of the public test suite", () => {
  let encodings = 0;
  for (const exam of Exam.getExams()) {
    for (const msgpack of exam.getMsgpacks()) {
      const bytes = new Uint8Array(msgpack);
      assert.equal(skip(bytes, 0), bytes.length);
      assert.equal(skip(concat([0x93], bytes, bytes, bytes, bytes), 0), 1 + 3 * bytes.length);
      assert.throws(() => skip(bytes.subarray(0, -1), 0), MalformedError);
      encodings++;
    }
  }
  assert(encodings > 200, `${encodings}`);
});

Deno.test("head() says what follows the head that the writer wrote", () => {
  const lengths = [0, 1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 255, 256, 65_535, 65_536, 2 ** 32 - 1];
  for (const length of lengths) {
    const heads = {
      str: (to: Writer) => to.strHead(length),
      bin: (to: Writer) => to.binHead(length),
      ext: (to: Writer) => to.extHead(length, -1),
      array: (to: Writer) => to.arrayHead(length),
      map: (to: Writer) => to.mapHead(length),
    };
    for (const [type, write] of Object.entries(heads)) {
      const to = new Writer();
      write(to);
      assert.deepEqual(head(to.written, 0), { type, length, body: to.length });
    }
  }
});

Deno.test("the writer writes any item as another library does, strings without str 8 aside", () => {
  const integer = fc.oneof(fc.maxSafeInteger(), fc.integer({ min: -300, max: 300 }));
  fc.assert(fc.property(integer, fc.double(), fc.string({ maxLength: 40 }), (integer, double, text) => {
    const to = new Writer(1);
    to.int(integer), to.nil(), to.bool(true), to.bool(false);
    to.float(double);
    const length = new TextEncoder().encode(text).length;
    to.str(text);
    const float = concat([0xcb], new Uint8Array(new Float64Array([double]).buffer).reverse());
    const theirs = encode(text);
    const str = length < 32 || length > 255 ? theirs : concat([0xda, 0], theirs.subarray(1));
    assert.deepEqual(to.written.slice(), concat(encode(integer), [0xc0, 0xc3, 0xc2], float, str));
  }));
});

Deno.test("the writer writes integers in their shortest form on both sides of every bound", () => {
  for (
    const bound of [0, 0x20, 0x80, 0x100, 0x8000, 0x10000, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER - 1]
  ) {
    for (const value of [bound - 1, bound, bound + 1, -bound - 1, -bound, -bound + 1]) {
      const to = new Writer();
      to.int(value);
      assert.deepEqual(to.written.slice(), encode(value), `${value}`);
    }
  }
});

Deno.test("the writer writes 64-bit integers in their shortest form, to their bounds", () => {
  fc.assert(fc.property(fc.bigInt(-(2n ** 63n), 2n ** 64n - 1n), (value) => {
    const to = new Writer();
    to.int(value);
    const theirs = Number.isSafeInteger(Number(value))
      ? encode(Number(value))
      : encode(value, { useBigInt64: true });
    assert.deepEqual(to.written.slice(), theirs);
  }));
});

Deno.test("the writer never writes str 8, which old clients do not know", () => {
  for (let length = 0; length < 300; length++) {
    const to = new Writer();
    to.str("x".repeat(length));
    assert.notEqual(to.bytes[0], 0xd9);
    assert.equal(skip(to.written, 0), to.length);
    assert.equal(head(to.written, 0).length, length);
  }
});

Deno.test("Writer.reset() empties it, and gives back a buffer that grew", () => {
  const to = new Writer();
  to.raw(new Uint8Array(2 << 20).fill(1));
  to.reset();
  assert.equal(to.length, 0);
  assert(to.bytes.length <= 1 << 20);
  to.int(1e9), to.str("é");
  assert.deepEqual(Array.from(to.written), [0xce, 0x3b, 0x9a, 0xca, 0x00, 0xa2, 0xc3, 0xa9]);
});

Deno.test("copyBytes() copies as many bytes as it is told to, few or many", () => {
  const from = Uint8Array.from({ length: 200 }, (_, i) => i + 1);
  for (const length of [0, 1, 7, 63, 64, 65, 150]) {
    const to = new Uint8Array(200);
    copyBytes(from, 5, to, 3, length);
    const expected = [0, 0, 0, ...from.subarray(5, 5 + length), ...new Array(197 - length).fill(0)];
    assert.deepEqual(Array.from(to), expected, `${length} bytes`);
  }
});
