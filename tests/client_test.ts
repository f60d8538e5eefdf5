/** The client end to end: every command, coalescing, batches, timeouts, reconnection. */

import assert from "node:assert/strict";
import { type CommandMethods, Extension, MemStore, MemStoreClient } from "../mod.ts";
import { Host, TempDir } from "./host.ts";
import { pair } from "./pair.ts";

/** Keys and members come in no order; this gives them one. */
function sorted<T>(items: T[]): T[] {
  const text = (item: T) => typeof item === "bigint" ? `${item}` : JSON.stringify(item);
  return items.toSorted((a, b) => text(a) < text(b) ? -1 : 1);
}

Deno.test("every command has a method, and answers as the design says", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  assert.equal(await client.ping(), "pong");
  assert.equal(await client.set("t", "k", { a: [1, null] }), 1);
  assert.deepEqual(await client.get("t", "k"), { a: [1, null] });
  assert.equal(await client.get("t", "missing"), undefined);
  assert.equal(await client.get("missing", "k"), undefined);
  assert.equal(await client.exists("t", "k"), true);
  assert.equal(await client.exists("t", "missing"), false);
  assert.equal(await client.set("t", 1, "one"), 1);
  assert.deepEqual(sorted(await client.keys("t")), ["k", 1]);
  assert.equal(await client.size("t"), 2);
  assert.deepEqual(await client.all("t"), new Map<unknown, unknown>([["k", { a: [1, null] }], [1, "one"]]));
  assert.deepEqual(await client.all("missing"), new Map());
  assert.deepEqual(await client.tables(), ["t"]);
  assert.equal(await client.del("t", "k"), true);
  assert.equal(await client.del("t", "k"), false);
  assert.equal(await client.drop("t"), true);
  assert.equal(await client.drop("t"), false);
  assert.deepEqual(await client.tables(), []);

  assert.equal(await client.push("s", "v"), 1);
  assert.equal(await client.push("s", "v"), 1);
  assert.equal(await client.push("s", 1), 1);
  assert.equal(await client.inSet("s", "v"), true);
  assert.equal(await client.inSet("s", "w"), false);
  assert.deepEqual(sorted(await client.listSet("s")), ["v", 1]);
  assert.equal(await client.setSize("s"), 2);
  assert.equal(await client.pull("s", "v"), true);
  assert.equal(await client.pull("s", "v"), false);
  assert.equal(await client.pull("missing", "v"), false);
  assert.deepEqual(await client.sets(), ["s"]);
  assert.equal(await client.clearSet("s"), 1);
  assert.deepEqual(await client.listSet("s"), []);
  assert.equal(await client.dropSet("s"), true);
  assert.deepEqual(await client.sets(), []);

  const [megabytes, unit] = await client.info();
  assert.ok(megabytes > 1 && unit === "mb");
  const stats = await client.stats();
  assert.equal(stats.pid, host.pid);
  assert.equal(stats.entries, 0);
  assert.deepEqual((await client.commands()).find(({ name }) => name === "in_set"), {
    name: "in_set",
    args: ["set", "value"],
    help: "Returns whether a value is a member of a set.",
  });
  assert.equal((await client.store("state"))[0], "stored");
  assert.equal((await client.restore("state"))[0], "restored");
  assert.deepEqual(await client.done(), ["ok"]);
});

Deno.test("keys and members of any type are compared by value, and come back", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  const keys = [
    "text",
    "x".repeat(300),
    "",
    0,
    -1,
    2 ** 40,
    2n ** 63n,
    1.5,
    true,
    null,
    new Uint8Array([1, 2]),
    ["a", 1, ["b"]],
    { a: 1, b: 2 },
    new Extension(5, new Uint8Array([1])),
  ];
  for (const [i, key] of keys.entries()) await client.set("t", key, i);
  assert.equal(await client.size("t"), keys.length);
  assert.deepEqual(sorted(await client.keys("t")), sorted(keys));
  for (const [i, key] of keys.entries()) assert.equal(await client.get("t", key), i);
  assert.equal(await client.get("t", { b: 2, a: 1 }), 12, "a map's order does not matter");
  assert.equal(await client.get("t", 0.0), 3);
  assert.equal(await client.get("t", "0"), undefined, "1 and '1' differ");
  await client.push(["a", "set"], keys);
  assert.ok(await client.inSet(["a", "set"], keys));
});

