/**
 * What a {@linkcode SharedMap} and a {@linkcode SharedSet} have beyond, or unlike, a `Map` and a `Set`, because they are
 * shared.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Extension, type SharedMap, type SharedSet, type SyncCommands } from "../mod.ts";

/** Commands on a host that has no data. */
type Shared = SyncCommands<object>;

const UNENCODABLE = [() => {}, Symbol("no value"), Promise.resolve(), new WeakMap(), new Map().entries()];

/** Each case gets two objects that reach the same host: this process, and another. */
export const sharedCases: Record<string, (mine: Shared, other: Shared) => void> = {
  "keys and members are compared by value, values are copies"(mine) {
    const map = mine.map<unknown, unknown>("t"), set = mine.set<unknown>("s");
    const groups = [
      [[1, [2]], [1, [2]]],
      [{ a: 1, b: 2 }, { b: 2, a: 1 }],
      [new Uint8Array([1]), new Uint8Array([1])],
      [new Date(7), new Date(7)],
      [1, 1n],
      [2n ** 60n, 2 ** 60],
    ];
    for (const [one, same] of groups) {
      map.set(one, "one").set(same, "same");
      assert.equal(map.get(one), "same");
      assert.ok(map.has(one) && set.add(one).has(same));
      set.add(same);
    }
    assert.equal(map.size, groups.length);
    assert.equal(set.size, groups.length);
    const value = { list: [1] };
    map.set("value", value);
    value.list.push(2);
    assert.deepEqual(map.get("value"), { list: [1] });
    (map.get("value") as typeof value).list.push(2);
    assert.deepEqual(map.get("value"), { list: [1] });
  },

  "what MessagePack does not have is refused, and changes nothing"(mine) {
    const map = mine.map<unknown, unknown>("t"), set = mine.set<unknown>("s");
    for (const value of UNENCODABLE) {
      for (const method of ["get", "has", "delete"] as const) {
        assert.throws(() => map[method](value), TypeError);
      }
      assert.throws(() => map.set(value, 1), TypeError);
      assert.throws(() => map.set(1, value), TypeError);
      assert.throws(() => map.set(1, [value]), TypeError);
      assert.throws(() => map.getOrInsert(1, value), TypeError);
      for (const method of ["add", "has", "delete"] as const) {
        assert.throws(() => set[method](value), TypeError);
      }
    }
    assert.deepEqual([mine.tables(), mine.sets()], [[], []]);
    // (In the result, a Set of this process, they may be.)
    const symbol = Symbol("a member");
    assert.deepEqual(set.add(1).union(new Set([symbol])), new Set([1, symbol]));
  },

  "reading makes no table and no set, nor does clearing what does not exist"(mine) {
    const map = mine.map("none"), set = mine.set("none");
    assert.equal(map.size + set.size, 0);
    assert.equal(map.get(1) ?? map.pop(1) ?? map.ttl(1), undefined);
    assert.equal(map.has(1) || map.delete(1) || map.expire(1, 1) || map.persist(1) || map.drop(), false);
    assert.deepEqual([...map, ...map.keys(), ...map.values(), ...map.all(), ...set, ...set.all()], []);
    assert.deepEqual(map.getMany([1, 2]), [undefined, undefined]);
    assert.equal(set.has(1) || set.delete(1) || set.drop(), false);
    map.forEach(() => assert.fail());
    set.forEach(() => assert.fail());
    map.clear();
    set.clear();
    for (const other of [set, mine.set("none either"), new Set([1])]) {
      set.union(other);
      set.intersection(other);
      set.difference(other);
      set.symmetricDifference(other);
      assert.equal(set.isSubsetOf(other) && set.isDisjointFrom(other), true);
    }
    assert.deepEqual([mine.tables(), mine.sets()], [[], []]);
  },

  "undefined is stored as an extension, null as nil"(mine, other) {
    const map = mine.map<unknown, unknown>("t"), set = mine.set<unknown>("s");
    const stored = new Extension(0, new Uint8Array([0]));
    map.set("undefined", undefined).set("null", null).set(undefined, 1);
    set.add(undefined).add(null);
    assert.deepEqual(other.get("t", "undefined"), stored);
    assert.deepEqual(other.all("t").get("null"), null);
    assert.equal(other.get("t", stored), 1);
    assert.ok(other.inSet("s", stored) && other.inSet("s", null));
    other.set("t", "nil", null);
    assert.equal(map.get("nil"), null);
    assert.equal(map.getOrInsert("nil", 1), null);
    assert.deepEqual(map.getMany(["nil", "undefined", "none"]), [null, undefined, undefined]);
    assert.deepEqual(
      map.all(),
      new Map<unknown, unknown>([["undefined", undefined], ["null", null], [undefined, 1], ["nil", null]]),
    );
    assert.deepEqual(new Set(set.all()), new Set([undefined, null]));
    // (Another extension is another value.)
    map.set("extension", new Extension(0, new Uint8Array([0, 0])));
    assert.ok(map.get("extension") instanceof Extension);
  },

  "the other commands on tables are methods of a map"(mine, other) {
    const map: SharedMap<string, number | undefined> = mine.map("t");
    assert.equal(map.name, "t");
    assert.equal(map.setMany({ a: 1, b: 2 }), 2);
    assert.equal(map.setMany(new Map([["b", 3]])), 0);
    assert.deepEqual(map.set("c", undefined).getMany(["a", "b", "c", "none"]), [1, 3, undefined, undefined]);
    assert.equal(map.setNew("a", 2), false);
    assert.equal(map.setNew("new", 2, { seconds: 60 }), true);
    assert.ok(map.ttl("new")! > 50);
    assert.equal(map.set("new", 2, { seconds: 60 }).persist("new"), true);
    assert.equal(map.ttl("new"), Infinity);
    assert.equal(map.cas("a", 1, 5), true);
    assert.equal(map.cas("a", 1, 6), false);
    assert.equal(map.cas("none", undefined, 6), true);
    assert.equal(map.incr("a", 2), 7);
    assert.equal(map.incr("counter", undefined, { seconds: 60 }), 1);
    assert.ok(map.ttl("counter")! > 50);
    assert.equal(map.update("a", (value) => value! + 1), 8);
    assert.equal(map.update("c", (value) => value === undefined ? 9 : 10), 9);
    assert.equal(map.update("c", () => undefined), undefined);
    const copy = mine.map<string, number | undefined>("copy");
    assert.equal(copy.setMany(map), map.size);
    assert.equal(mine.setMany("copy", map), 0);
    assert.deepEqual(copy.all(), map.all());
    map.set("null", null as unknown as number);
    assert.equal(map.update("null", () => undefined), undefined);
    assert.ok(!map.has("null"));
    assert.equal(map.has("c"), false);
    assert.equal(map.deleteIf("a", 7), false);
    assert.equal(map.deleteIf("a", 8), true);
    assert.equal(map.set("c", undefined).deleteIf("c", undefined), true);
    assert.equal(map.pop("b"), 3);
    assert.equal(map.set("c", undefined).pop("c"), undefined);
    assert.equal(map.pop("b"), undefined);
    assert.equal(map.expire("new", 0), true);
    assert.deepEqual(other.all("t"), new Map([["none", 6], ["counter", 1]]));
    assert.equal(map.drop(), true);
    assert.equal(map.drop(), false);
  },

  "the other commands on sets are methods of a set"(mine, other) {
    const set: SharedSet<number | undefined> = mine.set("s");
    assert.equal(set.name, "s");
    assert.equal(set.addMany([1, 2, undefined]), 3);
    assert.equal(set.addMany([2, 3]), 1);
    assert.deepEqual(new Set(set.all()), new Set([1, 2, undefined, 3]));
    assert.equal(other.setSize("s"), 4);
    assert.equal(set.drop(), true);
    assert.equal(set.drop(), false);
  },

  "set with a name is a set, and with a key and a value a command"(mine) {
    assert.equal(mine.set("name").add("member").size, 1);
    assert.equal(mine.set("name", "key", "value"), 1);
    assert.equal(mine.set("name", "short", "value", { seconds: 60 }), 1);
    assert.equal(mine.get("name", "key"), "value");
    assert.equal(mine.ttl("name", "key"), Infinity);
    assert.ok(mine.ttl("name", "short")! <= 60);
    assert.throws(() => mine.set("name", "key", undefined), TypeError);
    assert.throws(() => mine.set("name", undefined, "value"), TypeError);
  },

  "an iteration of many entries: each once, what this process deleted never, what others changed either way"(
    mine,
    other,
  ) {
    const map = mine.map<number, number>("t"), set = mine.set<number>("s");
    const all = Array.from({ length: 5000 }, (_, i) => i);
    for (const iterate of [() => map.entries().map(([key]) => key), () => set.values()]) {
      mine.setMany("t", new Map(all.map((i) => [i, i])));
      mine.pushMany("s", all);
      const seen = new Set<number>(), deleted = new Set<number>();
      let turn = 0;
      for (const i of iterate()) {
        assert.ok(!seen.has(i), `${i} is visited twice`);
        assert.ok(!deleted.has(i), `${i} is visited though this process has deleted it`);
        seen.add(i);
        // Others take away what ends with 3, and add from 5000 on.
        if (++turn % 100 === 0) other.set("t", 5000 + turn, 1), other.push("s", 5000 + turn);
        for (let k = 3; turn === 1 && k < 5000; k += 10) other.del("t", k), other.pull("s", k);
        // This process takes away what ends with 7.
        for (let k = 7; turn === 1500 && k < 5000; k += 10) {
          if (!seen.has(k)) deleted.add(k);
          map.delete(k);
          set.delete(k);
        }
      }
      assert.ok(deleted.size > 100);
      for (const i of all) if (i % 10 !== 3 && i % 10 !== 7) assert.ok(seen.has(i), `${i} is not visited`);
      map.clear();
      set.clear();
    }
  },

  "everything may be deleted while it is iterated"(mine) {
    const map = mine.map<number, number>("t"), set = mine.set<number>("s");
    const all = Array.from({ length: 2500 }, (_, i) => i);
    mine.setMany("t", new Map(all.map((i) => [i, i])));
    mine.pushMany("s", all);
    let count = 0;
    for (const [key, value] of map) assert.equal(key, value), assert.ok(map.delete(key)), count++;
    for (const value of set) assert.ok(set.delete(value)), count++;
    assert.equal(count, 5000);
    assert.equal(map.size + set.size, 0);
  },

  "sets of one store are combined by value, and change neither"(mine) {
    const a = mine.set<unknown>("a"), b = mine.set<unknown>("b");
    a.addMany([[1], { x: 1 }, "only a", undefined]);
    b.addMany([[1], { x: 1 }, "only b", undefined]);
    assert.deepEqual(a.difference(b), new Set(["only a"]));
    assert.deepEqual(a.symmetricDifference(b), new Set(["only a", "only b"]));
    assert.deepEqual(a.intersection(b).size, 3);
    assert.ok(a.intersection(b).has(undefined));
    assert.equal(a.union(b).size, 5);
    assert.equal(a.isSubsetOf(b) || a.isSupersetOf(b) || a.isDisjointFrom(b), false);
    b.delete("only b");
    assert.equal(a.isSupersetOf(b) && b.isSubsetOf(a) && !a.isSubsetOf(b), true);
    assert.deepEqual([a.size, b.size], [4, 3]);
  },
};
