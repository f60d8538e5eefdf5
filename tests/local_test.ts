/** The data of a host for the process that it is in: synchronous methods, batches, views. */

import assert from "node:assert/strict";
import { MemStore, MemStoreClient, MemStoreError } from "../mod.ts";
import { TempDir } from "./host.ts";

/** A host in this process, which is started unless the test says otherwise. */
async function started(directory: TempDir, options = {}): Promise<MemStore> {
  const store = new MemStore(`${directory.path}/store.sock`, { dataDirectory: directory.path, ...options });
  await store.start();
  return store;
}

const code = (expected: string) => (error: unknown) =>
  error instanceof MemStoreError && error.code === expected;

Deno.test("every command is a method that returns at once, with the client's conventions", async () => {
  await using directory = new TempDir();
  await using store = await started(directory);
  const { local } = store;
  assert.equal(local.get("t", "k"), undefined);
  assert.equal(local.set("t", "k", { a: [1, null] }), 1);
  assert.deepEqual(local.get("t", "k"), { a: [1, null] });
  assert.equal(local.setNew("t", "k", 2), false);
  assert.equal(local.setNew("t", "new", 2, { seconds: 60 }), true);
  assert.ok(local.ttl("t", "new")! > 50);
  assert.equal(local.ttl("t", "k"), Infinity);
  assert.equal(local.ttl("t", "none"), undefined);
  assert.equal(local.cas("t", "none", undefined, 1), true);
  assert.equal(local.cas("t", "none", 2, 3), false);
  assert.equal(local.delIf("t", "none", 2), false);
  assert.equal(local.delIf("t", "none", 1), true);
  assert.equal(local.incr("t", "n"), 1);
  assert.equal(local.incr("t", "n", 2n ** 60n, { seconds: 60 }), 2n ** 60n + 1n);
  assert.equal(local.pop("t", "none"), undefined);
  assert.equal(local.pop("t", "new"), 2);
  assert.equal(local.exists("t", "k"), true);
  assert.equal(local.del("t", "none"), false);
  assert.deepEqual(local.getMany("t", ["k", "none"]), [{ a: [1, null] }, undefined]);
  assert.equal(local.setMany("many", new Map([[1, "a"], [2, "b"]])), 2);
  assert.equal(local.expire("many", 1, 60), true);
  assert.equal(local.persist("many", 1), true);
  assert.equal(local.persist("many", 1), false);
  assert.deepEqual(local.keys("many").sort(), [1, 2]);
  assert.equal(local.size("many"), 2);
  assert.deepEqual(local.all("many"), new Map([[1, "a"], [2, "b"]]));
  assert.deepEqual(local.scan("many", 0), [0, new Map([[1, "a"], [2, "b"]])]);
  assert.deepEqual(local.tables().sort(), ["many", "t"]);
  assert.equal(local.drop("many"), true);
  assert.equal(local.drop("many"), false);
  assert.equal(local.push("s", 1), 1);
  assert.equal(local.pushMany("s", [1, 2, 3]), 2);
  assert.equal(local.pull("s", 3), true);
  assert.equal(local.inSet("s", 3), false);
  assert.deepEqual(local.listSet("s").sort(), [1, 2]);
  assert.deepEqual(local.scanSet("s", 0)[0], 0);
  local.pushMany("other", [2, 4]);
  assert.deepEqual(local.union(["s", "other"]).sort(), [1, 2, 4]);
  assert.deepEqual(local.inter(["s", "other"]), [2]);
  assert.deepEqual(local.diff(["s", "other"]), [1]);
  assert.equal(local.setSize("s"), 2);
  assert.equal(local.clearSet("s"), 1);
  assert.equal(local.dropSet("none"), false);
  assert.deepEqual(local.sets().sort(), ["other", "s"]);
  assert.deepEqual(local.transfers(), []);
  assert.equal(local.hello().right, "admin");
  assert.equal(local.ping(), "pong");
  assert.equal(local.info()[1], "mb");
  assert.equal(local.stats().pid, Deno.pid);
  assert.ok(local.commands().some(({ name }) => name === "get"));
  assert.equal(local.update<number>("t", "u", (n = 1) => n * 2), 2);
  assert.equal(local.update<number>("t", "u", () => undefined), undefined);
  assert.equal(local.exists("t", "u"), false);
});

Deno.test("the process and its clients see the same data, and values are copies", async () => {
  await using directory = new TempDir();
  await using store = await started(directory);
  await using client = new MemStoreClient(`${directory.path}/store.sock`);
  const value = { list: [1] };
  store.local.set("t", "k", value);
  value.list.push(2);
  assert.deepEqual(await client.get("t", "k"), { list: [1] });
  await client.set("t", "k", 3);
  assert.equal(store.local.get("t", "k"), 3);
  store.local.set("t", "bytes", new Uint8Array([1, 2, 3]));
  const bytes = store.local.get("t", "bytes");
  store.local.set("t", "k", "what follows uses the same buffers");
  assert.deepEqual(bytes, new Uint8Array([1, 2, 3]));
});

