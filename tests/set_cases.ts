/**
 * What ECMAScript says of a `Set`, as far as it holds without an order of the members: after test262's
 * `built-ins/Set/prototype`. Each case holds for a `Set` as for a {@linkcode SharedSet}.
 *
 * @module
 */

import assert from "node:assert/strict";
import { assertForEachNeedsFunction } from "./cases.ts";

/** Makes an empty set. */
export type MakeSet = <Value>() => Set<Value>;

/** Makes a set with members. */
function filled<Value>(make: MakeSet, values: readonly Value[]): Set<Value> {
  const set = make<Value>();
  for (const value of values) set.add(value);
  return set;
}

const VALUES = ["bar", "", 1, 1.5, -7, NaN, 0, 2 ** 40, true, false, null, undefined, new Date(5), {}, []];

type Method =
  | "union"
  | "intersection"
  | "difference"
  | "symmetricDifference"
  | "isSubsetOf"
  | "isSupersetOf"
  | "isDisjointFrom";
const COMBINING: Method[] = ["union", "intersection", "difference", "symmetricDifference"];
const METHODS: Method[] = [...COMBINING, "isSubsetOf", "isSupersetOf", "isDisjointFrom"];

/** Calls a method with an argument that may be no set. */
function call(set: Set<unknown>, method: Method, other: unknown): unknown {
  return (set[method] as (other: unknown) => unknown)(other);
}

/** What a method makes of two sets, in an order of its own. */
function combine(set: Set<unknown>, method: Method, other: unknown): unknown {
  const result = call(set, method, other);
  if (typeof result === "boolean") return result;
  assert.ok(result instanceof Set);
  assert.equal(Object.getPrototypeOf(result), Set.prototype);
  assert.notEqual(result, set);
  return [...result].sort();
}

/** An argument that tells what is asked of it. */
class Observed {
  readonly log: string[] = [];
  readonly #size: unknown;
  readonly #values: readonly unknown[];

  constructor(values: readonly unknown[], size: unknown = values.length) {
    this.#values = values;
    this.#size = size;
  }

