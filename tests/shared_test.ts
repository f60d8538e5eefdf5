/** Shared maps and sets in the host's process: what is theirs alone, and how they reach the host. */

import assert from "node:assert/strict";
import { MemStore, type MemStoreOptions, SyncCommands } from "../mod.ts";
import { TempDir } from "./host.ts";
import { sharedCases } from "./shared_cases.ts";

/** Commands on a host in this process, as those of another process: what it sends is written down. */
class Other extends SyncCommands<object> {
  readonly #store: MemStore;
  /** The names of the commands. */
  sent: string[] = [];
  /** Is called before each. */
  before: (name: string) => void = () => {};

  constructor(store: MemStore) {
    super();
    this.#store = store;
  }

  protected override call<Reply>(name: string, args: readonly unknown[]): Reply {
    this.sent.push(name);
    this.before(name);
    return this.#store.local.send([name, ...args]);
  }

  override update<Value>(table: unknown, key: unknown, fn: (value: Value | undefined) => Value | undefined) {
    return this.#store.local.update(table, key, fn);
  }

  /** The commands that a function sends. */
  during(run: () => void): string[] {
    this.sent = [];
    run();
    return this.sent;
  }
}

async function withHost(run: (store: MemStore) => void, options: MemStoreOptions = {}): Promise<void> {
  await using directory = new TempDir();
  await using store = new MemStore(`${directory.path}/store.sock`, options);
  await store.start();
  run(store);
}

for (const [name, run] of Object.entries(sharedCases)) {
  Deno.test(`in the host's process: ${name}`, () => withHost((store) => run(store.local, new Other(store))));
}

Deno.test("a method of a map or a set is one command, and get needs more for what is nil or not there", () =>
  withHost((store) => {
    const other = new Other(store), map = other.map("t"), set = other.set("s");
    assert.deepEqual(other.during(() => map.set("k", 1)), ["set"]);
    assert.deepEqual(other.during(() => map.get("k")), ["get"]);
    assert.deepEqual(other.during(() => map.has("k")), ["exists"]);
    assert.deepEqual(other.during(() => map.getOrInsert("k", 1)), ["get"]);
    assert.deepEqual(other.during(() => map.get("none")), ["get", "exists"]);
    other.set("t", "null", null);
    assert.deepEqual(other.during(() => map.get("null")), ["get", "exists", "get_many"]);
    assert.deepEqual(other.during(() => map.size), ["size"]);
    assert.deepEqual(other.during(() => set.add("k")), ["push"]);
    assert.deepEqual(other.during(() => set.has("k")), ["in_set"]);
    assert.deepEqual(other.during(() => set.union(other.set("b"))), ["union"]);
    assert.deepEqual(other.during(() => set.intersection(other.set("b"))), ["inter"]);
    assert.deepEqual(other.during(() => set.difference(other.set("b"))), ["diff"]);
    assert.deepEqual(other.during(() => set.isSubsetOf(other.set("b"))), ["diff"]);
  }));

Deno.test("what another process changes between the commands of a method is not overlooked", () =>
  withHost((store) => {
    const other = new Other(store), map = other.map<string, number | null>("t");
    let calls = 0;
    const before = (changes: Record<number, () => void>) => {
      calls = 0;
      other.before = () => changes[++calls]?.();
    };
    const set = () => store.local.set("t", "k", 1), del = () => store.local.del("t", "k");
    before({ 2: set });
    assert.equal(map.get("k"), 1);
    before({ 2: del });
    assert.equal(map.get("k"), 1);
    del();
    before({ 2: set, 3: del });
    assert.equal(map.get("k"), undefined);
    // get, exists, set_new; and again from the beginning, as it was there for set_new alone.
    before({ 3: set, 4: del });
    assert.equal(map.getOrInsert("k", 2), 2);
    assert.equal(calls, 6);
    del();
    before({ 3: set });
    assert.equal(map.getOrInsert("k", 2), 1);
  }));

Deno.test("an iteration reads pages, as many as it needs", () =>
  withHost((store) => {
    const other = new Other(store), map = other.map<number, number>("t"), set = other.set<number>("s");
    const all = Array.from({ length: 5000 }, (_, i) => i);
    assert.deepEqual(other.during(() => map.entries()), []);
    other.setMany("t", new Map(all.map((i) => [i, i])));
    other.pushMany("s", all);
    for (const [iterate, scan] of [[() => map.keys(), "scan"], [() => set.keys(), "scan_set"]] as const) {
      const whole = other.during(() => assert.equal([...iterate()].length, 5000));
      assert.ok(whole.length >= 5 && whole.length <= 20, `${whole.length} pages`);
      assert.ok(whole.every((name) => name === scan));
      assert.deepEqual(other.during(() => iterate().take(10).toArray()), [scan]);
      const iterator = iterate();
      const broken = other.during(() => {
        for (const _ of iterator) break;
        assert.equal(iterator.next().done, true);
      });
      assert.deepEqual(broken, [scan]);
    }
    // Large entries make short pages.
    for (let i = 0; i < 20; i++) map.set(10_000 + i, "x".repeat(2 ** 19) as unknown as number);
    assert.ok(other.during(() => assert.equal([...map].length, 5020)).length > 10);
  }));

Deno.test("sets that are too large for one reply are combined all the same", () =>
  withHost((store) => {
    const other = new Other(store), a = other.set<string>("a"), b = other.set<string>("b");
    const name = (i: number) => `${i}`.padStart(200, "member ");
    for (let i = 0; i < 30_000; i += 5000) {
      const names = Array.from({ length: 5000 }, (_, k) => name(i + k));
      if (i < 20_000) a.addMany(names);
      if (i >= 10_000) b.addMany(names);
    }
    for (const command of ["union", "inter", "diff"] as const) {
      assert.throws(() => other[command](["a", "b"]), { code: "TOO_LARGE" });
    }
    assert.equal(a.union(b).size, 30_000);
    assert.equal(a.intersection(b).size, 10_000);
    assert.equal(a.difference(b).size, 10_000);
    assert.equal(a.symmetricDifference(b).size, 20_000);
    assert.equal(a.isSubsetOf(b) || a.isSupersetOf(b) || a.isDisjointFrom(b), false);
  }, { limits: { message: 1_900_000 } }));

Deno.test("sets of two stores are combined here, and other failures are thrown", async () => {
  await using directory = new TempDir();
  await using one = new MemStore(`${directory.path}/one.sock`);
  await using two = new MemStore(`${directory.path}/two.sock`);
  await Promise.all([one.start(), two.start()]);
  const a = one.local.set<number>("s"), b = two.local.set<number>("s");
  a.addMany([1, 2]);
  b.addMany([2, 3]);
  assert.deepEqual(a.union(b), new Set([1, 2, 3]));
  assert.deepEqual(a.intersection(b), new Set([2]));
  assert.deepEqual(a.symmetricDifference(b), new Set([1, 3]));
  await one.stop();
  assert.throws(() => a.union(one.local.set("other")), /stopped/);
  assert.throws(() => b.union(a), /stopped/);
});

Deno.test("maps and sets of a batch end with it, and what they changed is seen by iterations", () =>
  withHost((store) => {
    const { local } = store, map = local.map<number, number>("t");
    map.set(1, 1).set(2, 2);
    const ended = local.batch((batch) => batch.map<number, number>("t"));
    assert.throws(() => ended.get(1), TypeError);
    let count = 0;
    for (const [key] of map) {
      local.batch((batch) => batch.map("t").delete(3 - key));
      count++;
    }
    assert.equal(count, 1);
    assert.deepEqual(local.batch((batch) => [...batch.map("t").keys()].length), 1);
  }));