Deno.test("calls of one tick travel in few messages", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  const before = (await client.stats()).messages;
  const replies = await Promise.all(Array.from({ length: 1000 }, (_, i) => client.set("t", i, i)));
  assert.equal(replies.length, 1000);
  const messages = (await client.stats()).messages - before - 1;
  assert.ok(messages <= 8, `${messages} messages`);
});

Deno.test("a call that is refused does not take the others of its tick with it", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  const results = await Promise.allSettled([
    client.set("t", "a", 1),
    client.send(["no_such_command"]),
    client.get("t", "a"),
    client.send(["get", "t"]),
    client.ping(),
  ]);
  assert.deepEqual(results.map((each) => each.status === "fulfilled" ? each.value : each.reason.code), [
    1,
    "UNKNOWN_COMMAND",
    1,
    "BAD_ARGUMENT",
    "pong",
  ]);
});

Deno.test("a batch runs whole or not at all", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  const bad = client.batch([["set", "t", "a", 1], ["no_such_command"], ["set", "t", "b", 1]]);
  await assert.rejects(bad, { code: "UNKNOWN_COMMAND" });
  assert.equal(await client.size("t"), 0);
  const [one, size, keys] = await client.batch((batch) => [
    batch.set("t", "a", 1),
    batch.size("t"),
    batch.keys<string>("t"),
  ]);
  assert.deepEqual([one, size, keys], [1, 1, ["a"]]);
  assert.deepEqual(await client.batch([]), []);
  await assert.rejects(
    client.batch((batch) => [batch.set("t", "c", 1), batch.set("t", "d", () => 1)]),
    TypeError,
  );
  assert.equal(await client.size("t"), 1);
  await assert.rejects(client.batch((batch) => [batch.get("t", "a", { timeout: 1 })]), TypeError);
});

Deno.test("nothing of another client comes between the commands of a batch", async () => {
  await using host = await Host.start();
  await using a = new MemStoreClient(host.endpoint);
  await using b = new MemStoreClient(host.endpoint);
  const mark = (client: MemStoreClient, who: string) =>
    client.batch((batch: CommandMethods) => [
      batch.set("t", "who", who),
      ...Array.from({ length: 20 }, () => batch.get("t", "who")),
    ]);
  for (let round = 0; round < 50; round++) {
    const [ofA, ofB] = await Promise.all([mark(a, "a"), mark(b, "b")]);
    assert.deepEqual([...new Set(ofA.slice(1))], ["a"]);
    assert.deepEqual([...new Set(ofB.slice(1))], ["b"]);
  }
});

Deno.test("MemStoreClient.table() is an asynchronous Map", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  const ages = client.table<string, number>("ages");
  await (await ages.set("alice", 31)).set("bob", 27);
  assert.equal(await ages.get("alice"), 31);
  assert.equal(await ages.has("carol"), false);
  assert.equal(await ages.size(), 2);
  assert.deepEqual(sorted(await Array.fromAsync(ages)), [["alice", 31], ["bob", 27]]);
  assert.deepEqual(sorted(await Array.fromAsync(ages.keys())), ["alice", "bob"]);
  assert.deepEqual(sorted(await Array.fromAsync(ages.values())), [27, 31]);
  assert.equal(await ages.delete("bob"), true);
  assert.equal(await ages.delete("bob"), false);
  await ages.clear();
  assert.equal(await ages.size(), 0);
});

Deno.test("MemStoreClient.namedSet() is an asynchronous Set", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  const online = client.namedSet<string>("online");
  const iterated: string[] = [];
  await (await online.add("alice")).add("alice");
  assert.equal(await online.has("alice"), true);
  assert.equal(await online.size(), 1);
  for await (const name of online) iterated.push(name);
  assert.deepEqual(iterated, ["alice"]);
  assert.equal(await online.delete("alice"), true);
  assert.equal(await online.delete("alice"), false);
  await online.add("bob");
  await online.clear();
  assert.deepEqual(await Array.fromAsync(online), []);
});

Deno.test("a call gives up after its timeout when no host is there", async () => {
  await using directory = new TempDir();
  await using client = new MemStoreClient(`${directory.path}/nobody.sock`, { timeout: 100 });
  await assert.rejects(client.get("t", "k"), { code: "TIMEOUT", message: /no host at ipc:.*within 100 ms/ });
  await assert.rejects(client.get("t", "k", { timeout: 20 }), { code: "TIMEOUT", message: /within 20 ms/ });
  await assert.rejects(client.get("t", "k", { timeout: 0 }), RangeError);
});