  get size(): unknown {
    this.log.push("size");
    return { valueOf: () => (this.log.push("to number"), this.#size) };
  }

  get has(): unknown {
    this.log.push("has");
    return (value: unknown) => (this.log.push("call has"), this.#values.includes(value));
  }

  get keys(): unknown {
    this.log.push("keys");
    return () => {
      this.log.push("call keys");
      let at = 0;
      const next = () => {
        this.log.push("call next");
        return { done: at >= this.#values.length, value: this.#values[at++] };
      };
      const close = () => (this.log.push("call return"), {});
      return {
        get next() {
          return next;
        },
        return: close,
      };
    };
  }
}

const VALIDATION = ["size", "to number", "has", "keys"];
const nexts = (count: number) => ["call keys", ...Array(count).fill("call next")];
const hases = (count: number) => Array(count).fill("call has");

export const setCases: Record<string, (make: MakeSet) => void> = {
  "add, has, delete: values of each type are different members"(make) {
    const set = make<unknown>();
    VALUES.forEach((value, i) => {
      assert.equal(set.has(value), false);
      assert.equal(set.delete(value), false);
      assert.equal(set.add(value), set);
      assert.equal(set.add(value), set);
      assert.equal(set.size, i + 1);
      assert.equal(set.has(value), true);
    });
    for (const other of ["1", "null", "undefined", "NaN", "true", 2, -1, 0.5]) {
      assert.equal(set.has(other), false);
    }
    VALUES.forEach((value, i) => {
      assert.equal(set.delete(value), true);
      assert.equal(set.delete(value), false);
      assert.equal(set.has(value), false);
      assert.equal(set.size, VALUES.length - i - 1);
    });
  },

  "0 and -0 are one member, which is 0"(make) {
    const set = filled(make, [-0]);
    assert.equal(set.has(0), true);
    assert.ok(Object.is([...set][0], 0));
    set.add(0);
    assert.equal(set.size, 1);
    assert.equal(set.delete(-0), true);
    assert.equal(set.size, 0);
  },

  "clear empties it and returns undefined, also if it is empty"(make) {
    const set = filled(make, [1, 2]);
    assert.equal(set.clear(), undefined);
    assert.equal(set.size, 0);
    assert.equal(set.has(1), false);
    assert.equal(set.clear(), undefined);
    assert.deepEqual([...set.add(3)], [3]);
  },

  "forEach calls a function with value, value, set and this"(make) {
    const set = filled(make, ["foo", "bar"]);
    const calls: unknown[][] = [], context = {};
    const result = set.forEach(function (this: unknown, ...args) {
      calls.push([this, ...args]);
      return true;
    }, context);
    assert.equal(result, undefined);
    assert.deepEqual(calls.map(([, value]) => value).sort(), ["bar", "foo"]);
    for (const [thisArg, value, again, third, ...more] of calls) {
      assert.equal(thisArg, context);
      assert.equal(again, value);
      assert.equal(third, set);
      assert.equal(more.length, 0);
    }
    const contexts: unknown[] = [];
    set.forEach(function (this: unknown) {
      contexts.push(this);
    });
    assert.deepEqual(contexts, [undefined, undefined]);
    assert.equal(make().forEach(() => assert.fail("called for an empty set")), undefined);
  },

  "forEach needs a function, and ends when that throws"(make) {
    assertForEachNeedsFunction(filled(make, [1, 2]), make);
  },

  "what is deleted or cleared before its turn is not visited"(make) {
    const set = filled(make, [1, 2, 3]);
    const seen: number[] = [];
    set.forEach((value) => {
      seen.push(value);
      for (const other of [1, 2, 3]) if (other !== value) set.delete(other);
    });
    assert.equal(seen.length, 1);
    const again = filled(make, [1, 2, 3]);
    let count = 0;
    for (const _ of again) again.clear(), count++;
    assert.equal(count, 1);
  },

  "what is deleted and added again before its turn is visited once"(make) {
    const set = filled(make, [1, 2, 3]);
    const seen: number[] = [];
    for (const value of set) {
      if (seen.length === 0) {
        for (const other of [1, 2, 3]) if (other !== value) set.delete(other), set.add(other);
      }
      seen.push(value);
    }
    assert.deepEqual(seen.sort(), [1, 2, 3]);
  },

  "keys, values, entries and the iterator"(make) {
    const set = filled(make, ["a", "b", "c"]);
    assert.deepEqual([...set.keys()].sort(), ["a", "b", "c"]);
    assert.deepEqual([...set.values()].sort(), ["a", "b", "c"]);
    assert.deepEqual([...set].sort(), ["a", "b", "c"]);
    assert.deepEqual([...set.entries()].sort(), [["a", "a"], ["b", "b"], ["c", "c"]]);
    assert.deepEqual(new Set(set), new Set(["a", "b", "c"]));
    for (const iterator of [set.keys(), set.values(), set.entries(), set[Symbol.iterator]()]) {
      assert.equal(iterator[Symbol.iterator](), iterator);
      assert.ok(iterator instanceof Iterator);
      for (let i = 0; i < 3; i++) assert.equal(iterator.next().done, false);
      set.add("d");
      assert.equal([...iterator].length <= 1, true);
      assert.deepEqual(iterator.next(), { value: undefined, done: true });
      set.add("e");
      assert.deepEqual(iterator.next(), { value: undefined, done: true });
      set.delete("d");
      set.delete("e");
    }
    assert.deepEqual(make().values().next(), { value: undefined, done: true });
    assert.deepEqual(set.values().map((value) => value + "!").toArray().sort(), ["a!", "b!", "c!"]);
    assert.equal(set.keys().take(2).toArray().length, 2);
    assert.deepEqual(set.entries().filter(([value]) => value === "b").toArray(), [["b", "b"]]);
  },

  "union, intersection, difference and the others, with each kind of argument"(make) {
    const arrays = [[], [1], [1, 2], [2, 3], [1, 2, 3], [4, 5, 6, 7], [3, 1, 2]];
    const expected: Record<Method, (a: number[], b: number[]) => unknown> = {
      union: (a, b) => [...a, ...b.filter((value) => !a.includes(value))].sort(),
      intersection: (a, b) => a.filter((value) => b.includes(value)).sort(),
      difference: (a, b) => a.filter((value) => !b.includes(value)).sort(),
      symmetricDifference: (a, b) =>
        [...a.filter((value) => !b.includes(value)), ...b.filter((value) => !a.includes(value))].sort(),
      isSubsetOf: (a, b) => a.every((value) => b.includes(value)),
      isSupersetOf: (a, b) => b.every((value) => a.includes(value)),
      isDisjointFrom: (a, b) => !a.some((value) => b.includes(value)),
    };
    for (const a of arrays) {
      const set = filled(make, a);
      for (const b of arrays) {
        const map = new Map(b.map((value) => [value, `${value}`]));
        const setLike = { size: b.length, has: (value: number) => b.includes(value), keys: () => b.values() };
        const arrayLike = Object.assign([4711], setLike);
        for (const other of [filled(make, b), new Set(b), map, setLike, arrayLike, new Observed(b)]) {
          for (const method of METHODS) {
            assert.deepEqual(combine(set, method, other), expected[method](a, b), `${method} ${a} | ${b}`);
          }
        }
        for (const method of METHODS) {
          assert.deepEqual(combine(new Set(a), method, filled(make, b)), expected[method](a, b));
        }
      }
      for (const method of METHODS) assert.deepEqual(combine(set, method, set), expected[method](a, a));
      assert.deepEqual([...set].sort(), [...a].sort(), "it is left as it was");
    }
  },

  "undefined, null and NaN are members like others for union and the like"(make) {
    const set = filled<unknown>(make, [undefined, null, NaN]);
    for (const other of [filled<unknown>(make, [undefined, NaN, 1]), new Set([undefined, NaN, 1])]) {
      assert.deepEqual(set.union(other), new Set([undefined, null, NaN, 1]));
      assert.deepEqual(set.intersection(other), new Set([undefined, NaN]));
      assert.deepEqual(set.difference(other), new Set([null]));
      assert.deepEqual(set.symmetricDifference(other), new Set([null, 1]));
      assert.equal(set.isSubsetOf(other) || set.isSupersetOf(other) || set.isDisjointFrom(other), false);
    }
  },

  "an argument that is not like a set is refused, before anything is called"(make) {
    const set = filled<unknown>(make, [1, 2]);
    const never = () => assert.fail("called");
    const keys = never, has = never;
    const noSets = [undefined, null, true, 1, 1n, "string", Symbol("no set"), [], [1], {}];
    const sizes: unknown[] = [undefined, NaN, "string", 0n, Symbol("no size"), {}, { valueOf: () => NaN }];
    for (const method of METHODS) {
      for (const other of noSets) assert.throws(() => call(set, method, other), TypeError);
      for (const size of sizes) {
        assert.throws(() => call(set, method, { size, has, keys }), TypeError);
        assert.throws(() => call(make(), method, { size, has, keys }), TypeError);
      }
      for (const size of [-1, -Infinity, "-2"]) {
        assert.throws(() => call(set, method, { size, has, keys }), RangeError);
      }
      for (const no of [undefined, null, {}, 1, "has"]) {
        assert.throws(() => call(set, method, { size: 2, has: no, keys }), TypeError);
        assert.throws(() => call(set, method, { size: 2, has, keys: no }), TypeError);
      }
      // In this order: an argument without anything is refused for its size.
      assert.throws(() => call(set, method, { size: -1 }), RangeError);
      const observed = new Observed([], NaN);
      assert.throws(() => call(set, method, observed), TypeError);
      assert.deepEqual(observed.log, ["size", "to number"]);
    }
    const noIterator = { size: 1, has: () => false, keys: () => 1 };
    assert.throws(() => set.union(noIterator as never), TypeError);
  },

  "a size may be a string, a fraction or infinite"(make) {
    const set = filled(make, [1, 2]);
    for (const size of ["2", 2.9, Infinity, -0.5, null, true]) {
      const other = { size, has: (value: number) => value < 2, keys: () => [0, 1].values() };
      assert.deepEqual(combine(set, "intersection", other), [1], `${size}`);
      assert.deepEqual(combine(set, "difference", other), [2], `${size}`);
    }
  },

  "they ask the argument for what they need, in the standard's order"(make) {
    const small = filled<unknown>(make, ["a", "d"]), large = filled<unknown>(make, ["a", "b", "c", "d"]);
    const log = (set: Set<unknown>, method: Method, values = ["a", "b", "c"]) => {
      const other = new Observed(values);
      call(set, method, other);
      assert.deepEqual(other.log.slice(0, 4), VALIDATION, method);
      return other.log.slice(4);
    };
    for (const set of [small, large]) {
      assert.deepEqual(log(set, "union"), nexts(4));
      assert.deepEqual(log(set, "symmetricDifference"), nexts(4));
    }
    for (const method of ["intersection", "difference"] as const) {
      assert.deepEqual(log(small, method), hases(2));
      assert.deepEqual(log(large, method), nexts(4));
    }
    assert.deepEqual(log(large, "isSubsetOf"), []);
    assert.deepEqual(log(small, "isSubsetOf", ["a", "d", "e"]), hases(2));
    assert.deepEqual(log(small, "isSubsetOf", ["x", "y", "z"]), hases(1));
    assert.deepEqual(log(small, "isSupersetOf"), []);
    assert.deepEqual(log(large, "isSupersetOf"), nexts(4));
    assert.deepEqual(log(large, "isSupersetOf", ["a", "x", "b"]), [...nexts(2), "call return"]);
    assert.deepEqual(log(small, "isDisjointFrom", ["x", "y"]), hases(2));
    assert.deepEqual(log(small, "isDisjointFrom", ["a", "d"]), hases(1));
    assert.deepEqual(log(large, "isDisjointFrom", ["x", "y"]), nexts(3));
    assert.deepEqual(log(large, "isDisjointFrom", ["x", "a", "y"]), [...nexts(2), "call return"]);
    assert.deepEqual(log(make(), "isSubsetOf"), []);
    assert.deepEqual(log(make(), "intersection"), []);
    assert.deepEqual(log(make(), "isDisjointFrom"), []);
  },

  "-0 among the keys of an argument is 0"(make) {
    const set = filled(make, [0, 1]);
    const other = { size: 1, has: () => assert.fail("called"), keys: () => [-0].values() };
    assert.ok(set.union(other).size === 2 && !set.union(other).has(2));
    const [zero] = set.intersection(other);
    assert.ok(Object.is(zero, 0));
    assert.deepEqual([...set.difference(other)], [1]);
    assert.deepEqual([...set.symmetricDifference(other)], [1]);
    assert.equal(set.isSupersetOf(other), true);
    assert.equal(set.isDisjointFrom(other), false);
  },

  "an argument that changes the set: what is gone is not asked for"(make) {
    for (const method of ["isSubsetOf", "intersection", "isDisjointFrom"] as const) {
      const set = filled(make, ["a", "b", "c"]);
      const asked: unknown[] = [];
      const has = (value: string) => {
        asked.push(value);
        for (const other of ["a", "b", "c"]) if (other !== value) set.delete(other);
        return method !== "isDisjointFrom";
      };
      const result = combine(set, method, { size: 3, has, keys: () => assert.fail("called") });
      assert.deepEqual(result, method === "intersection" ? asked : true);
      assert.equal(asked.length, 1);
      assert.equal(set.size, 1);
    }
    const set = filled(make, ["a", "b"]);
    const keys = function* () {
      set.delete("b");
      yield "a";
      yield "b";
    };
    assert.deepEqual(combine(set, "intersection", { size: 1, has: () => assert.fail("called"), keys }), [
      "a",
    ]);
    assert.equal(set.isSupersetOf({ size: 1, has: () => false, keys: () => ["b"].values() }), false);
  },

  "what an argument throws is thrown"(make) {
    const set = filled<unknown>(make, ["a", "b"]);
    const failing = () => {
      throw new EvalError("from the argument");
    };
    for (const method of METHODS) {
      assert.throws(
        () => call(set, method, { size: { valueOf: failing }, has: failing, keys: failing }),
        EvalError,
      );
      // (One of the two is called, whatever the sizes are, or none.)
      const sizes = method === "isSupersetOf" ? [1] : [2];
      for (const size of sizes) {
        assert.throws(() => call(set, method, { size, has: failing, keys: failing }), EvalError);
      }
    }
  },

  "its methods refuse another receiver"(make) {
    const set = make<string>();
    const receivers = [undefined, null, true, 1, "", Symbol("no set"), {}, [], new Map(), new WeakSet()];
    const sizeOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(set), "size")!.get!;
    for (const other of receivers as never[]) {
      assert.throws(() => set.add.call(other, "a"), TypeError);
      assert.throws(() => set.has.call(other, "a"), TypeError);
      assert.throws(() => set.delete.call(other, "a"), TypeError);
      assert.throws(() => set.clear.call(other), TypeError);
      assert.throws(() => set.forEach.call(other, () => {}), TypeError);
      for (const method of [set.keys, set.values, set.entries, set[Symbol.iterator]]) {
        assert.throws(() => Reflect.apply(method, other, []), TypeError);
      }
      for (const method of METHODS) {
        assert.throws(() => (set[method] as typeof set.union).call(other, new Set()), TypeError);
      }
      assert.throws(() => sizeOf.call(other), TypeError);
    }
  },

  "its prototype has the standard's properties"(make) {
    const set = make<string>(), prototype = Object.getPrototypeOf(set);
    assert.equal(set[Symbol.toStringTag], "Set");
    assert.equal(Object.prototype.toString.call(set), "[object Set]");
    assert.equal(prototype.keys, prototype.values);
    assert.equal(prototype[Symbol.iterator], prototype.values);
    assert.equal(Object.getOwnPropertyDescriptor(prototype, "size")!.set, undefined);
    for (
      const name of ["add", "has", "delete", "clear", "forEach", "keys", "values", "entries", ...METHODS]
    ) {
      const { writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(prototype, name)!;
      assert.deepEqual({ writable, enumerable, configurable }, {
        writable: true,
        enumerable: false,
        configurable: true,
      }, name);
    }
  },
};
