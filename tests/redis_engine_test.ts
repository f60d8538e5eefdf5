/**
 * The engine for data in Redis: where data is, that batches and odd values do what they do in memory, that the order of commands
 * is kept while slots move, and that a restore is all or nothing.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { MemStore, MemStoreClient, MemStoreError } from "../mod.ts";
import { outcomeOf, redirectOf } from "../engine/redis/faults.ts";
import { deadlineOf, Layout, nameOf, slotOf, valueOf } from "../engine/redis/layout.ts";
import { parseRedis, shownRedis } from "../engine/redis/url.ts";
import { encoded } from "../msgpack/codec.ts";
import { Random } from "../fuzz/random.ts";
import { TempDir } from "./host.ts";
import { RedisCluster, RedisServer, testWithRedis as test } from "./redis.ts";

const SLOTS = 16384;
const span = (bytes: Uint8Array) => ({ bytes, from: 0, to: bytes.length });

Deno.test("the partitions are spread evenly over the slots, however many there are", () => {
  // (The check value of CRC-16/XMODEM.)
  assert.equal(slotOf("123456789"), 0x31c3 % SLOTS);
  for (const partitions of [1, 2, 3, 256, 1000]) {
    const { bases, slots } = new Layout("memstore", partitions, new Uint8Array(8));
    assert.equal(new Set(bases).size, partitions);
    for (const [i, base] of bases.entries()) {
      const [, tag] = /^memstore:\{(.*)\}:$/.exec(base)!;
      assert.equal(slots[i], slotOf(tag));
      assert.equal(Math.floor(slots[i] * partitions / SLOTS), i);
    }
  }
});

Deno.test("keys are spread evenly over the partitions, by a secret", () => {
  const counts = (secret: number) => {
    const layout = new Layout("memstore", 16, new Uint8Array(8).fill(secret)), found = new Array(16).fill(0);
    for (let i = 0; i < 16_000; i++) found[layout.partitionOf(span(encoded(`user:${i}`)))]++;
    return found;
  };
  assert.ok(counts(1).every((count) => count > 850 && count < 1150), counts(1).join());
  assert.notDeepEqual(counts(1), counts(2));
});

Deno.test("a name comes back from what keys end with, and different names have different keys", () => {
  const layout = new Layout("memstore", 1, new Uint8Array(8)), seen = new Set<string>();
  const invalid = new Uint8Array([0xa2, 0xff, 0xfe]);
  const names = ["users", "", ":users", "#a5", "}", "é\u{feff}", "\u{feff}x", "x".repeat(300), 7, null, [
    1,
    "a",
  ]].map(
    (name) => encoded(name),
  );
  for (const name of [...names, invalid]) {
    for (const kind of ["tables", "sets"] as const) {
      const collection = layout.collection(kind, span(name)), key = collection.key(0);
      assert.ok(!seen.has(key), key);
      seen.add(key);
      assert.deepEqual(new Uint8Array(nameOf(Buffer.from(collection.suffix))), new Uint8Array(name));
      assert.equal(layout.collection(kind, span(name)), collection);
    }
  }
  assert.equal(layout.collection("tables", span(names[0])).key(0), "memstore:{0}:t:users");
  assert.equal(layout.collection("tables", span(invalid)).key(0), "memstore:{0}:t#a2fffe");
});

Deno.test("a stored value with a deadline is told from one without", () => {
  const plain = Buffer.from(encoded("value"));
  assert.equal(deadlineOf(plain), Infinity);
  assert.equal(valueOf(plain), plain);
  const stored = Buffer.concat([Buffer.from([0xc1]), Buffer.alloc(8), plain]);
  stored.writeDoubleBE(1234567890123, 1);
  assert.equal(deadlineOf(stored), 1234567890123);
  assert.deepEqual(valueOf(stored), plain);
});

Deno.test("an address of Redis names nodes, user and password; errors do not tell the password", () => {
  const plain = { tls: false, username: undefined, password: undefined };
  assert.deepEqual(parseRedis("redis://a"), { ...plain, nodes: [{ host: "a", port: 6379 }] });
  assert.deepEqual(parseRedis("rediss://me:p%40ss:w@a:7101,[::1]:7102,10.0.0.1/"), {
    tls: true,
    username: "me",
    password: "p@ss:w",
    nodes: [{ host: "a", port: 7101 }, { host: "::1", port: 7102 }, { host: "10.0.0.1", port: 6379 }],
  });
  assert.equal(parseRedis("redis://:secret@a").password, "secret");
  for (
    const bad of [
      "redis://",
      "http://a",
      "redis://a:0",
      "redis://a:99999",
      "redis://a,,b",
      "redis://u:secret@",
      "a:6379",
    ]
      .concat("redis://u:secret%@a", "redis://u:secret@a:x", "redis://a/3")
  ) {
    assert.throws(
      () => parseRedis(bad),
      (error: Error) => error instanceof TypeError && !error.message.includes("secret"),
    );
  }
  assert.equal(shownRedis("redis://me:secret@a:1,b:2"), "redis://me:…@a:1,b:2");
});

Deno.test("what an error of Redis means for its command is known", () => {
  class ErrorReply extends Error {}
  class ClientOfflineError extends Error {}
  class SocketClosedUnexpectedlyError extends Error {}
  const outcomes = {
    elsewhere: [
      "MOVED 5 127.0.0.1:7101",
      "ASK 5 :7101",
      "READONLY You can't write",
      "NOSCRIPT No matching script.",
    ],
    later: [
      "TRYAGAIN Multiple keys",
      "CLUSTERDOWN The cluster is down",
      "LOADING Redis is loading",
      "BUSY script",
    ],
    refused: ["ERR no", "WRONGTYPE Operation", "OOM command not allowed", "NOPERM this user", "MOVEDX 5 a:1"],
  };
  for (const [outcome, texts] of Object.entries(outcomes)) {
    for (const text of texts) assert.equal(outcomeOf(new ErrorReply(text)), outcome, text);
  }
  assert.equal(outcomeOf(new ClientOfflineError("The client is offline")), "later");
  assert.equal(outcomeOf(new SocketClosedUnexpectedlyError("MOVED 5 a:1")), "unknown");
  assert.equal(outcomeOf(new Error("read ECONNRESET")), "unknown");
  assert.deepEqual(redirectOf(new ErrorReply("ASK 5 [::1]:7101")), { once: true, address: "[::1]:7101" });
  assert.equal(redirectOf(new ErrorReply("TRYAGAIN")), undefined);
});

/** A front in this process with a client of it, for the time of a function. */
async function fronted(
  url: string,
  run: (client: MemStoreClient, store: MemStore, directory: string) => Promise<void>,
): Promise<void> {
  await using directory = new TempDir();
  const options = { dataDirectory: directory.path, engine: url };
  await using store = new MemStore(`${directory.path}/front.sock`, options);
  await store.start();
  await using client = new MemStoreClient(store.endpoints[0], { timeout: 30_000 });
  await run(client, store, directory.path);
}