Deno.test("a host that is there but stopped times out, and its late reply disturbs nobody", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await client.ping();
  Deno.kill(host.pid, "SIGSTOP");
  await assert.rejects(client.get("t", "k", { timeout: 100 }), {
    code: "TIMEOUT",
    message: /did not answer/,
  });
  Deno.kill(host.pid, "SIGCONT");
  await client.set("t", "k", 2);
  assert.equal(await client.get("t", "k"), 2);
});

Deno.test("a call gives up when its signal aborts", async () => {
  await using directory = new TempDir();
  await using client = new MemStoreClient(`${directory.path}/nobody.sock`);
  const reason = new Error("enough");
  const controller = new AbortController();
  const call = client.get("t", "k", { signal: controller.signal });
  const batch = client.batch([["ping"]], { signal: controller.signal });
  controller.abort(reason);
  await assert.rejects(call, reason);
  await assert.rejects(batch, reason);
  await assert.rejects(client.ping({ signal: AbortSignal.abort(reason) }), reason);
});

Deno.test("a call that is aborted in its tick does not run, and its neighbours do", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  const controller = new AbortController();
  const calls = [client.set("t", "a", 1, { signal: controller.signal }), client.set("t", "b", 1)];
  controller.abort();
  const results = await Promise.allSettled(calls);
  assert.deepEqual(results.map(({ status }) => status), ["rejected", "fulfilled"]);
  assert.deepEqual(await client.keys("t"), ["b"]);
});

Deno.test("writes run in the order of their calls, whatever is refused between them", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  for (let i = 0; i < 50; i++) {
    const first = Promise.allSettled([client.set("t", "k", "old"), client.send(["no_such_command"])]);
    await Promise.resolve();
    const second = client.set("t", "k", "new");
    await Promise.all([first, second]);
    assert.equal(await client.get("t", "k"), "new");
  }
});

Deno.test("a call that is refused does not move its neighbours behind later calls", async () => {
  await using both = await pair();
  const { client, store } = both;
  const ended = Promise.withResolvers<void>();
  store.command("slow", { args: [], help: "", run: () => ended.promise });
  // While a call is pending, those of a tick leave at its end.
  const slow = client.send(["slow"], { timeout: 60_000 });
  slow.catch(() => {});
  const refused: [string, ...unknown[]][] = [["incr", "t", "k", "x"], ["set", "t", "k"], ["no_such_command"]];
  for (let i = 0; i < 100; i++) {
    const first = Promise.allSettled([client.send(refused[i % 3]), client.set("t", "k", 1)]);
    await Promise.resolve();
    const second = client.set("t", "k", 2);
    const [[bad, good]] = await Promise.all([first, second]);
    assert.deepEqual([bad.status, good.status], ["rejected", "fulfilled"]);
    assert.equal(await client.get("t", "k"), 2);
  }
  ended.resolve();
  await slow;
});

Deno.test("calls made before the host is there are answered when it is", async () => {
  await using directory = new TempDir();
  const endpoint = `${directory.path}/late.sock`;
  await using client = new MemStoreClient(endpoint);
  const early = [client.set("t", "k", 1), client.get("t", "k")];
  await using store = new MemStore(endpoint);
  await store.start();
  assert.deepEqual(await Promise.all(early), [1, 1]);
});

Deno.test("what is pending rejects when the host dies, and the client finds the next one", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await client.ping();
  Deno.kill(host.pid, "SIGSTOP");
  const pending = Array.from({ length: 3 }, () => client.ping().catch((error) => error));
  // The calls leave in a microtask; only then is the host killed.
  await new Promise((resolve) => setTimeout(resolve, 20));
  await host.end("SIGKILL");
  for (const error of await Promise.all(pending)) {
    assert.equal(error.code, "DISCONNECTED");
    assert.ok(error.message.includes(host.endpoint), error.message);
  }
  await using next = await Host.start(host.endpoint);
  assert.equal((await client.stats()).pid, next.pid);
});

Deno.test("a closed client rejects what is pending and what comes after", async () => {
  await using directory = new TempDir();
  const client = new MemStoreClient(`${directory.path}/nobody.sock`);
  const pending = client.ping();
  await Promise.all([client.close(), assert.rejects(pending, { code: "CLOSED" })]);
  await assert.rejects(client.ping(), { code: "CLOSED" });
  await client.close();
});

Deno.test("a client that is closed in the tick of its first call has closed", async () => {
  await using host = await Host.start();
  const client = new MemStoreClient(host.endpoint);
  const [call] = await Promise.allSettled([client.ping(), client.close()]);
  assert.equal(call.status, "rejected");
});

