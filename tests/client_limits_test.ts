/** The client keeps to its host's limits, however low they are. */

import assert from "node:assert/strict";
import { MemStoreClient } from "../mod.ts";
import { type Decoded, pair, ScriptedHost } from "./pair.ts";

const nest = (depth: number): unknown => depth === 0 ? 1 : [nest(depth - 1)];

Deno.test("a thousand calls at once reach a host that takes 100 commands in a message", async () => {
  await using both = await pair({ limits: { commands: 100 } });
  const { client } = both;
  await Promise.all(Array.from({ length: 1000 }, (_, i) => client.set("t", i, i)));
  const values = await Promise.all(Array.from({ length: 1000 }, (_, i) => client.get("t", i)));
  assert.deepEqual(values, Array.from({ length: 1000 }, (_, i) => i));
  const batch = Array.from({ length: 101 }, () => ["set", "t", "batch", 1] as const);
  await assert.rejects(client.batch(batch), { code: "TOO_LARGE", message: /100 commands.*received 101/ });
  assert.equal(await client.get("t", "batch"), undefined);
  assert.equal((await client.batch(batch.slice(1))).length, 100);
});

Deno.test("a value that the host finds too deep is refused alone, before it is sent", async () => {
  await using both = await pair({ limits: { depth: 3 } });
  const { client } = both;
  await client.ping();
  const results = await Promise.allSettled([
    client.set("t", "a", nest(2)),
    client.set("t", "deep", nest(3)),
    client.set("t", "b", nest(2)),
    client.batch([["set", "t", "c", 1], ["set", "t", "deep", { a: nest(2) }]]),
  ]);
  assert.deepEqual(results.map((each) => each.status === "fulfilled" ? each.value : each.reason.code), [
    1,
    "TOO_LARGE",
    1,
    "TOO_LARGE",
  ]);
  assert.deepEqual((await client.keys<string>("t")).sort(), ["a", "b"]);
  const before = (await client.stats()).messages;
  await assert.rejects(client.set("t", "deep", nest(3)), { code: "TOO_LARGE", message: /nested 2 deep/ });
  assert.equal((await client.stats()).messages, before + 1);
});

Deno.test("twenty stores at once end at a host that takes eight requests of a client", async () => {
  await using both = await pair({ limits: { requests: 8 } }, { timeout: 60_000 });
  const { client } = both;
  await client.set("t", "k", "v");
  const stored = await Promise.all(Array.from({ length: 20 }, (_, i) => client.store(`state-${i}`)));
  assert.equal(stored.length, 20);
  assert.equal(await client.get("t", "k"), "v");
});

Deno.test("calls that were given up count as the host counts them, until it has answered", async () => {
  await using both = await pair({ limits: { requests: 4 } });
  const { client, store } = both;
  const ended = Promise.withResolvers<void>();
  store.command("slow", { args: [], help: "", run: () => ended.promise });
  const slow = Array.from({ length: 4 }, () => client.send(["slow"], { timeout: 100 }));
  for (const { status } of await Promise.allSettled(slow)) assert.equal(status, "rejected");
  // Each of these would be one too many, and end the connection.
  const more = Array.from({ length: 4 }, () => client.send(["slow"], { timeout: 50 }));
  const ends = await Promise.allSettled(more);
  assert.deepEqual([...new Set(ends.map((each) => each.status === "rejected" && each.reason.code))], [
    "TIMEOUT",
  ]);
  const waits = client.ping({ timeout: 20_000 });
  ended.resolve();
  assert.equal(await waits, "pong");
  assert.equal((await client.stats()).clients, 1);
});

for (const [where, host, own] of [["host", 4096, 2 ** 26], ["client", 2 ** 26, 4096]] as const) {
  Deno.test(`calls are gathered to messages of 4096 bytes where the ${where} says so`, async () => {
    await using both = await pair({ limits: { message: host } }, { maxMessage: own });
    const { client } = both;
    const value = "x".repeat(1000);
    const sets = Array.from({ length: 100 }, (_, i) => client.set("t", i, value));
    assert.deepEqual([...new Set(await Promise.all(sets))], [1]);
    await assert.rejects(client.set("t", "large", "x".repeat(5000)), {
      code: "TOO_LARGE",
      message: /4096 bytes \(maxMessage\): received (more|50\d\d)/,
    });
    await assert.rejects(
      client.batch(Array.from({ length: 5 }, (_, i) => ["set", "t", `b${i}`, value] as const)),
      {
        code: "TOO_LARGE",
      },
    );
    const [first, large, last] = await Promise.allSettled([
      client.get("t", 1),
      client.set("t", "large", "x".repeat(5000)),
      client.get("t", 99),
    ]);
    assert.deepEqual([first.status, large.status, last.status], ["fulfilled", "rejected", "fulfilled"]);
    assert.equal(await client.size("t"), 100);
    assert.equal((await client.stats()).clients, 1);
  });
}