type Command = [name: string, ...args: unknown[]];

const KEYS = [
  "k",
  1,
  -7,
  1.5,
  null,
  true,
  new Uint8Array([1, 2]),
  [1, "a"],
  new Map<unknown, unknown>([["b", 1], ["a", 2]]),
];
const NUMBERS = [
  0,
  1,
  -1,
  127,
  128,
  255,
  256,
  -32,
  -33,
  -128,
  -129,
  65535,
  65536,
  -32768,
  -32769,
  2 ** 32,
  -(2 ** 31) - 1,
]
  .concat(2 ** 53 - 1, -(2 ** 53) + 1, 0.5, -1.5, 1e300);
const BIG = [2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n, -(2n ** 63n)];
const VALUES = [
  ...NUMBERS,
  ...BIG,
  "s",
  null,
  { a: 1, b: 2 },
  { b: 2, a: 1 },
  new Map([["a", 1], ["b", 2]]),
  [1, 2],
];

/** A random command on a key. */
function commandOn(key: unknown, random: Random): Command {
  const table = random.pick(["t", "u"]), set = random.pick(["s", 7]);
  const value = () => random.pick<unknown>(VALUES), by = random.pick<unknown>([...NUMBERS, ...BIG]);
  return random.pick<() => Command>([
    () => ["get", table, key],
    () => ["set", table, key, value()],
    () => ["set", table, key, value(), 1000],
    () => ["set_new", table, key, value()],
    () => ["cas", table, key, value(), value()],
    () => ["cas", table, key, { a: 1, b: 2 }, value()],
    () => ["del_if", table, key, value()],
    () => ["incr", table, key, by],
    () => ["incr", table, key],
    () => ["pop", table, key],
    () => ["del", table, key],
    () => ["exists", table, key],
    () => ["expire", table, key, random.pick([0, -1, 1000])],
    () => ["persist", table, key],
    () => ["get_many", table, [key, key]],
    () => ["set_many", table, new Map([[key, value()]])],
    () => ["push", set, key],
    () => ["push_many", set, [key, key]],
    () => ["pull", set, key],
    () => ["in_set", set, key],
  ])();
}