Deno.test("a hundred clients of one process are served", async () => {
  await using host = await Host.start();
  const clients = Array.from({ length: 100 }, () => new MemStoreClient(host.endpoint));
  try {
    for (let round = 0; round < 3; round++) {
      await Promise.all(clients.map((client, i) => client.set("t", i, round)));
    }
    assert.equal(await clients[0].size("t"), 100);
  } finally {
    await Promise.all(clients.map((client) => client.close()));
  }
});

Deno.test("a large value passes whole", async () => {
  await using both = await pair();
  const value = crypto.getRandomValues(new Uint8Array(65536));
  const large = new Uint8Array(8 << 20);
  for (let at = 0; at < large.length; at += value.length) large.set(value, at);
  await both.client.set("t", "large", large);
  assert.deepEqual(await both.client.get("t", "large"), large);
});

Deno.test("many large values are read at once, and what fits in no message goes alone", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  const bytes = 8 << 20;
  await client.set("t", "large", new Uint8Array(bytes));
  const before = (await client.stats()).messages;
  // In one message their replies would be longer than a message may be.
  const sizes = await Promise.all(
    Array.from({ length: 80 }, () => client.get<Uint8Array>("t", "large").then((value) => value?.length)),
  );
  assert.deepEqual([...new Set(sizes)], [bytes]);
  assert.ok((await client.stats()).messages - before < 100);
});

Deno.test("commands of the application's own that take long hold up nobody", async () => {
  await using both = await pair();
  const ended = Promise.withResolvers<void>();
  both.store.command("slow", { args: [], help: "", run: () => ended.promise });
  const slow = Array.from({ length: 100 }, () => both.client.send(["slow"]));
  assert.equal(await both.client.ping({ timeout: 3000 }), "pong");
  ended.resolve();
  await Promise.all(slow);
});

Deno.test("a process with an idle client ends by itself", async () => {
  await using host = await Host.start();
  const code = `
    import { MemStoreClient } from ${JSON.stringify(new URL("../mod.ts", import.meta.url).href)};
    console.log(await new MemStoreClient(${JSON.stringify(host.endpoint)}).ping());`;
  const { code: status, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", code],
    signal: AbortSignal.timeout(20_000),
  }).output();
  assert.equal(status, 0);
  assert.equal(new TextDecoder().decode(stdout), "pong\n");
});

Deno.test("a value nested too deep is refused alone, by the client", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  const nest = (depth: number): unknown => depth === 0 ? 1 : [nest(depth - 1)];
  const results = await Promise.allSettled([
    client.ping(),
    client.set("t", "deep", nest(512)),
    client.ping(),
  ]);
  assert.deepEqual(results.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
  await client.set("t", "deep", nest(511));
  assert.deepEqual(await client.get("t", "deep"), nest(511));
  assert.deepEqual(await client.all("t"), new Map([["deep", nest(511)]]));
});

Deno.test("a getter of a value may make a call itself, which travels by itself", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  const inner: Promise<unknown>[] = [];
  const value = (call: () => Promise<unknown>) => ({
    get text() {
      inner.push(call());
      return "outer";
    },
  });
  await Promise.all([
    client.set("t", "before", 1),
    client.set("t", "outer", value(() => client.set("t", "inner", 2))),
    client.set("t", "after", 3),
  ]);
  await Promise.all(inner);
  const expected = { before: 1, outer: { text: "outer" }, inner: 2, after: 3 };
  assert.deepEqual(await client.all("t"), new Map<unknown, unknown>(Object.entries(expected)));
  await assert.rejects(
    client.batch((batch) => [batch.set("t", "outer", value(() => batch.set("t", "inner", 4)))]),
    TypeError,
  );
  assert.equal(await client.get("t", "inner"), 2);
});

Deno.test("calls that are given up in mid-queue leave the others as they are", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await client.ping();
  const abort = new AbortController();
  // More than one message, of which some calls are taken out before it leaves.
  const calls = Array.from(
    { length: 5000 },
    (_, i) => client.set("t", i, "x".repeat(i % 300), i % 3 === 0 ? { signal: abort.signal } : {}),
  );
  abort.abort(new Error("enough"));
  const ends = await Promise.allSettled(calls);
  for (const [i, { status }] of ends.entries()) {
    if (i % 3 !== 0) assert.equal(status, "fulfilled", `call ${i}`);
  }
  const all = await client.all<number, string>("t");
  for (let i = 0; i < 5000; i++) if (i % 3 !== 0) assert.equal(all.get(i), "x".repeat(i % 300));
});
