/** Tables compared with a plain Map, over long random histories. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { SEGMENT } from "../blocks/block.ts";
import { Entry } from "../blocks/entry.ts";
import type { Span } from "../msgpack/key.ts";
import { OutOfMemory } from "../engine/memory/extents.ts";
import { halfSipHash, hash } from "../blocks/hash.ts";
import { Heap } from "../engine/memory/heap.ts";
import { TableRegistry } from "../engine/memory/registry.ts";
import { Store } from "../engine/memory/store.ts";
import type { Table } from "../engine/memory/table.ts";
import type { TableView } from "../engine/memory/view.ts";

const text = new TextEncoder();

function span(key: string): Span {
  const bytes = text.encode(`..${key}.`);
  return { bytes, from: 2, to: bytes.length - 1 };
}

/** A value of so many bytes, of which each tells where it should be. */
function valueOf(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = seed + i;
  return bytes;
}

function set(table: Table, key: string, value: Uint8Array, expiry = 0): void {
  table.set(span(key), value, 0, value.length, expiry);
}

function get(heap: Heap, table: Table, key: string): Uint8Array | undefined {
  const address = table.find(span(key));
  if (address === 0) return undefined;
  const entry = new Entry(heap).read(address);
  return entry.bytes.slice(entry.keyTo, entry.valueTo);
}

/** All that a table holds, by its pages. */
function contents(heap: Heap, table: TableView): Map<string, Uint8Array> {
  const entry = new Entry(heap);
  const found = new Map<string, Uint8Array>();
  let cursor = 0;
  do {
    cursor = table.scan(cursor, (address) => {
      entry.read(address);
      const key = new TextDecoder().decode(entry.bytes.slice(entry.keyFrom, entry.keyTo));
      assert.ok(!found.has(key), `${key} is there twice`);
      found.set(key, entry.bytes.slice(entry.keyTo, entry.valueTo));
    });
  } while (cursor !== 0);
  return found;
}

function assertHolds(heap: Heap, table: TableView, model: Map<string, Uint8Array>): void {
  assert.equal(table.size, model.size);
  const found = contents(heap, table);
  assert.equal(found.size, model.size);
  for (const [key, value] of model) assert.deepEqual(found.get(key), value, key);
}

/** A source of numbers that a seed repeats. */
function random(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Runs a random history against tables and Maps, with snapshots that are compared when they end. */
function history(seed: number, steps: number, keys: number, sizes: number[], store = new Store()): void {
  const next = random(seed);
  const tables = [0, 1, 2].map((i) => ({
    name: span(`table ${i}`),
    model: new Map<string, Uint8Array>(),
  }));
  for (const { name } of tables) store.tables.make(name);
  const snapshots: { end: number; check(): void }[] = [];
  for (let step = 0; step < steps; step++) {
    const { name, model } = tables[next(3)];
    const table = store.tables.get(name)!;
    const key = `key ${next(keys)}`;
    // Times of growth and of shrinking.
    const grows = (step / (keys * 2) & 1) === 0;
    const what = next(100);
    if (what < (grows ? 60 : 15)) {
      const value = valueOf(step, sizes[next(sizes.length)] - next(8));
      set(table, key, value);
      model.set(key, value);
    } else if (what < 75) {
      assert.equal(table.delete(span(key)), model.delete(key));
    } else {
      assert.deepEqual(get(store.heap, table, key), model.get(key));
    }
    if (next(keys * 20) === 0) {
      store.tables.clear(name);
      model.clear();
    }
    if (next(Math.ceil(steps / 20)) === 0) {
      const snapshot = store.snapshot();
      const models = tables.map(({ model }) => new Map(model));
      snapshots.push({
        end: step + next(keys),
        check() {
          models.forEach((model, i) => assertHolds(store.heap, snapshot.tables.get(tables[i].name)!, model));
          snapshot[Symbol.dispose]();
        },
      });
    }
    while (snapshots[0]?.end <= step) snapshots.shift()!.check();
    if (next(50) === 0) store.cleanWhenIdle();
  }
  snapshots.forEach((snapshot) => snapshot.check());
  for (const { name, model } of tables) assertHolds(store.heap, store.tables.get(name)!, model);
  for (const { name } of tables) store.tables.drop(name);
  while (store.cleanWhenIdle());
  assert.equal(store.heap.live, new Store().heap.live);
  assert.ok(store.heap.size <= 4 * SEGMENT, `${store.heap.size} bytes are left`);
}

Deno.test("halfSipHash() is the reference's, by its test vectors", () => {
  // hsiphash of the Linux kernel (lib/siphash_kunit.c, test_vectors_hsiphash): HalfSipHash-1-3 with the key
  // 03020100 07060504, over 00, 0001, 000102, …
  const key = [0x03020100, 0x07060504];
  const expected = [0x5814c896, 0xe7e864ca, 0xbc4b0e30, 0x01539939, 0x7e059ea6, 0x88e3d89b, 0xa0080b65];
  const bytes = Uint8Array.from({ length: 16 }, (_, i) => i);
  expected.forEach((value, length) => {
    assert.equal(halfSipHash(bytes, 0, length, key[0], key[1]) >>> 0, value, `${length} bytes`);
  });
  assert.equal(hash(bytes, 1, 3), hash(Uint8Array.of(1, 2), 0, 2));
});

Deno.test("a table is what a Map is, over random histories", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1 }), fc.constantFrom(3, 40, 400, 2000), (seed, keys) => {
      history(seed, 6000, keys, [9, 17, 40, 300]);
    }),
    { numRuns: 30 },
  );
});