/** What a client gets for commands, in a form that can be compared. */
async function replyOf(send: () => Promise<unknown>): Promise<unknown> {
  try {
    return await send();
  } catch (error) {
    assert.ok(error instanceof MemStoreError, String(error));
    return { code: error.code, text: error.message };
  }
}

test("random commands and batches do in Redis what they do in memory, also those that fail", async () => {
  await using server = await RedisServer.start();
  await using directory = new TempDir();
  await using host = new MemStore(`${directory.path}/host.sock`);
  await host.start();
  await using memory = new MemStoreClient(host.endpoints[0]);
  await fronted(server.url, async (front) => {
    const random = new Random(15);
    let failed = 0;
    for (let i = 0; i < 1500; i++) {
      const key = random.pick<unknown>(KEYS);
      const commands = Array.from({ length: 1 + random.below(5) }, () => commandOn(key, random));
      const run = (client: MemStoreClient) =>
        replyOf(() => commands.length === 1 ? client.send(commands[0]) : client.batch(commands));
      const [expected, reply] = [await run(memory), await run(front)];
      assert.deepEqual(
        reply,
        expected,
        JSON.stringify(commands, (_, value) => typeof value === "bigint" ? `${value}n` : value),
      );
      if (commands.length > 1 && !Array.isArray(expected)) failed++;
    }
    assert.ok(failed > 50, `${failed} batches failed`);
    for (const table of ["t", "u"]) assert.deepEqual(await front.all(table), await memory.all(table));
    for (const set of ["s", 7]) assert.equal(await front.setSize(set), await memory.setSize(set));
    const [{ entries, members, expiring, tables, sets }, inMemory] = [
      await front.stats(),
      await memory.stats(),
    ];
    assert.deepEqual(
      { entries, members, expiring, tables, sets },
      {
        entries: inMemory.entries,
        members: inMemory.members,
        expiring: inMemory.expiring,
        tables: inMemory.tables,
        sets: inMemory.sets,
      },
    );
  });
});

test("a client's commands on a key are done in the order in which it sends them, while its slot moves", async () => {
  await using cluster = await RedisCluster.start();
  await fronted(cluster.url, async (client) => {
    const keys = Array.from({ length: 64 }, (_, i) => `key ${i}`);
    let stop = false, rounds = 0;
    const load = (async () => {
      for (let i = 0; !stop; i++, rounds++) {
        // (None waits for the one before it.)
        const replies = keys.map(async (key) => {
          client.set("t", key, i).catch(() => {});
          client.incr("t", key).catch(() => {});
          return [await client.get("t", key), key];
        });
        for (const [found, key] of await Promise.all(replies)) assert.equal(found, i + 1, String(key));
      }
    })();
    const [a, b, c] = cluster.nodes;
    await cluster.reshard(a, b, 2000);
    await cluster.reshard(b, c, 2000);
    stop = true;
    await load;
    assert.ok(rounds > 20, `${rounds} rounds`);
  });
});

