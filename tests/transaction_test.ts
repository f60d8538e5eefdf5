/** Transactions compared with a model: a rollback restores everything, a commit keeps the changes. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { SEGMENT } from "../blocks/block.ts";
import type { Entry } from "../blocks/entry.ts";
import type { Span } from "../msgpack/key.ts";
import { OutOfMemory } from "../engine/memory/extents.ts";
import { Heap } from "../engine/memory/heap.ts";
import { type Snapshot, Store } from "../engine/memory/store.ts";
import type { TableView } from "../engine/memory/view.ts";

const text = new TextEncoder();

function span(key: string): Span {
  const bytes = text.encode(key);
  return { bytes, from: 0, to: bytes.length };
}

/** A table's entries: of each key its value, as a seed and a length, and its expiry. */
type TableModel = Map<string, { seed: number; length: number; expiry: number }>;
type Model = Record<"tables" | "sets", Map<string, TableModel>>;
const KINDS = ["tables", "sets"] as const;

function copyOf({ tables, sets }: Model): Model {
  const copy = (of: Map<string, TableModel>) => new Map(Array.from(of, ([k, v]) => [k, new Map(v)]));
  return { tables: copy(tables), sets: copy(sets) };
}

function assertIs(
  views: Iterable<TableView>,
  entry: Entry,
  model: Map<string, TableModel>,
  what: string,
): void {
  const left = new Set(model.keys());
  for (const view of views) {
    const name = new TextDecoder().decode(view.name);
    assert.ok(left.delete(name), `${what}: ${name} is there`);
    const expected = model.get(name)!;
    assert.equal(view.size, expected.size, `${what}: size of ${name}`);
    const expiring = [...expected.values()].filter(({ expiry }) => expiry > 0).length;
    assert.equal(view.expiring, expiring, `${what}: expiring of ${name}`);
    const bytes = [...expected].reduce((sum, [key, { length }]) => sum + key.length + length, 0);
    assert.equal(view.bytes, bytes, `${what}: bytes of ${name}`);
    const keys = new Set(expected.keys());
    let cursor = 0;
    do {
      cursor = view.scan(cursor, (address) => {
        const { bytes, keyFrom, keyTo, valueTo, expiry } = entry.read(address);
        const key = new TextDecoder().decode(bytes.subarray(keyFrom, keyTo));
        assert.ok(keys.delete(key), `${what}: ${name} ${key} is there`);
        const value = expected.get(key)!;
        assert.equal(expiry, value.expiry, `${what}: expiry of ${name} ${key}`);
        assert.equal(valueTo - keyTo, value.length, `${what}: length of ${name} ${key}`);
        let wrong = 0;
        for (let i = 0; i < value.length; i++) wrong |= bytes[keyTo + i] ^ (value.seed + i) & 255;
        assert.equal(wrong, 0, `${what}: value of ${name} ${key}`);
      });
    } while (cursor !== 0);
    assert.equal(keys.size, 0, `${what}: ${[...keys]} of ${name} are not there`);
  }
  assert.deepEqual([...left], [], `${what}: not there`);
}

function assertHolds(store: Store, model: Model, what: string): void {
  for (const kind of KINDS) {
    assertIs(store[kind].values(), store.entry, model[kind], `${what}, ${kind}`);
    const totals = { entries: 0, bytes: 0, expiring: 0, expiringTables: 0 };
    for (const { size, bytes, expiring } of store[kind].values()) {
      totals.entries += size;
      totals.bytes += bytes;
      totals.expiring += expiring;
      totals.expiringTables += expiring > 0 ? 1 : 0;
    }
    assert.deepEqual({ ...store[kind].totals }, totals, `${what}: totals of ${kind}`);
  }
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

const NOW = Date.now();

/** Does something to a store and its model. */
function change(store: Store, model: Model, next: (below: number) => number, sizes: number[]): void {
  const kind = KINDS[next(2)];
  const name = `${kind} ${next(4)}`, key = `key ${next(200)}`;
  const names = store[kind], of = model[kind];
  const there = of.get(name);
  switch (next(24)) {
    case 0:
      assert.equal(names.drop(span(name)), of.delete(name));
      return;
    case 1:
      names.clear(span(name));
      there?.clear();
      return;
    case 2:
    case 3:
    case 4: {
      const old = there?.get(key);
      const expiry = NOW + 1e9 + next(1000);
      const table = names.get(span(name));
      assert.equal(table ? store.expire(table, span(key), expiry) : false, old !== undefined);
      if (old) there!.set(key, { ...old, expiry });
      return;
    }
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
      assert.equal(names.get(span(name))?.delete(span(key)) ?? false, there?.delete(key) ?? false);
      return;
    case 11:
      store.cleanWhenIdle();
      return;
    default: {
      const seed = next(256), length = next(sizes[next(sizes.length)]);
      const value = Uint8Array.from({ length }, (_, i) => seed + i);
      names.set(span(name), span(key), value, 0, length);
      if (!of.has(name)) of.set(name, new Map());
      of.get(name)!.set(key, { seed, length, expiry: 0 });
    }
  }
}

class Failure extends Error {}

/** Transactions within transactions, some of which fail; the model of what is there afterwards. */
function transact(
  store: Store,
  model: Model,
  next: (below: number) => number,
  sizes: number[],
  depth = 0,
): Model {
  const inner = copyOf(model);
  let current = inner;
  try {
    store.transaction(() => {
      for (let i = next(60); i > 0; i--) {
        if (depth < 2 && next(20) === 0) current = transact(store, current, next, sizes, depth + 1);
        else change(store, current, next, sizes);
      }
      if (next(2) === 0) throw new Failure();
    });
    return current;
  } catch (error) {
    assert.ok(error instanceof Failure || error instanceof OutOfMemory, error as Error);
    return model;
  }
}

function history(seed: number, rounds: number, sizes: number[], limit = Infinity): void {
  const next = random(seed);
  const store = new Store();
  if (limit < Infinity) store.heap.limit = limit;
  let model: Model = { tables: new Map(), sets: new Map() };
  const snapshots: { end: number; snapshot: Snapshot; model: Model }[] = [];
  for (let round = 0; round < rounds; round++) {
    model = transact(store, model, next, sizes);
    if (next(6) === 0) {
      const copy = copyOf(model);
      try {
        for (let i = 0; i < 30; i++) change(store, copy, next, sizes), model = copyOf(copy);
      } catch (error) {
        assert.ok(error instanceof OutOfMemory, error as Error);
      }
    }
    assertHolds(store, model, `seed ${seed}, round ${round}`);
    if (next(8) === 0) {
      snapshots.push({ end: round + next(8), snapshot: store.snapshot(), model: copyOf(model) });
    }
    while (snapshots.length > 0 && snapshots[0].end <= round) endSnapshot(snapshots.shift()!);
  }
  snapshots.forEach(endSnapshot);
  for (const kind of KINDS) for (const name of model[kind].keys()) assert.ok(store[kind].drop(span(name)));
  while (store.cleanWhenIdle());
  assert.equal(store.heap.live, new Store().heap.live, `seed ${seed}`);
}

function endSnapshot({ snapshot, model }: { snapshot: Snapshot; model: Model }): void {
  for (const kind of KINDS) assertIs(snapshot[kind], snapshot.entry, model[kind], `snapshot, ${kind}`);
  snapshot[Symbol.dispose]();
}

Deno.test("a transaction does all or nothing, whatever fails in it, with snapshots open", () => {
  fc.assert(fc.property(fc.integer({ min: 1 }), (seed) => history(seed, 60, [9, 40, 300])), { numRuns: 20 });
});

Deno.test("a transaction does all or nothing where the memory is full and is cleaned meanwhile", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1 }), (seed) => history(seed, 60, [300, 9000, 60_000], 7 * SEGMENT)),
    { numRuns: 4 },
  );
});