Deno.test("replies that are longer together than a message may be reach their calls, in order", async () => {
  await using both = await pair({ limits: { message: 4096 } });
  const { client } = both;
  const value = "x".repeat(1000);
  await Promise.all(Array.from({ length: 100 }, (_, i) => client.set("t", i, value + i)));
  await using fresh = new MemStoreClient(client.endpoint);
  const reads = Array.from({ length: 100 }, (_, i) => fresh.get("t", i));
  // What is called behind them runs behind them.
  const writes = Array.from({ length: 100 }, (_, i) => fresh.set("t", i, "new"));
  assert.deepEqual(await Promise.all(reads), Array.from({ length: 100 }, (_, i) => value + i));
  await Promise.all(writes);
  assert.equal(await fresh.get("t", 99), "new");
  const [some, all, pop] = await Promise.allSettled([fresh.get("t", 1), fresh.all("t"), fresh.pop("t", 2)]);
  assert.deepEqual([some.status, all.status, pop.status], ["fulfilled", "fulfilled", "fulfilled"]);
  await client.set("t", "large", "x".repeat(3900));
  await Promise.all(Array.from({ length: 3 }, (_, i) => client.set("t", i, value)));
  const ends = await Promise.allSettled([
    fresh.get("t", 0),
    fresh.all("t"),
    fresh.get("t", 1),
    fresh.pop("t", 2),
  ]);
  assert.deepEqual(ends.map((each) => each.status === "fulfilled" || each.reason.code), [
    true,
    "TOO_LARGE",
    true,
    true,
  ]);
  assert.equal((await client.stats()).clients, 2);
});

Deno.test("the first message of every connection is hello, and no other leaves before its reply", async () => {
  let greeted = false;
  const answer = (commands: Decoded[]) => {
    if (commands[0][0] === "hello") greeted = true;
    return commands.map(([name]) =>
      name === "hello" ? [1, ["UNKNOWN_COMMAND", "an older host"]] : [0, greeted]
    );
  };
  await using host = await ScriptedHost.start(answer);
  await using client = new MemStoreClient(host.endpoint);
  const replies = await Promise.all([client.ping(), client.ping()]);
  assert.deepEqual(replies, [true, true] as never);
  await using other = new MemStoreClient(host.endpoint);
  await other.ping();
  const names = host.messages.map((commands) => commands.map(([name]) => name).join());
  assert.deepEqual(names, ["hello", "ping,ping", "hello", "ping"]);
});

Deno.test("a host that says nothing useful of its limits has the usual ones", async () => {
  const hellos = [
    {},
    { limits: null },
    { limits: { commands: -1, depth: "x", message: NaN, requests: 0 } },
    7,
  ];
  for (const hello of hellos) {
    await using host = await ScriptedHost.start((commands) =>
      commands.map(([name]) => name === "hello" ? [0, hello] : [0, "pong"])
    );
    await using client = new MemStoreClient(host.endpoint);
    const replies = await Promise.all(Array.from({ length: 300 }, () => client.ping()));
    assert.equal(replies.length, 300);
  }
});

Deno.test("replies that come in several messages find their calls", async () => {
  await using host = await ScriptedHost.start(
    (commands) => commands.map(([name, , key]) => [0, name === "hello" ? {} : key ?? null]),
    3,
  );
  await using client = new MemStoreClient(host.endpoint);
  const keys = Array.from({ length: 100 }, (_, i) => i);
  assert.deepEqual(await Promise.all(keys.map((key) => client.get("t", key))), keys);
  assert.deepEqual(await client.batch(keys.map((key) => ["get", "t", key] as const)), keys);
});