Deno.test("a table is what a Map is, with keys and values of every size", () => {
  history(7, 2000, 30, [9, 200, 5000, 70_000, 300_000, 1_100_000]);
});

Deno.test("a table is what a Map is, over a long history that is cleaned meanwhile", () => {
  history(3, 1_000_000, 20_000, [9, 33, 65, 200, 600]);
});

Deno.test("a table with keys that are long, empty or alike", () => {
  const heap = new Heap();
  const table = TableRegistry.of(heap).make(0, span("t"));
  const keys = ["", "a", "b".repeat(255), "b".repeat(256), "b".repeat(300_000), "b".repeat(300_001)];
  keys.forEach((key, i) => set(table, key, valueOf(i, i * 100)));
  keys.forEach((key, i) => assert.deepEqual(get(heap, table, key), valueOf(i, i * 100)));
  keys.forEach((key) => set(table, key, valueOf(9, 5)));
  keys.forEach((key) => assert.deepEqual(get(heap, table, key), valueOf(9, 5)));
  assert.equal(table.size, keys.length);
  keys.forEach((key) => assert.ok(table.delete(span(key))));
  assert.equal(table.size, 0);
  const empty = new Heap();
  TableRegistry.of(empty).make(0, span("t"));
  assert.equal(heap.live, empty.live);
});

Deno.test("a scan returns every entry that exists throughout, whatever changes meanwhile", () => {
  const heap = new Heap();
  const table = TableRegistry.of(heap).make(0, span("t"));
  for (let i = 0; i < 5000; i++) set(table, `stays ${i}`, valueOf(i, 9));
  for (const change of ["grow", "shrink"]) {
    const seen = new Set<string>();
    const entry = new Entry(heap);
    let cursor = 0, round = 0;
    do {
      cursor = table.scan(cursor, (address) => {
        entry.read(address);
        seen.add(new TextDecoder().decode(entry.bytes.slice(entry.keyFrom, entry.keyTo)));
      });
      for (let i = 0; i < 500; i++) {
        const key = `comes ${round % 40} ${i}`;
        if (change === "grow") set(table, key, valueOf(i, 40));
        else table.delete(span(key));
      }
      round++;
    } while (cursor !== 0);
    for (let i = 0; i < 5000; i++) assert.ok(seen.has(`stays ${i}`), `stays ${i}`);
  }
});

Deno.test("a heap at its limit refuses to grow, loses nothing, and takes again what was deleted", () => {
  const store = new Store();
  store.heap.limit = 8 * SEGMENT;
  const table = store.tables.make(span("t"));
  const model = new Map<string, Uint8Array>();
  const fill = () => {
    for (let i = 0;; i++) {
      const value = valueOf(i, 100 + i % 900);
      try {
        set(table, `key ${i}`, value);
      } catch (error) {
        assert.ok(error instanceof OutOfMemory);
        return;
      }
      model.set(`key ${i}`, value);
    }
  };
  fill();
  assert.ok(store.heap.live > 5 * SEGMENT, `${store.heap.live}`);
  assert.ok(store.heap.size <= 9 * SEGMENT);
  assertHolds(store.heap, table, model);
  for (const key of [...model.keys()].filter((_, i) => i % 3 > 0)) {
    model.delete(key);
    assert.ok(table.delete(span(key)));
  }
  fill();
  assertHolds(store.heap, table, model);
  assert.throws(() => set(table, "large", new Uint8Array(9 * SEGMENT)), OutOfMemory);
  assertHolds(store.heap, table, model);
});

Deno.test("an entry that was refused takes no memory, also where only its page has no room", () => {
  const store = new Store();
  store.heap.limit = 4 * SEGMENT;
  const table = store.tables.make(span("t"));
  let refused = 0;
  for (let i = 0; refused < 1000; i++) {
    const { live } = store.heap, { size, bytes } = table;
    try {
      set(table, `key ${i}`, valueOf(i, 5));
    } catch (error) {
      assert.ok(error instanceof OutOfMemory);
      assert.deepEqual([store.heap.live, table.size, table.bytes], [live, size, bytes]);
      refused++;
    }
  }
});

