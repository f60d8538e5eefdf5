/** Catalogs, snapshots and expiry queues of a store. */

import assert from "node:assert/strict";
import { SEGMENT } from "../blocks/block.ts";
import { Entry } from "../blocks/entry.ts";
import type { Span } from "../msgpack/key.ts";
import { OutOfMemory } from "../engine/memory/extents.ts";
import { hash } from "../blocks/hash.ts";
import { Heap } from "../engine/memory/heap.ts";
import { TableRegistry } from "../engine/memory/registry.ts";
import { type Snapshot, Store } from "../engine/memory/store.ts";
import { Sweeper } from "../engine/memory/sweeper.ts";
import type { TableView } from "../engine/memory/view.ts";
import { decodeState, encodeState } from "../state/format.ts";
import { keyOf } from "./stores.ts";

const text = new TextEncoder();
const NOTHING = new Uint8Array(0);

function span(key: string): Span {
  const bytes = text.encode(key);
  return { bytes, from: 0, to: bytes.length };
}

/** A short string as MessagePack. */
function str(value: string): Uint8Array {
  const bytes = text.encode(value);
  return Uint8Array.of(0xa0 | bytes.length, ...bytes);
}

function keysOf(table: TableView, entry: Entry): string[] {
  const keys: string[] = [];
  let cursor = 0;
  do {
    cursor = table.scan(cursor, (address) => {
      const { bytes, keyFrom, keyTo } = entry.read(address);
      keys.push(new TextDecoder().decode(bytes.slice(keyFrom, keyTo)));
    });
  } while (cursor !== 0);
  return keys.sort();
}

const namesOf = (tables: Iterable<TableView>) =>
  Array.from(tables, ({ name }) => new TextDecoder().decode(name)).sort();

Deno.test("a set of one member and an empty table take little memory, all of it counted", () => {
  const store = new Store();
  const before = Deno.memoryUsage().rss;
  const N = 200_000;
  for (let i = 0; i < N; i++) store.sets.set(span(`set ${i}`), span(`member ${i}`), NOTHING, 0, 0);
  const each = store.heap.size / N;
  assert.ok(each < 180, `${each} bytes`);
  const grown = (Deno.memoryUsage().rss - before) / N;
  assert.ok(grown < 450, `the process grew by ${grown} bytes for each`);
  const size = store.heap.size;
  for (let i = 0; i < N; i++) store.tables.make(span(`table ${i}`));
  assert.ok((store.heap.size - size) / N < 120, `${(store.heap.size - size) / N} bytes`);
  let fastest = Infinity;
  for (let i = 0; i < 5; i++) {
    const began = performance.now();
    store.snapshot()[Symbol.dispose]();
    fastest = Math.min(fastest, performance.now() - began);
  }
  // (Objects for each of them took a tenth of a second.)
  assert.ok(fastest < 50, "a snapshot makes nothing for a table");
  const snapshot = store.snapshot();
  assert.equal(snapshot.sets.size, N);
  assert.equal(snapshot.sets.get(span("set 7"))!.size, 1);
  assert.equal(snapshot.sets.get(span("set x")), undefined);
  snapshot[Symbol.dispose]();
  for (let i = 0; i < N; i++) store.sets.drop(span(`set ${i}`)), store.tables.drop(span(`table ${i}`));
  while (store.cleanWhenIdle());
  assert.equal(store.heap.live, new Store().heap.live);
});

Deno.test("tables without end are refused at the limit, and what is there stays", () => {
  const heap = new Heap();
  heap.limit = 8 * SEGMENT;
  const store = new Store(heap);
  let count = 0;
  assert.throws(() => {
    for (;; count++) store.tables.make(span(`table ${count}`));
  }, OutOfMemory);
  assert.ok(count > 40_000, `${count} fit`);
  assert.ok(heap.size <= 10 * SEGMENT, `${heap.size} bytes`);
  assert.equal(store.tables.size, count);
  for (let i = 0; i < count; i++) assert.ok(store.tables.get(span(`table ${i}`)), `table ${i}`);
  assert.throws(() => store.tables.make(span("x".repeat(60_000))), OutOfMemory);
  for (let i = 0; i < count; i += 2) assert.ok(store.tables.drop(span(`table ${i}`)));
  while (store.cleanWhenIdle());
  store.tables.set(span("new"), span("k"), text.encode("v"), 0, 1);
  assert.equal(store.tables.size, count - Math.ceil(count / 2) + 1);
});