Deno.test("a rollback needs no memory, and gives back what was written", () => {
  const store = new Store();
  const value = new Uint8Array(1000);
  for (let i = 0; i < 2000; i++) store.tables.set(span("t"), span(`key ${i}`), value, 0, value.length);
  const { live } = store.heap;
  store.begin();
  for (let i = 0; i < 2000; i += 2) store.tables.get(span("t"))!.delete(span(`key ${i}`));
  for (let i = 0; i < 4000; i++) store.tables.set(span("t"), span(`key ${i}`), value, 0, 900);
  store.tables.drop(span("t"));
  store.tables.set(span("t"), span("other"), value, 0, 1000);
  assert.ok(store.heap.live > live + 4000 * 900, "what was there is kept");
  store.heap.limit = store.heap.size;
  store.rollback();
  const table = store.tables.get(span("t"))!;
  assert.equal(table.size, 2000);
  for (let i = 0; i < 2000; i++) {
    const { keyTo, valueTo } = store.entry.read(table.find(span(`key ${i}`)));
    assert.equal(valueTo - keyTo, 1000);
  }
  while (store.cleanWhenIdle());
  assert.ok(store.heap.live <= live + 200_000, `${store.heap.live} of ${live} bytes`);
});

Deno.test("what a rollback brings back expires at its time", () => {
  const store = new Store();
  const names = ["dropped", "cleared", "deleted", "replaced"];
  for (const name of names) {
    for (let i = 0; i < 100; i++) {
      store.sets.set(span(name), span(`${i}`), text.encode("x"), 0, 1);
      store.expire(store.sets.get(span(name))!, span(`${i}`), NOW + 1e6 + i);
    }
  }
  store.sets.set(span("other"), span("x"), text.encode("x"), 0, 1);
  store.begin();
  store.sets.drop(span("dropped"));
  store.sets.clear(span("cleared"));
  for (let i = 0; i < 100; i++) {
    assert.ok(store.sets.get(span("deleted"))!.delete(span(`${i}`)));
    store.sets.get(span("replaced"))!.set(span(`${i}`), text.encode("y"), 0, 1);
  }
  // With each deadline that is added two are checked.
  for (let i = 0; i < 2000; i++) store.expire(store.sets.get(span("other"))!, span("x"), NOW + 2e6 + i);
  store.rollback();
  for (const name of names) assert.equal(store.sets.get(span(name))!.expiring, 100, name);
  while (store.expiryQueue.sweep(NOW + 1e6 + 99));
  for (const name of names) assert.equal(store.sets.get(span(name))!.size, 0, name);
});

Deno.test("what a transaction records counts as memory, and is given back", () => {
  const store = new Store(new Heap());
  const { size } = store.heap;
  store.begin();
  for (let i = 0; i < 10_000; i++) store.sets.set(span("s"), span(`member ${i}`), text.encode(""), 0, 0);
  const charged = store.heap.size;
  store.commit();
  assert.ok(charged - store.heap.size >= 10_000 * 64, `${charged - store.heap.size} bytes`);
  store.sets.drop(span("s"));
  while (store.cleanWhenIdle());
  assert.ok(store.heap.size <= size + 2 * SEGMENT);
  assert.throws(() => store.commit(), /Cannot commit: no transaction is open/);
  assert.throws(() => store.rollback(), /Cannot roll back: no transaction is open/);
});

Deno.test("a store is not replaced within a transaction", () => {
  const store = new Store();
  assert.throws(() => store.transaction(() => store.swap(store.sibling())), /within a transaction/);
  store.swap(store.sibling());
});
