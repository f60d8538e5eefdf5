/** Tables as asynchronous Maps and sets as asynchronous Sets: every command on them, with its types. */

import assert from "node:assert/strict";
import { commands } from "../commands/list.ts";
import { CommandMethods, RemoteSet, RemoteTable } from "../mod.ts";
import { engines } from "./engines.ts";
import { pair } from "./pair.ts";

const test = engines();

/** The commands on tables and on sets, and the methods of the views that send them. */
const TABLE: Record<string, keyof RemoteTable> = {
  get: "get",
  set: "set",
  del: "delete",
  exists: "has",
  set_new: "setNew",
  cas: "cas",
  del_if: "deleteIf",
  incr: "incr",
  pop: "pop",
  get_many: "getMany",
  set_many: "setMany",
  expire: "expire",
  persist: "persist",
  ttl: "ttl",
  keys: "keys",
  size: "size",
  all: "all",
  scan: "scan",
  drop: "drop",
};
const SET: Record<string, keyof RemoteSet> = {
  push: "add",
  push_many: "addMany",
  pull: "delete",
  in_set: "has",
  list_set: "all",
  scan_set: "scan",
  union: "union",
  inter: "intersection",
  diff: "difference",
  set_size: "size",
  clear_set: "clear",
  drop_set: "drop",
};

Deno.test("the views have every command on tables and sets", () => {
  for (const { name, args } of commands) {
    const [first] = args;
    if (first?.name === "table") assert.ok(TABLE[name] in RemoteTable.prototype, `no method for ${name}`);
    if (first?.name === "set" || first?.name === "sets") {
      assert.ok(SET[name] in RemoteSet.prototype, `no method for ${name}`);
    }
  }
  assert.ok("hello" in CommandMethods.prototype);
});

test("a table's methods answer with booleans and undefined", async (engine) => {
  await using both = await pair(engine.options);
  const ages = both.client.table<string, number>("ages");
  assert.equal(await ages.get("alice"), undefined);
  assert.equal(await ages.pop("alice"), undefined);
  assert.equal(await ages.ttl("alice"), undefined);
  assert.equal(await ages.setNew("alice", 31), true);
  assert.equal(await ages.setNew("alice", 32), false);
  assert.equal(await ages.cas("alice", 30, 33), false);
  assert.equal(await ages.cas("alice", 31, 33), true);
  assert.equal(await ages.cas("alice", undefined, 34), false);
  assert.equal(await ages.cas("bob", undefined, 27), true);
  assert.equal(await ages.incr("bob"), 28);
  assert.equal(await ages.incr("carol", 5, { seconds: 100 }), 5);
  const left = await ages.ttl("carol");
  assert.ok(left !== undefined && left > 90 && left <= 100, `${left}`);
  assert.equal(await ages.persist("carol"), true);
  assert.equal(await ages.persist("carol"), false);
  assert.equal(await ages.ttl("carol"), Infinity);
  assert.deepEqual(await ages.getMany(["alice", "nobody"]), [33, undefined]);
  assert.equal(await ages.setMany(new Map([["dave", 1], ["alice", 2]])), 1);
  assert.equal(await ages.setMany({ erin: 5 }), 1);
  assert.equal(await ages.deleteIf("erin", 4), false);
  assert.equal(await ages.deleteIf("erin", 5), true);
  assert.equal(await ages.expire("dave", 100), true);
  assert.equal(await ages.expire("nobody", 100), false);
  assert.equal(await ages.pop("dave"), 1);
  assert.equal(await ages.update("alice", (age = 0) => age + 1), 3);
  assert.equal(await (await ages.set("soon", 1, { seconds: 0.05 })).has("soon"), true);
  assert.equal(await ages.setNew("later", 1, { seconds: 100 }), true);
  assert.ok(await ages.ttl("later") as number <= 100);
  assert.equal(await ages.delete("later"), true);
  assert.equal(await ages.delete("later"), false);
  for (const end = Date.now() + 5000; await ages.has("soon") && Date.now() < end;);
  assert.deepEqual(
    await ages.all(),
    new Map([["alice", 3], ["bob", 28], ["carol", 5]].sort() as [string, number][]),
  );
  const [cursor, entries] = await ages.scan(0, 100);
  assert.deepEqual([cursor, entries.size], [0, 3]);
  assert.deepEqual((await Array.fromAsync(ages.keys())).sort(), ["alice", "bob", "carol"]);
  assert.equal(await ages.drop(), true);
  assert.equal(await ages.drop(), false);
});

test("a set's methods answer with booleans and values", async (engine) => {
  await using both = await pair(engine.options);
  const a = both.client.namedSet<number>("a"), b = both.client.namedSet<number>("b");
  assert.equal(await a.addMany([1, 2, 3, 3]), 3);
  await b.add(3);
  await b.add(4);
  assert.deepEqual((await a.union(b)).sort(), [1, 2, 3, 4]);
  assert.deepEqual(await a.intersection("b"), [3]);
  assert.deepEqual((await a.difference(b, "missing")).sort(), [1, 2]);
  assert.deepEqual((await a.all()).sort(), [1, 2, 3]);
  const [cursor, members] = await a.scan(0);
  assert.deepEqual([cursor, members.length], [0, 3]);
  assert.equal(await a.delete(1), true);
  assert.equal(await a.delete(1), false);
  assert.equal(await a.drop(), true);
  assert.equal(await a.drop(), false);
  await b.clear();
  assert.equal(await b.size(), 0);
});

test("get and cas in a loop end, whatever is there: undefined is what is missing", async (engine) => {
  await using both = await pair(engine.options);
  const { client } = both;
  for (
    const start of [
      undefined,
      null,
      20,
      1.5,
      "x",
      { b: 1, a: [2] },
      new Map([[1, 2]]),
      2n ** 60n,
      new Date(5),
    ]
  ) {
    await client.del("t", "k");
    if (start !== undefined) await client.set("t", "k", start);
    assert.equal(await client.cas("t", "k", await client.get("t", "k"), "new"), true);
    assert.equal(await client.get("t", "k"), "new");
  }
});

test("no change is lost between updates, and undefined deletes", async (engine) => {
  await using both = await pair(engine.options);
  const { client } = both;
  await Promise.all(
    Array.from({ length: 20 }, () => client.update<number>("t", "n", async (n = 0) => await n + 1)),
  );
  assert.equal(await client.get("t", "n"), 20);
  assert.equal(await client.update("t", "n", () => undefined), undefined);
  assert.equal(await client.exists("t", "n"), false);
  assert.equal(await client.update("t", "n", () => undefined), undefined);
  await client.set("t", "null", null);
  assert.equal(await client.update("t", "null", () => undefined), undefined);
  assert.equal(await client.exists("t", "null"), false);
  await assert.rejects(client.update("t", "n", () => Promise.reject(new Error("mine"))), /mine/);
  const endless = client.update<number>("t", "n", async (n = 0) => {
    await client.incr("t", "n");
    return n + 1;
  }, { timeout: 100 });
  await assert.rejects(endless, { code: "TIMEOUT" });
  const abort = new AbortController();
  const aborted = client.update<number>(
    "t",
    "n",
    (n = 0) => (abort.abort(new Error("enough")), n + 1),
    abort,
  );
  await assert.rejects(aborted, /enough/);
});
