/** Batches: they are atomic, reject with one error, and no unhandled promise ends the process. */

import assert from "node:assert/strict";
import { type CommandMethods, MemStoreClient } from "../mod.ts";
import { Host } from "./host.ts";
import { engines } from "./engines.ts";
import { abortListeners, pair } from "./pair.ts";

const PARTITIONS =
  "the keys of its batches are in several partitions: cluster_test.ts has batches within one";
const test = engines({
  "of a batch that fails in its middle nothing is done, and it rejects with what failed": PARTITIONS,
  "a batch leaves no listener at its signal, however it ends": PARTITIONS,
});

test("of a batch that fails in its middle nothing is done, and it rejects with what failed", async (engine) => {
  await using both = await pair(engine.options);
  const { client } = both;
  await client.set("t", "text", "a");
  for (const at of [0, 1, 3]) {
    const commands: [string, ...unknown[]][] = [0, 1, 2].map((i) => ["set", "t", i, i]);
    commands.splice(at, 0, ["incr", "t", "text"]);
    await assert.rejects(client.batch(commands), { code: "FAILED", message: /incr/ });
    assert.deepEqual(await client.keys("t"), ["text"]);
  }
  await assert.rejects(
    client.batch((batch) => [
      batch.set("t", "a", 1).then((reply) => reply),
      batch.send(["no_such_command"]).then((reply) => reply).then((reply) => reply),
      batch.set("t", "b", 1),
    ]),
    { code: "UNKNOWN_COMMAND" },
  );
  assert.deepEqual(await client.keys("t"), ["text"]);
});

test("a method of a batch throws at once when its function has returned", async (engine) => {
  await using both = await pair(engine.options);
  const { client } = both;
  let late!: CommandMethods;
  await client.batch((batch) => {
    late = batch;
    return [batch.set("t", "k", 1)];
  });
  const why = { name: "TypeError", message: /the function of its batch has returned/ };
  assert.throws(() => late.set("t", "late", 1), why);
  assert.throws(() => late.get("t", "late"), why);
  assert.throws(() => late.send(["ping"]), why);
  assert.deepEqual(await client.keys("t"), ["k"]);
});

test("a batch within a batch throws at once, and the outer one does nothing", async (engine) => {
  await using both = await pair(engine.options);
  const { client } = both;
  let thrown: unknown;
  const outer = client.batch((batch) => {
    batch.set("t", "outer", 1);
    try {
      client.batch([["set", "t", "inner", 1]]);
    } catch (error) {
      thrown = error;
      throw error;
    }
    return [];
  });
  assert.ok(thrown instanceof TypeError && /within the function of another batch/.test(thrown.message));
  await assert.rejects(outer, TypeError);
  assert.equal(await client.size("t"), 0);
  assert.deepEqual(await client.batch([["set", "t", "k", 1]]), [1]);
});

test("the function of a batch returns an array, or nothing is done", async (engine) => {
  await using both = await pair(engine.options);
  const { client } = both;
  const wrong = [
    async (batch: CommandMethods) => [await batch.set("t", "k", 1)],
    (batch: CommandMethods) => batch.set("t", "k", 1),
    (batch: CommandMethods) => void batch.set("t", "k", 1),
  ];
  for (const each of wrong) {
    await assert.rejects(client.batch(each as never), { name: "TypeError", message: /must return an array/ });
  }
  assert.equal(await client.size("t"), 0);
});

test("a batch leaves no listener at its signal, however it ends", async (engine) => {
  await using both = await pair(engine.options);
  const { client } = both;
  const { signal } = new AbortController();
  const listeners = () => abortListeners(signal);
  const large = client.batch(Array.from({ length: 1000 }, (_, i) => ["set", "t", i, i] as const), { signal });
  assert.ok(listeners() <= 1);
  await large;
  await client.batch([["no_such_command"]], { signal }).catch(() => {});
  await client.batch(() => [() => {}, client.ping({ signal: 1 as never })], { signal }).catch(() => {});
  assert.equal(listeners(), 0);
});

/** Ways to make a batch that fails and is caught. */
const FAILING: Record<string, string> = {
  "a call that cannot be made, behind one that can":
    `await client.batch((b) => [b.get("t", "k"), b.set("t", "k", undefined)])`,
  "the same with replies that are converted": `await client.batch((b) => [
    b.get("t", "k").then((v) => v), b.exists("t", "k"), b.del("t", "k"), b.getMany("t", []), b.set("t", "k", () => 1)])`,
  "a function that throws":
    `await client.batch((b) => { b.pop("t", "k").then(String); throw new Error("mine"); })`,
  "a command that is refused, with promises that nobody looks at": `await client.batch((b) => {
    b.get("t", "k").then(String).finally(() => {}); b.ttl("t", "k"); return [b.send(["no_such_command"])]; })`,
  "a reply that a function cannot use":
    `await client.batch((b) => [b.get("t", "k").then(() => { throw new Error("mine"); }), b.ping()])`,
  "a promise of an async function": `await client.batch((b) => [
    (async () => [await b.get("t", "k")])(), b.send(["no_such_command"])])`,
  "an abort": `await client.batch((b) => [b.get("t", "k"), b.ttl("t", "k").then(String)],
    { signal: AbortSignal.abort() })`,
  "a client that is closed": `client.close(); await client.batch((b) => [b.get("t", "k")])`,
};

Deno.test("a batch error that is caught does not end the process", async (test) => {
  await using host = await Host.start();
  for (const [what, code] of Object.entries(FAILING)) {
    await test.step(what, async () => {
      const program = `
        import { MemStoreClient } from ${JSON.stringify(new URL("../mod.ts", import.meta.url).href)};
        const client = new MemStoreClient(${JSON.stringify(host.endpoint)});
        let caught = 0;
        try { ${code} } catch { caught++; }
        await new Promise((resolve) => setTimeout(resolve, 20));
        console.log("caught", caught);
        await client.close();`;
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["eval", "--quiet", "--no-check", program],
        signal: AbortSignal.timeout(20_000),
      }).output();
      assert.equal(new TextDecoder().decode(stdout), "caught 1\n", new TextDecoder().decode(stderr));
    });
  }
});

test("batches keep their place among the other calls", async (engine) => {
  await using host = await engine.host();
  await using client = new MemStoreClient(host.endpoint);
  const ends: unknown[] = [], batches: Promise<unknown>[] = [];
  for (let i = 0; i < 100; i++) {
    client.set("t", "k", "first");
    const batch = client.batch([["set", "t", "k", "batch"], ["get", "t", "k"]]);
    batches.push(batch.then(([, value]) => ends.push(value)));
    client.set("t", "k", "last");
    ends.push(await client.get("t", "k"));
  }
  await Promise.all(batches);
  assert.deepEqual([...new Set(ends)].sort(), ["batch", "last"]);
});

test("a batch may ask for many keys at once, up to its bound", async (engine) => {
  await using host = await engine.host();
  await using client = new MemStoreClient(host.endpoint);
  const keys = (count: number) => Array<string>(count).fill("k");
  const [, values] = await client.batch([["set", "t", "k", 1], ["get_many", "t", keys(20_000)]]);
  assert.deepEqual(values, Array(20_000).fill(1));
  for (const commands of [[["get_many", "t", keys(40_000)]], [["push_many", "s", keys(40_000)]]]) {
    await assert.rejects(client.batch(commands as [string, ...unknown[]][]), { code: "TOO_LARGE" });
  }
});
