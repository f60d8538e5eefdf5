/** State files: round trips, pymemstore's files, damaged files, and stores that fail. */

import assert from "node:assert/strict";
import { decode, encode } from "@msgpack/msgpack";
import fc from "fast-check";
import type { CatalogView } from "../engine/memory/catalog.ts";
import { type Snapshot, Store } from "../engine/memory/store.ts";
import { dirname } from "node:path";
import { decodeState, encodeState } from "../state/format.ts";
import { Persistence } from "../state/persistence.ts";
import { contentsOf, keyOf } from "./stores.ts";

const concat = (...parts: ArrayLike<number>[]) => new Uint8Array(parts.flatMap((part) => Array.from(part)));
const key = (value: unknown) => keyOf(encode(value));
const put = (store: Store, name: unknown, entry: unknown, value: Uint8Array) =>
  store.tables.make(key(name)).set(key(entry), value, 0, value.length);
const push = (store: Store, name: unknown, member: unknown) =>
  store.sets.make(key(name)).set(key(member), new Uint8Array(0), 0, 0);
function stateOf(store: Store): Uint8Array<ArrayBuffer> {
  using snapshot = store.snapshot();
  return concat(...encodeState(snapshot).map((piece) => piece.slice()));
}
const BYTE = /at byte \d+$/;

/** Reads a state that comes in pieces of so many bytes. */
function read(bytes: ArrayLike<number>, size = 7): Promise<Store> {
  const whole = new Uint8Array(bytes);
  return decodeState(async function* () {
    for (let at = 0; at < whole.length; at += size) yield whole.slice(at, at + size);
  }());
}

function persistenceOf(store: Store, directory: string): Persistence {
  return new Persistence(store, { directory, anyPath: false }, {}, () => {});
}
function storeFile(store: Store, path: string): Promise<void> {
  const persistence = persistenceOf(store, dirname(path));
  return persistence.store(persistence.file(path));
}
async function loadFile(path: string): Promise<Store> {
  const store = new Store();
  const persistence = persistenceOf(store, dirname(path));
  await persistence.restore(persistence.file(path));
  return store;
}

type Data = { tables: [unknown, [unknown, unknown][]][]; sets: [unknown, unknown[]][] };

function storeOf({ tables, sets }: Data): Store {
  const store = new Store();
  for (const [name, entries] of tables) {
    store.tables.make(key(name));
    for (const [entry, value] of entries) put(store, name, entry, encode(value));
  }
  for (const [name, members] of sets) {
    store.sets.make(key(name));
    for (const member of members) push(store, name, member);
  }
  return store;
}

function assertSame(actual: Store, expected: Store) {
  assert.deepEqual(contentsOf(actual), contentsOf(expected));
}

const small = storeOf({
  tables: [
    ["users", [["alice", { age: 31 }], [7, [null, true, "x".repeat(40)]], [new Uint8Array([1]), 1.5]]],
    ["empty", []],
    [1, [[["a", 1], { deep: [{}] }]]],
  ],
  sets: [["seen", ["a", 1, -70_000, [1, 2]]], ["none", []]],
});

Deno.test("decodeState() gives back any store that encodeState() wrote", async () => {
  const name = fc.oneof(fc.string({ unit: "binary" }), fc.integer(), fc.uint8Array(), fc.array(fc.integer()));
  const value = fc.oneof(fc.jsonValue(), fc.uint8Array({ maxLength: 300 }));
  const data: fc.Arbitrary<Data> = fc.record({
    tables: fc.array(fc.tuple(name, fc.array(fc.tuple(name, value)))),
    sets: fc.array(fc.tuple(name, fc.array(fc.oneof(name, value)))),
  });
  await fc.assert(fc.asyncProperty(data, async (data) => {
    const store = storeOf(data);
    assertSame(await read(stateOf(store)), store);
  }));
});

Deno.test("another library decodes what encodeState() wrote", () => {
  const store = storeOf({ tables: [["t", [["k", [1]], ["l", "é"]]], ["u", []]], sets: [["s", [1, "a"]]] });
  const expected = { version: 1, store: { t: { k: [1], l: "é" }, u: {} }, sets: { s: [1, "a"] } };
  const { crc32, ...state } = decode(stateOf(store)) as { crc32: number; sets: { s: unknown[] } };
  state.sets.s.sort();
  assert.deepEqual(state, expected);
  assert.equal(typeof crc32, "number");
  assert.deepEqual(decode(stateOf(new Store())), { version: 1, store: {}, sets: {}, crc32: 0xce7696d1 });
});