Deno.test("a catalog that is frozen is what it was: tables made, dropped, cleared and changed do not show", () => {
  const store = new Store();
  const N = 2000;
  for (let i = 0; i < N; i++) {
    for (let m = 0; m <= i % 3; m++) store.sets.set(span(`set ${i}`), span(`member ${m}`), NOTHING, 0, 0);
  }
  const expected = new Map(Array.from({ length: N }, (_, i) => [`set ${i}`, i % 3 + 1]));
  const bytes = store.sets.totals.bytes;
  const check = ({ sets, entry }: Snapshot) => {
    assert.deepEqual(namesOf(sets), [...expected.keys()].sort());
    for (const set of sets) {
      const size = expected.get(new TextDecoder().decode(set.name))!;
      assert.equal(set.size, size);
      assert.deepEqual(keysOf(set, entry), ["member 0", "member 1", "member 2"].slice(0, size));
    }
    assert.equal(sets.totals.entries, [...expected.values()].reduce((a, b) => a + b));
    assert.equal(sets.totals.bytes, bytes);
  };
  const snapshot = store.snapshot();
  for (let i = 0; i < N; i += 4) {
    store.sets.drop(span(`set ${i}`));
    store.sets.clear(span(`set ${i + 1}`));
    for (let m = 0; m < 300; m++) store.sets.set(span(`set ${i + 2}`), span(`other ${m}`), NOTHING, 0, 0);
    store.sets.make(span(`more ${i}`));
    if (i % 400 === 0) { while (store.cleanWhenIdle()); }
  }
  check(snapshot);
  const second = store.snapshot();
  for (let i = 0; i < N; i++) store.sets.drop(span(`set ${i}`)), store.sets.drop(span(`more ${i}`));
  while (store.cleanWhenIdle());
  check(snapshot);
  assert.equal(second.sets.size, N);
  assert.equal(store.sets.size, 0);
  snapshot[Symbol.dispose]();
  second[Symbol.dispose]();
  assert.deepEqual({ ...store.sets.totals }, { entries: 0, bytes: 0, expiring: 0, expiringTables: 0 });
});

Deno.test("tables that were changed while a snapshot was read are there when its memory is used again", () => {
  const store = new Store();
  const N = 20_000;
  for (let i = 0; i < N; i++) store.sets.set(span(`set ${i}`), span("member"), NOTHING, 0, 0);
  const large = new Uint8Array(1000);
  for (const round of [1, 2, 3]) {
    const snapshot = store.snapshot();
    for (let i = 0; i < N; i++) store.sets.set(span(`set ${i}`), span(`member ${round}`), NOTHING, 0, 0);
    snapshot[Symbol.dispose]();
    for (let i = 0; i < 2000; i++) store.tables.set(span("t"), span(`${i}`), large, 0, large.length);
    store.tables.drop(span("t"));
    while (store.cleanWhenIdle());
    for (let i = 0; i < N; i++) assert.equal(store.sets.get(span(`set ${i}`))?.size, 1 + round, `set ${i}`);
    assert.deepEqual(namesOf(store.sets.values()), namesOf(store.snapshot().sets));
    store.heap.thaw();
  }
});

Deno.test("an overwrite in place that changes whether an entry expires is counted, and the state loads", async () => {
  const store = new Store();
  const [name, key] = [keyOf(str("t")), keyOf(str("k"))];
  const table = store.tables.make(name);
  const set = (value: Uint8Array, expiry: number) => {
    const { live } = store.heap;
    table.set(key, value, 0, value.length, expiry);
    return store.heap.live - live;
  };
  const counts =
    () => [table.expiring, store.tables.expiring, store.tables.totals.expiringTables, table.bytes];
  // 8 bytes of value make room for 8 of expiry.
  set(str("x".repeat(19)), 0);
  assert.deepEqual(counts(), [0, 0, 0, 22]);
  assert.equal(set(str("x".repeat(11)), Date.now() + 1e6), 0, "in place");
  assert.deepEqual(counts(), [1, 1, 1, 14]);
  for (const expiring of [1, 0]) {
    const loaded = await decodeState(async function* () {
      using snapshot = store.snapshot();
      yield* encodeState(snapshot);
    }());
    assert.equal(loaded.tables.get(name)!.expiring, expiring);
    assert.equal(set(str("x".repeat(19)), 0), 0, "in place");
    assert.deepEqual(counts(), [0, 0, 0, 22]);
  }
});

Deno.test("an entry that is to expire while a state is stored does not in that state", () => {
  const store = new Store();
  const now = Date.now();
  for (const key of ["stays", "expires"]) store.tables.set(span("t"), span(key), text.encode("v"), 0, 1);
  const table = store.tables.get(span("t"))!;
  store.expire(table, span("expires"), now + 1e6);
  using snapshot = store.snapshot();
  store.expire(table, span("stays"), now + 2e6);
  store.expire(table, span("expires"), now + 3e6);
  const view = snapshot.tables.get(span("t"))!;
  assert.deepEqual([view.expiring, table.expiring], [1, 2]);
  assert.equal(snapshot.entry.read(view.find(span("stays"))).expiry, 0);
  assert.equal(snapshot.entry.read(view.find(span("expires"))).expiry, now + 1e6);
  assert.equal(store.entry.read(table.find(span("expires"))).expiry, now + 3e6);
});