test("a message of many thousand commands keeps its place among those of its client", async () => {
  await using server = await RedisServer.start();
  await fronted(server.url, async (client, store) => {
    // (It takes the room that is left, and gives it back at other times.)
    await using other = new MemStoreClient(store.endpoints[0], { timeout: 30_000 });
    for (let round = 0; round < 4; round++) {
      const gets = Array.from({ length: 10_000 }, (_, i) => other.get("t", i));
      const sets = Array.from({ length: 30_000 }, (_, i) => client.set("t", "k", i + 1));
      // (It leaves in a message of its own.)
      await new Promise((resolve) => setTimeout(resolve, 1));
      const get = client.get("t", "k");
      await Promise.all([...sets, ...gets]);
      assert.equal(await get, 30_000);
      await client.set("t", "k", 0);
    }
  });
});

test("replies that are too long for one message come in several; one that is too long for any is refused", async () => {
  await using server = await RedisServer.start();
  await using directory = new TempDir();
  const options = { engine: server.url, limits: { message: 2 ** 16 } };
  await using store = new MemStore(`${directory.path}/front.sock`, options);
  await store.start();
  await using client = new MemStoreClient(store.endpoints[0]);
  const value = "v".repeat(10_000);
  for (let i = 0; i < 40; i++) await client.set("t", i, value);
  const values = await Promise.all(Array.from({ length: 40 }, (_, i) => client.get("t", i)));
  assert.deepEqual(values, new Array(40).fill(value));
  const popped = await Promise.all(Array.from({ length: 20 }, (_, i) => client.pop("t", i)));
  assert.deepEqual(popped, new Array(20).fill(value));
  await assert.rejects(client.all("t"), { code: "TOO_LARGE" });
  await assert.rejects(client.getMany("t", [20, 21, 22, 23, 24, 25, 26]), { code: "TOO_LARGE" });
  assert.equal(await client.size("t"), 20);
});

test("a restore replaces all data, or none if the state is damaged; two at once are not possible", async () => {
  await using server = await RedisServer.start();
  await fronted(server.url, async (client, _, directory) => {
    await client.setMany("t", { a: 1, b: 2 });
    await client.set("t", "soon", 1, { seconds: 1000 });
    await client.push("s", "x");
    await client.set("empty", 1, 1);
    await client.del("empty", 1);
    await client.store("whole");
    const bytes = await Deno.readFile(`${directory}/whole`);
    await Deno.writeFile(`${directory}/cut`, bytes.subarray(0, bytes.length - 10));
    await client.set("t", "a", "changed");
    await client.set("other", 1, 1);
    await assert.rejects(client.restore("cut"), { code: "FAILED" });
    assert.equal(await client.get("t", "a"), "changed");
    assert.deepEqual((await client.tables()).sort(), ["empty", "other", "t"]);
    const both = await Promise.allSettled([client.restore("whole"), client.restore("whole")]);
    assert.deepEqual(both.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
    assert.deepEqual(await client.all("t"), new Map<unknown, unknown>([["a", 1], ["b", 2], ["soon", 1]]));
    assert.ok((await client.ttl("t", "soon"))! > 900);
    assert.equal(await client.ttl("t", "a"), Infinity);
    assert.deepEqual((await client.tables()).sort(), ["empty", "t"]);
    assert.deepEqual(await client.listSet("s"), ["x"]);
    assert.equal((await server.cli("--scan", "--pattern", "*new*")).trim(), "");
    await client.restore("whole");
    assert.equal(await client.size("t"), 3);
  });
});