Deno.test("a value is stored and restored byte for byte, whatever form it has", async () => {
  const store = new Store();
  const values = [[0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0], [0xd9, 1, 0x61], [0xdd, 0, 0, 0, 0], [0xa1, 0xff], [
    0xd4,
    9,
    9,
  ]];
  for (const [i, value] of values.entries()) put(store, "t", i, new Uint8Array(value));
  assertSame(await read(stateOf(store)), store);
});

Deno.test("a large state comes in pieces of bounded size, and other work is done while it is read", async () => {
  const value = encode("v".repeat(1000));
  const store = new Store();
  for (let i = 0; i < 3000; i++) {
    put(store, "t", i, value), push(store, "s", `m${i}`);
  }
  using snapshot = store.snapshot();
  const pieces = Array.from(encodeState(snapshot), (piece) => piece.slice());
  assert(pieces.length > 5);
  for (const piece of pieces) assert(piece.length < 600_000);
  const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
  let turns = 0;
  const other = setInterval(() => turns++, 0);
  const restored = await read(bytes, 1 << 16);
  clearInterval(other);
  assertSame(restored, store);
  assert(turns > 0);
});

/** A state as pymemstore writes it: fields in the order of a Python 2 dict, raw strings, no canonical form. */
const fields = {
  version: [0xcd, 0, 1],
  // {"t": {1.0: "x", "k": [1]}}; the names under str 16.
  store: [0x81, 0xda, 0, 1, 0x74, 0x82, 0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xa1, 0x78, 0xa1, 0x6b, 0x91, 1],
  sets: [0xde, 0, 1, 0xa1, 0x73, 0xdc, 0, 2, 0xcc, 5, 0xa1, 0xff],
};
type Field = keyof typeof fields;
const state = (...names: Field[]) =>
  concat([0x80 | names.length], ...names.flatMap((name) => [encode(name), fields[name]]));

Deno.test("decodeState() takes pymemstore's fields in any order", async () => {
  const expected = storeOf({ tables: [["t", [[1, "x"], ["k", [1]]]]], sets: [["s", [5]]] });
  expected.sets.make(key("s")).set(keyOf(new Uint8Array([0xa1, 0xff])), new Uint8Array(0), 0, 0);
  const orders: Field[][] = [
    ["version", "store", "sets"],
    ["version", "sets", "store"],
    ["store", "version", "sets"],
    ["store", "sets", "version"],
    ["sets", "version", "store"],
    ["sets", "store", "version"],
  ];
  for (const order of orders) assertSame(await read(state(...order)), expected);
  assertSame(await read(concat([0xdf, 0, 0, 0, 3], state(...orders[0]).subarray(1))), expected);
});

Deno.test("decodeState() takes a state without tables or sets", async () => {
  assertSame(await read(state("version")), new Store());
  assert.equal((await read(state("version", "sets"))).sets.entries, 2);
});