Deno.test("a store is replaced while a snapshot of it is read", () => {
  const store = new Store();
  for (let i = 0; i < 5000; i++) store.tables.set(span("t"), span(`${i}`), text.encode("v"), 0, 1);
  const snapshot = store.snapshot();
  const other = store.sibling();
  other.tables.set(span("other"), span("k"), text.encode("v"), 0, 1);
  const { changeCount } = store;
  store.swap(other);
  assert.ok(store.changeCount > changeCount);
  assert.deepEqual(namesOf(store.tables.values()), ["other"]);
  assert.deepEqual(namesOf(snapshot.tables), ["t"]);
  assert.equal(keysOf(snapshot.tables.get(span("t"))!, snapshot.entry).length, 5000);
  store.tables.set(span("other"), span("more"), text.encode("v"), 0, 1);
  snapshot[Symbol.dispose]();
  assert.equal(store.tables.entries, 2);
});

Deno.test("a page whose neighbour was split is not merged with a part of it", () => {
  const heap = new Heap();
  const table = TableRegistry.of(heap).make(0);
  // Keys by the first bits of their hashes: those that begin with 0 share a page, those with 10 and 11 have their own.
  const keys: Record<"0" | "10" | "11", string[]> = { 0: [], 10: [], 11: [] };
  for (let i = 0; keys[0].length < 150 || keys[10].length < 120 || keys[11].length < 120; i++) {
    const key = `key ${i}`, { bytes, from, to } = span(key), h = hash(bytes, from, to);
    const of = keys[h >= 0 ? "0" : h << 1 >= 0 ? "10" : "11"];
    if (of.length < (of === keys[0] ? 150 : 120)) of.push(key);
  }
  for (const key of Object.values(keys).flat()) table.set(span(key), NOTHING, 0, 0);
  // Together they would be few enough for one page.
  for (const key of keys[10].splice(0, 60)) assert.ok(table.delete(span(key)));
  for (const key of keys[0].splice(0, 120)) {
    assert.ok(table.delete(span(key)));
    assert.equal(table.find(span(key)), 0);
  }
  const high = Object.values(keys).flat();
  assert.deepEqual(keysOf(table, new Entry(heap)), high.toSorted());
  for (const key of high) assert.ok(table.delete(span(key)), key);
  assert.equal(table.size, 0);
});

Deno.test("an entry is gone at its very millisecond, and not before", () => {
  const store = new Store();
  const table = store.tables.make(span("t"));
  const time = Date.now() + 1e6;
  table.set(span("k"), NOTHING, 0, 0);
  store.expire(table, span("k"), time);
  const { now } = Date;
  try {
    Date.now = () => time - 1;
    assert.notEqual(table.find(span("k")), 0);
    Date.now = () => time;
    assert.equal(table.find(span("k")), 0);
  } finally {
    Date.now = now;
  }
  assert.equal(store.expiryQueue.sweep(time - 1), false);
  assert.equal(table.size, 1);
  store.expiryQueue.sweep(time);
  assert.equal(table.size, 0);
});

Deno.test("an entry that expires after more milliseconds than a timer takes is waited for in peace", async () => {
  class Watched extends Store {
    swept = 0;
  }
  const store = new Watched();
  const sweep = store.expiryQueue.sweep.bind(store.expiryQueue);
  store.expiryQueue.sweep = (now) => {
    store.swept++;
    return sweep(now);
  };
  const sweeper = new Sweeper(store);
  const table = store.tables.make(span("t"));
  table.set(span("k"), NOTHING, 0, 0);
  store.expire(table, span("k"), Date.now() + 2 ** 31 + 5000);
  await new Promise((resolve) => setTimeout(resolve, 100));
  await sweeper.close();
  assert.ok(store.swept <= 1, `swept ${store.swept} times in 100 ms`);
  assert.equal(table.size, 1);
});

Deno.test("deadlines count as memory", () => {
  const store = new Store();
  const table = store.tables.make(span("t"));
  for (let i = 0; i < 10_000; i++) table.set(span(`key ${i}`), NOTHING, 0, 0, Date.now() + 1e6 + i);
  const { size } = store.heap;
  for (let i = 0; i < 10_000; i++) store.expire(table, span(`key ${i}`), Date.now() + 2e6 + i);
  assert.ok(store.heap.size - size >= 10_000 * 16, `${store.heap.size - size} bytes`);
  while (store.expiryQueue.sweep(Date.now() + 4e6));
  assert.ok(store.heap.size - size < 10_000 * 16, `${store.heap.size - size} bytes are left`);
  assert.equal(table.size, 0);
});