Deno.test("what is refused throws at once, with its code", async () => {
  await using directory = new TempDir();
  await using store = await started(directory, { maxMemory: 2 ** 23, limits: { message: 2 ** 16 } });
  const { local } = store;
  local.set("t", "text", "a");
  assert.throws(() => local.incr("t", "text"), code("FAILED"));
  assert.throws(() => local.expire("t", "text", NaN), code("BAD_ARGUMENT"));
  assert.throws(() => local.send(["nonsense"]), code("UNKNOWN_COMMAND"));
  assert.throws(() => local.set("t", "k", undefined), TypeError);
  assert.throws(() => local.set("t", "k", new Array(2 ** 30)), code("TOO_LARGE"));
  for (let i = 0; i < 2; i++) local.set("t", i, "x".repeat(2 ** 15));
  assert.throws(() => local.all("t"), code("TOO_LARGE"));
  const fill = () => {
    for (let i = 0; i < 1000; i++) local.set("full", i, new Uint8Array(2 ** 15));
  };
  assert.throws(fill, code("OUT_OF_MEMORY"));
  await assert.rejects(local.store("../outside"), code("FAILED"));
});

Deno.test("what the process deletes is cleaned up though no client asks for anything", async () => {
  await using directory = new TempDir();
  await using store = await started(directory);
  const { local } = store;
  local.setMany("t", new Map(Array.from({ length: 50_000 }, (_, i) => [i, `value ${i}`])));
  const { heap } = local.stats();
  local.drop("t");
  for (let tries = 0; tries < 500 && local.stats().heap === heap; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.ok(local.stats().heap < heap);
});

Deno.test("a batch is a transaction: what it changed is rolled back if it throws", async () => {
  await using directory = new TempDir();
  await using store = await started(directory);
  const { local } = store;
  local.set("t", "a", 1);
  local.push("s", 1);
  assert.equal(local.batch((batch) => batch.incr("t", "a") === 2 && batch.incr("t", "a", 5)), 7);
  assert.throws(
    () =>
      local.batch((batch) => {
        batch.set("t", "b", 1);
        batch.drop("t");
        batch.map("new").set("k", 1);
        batch.set("s").clear();
        batch.del("t", "a");
        throw new RangeError("no");
      }),
    RangeError,
  );
  assert.deepEqual(local.all("t"), new Map([["a", 7]]));
  assert.deepEqual(local.listSet("s"), [1]);
  assert.deepEqual(local.tables(), ["t"]);
  assert.throws(
    () => local.batch((batch) => [batch.set("t", "a", "text"), batch.incr("t", "a")]),
    code("FAILED"),
  );
  assert.equal(local.get("t", "a"), 7);
});

Deno.test("a batch ends with its function: no late calls, none within another, nothing asynchronous", async () => {
  await using directory = new TempDir();
  await using store = await started(directory);
  const { local } = store;
  const kept = local.batch((batch) => batch);
  assert.throws(() => kept.set("t", "k", 1), TypeError);
  assert.throws(() => local.batch(() => local.batch(() => 1)), TypeError);
  const asynchronous = async (batch: { set: typeof local.set }) => {
    batch.set("t", "k", 1);
    await 0;
    batch.set("t", "k", 2);
  };
  assert.throws(() => local.batch(asynchronous), TypeError);
  assert.throws(
    () => local.update("t", "k", (() => Promise.resolve(1)) as unknown as () => number),
    TypeError,
  );
  await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(local.exists("t", "k"), false);
  store.command("later", { args: [], help: "Later.", run: () => Promise.resolve(1) });
  assert.equal(await local.send(["later"]), 1);
  assert.throws(
    () => local.batch((batch) => [batch.set("t", "k", 1), batch.send(["later"])]),
    code("NOT_IN_BATCH"),
  );
  assert.throws(
    () => local.batch((batch) => [batch.set("t", "k", 1), batch.send(["store", "file"])]),
    code("NOT_IN_BATCH"),
  );
  assert.equal(local.exists("t", "k"), false);
  // (After all of that, an ordinary call is none of a batch.)
  assert.deepEqual((await local.store("file"))[0], "stored");
});

Deno.test("data that is not in this process cannot be reached: before its state is loaded, joined, or stopped", async () => {
  await using directory = new TempDir();
  const keeping = new MemStore(`${directory.path}/store.sock`, {
    dataDirectory: directory.path,
    state: "state",
  });
  assert.throws(() => keeping.local.set("t", "k", 1), /not started, and loads its state/);
  await keeping.start();
  keeping.local.set("t", "k", 1);
  await using joined = new MemStore(`${directory.path}/store.sock`);
  // (Without a state, it may be filled before anybody can reach it.)
  joined.local.set("t", "k", 2);
  assert.equal(await joined.start({ join: true }), "joined");
  assert.throws(() => joined.local.get("t", "k"), /another host serves the endpoint/);
  await keeping.local.done();
  await keeping.finished;
  assert.throws(() => keeping.local.get("t", "k"), /stopped/);

  await using again = new MemStore(`${directory.path}/store.sock`, {
    dataDirectory: directory.path,
    state: "state",
  });
  await again.start();
  assert.equal(again.local.get("t", "k"), 1);
});
