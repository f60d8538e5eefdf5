/**
 * What ECMAScript says of a `Map`, as far as it holds without an order of the entries: after test262's
 * `built-ins/Map/prototype`. Each case holds for a `Map` as for a {@linkcode SharedMap}.
 *
 * @module
 */

import assert from "node:assert/strict";
import { assertForEachNeedsFunction, NOT_CALLABLE } from "./cases.ts";

/** Makes an empty map. */
export type MakeMap = <Key, Value>() => Map<Key, Value>;

/** Makes a map with entries. */
function filled<Key, Value>(make: MakeMap, entries: readonly (readonly [Key, Value])[]): Map<Key, Value> {
  const map = make<Key, Value>();
  for (const [key, value] of entries) map.set(key, value);
  return map;
}

const KEYS = ["bar", "", 1, 1.5, -7, NaN, 0, 2 ** 40, true, false, null, undefined, new Date(5), {}, []];

export const mapCases: Record<string, (make: MakeMap) => void> = {
  "get, set, has, delete: keys of each type are different keys"(make) {
    const map = make<unknown, number>();
    KEYS.forEach((key, i) => {
      assert.equal(map.has(key), false);
      assert.equal(map.get(key), undefined);
      assert.equal(map.delete(key), false);
      assert.equal(map.set(key, i), map);
      assert.equal(map.size, i + 1);
    });
    KEYS.forEach((key, i) => {
      assert.equal(map.get(key), i);
      assert.equal(map.has(key), true);
      assert.equal(map.set(key, i + 100), map);
      assert.equal(map.get(key), i + 100);
    });
    assert.equal(map.size, KEYS.length);
    for (const other of ["1", "null", "undefined", "NaN", "true", 2, -1, 0.5]) {
      assert.equal(map.has(other), false);
    }
    KEYS.forEach((key, i) => {
      assert.equal(map.delete(key), true);
      assert.equal(map.delete(key), false);
      assert.equal(map.has(key), false);
      assert.equal(map.size, KEYS.length - i - 1);
    });
  },

  "a value may be undefined or null: the key exists"(make) {
    const map = make<string, unknown>();
    map.set("undefined", undefined).set("null", null).set("-0", -0).set("NaN", NaN);
    assert.equal(map.size, 4);
    assert.equal(map.has("undefined") && map.has("null"), true);
    assert.equal(map.get("undefined"), undefined);
    assert.equal(map.get("null"), null);
    assert.ok(Object.is(map.get("-0"), -0));
    assert.ok(Number.isNaN(map.get("NaN")));
    assert.equal(map.get("none"), undefined);
    assert.deepEqual(new Map(map.entries()).get("null"), null);
    assert.deepEqual(new Set(map.values()), new Set([undefined, null, -0, NaN]));
    assert.equal(map.delete("undefined"), true);
    assert.equal(map.has("undefined"), false);
  },

  "0 and -0 are one key, which is 0"(make) {
    const map = filled(make, [[-0, "a"]]);
    assert.equal(map.get(0), "a");
    assert.ok(Object.is([...map.keys()][0], 0));
    map.set(0, "b");
    assert.equal(map.size, 1);
    assert.equal(map.get(-0), "b");
    assert.equal(map.delete(-0), true);
    assert.equal(map.has(0), false);
  },

  "clear empties it and returns undefined, also if it is empty"(make) {
    const map = filled(make, [["a", 1], ["b", 2]]);
    assert.equal(map.clear(), undefined);
    assert.equal(map.size, 0);
    assert.equal(map.has("a") || map.has("b"), false);
    assert.equal(map.clear(), undefined);
    map.set("a", 3);
    assert.equal(map.size, 1);
    assert.deepEqual([...map], [["a", 3]]);
  },

  "forEach calls a function with value, key, map and this"(make) {
    const map = filled(make, [["foo", 42], ["bar", 43]]);
    const calls = new Map<string, unknown[]>(), context = {};
    const result = map.forEach(function (this: unknown, value, key, ...rest) {
      calls.set(key, [this, value, key, ...rest]);
      return true;
    }, context);
    assert.equal(result, undefined);
    assert.deepEqual([...calls.keys()].sort(), ["bar", "foo"]);
    for (const [key, [thisArg, value, again, third, ...more]] of calls) {
      assert.equal(thisArg, context);
      assert.equal(value, key === "foo" ? 42 : 43);
      assert.equal(again, key);
      assert.equal(third, map);
      assert.equal(more.length, 0);
    }
    const contexts: unknown[] = [];
    map.forEach(function (this: unknown) {
      contexts.push(this);
    });
    assert.deepEqual(contexts, [undefined, undefined]);
    assert.equal(make().forEach(() => assert.fail("called for an empty map")), undefined);
  },

  "forEach needs a function, and ends when that throws"(make) {
    assertForEachNeedsFunction(filled(make, [["foo", 42], ["bar", 43]]), make);
  },

  "what is deleted before its turn is not visited"(make) {
    const map = filled(make, [["a", 1], ["b", 2], ["c", 3]]);
    const seen: string[] = [];
    map.forEach((_, key) => {
      seen.push(key);
      for (const other of ["a", "b", "c"]) if (other !== key) map.delete(other);
    });
    assert.equal(seen.length, 1);
    assert.equal(map.size, 1);

    const entries = filled(make, [["a", 1], ["b", 2], ["c", 3]]);
    const iterator = entries.entries(), [first] = iterator.next().value!;
    const [gone, last] = ["a", "b", "c"].filter((key) => key !== first);
    entries.delete(gone);
    assert.deepEqual(iterator.next().value?.[0], last);
    assert.deepEqual(iterator.next(), { value: undefined, done: true });
  },

  "what is cleared is not visited"(make) {
    const map = filled(make, [["a", 1], ["b", 2], ["c", 3]]);
    let count = 0;
    for (const _ of map) map.clear(), count++;
    assert.equal(count, 1);
    const iterator = map.set("a", 1).keys();
    map.clear();
    assert.equal(iterator.next().done, true);
  },

  "a value that is set before its turn is visited as it is then"(make) {
    const map = filled(make, [["a", 1], ["b", 1], ["c", 1]]);
    let turn = 0;
    for (const [key, value] of map) {
      assert.equal(value, ++turn === 1 ? 1 : 2);
      for (const other of ["a", "b", "c"]) if (other !== key) map.set(other, 2);
    }
    assert.equal(turn, 3);
  },

  "what is deleted and set again before its turn is visited once"(make) {
    const map = filled(make, [["a", 1], ["b", 1], ["c", 1]]);
    const seen: string[] = [];
    map.forEach((_, key) => {
      if (seen.length === 0) {
        for (const other of ["a", "b", "c"]) if (other !== key) map.delete(other), map.set(other, 2);
      }
      seen.push(key);
    });
    assert.deepEqual(seen.sort(), ["a", "b", "c"]);
  },

  "keys, values, entries and the iterator"(make) {
    const entries: [string, number][] = [["a", 1], ["b", 2], ["c", 3]];
    const map = filled(make, entries);
    assert.deepEqual([...map.keys()].sort(), ["a", "b", "c"]);
    assert.deepEqual([...map.values()].sort(), [1, 2, 3]);
    assert.deepEqual([...map.entries()].sort(), entries);
    assert.deepEqual([...map].sort(), entries);
    assert.deepEqual(new Map(map), new Map(entries));
    assert.deepEqual(Object.fromEntries(map), Object.fromEntries(entries));
    assert.deepEqual(Array.from(map, ([key, value]) => key + value).sort(), ["a1", "b2", "c3"]);
    for (const iterator of [map.keys(), map.values(), map.entries(), map[Symbol.iterator]()]) {
      assert.equal(iterator[Symbol.iterator](), iterator);
      assert.ok(iterator instanceof Iterator);
      for (let i = 0; i < 3; i++) assert.equal(iterator.next().done, false);
      assert.deepEqual(iterator.next(), { value: undefined, done: true });
    }
    const [one, two] = [map.entries(), map.entries()];
    const entry = one.next().value!;
    assert.ok(Array.isArray(entry) && entry.length === 2);
    entry[1] = 99;
    assert.notEqual(two.next().value, entry);
    assert.notEqual(map.get(entry[0]), 99);
    for (const iterator of [make().keys(), make().values(), make().entries(), make()[Symbol.iterator]()]) {
      assert.deepEqual(iterator.next(), { value: undefined, done: true });
    }
  },

  "an iterator at its end stays there, and one that has begun goes on"(make) {
    const map = filled(make, [[1, 11], [2, 22]]);
    for (const iterator of [map.keys(), map.values(), map.entries()]) {
      assert.equal([...iterator].length, 2);
      map.set(3, 33);
      assert.deepEqual(iterator.next(), { value: undefined, done: true });
      assert.deepEqual(iterator.next(), { value: undefined, done: true });
      map.delete(3);
    }
  },

  "iterators have the helpers of every iterator"(make) {
    const map = filled(make, [["a", 1], ["b", 2], ["c", 3]]);
    assert.deepEqual(map.values().map((value) => value * 2).toArray().sort(), [2, 4, 6]);
    assert.deepEqual(map.keys().filter((key) => key !== "b").toArray().sort(), ["a", "c"]);
    assert.equal(map.entries().take(2).toArray().length, 2);
    assert.equal(map.entries().drop(2).toArray().length, 1);
    assert.equal(map.values().reduce((sum, value) => sum + value, 0), 6);
    assert.ok(map.values().some((value) => value === 3));
    assert.deepEqual(map[Symbol.iterator]().find(([key]) => key === "b"), ["b", 2]);
  },

  "getOrInsert returns what is there, or sets it"(make) {
    const map = make<unknown, unknown>();
    KEYS.forEach((key, i) => assert.equal(map.getOrInsert(key, i), i));
    KEYS.forEach((key, i) => assert.equal(map.getOrInsert(key, "other"), i));
    assert.equal(map.size, KEYS.length);
    map.set("undefined", undefined).set("null", null);
    assert.equal(map.getOrInsert("undefined", 1), undefined);
    assert.equal(map.getOrInsert("null", 1), null);
    assert.equal(map.getOrInsert("new", undefined), undefined);
    assert.equal(map.has("new"), true);
    map.delete(0);
    map.getOrInsert(-0, "zero");
    assert.equal(map.get(0), "zero");
  },

  "getOrInsertComputed calls a function where nothing is there"(make) {
    const map = make<unknown, unknown>();
    KEYS.forEach((key, i) => {
      assert.equal(
        map.getOrInsertComputed(key, (...args) => {
          assert.equal(args.length, 1);
          assert.equal(args[0], key);
          return i;
        }),
        i,
      );
    });
    const never = () => assert.fail("called for a key that exists");
    KEYS.forEach((key, i) => assert.equal(map.getOrInsertComputed(key, never), i));
    map.set("undefined", undefined).set("null", null);
    assert.equal(map.getOrInsertComputed("undefined", never), undefined);
    assert.equal(map.getOrInsertComputed("null", never), null);
    assert.equal(map.getOrInsertComputed("void", () => {}), undefined);
    assert.equal(map.has("void"), true);
    map.delete(0);
    map.getOrInsertComputed(-0, (key) => assert.ok(Object.is(key, 0)));
    for (const fn of NOT_CALLABLE) {
      assert.throws(() => map.getOrInsertComputed("bar", fn as () => number), TypeError);
      assert.throws(() => map.getOrInsertComputed("none", fn as () => number), TypeError);
    }
    assert.equal(map.has("none"), false);
  },

  "getOrInsertComputed: what its function sets is replaced, or stays if it throws"(make) {
    const map = make<string, string>();
    const value = map.getOrInsertComputed("a", () => {
      map.set("a", "mutated");
      return "computed";
    });
    assert.equal(value, "computed");
    assert.equal(map.get("a"), "computed");
    const failing = (key: string) => {
      map.set("a", "mutated").set(key, "mutated");
      throw new RangeError("from the function");
    };
    assert.throws(() => map.getOrInsertComputed("b", failing), RangeError);
    assert.equal(map.get("a"), "mutated");
    assert.equal(map.get("b"), "mutated");
  },

  "its methods refuse another receiver"(make) {
    const map = make<string, number>();
    const receivers: unknown[] = [
      undefined,
      null,
      true,
      1,
      "",
      Symbol("no map"),
      {},
      [],
      new Set(),
      new WeakMap(),
    ];
    receivers.push({ drop: () => true, size: 0, name: "name" });
    const sizeOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(map), "size")!.get!;
    for (const other of receivers as never[]) {
      assert.throws(() => map.get.call(other, "a"), TypeError);
      assert.throws(() => map.set.call(other, "a", 1), TypeError);
      assert.throws(() => map.has.call(other, "a"), TypeError);
      assert.throws(() => map.delete.call(other, "a"), TypeError);
      assert.throws(() => map.clear.call(other), TypeError);
      assert.throws(() => map.forEach.call(other, () => {}), TypeError);
      assert.throws(() => map.getOrInsert.call(other, "a", 1), TypeError);
      assert.throws(() => map.getOrInsertComputed.call(other, "a", () => 1), TypeError);
      for (const method of [map.keys, map.values, map.entries, map[Symbol.iterator]]) {
        assert.throws(() => Reflect.apply(method, other, []), TypeError);
      }
      assert.throws(() => sizeOf.call(other), TypeError);
    }
  },

  "its prototype has the standard's properties"(make) {
    const map = make<string, number>(), prototype = Object.getPrototypeOf(map);
    assert.equal(map[Symbol.toStringTag], "Map");
    assert.equal(Object.prototype.toString.call(map), "[object Map]");
    assert.equal(prototype[Symbol.iterator], prototype.entries);
    const size = Object.getOwnPropertyDescriptor(prototype, "size")!;
    assert.equal(size.set, undefined);
    assert.equal(size.enumerable, false);
    for (const name of ["get", "set", "has", "delete", "clear", "forEach", "keys", "values", "entries"]) {
      const { writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(prototype, name)!;
      assert.deepEqual({ writable, enumerable, configurable }, {
        writable: true,
        enumerable: false,
        configurable: true,
      }, name);
    }
  },
};