Deno.test("an entry is gone at its time, and its room when it is swept", () => {
  const store = new Store();
  const table = store.tables.make(span("t"));
  const now = Date.now();
  set(table, "stays", valueOf(1, 9));
  set(table, "gone", valueOf(1, 9), now - 1);
  set(table, "later", valueOf(1, 9), now + 60_000);
  for (const [key, time] of [["gone", now - 1], ["later", now + 60_000]] as const) {
    const { bytes, from, to } = span(key);
    store.expiryQueue.add(time, table, hash(bytes, from, to));
  }
  assert.equal(get(store.heap, table, "gone"), undefined);
  assert.equal(table.size, 3);
  assert.equal(store.expiryQueue.sweep(now), false);
  assert.equal(table.size, 2);
  assert.equal(store.expiryQueue.next, now + 60_000);
  assert.equal(new Entry(store.heap).read(table.find(span("later"))).expiry, now + 60_000);
  store.expiryQueue.sweep(now + 60_000);
  assert.deepEqual([...contents(store.heap, table).keys()], ["stays"]);
});

Deno.test("deadlines come in their order, however they were added", () => {
  // (From 64 on those that nothing expires at are taken out.)
  const some = fc.array(fc.integer({ min: 0, max: 1000 }), { maxLength: 60, size: "max" });
  fc.assert(fc.property(some, (times) => {
    const store = new Store();
    const table = store.tables.make(span("t"));
    times.forEach((time) => store.expiryQueue.add(time, table, 0));
    for (const time of [...new Set(times)].toSorted((a, b) => a - b)) {
      assert.equal(store.expiryQueue.next, time);
      assert.equal(store.expiryQueue.sweep(time), false);
    }
    assert.equal(store.expiryQueue.next, Infinity);
  }));
});

Deno.test("an entry whose expiry is set anew again and again leaves no heap of stale deadlines behind", () => {
  const store = new Store();
  const table = store.tables.make(span("t"));
  const now = Date.now();
  const live = 200;
  for (let i = 0; i < live; i++) {
    set(table, `key ${i}`, valueOf(i, 9));
    store.expire(table, span(`key ${i}`), now + 50_000 + i);
  }
  for (let i = 0; i < 100_000; i++) store.expire(table, span(`key ${i % 7}`), now + 100_000 + i);
  for (let i = 0; i < 10_000; i++) {
    set(table, "other", valueOf(i, 9));
    store.expire(table, span("other"), now + 300_000 + i);
  }
  assert.ok(store.expiryQueue.size < 4 * live, `${store.expiryQueue.size} deadlines`);
  assert.equal(table.expiring, live + 1);
  const until = (time: number) => {
    while (store.expiryQueue.sweep(time));
    return table.size;
  };
  assert.equal(until(now + 50_006), live + 1);
  assert.equal(until(now + 99_999), 8);
  assert.equal(until(now + 400_000), 0);
});

Deno.test("a table that was dropped is not swept", () => {
  const store = new Store();
  const now = Date.now();
  for (const name of ["a", "b"]) {
    const table = store.tables.make(span(name));
    for (let i = 0; i < 5000; i++) {
      set(table, `key ${i}`, valueOf(i, 9));
      store.expire(table, span(`key ${i}`), now + 10_000);
    }
  }
  // Its first page is empty: to free it does not show in the table's size.
  const table = store.tables.get(span("a"))!;
  const entry = new Entry(store.heap);
  const keys: string[] = [];
  table.scan(0, (address) => {
    const { bytes, keyFrom, keyTo } = entry.read(address);
    keys.push(new TextDecoder().decode(bytes.slice(keyFrom, keyTo)));
  });
  for (const key of keys) assert.ok(table.delete(span(key)));
  store.tables.drop(span("a"));
  store.cleanWhenIdle();
  while (store.expiryQueue.sweep(now + 10_000));
  assert.equal(store.tables.get(span("b"))!.size, 0);
  store.tables.drop(span("b"));
  while (store.cleanWhenIdle());
  assert.equal(store.heap.live, new Store().heap.live);
});

Deno.test("a walk goes by the order of hashes, and sees each entry that stays just once", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1 }), fc.constantFrom(1, 3, 50, 1000), (seed, most) => {
      const next = random(seed);
      const heap = new Heap();
      const table = TableRegistry.of(heap).make(0, span("t"));
      for (let i = 0; i < 1000; i++) set(table, `stays ${i}`, valueOf(i, 9));
      const entry = new Entry(heap);
      const seen: string[] = [];
      let cursor = 0, before = -1;
      do {
        let left = most;
        cursor = table.walk(cursor, (address) => {
          const { bytes, keyFrom, keyTo } = entry.read(address);
          const h = hash(bytes, keyFrom, keyTo) >>> 0;
          assert.ok(h >= before, "in their order");
          before = h;
          seen.push(new TextDecoder().decode(bytes.slice(keyFrom, keyTo)));
          return --left > 0;
        });
        for (let i = next(200); i > 0; i--) {
          const key = `comes ${next(4000)}`;
          if (seed & 1) set(table, key, valueOf(i, 40));
          else table.delete(span(key));
        }
      } while (cursor !== 0);
      const stays = seen.filter((key) => key.startsWith("stays"));
      assert.deepEqual([stays.length, new Set(stays).size], [1000, 1000]);
    }),
    { numRuns: 6 },
  );
});