const version = encode("version");
for (
  const [what, bytes, text] of [
    ["of no bytes", [], "a state file must be a map at byte 0"],
    ["that is an array", encode([1, {}, {}]), "a state file must be a map at byte 0"],
    ["that is text", new TextEncoder().encode('{"version": 1}'), "a state file must be a map at byte 0"],
    ["that is the byte c1", [0xc1], "a state file must be a map at byte 0"],
    ["that is an empty map", [0x80], 'the map ends without a "version" at byte 1'],
    ["without a version", state("store", "sets"), 'the map ends without a "version" at byte 45'],
    ["of version 2", encode({ version: 2, store: {}, sets: {} }), "version 1 is needed at byte 9"],
    ["of version 1, a string", encode({ version: "1" }), "version 1 is needed at byte 9"],
    ["of version nil", encode({ version: null }), "version 1 is needed at byte 9"],
    ["of two versions", concat([0x82], version, [1], version, [1]), "a field is there twice at byte 10"],
    ["of a foreign map", encode({ users: [] }), "there is a field that is not known at byte 1"],
    ["of a field more", encode({ version: 1, more: 1 }), "there is a field that is not known at byte 10"],
    ["whose store is an array", encode({ version: 1, store: [] }), '"store" must be a map at byte 16'],
    ["whose table is nil", encode({ store: { t: null } }), "a table must be a map at byte 10"],
    ["whose sets are nil", encode({ sets: null }), '"sets" must be a map at byte 6'],
    ["whose set is a map", encode({ sets: { s: {} } }), "a set must be an array at byte 9"],
    ["with a byte after it", concat(state("version"), [0]), "more follows after the state at byte 12"],
    ["twice", concat(state("version"), state("version")), "more follows after the state at byte 12"],
    ["of a claimed length", [0xdf, 255, 255, 255, 255], "the bytes end within an item at byte 5"],
    [
      "whose checksum is not last",
      encode({ crc32: 1, version: 1 }),
      '"crc32" must be the last field at byte 1',
    ],
    [
      "of a wrong checksum",
      encode({ version: 1, crc32: 1 }),
      "the checksum does not fit what is there at byte 10",
    ],
    ["that expires first", encode({ expires: {}, store: {} }), '"expires" must follow "store" at byte 1'],
    [
      "in which nothing expires",
      encode({ store: { t: {} }, expires: { t: { k: 5 } } }),
      "an entry that is not there expires at byte 25",
    ],
    [
      "that expires at no time",
      encode({ store: { t: { k: 1 } }, expires: { t: { k: -5 } } }),
      "a time is needed at byte 28",
    ],
    ["cut within a head", [0xde, 0], "the bytes end within an item at byte 2"],
  ] as const
) {
  Deno.test(`decodeState() refuses a state ${what}, and names the byte`, async () => {
    await assert.rejects(read(new Uint8Array(bytes)), { message: text });
  });
}

Deno.test("decodeState() refuses a state that is cut short, wherever that is", async () => {
  for (const whole of [stateOf(small), state("sets", "store", "version")]) {
    for (let length = 0; length < whole.length; length++) {
      await assert.rejects(read(whole.slice(0, length)), { message: BYTE }, `${length} bytes`);
    }
  }
});

Deno.test("decodeState() refuses a state in which any bit was flipped", async () => {
  const whole = stateOf(small);
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const flipped = whole.slice();
    flipped[bit >> 3] ^= 1 << (bit & 7);
    await assert.rejects(read(flipped, 50), { message: BYTE }, `bit ${bit}`);
  }
});

Deno.test("decodeState() reads or refuses a state without a checksum in which any bit was flipped", async () => {
  const whole = state("version", "store", "sets");
  let refused = 0;
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const flipped = whole.slice();
    flipped[bit >> 3] ^= 1 << (bit & 7);
    try {
      assert(await read(flipped) instanceof Store);
    } catch (error) {
      assert(error instanceof Error && error.name === "MalformedError", String(error));
      assert.match(error.message, BYTE);
      refused++;
    }
  }
  assert(refused > 0);
});

Deno.test("entries that expire do so at their time after a restore, and are gone if it has passed", async () => {
  const store = storeOf({ tables: [["t", [["soon", 1], ["late", 2], ["gone", 3], ["stays", 4]]]], sets: [] });
  const table = store.tables.get(key("t"))!;
  const later = Date.now() + 1e6;
  store.expire(table, key("late"), later);
  store.expire(table, key("soon"), Date.now() + 50);
  store.expire(table, key("gone"), 1);
  assert.equal(table.expiring, 3);
  const restored = await read(stateOf(store));
  const there = restored.tables.get(key("t"))!;
  const expiryOf = (name: string) => restored.entry.read(there.find(key(name))).expiry;
  assert.equal(expiryOf("late"), later);
  assert.equal(expiryOf("stays"), 0);
  assert.equal(there.find(key("gone")), 0);
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.equal(there.find(key("soon")), 0);
  while (restored.expiryQueue.sweep(Date.now()));
  assert.equal(there.size, 2);
  assert.equal(there.expiring, 1);
});

Deno.test("decodeState() refuses bytes that are no state", async () => {
  const bytes = fc.uint8Array({ maxLength: 100 });
  await fc.assert(fc.asyncProperty(bytes, fc.boolean(), async (bytes, begun) => {
    const text = begun ? concat([0x83], version, [1], encode("store"), bytes) : bytes;
    await assert.rejects(read(text), { message: BYTE });
  }));
});

async function inDirectory(run: (directory: string) => Promise<void>) {
  const directory = await Deno.makeTempDir();
  try {
    await run(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
const list = (directory: string) => Array.from(Deno.readDirSync(directory), ({ name }) => name);

Deno.test("loadFile() reads what storeFile() wrote, for its owner alone", async () => {
  await inDirectory(async (directory) => {
    const path = `${directory}/state`;
    await storeFile(small, path);
    assertSame(await loadFile(path), small);
    assert.deepEqual(list(directory), ["state"]);
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
  });
});

Deno.test("storeFile() replaces the file that was there", async () => {
  await inDirectory(async (directory) => {
    const path = `${directory}/state`;
    await Deno.writeFile(path, new Uint8Array(10_000));
    await storeFile(small, path);
    assert.deepEqual(await Deno.readFile(path), stateOf(small));
    assert.deepEqual(list(directory), ["state"]);
  });
});

Deno.test("storeFile() writes the state of the moment it was called", async () => {
  await inDirectory(async (directory) => {
    const store = storeOf({ tables: [["t", [["k", 1]]]], sets: [["s", [1]]] });
    const before = contentsOf(store);
    const stored = storeFile(store, `${directory}/state`);
    put(store, "t", "k", encode(2)), put(store, "u", "k", encode(2)), push(store, "s", 2);
    await stored;
    assert.deepEqual(contentsOf(await loadFile(`${directory}/state`)), before);
  });
});

Deno.test("storeFile() refuses a path to which a store is under way", async () => {
  await inDirectory(async (directory) => {
    const path = `${directory}/state`;
    const stores = await Promise.allSettled([storeFile(small, path), storeFile(small, path)]);
    const refused = stores.filter((each) => each.status === "rejected");
    assert.deepEqual(refused.map(({ reason }) => reason.message), [
      `Cannot store to ${path}: another store to it is running`,
    ]);
    await storeFile(small, path);
  });
});

Deno.test("storeFile() says so where the directory is missing, and makes nothing", async () => {
  await inDirectory(async (directory) => {
    const path = `${directory}/missing/state`;
    await assert.rejects(storeFile(small, path), (error: Error) => {
      assert(
        error.message.startsWith(`Cannot store to ${path}: there is no directory ${directory}/missing`),
        error.message,
      );
      return true;
    });
    assert.deepEqual(list(directory), []);
  });
});

Deno.test("storeFile() leaves a directory that is in its place as it is, and no file beside it", async () => {
  await inDirectory(async (directory) => {
    const path = `${directory}/state`;
    for (const content of [[], ["inside"]]) {
      await Deno.mkdir(path, { recursive: true });
      for (const name of content) await Deno.writeTextFile(`${path}/${name}`, "");
      await assert.rejects(storeFile(small, path), /^Error: Cannot store to .*\/state: /);
      assert.deepEqual(list(directory), ["state"]);
      assert.deepEqual(list(path), content);
    }
  });
});

Deno.test("storeFile() that fails in mid-write leaves the old file whole, and no file beside it", async () => {
  await inDirectory(async (directory) => {
    const path = `${directory}/state`;
    await storeFile(small, path);
    const old = await Deno.readFile(path);
    /** A store that can be written for a while: half a megabyte, then it fails. */
    class Failing extends Store {
      override snapshot(): Snapshot {
        const snapshot = super.snapshot();
        const sets: CatalogView = {
          size: 1,
          totals: snapshot.sets.totals,
          get: () => undefined,
          [Symbol.iterator]() {
            assert.equal(list(directory).length, 2);
            throw new Error("the disk is full");
          },
        };
        return { ...snapshot, sets };
      }
    }
    const store = new Failing();
    put(store, "t", "k", encode(new Uint8Array(1 << 19)));
    await assert.rejects(storeFile(store, path), {
      message: `Cannot store to ${path}: the disk is full`,
    });
    assert.deepEqual(await Deno.readFile(path), old);
    assert.deepEqual(list(directory), ["state"]);
  });
});

Deno.test("loadFile() names the file that it cannot read, and why", async () => {
  await inDirectory(async (directory) => {
    const path = `${directory}/state`;
    await assert.rejects(loadFile(path), (error: Error) => {
      assert(
        error.message === `Cannot restore from ${path}: nothing is there`,
        error.message,
      );
      return true;
    });
    await Deno.writeFile(path, stateOf(small).subarray(0, 20));
    await assert.rejects(loadFile(path), {
      message: `Cannot restore from ${path}: the bytes end within an item at byte 20`,
    });
    await assert.rejects(loadFile(directory), /^Error: Cannot restore from /);
  });
});
