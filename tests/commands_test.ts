/** The commands that change several things, count, expire and scan, end to end; and the host's memory limit. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { type CommandMethods, MemStore, MemStoreClient } from "../mod.ts";
import { encoded } from "../msgpack/codec.ts";
import { type Engine, engines } from "./engines.ts";
import { Peer, TempDir } from "./host.ts";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const LIMIT = "the memory of the host is limited; cluster_test.ts fills that of Redis";
const test = engines({
  "an entry whose time has come is not there, also before it is swept":
    "a custom command runs on the front, where its host.send is asynchronous; cluster_test.ts has another such test",
  "a hundred thousand entries that expire at one moment hold up nobody":
    "the clock of Redis counts, and a test cannot put it forward",
  "a host at its limit refuses growth, serves reads and deletes, and grows again after those": LIMIT,
  "values that set_many overwrote are back if there was no room for all": LIMIT,
  "a state that is larger than the limit is not restored, and what is there stays": LIMIT,
});

/** A host in this process, and a client of it. */
async function hosted(
  engine: Engine,
  run: (client: MemStoreClient, store: MemStore, path: string) => Promise<void>,
  options: { maxMemory?: number } = {},
): Promise<void> {
  await using directory = new TempDir();
  const path = `${directory.path}/store.sock`;
  await using store = new MemStore(path, {
    dataDirectory: directory.path,
    ...engine.options,
    ...options,
  });
  await store.start();
  await using client = new MemStoreClient(path, { timeout: 30_000 });
  await run(client, store, directory.path);
}

const MIN = -(2n ** 63n), MAX = 2n ** 64n - 1n;

test("incr counts exactly over all integers of 64 bits, and refuses what is beyond", (engine) =>
  hosted(engine, async (client) => {
    assert.equal(await client.incr("t", "new"), 1);
    assert.equal(await client.incr("t", "new", -5), -4);
    await client.set("t", "n", 2 ** 53 - 1);
    assert.equal(await client.incr("t", "n", 2), 2n ** 53n + 1n);
    const integer = fc.oneof(
      fc.bigInt({ min: MIN, max: MAX }),
      fc.bigInt({ min: -300n, max: 300n }),
      fc.constantFrom(MIN, MAX, 2n ** 63n, 2n ** 53n, -(2n ** 53n), 0n),
    );
    await fc.assert(
      fc.asyncProperty(integer, integer, async (a, by) => {
        await client.set("t", "n", a);
        const sum = a + by;
        if (sum < MIN || sum > MAX) {
          await assert.rejects(client.incr("t", "n", by), { code: "FAILED" });
          assert.equal(BigInt(await client.get<bigint>("t", "n") ?? NaN), a);
        } else {
          assert.equal(BigInt(await client.incr("t", "n", by)), sum);
          assert.equal(BigInt(await client.get<bigint>("t", "n") ?? NaN), sum);
        }
      }),
      { numRuns: 300 },
    );
  }));

test("incr adds floats, keeps an expiry, and refuses what is no number", (engine) =>
  hosted(engine, async (client) => {
    await client.set("t", "f", 1.5);
    assert.equal(await client.incr("t", "f"), 2.5);
    assert.equal(await client.incr("t", "i", 0.25), 0.25);
    await client.set("t", "f", Number.MAX_VALUE);
    await assert.rejects(client.incr("t", "f", Number.MAX_VALUE), { code: "FAILED" });
    await client.set("t", "text", "1");
    await assert.rejects(client.incr("t", "text"), { code: "FAILED", message: /not a number/ });
    await client.set("t", "map", {});
    await assert.rejects(client.incr("t", "map"), { code: "FAILED", message: /not a number/ });
    for (const by of ["1", NaN, Infinity, null, {}]) {
      await assert.rejects(client.send(["incr", "t", "text", by]), { code: "BAD_ARGUMENT" });
    }
    assert.equal(await client.get("t", "text"), "1");
    await client.expire("t", "i", 60);
    await client.incr("t", "i", 300);
    const left = await client.ttl("t", "i");
    assert.ok(left !== undefined && left > 0 && left <= 60, `${left}`);
  }));

test("of all that race with cas, one wins each round", async (engine) => {
  await using host = await engine.host();
  const clients = Array.from({ length: 4 }, () => new MemStoreClient(host.endpoint));
  try {
    await Promise.all(clients.map(async (client) => {
      for (let i = 0; i < 50;) {
        const old = await client.get<number>("t", "n");
        if (await client.cas("t", "n", old, (old ?? 0) + 1)) i++;
      }
    }));
    assert.equal(await clients[0].get("t", "n"), 200);
  } finally {
    await Promise.all(clients.map((client) => client.close()));
  }
});

test("cas, set_new, pop, and the commands for many do what a Map does", (engine) =>
  hosted(engine, async (client) => {
    const key = fc.constantFrom<unknown>("a", "b", 1, 2.5, true, "long enough to be no short string at all");
    const value = fc.constantFrom<unknown>(1, "x", [1, 2], 1.5, "y".repeat(300));
    const step = fc.oneof(
      fc.record({ name: fc.constant("cas" as const), key, expected: fc.option(value), value }),
      fc.record({ name: fc.constant("set_new" as const), key, value }),
      fc.record({ name: fc.constant("pop" as const), key }),
      fc.record({ name: fc.constant("set_many" as const), entries: fc.array(fc.tuple(key, value)) }),
      fc.record({ name: fc.constant("get_many" as const), keys: fc.array(key) }),
    );
    const same = (a: unknown, b: unknown) => encoded(a ?? null).join() === encoded(b ?? null).join();
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const model = new Map<unknown, unknown>();
        await client.drop("t");
        for (const step of steps) {
          if (step.name === "cas") {
            const fits = same(model.get(step.key), step.expected);
            if (fits) model.set(step.key, step.value);
            assert.equal(await client.cas("t", step.key, step.expected, step.value), fits);
          } else if (step.name === "set_new") {
            const there = model.has(step.key);
            if (!there) model.set(step.key, step.value);
            assert.equal(await client.setNew("t", step.key, step.value), !there);
          } else if (step.name === "pop") {
            assert.deepEqual(await client.pop("t", step.key), model.get(step.key));
            model.delete(step.key);
          } else if (step.name === "set_many") {
            const before = model.size;
            for (const [key, value] of step.entries) model.set(key, value);
            assert.equal(await client.setMany("t", new Map(step.entries)), model.size - before);
          } else {
            const values = step.keys.map((key) => model.get(key));
            assert.deepEqual(await client.getMany("t", step.keys), values);
          }
        }
        assert.deepEqual(sorted(await client.all("t")), sorted(model));
      }),
      { numRuns: 50 },
    );
  }));

const sorted = (entries: Iterable<unknown>) => Array.from(entries, (each) => JSON.stringify(each)).sort();

test("of a key that a map has twice the last value counts, and a key is one in whatever form it comes", async (engine) => {
  await using host = await engine.host();
  await using peer = await Peer.connect(host.endpoint);
  const command = [0x93, ...encoded("set_many"), ...encoded("t")];
  const one = [0x01], longOne = [0xcd, 0, 1], float = encoded(1.0);
  const payload = [...command, 0x83, ...one, 10, ...longOne, 20, ...float, 30];
  assert.deepEqual((await peer.request([[], payload])).at(-1), new Uint8Array([1]));
  assert.deepEqual(
    (await peer.request([[], encoded(["get_many", "t", [1, "1", 1n]])])).at(-1),
    encoded([30, null, 30]),
  );
});

test("what a command for many cannot take is refused before anything of its batch runs", async (engine) => {
  await using host = await engine.host();
  await using client = new MemStoreClient(host.endpoint);
  const nest = (depth: number): unknown => depth === 0 ? 1 : [nest(depth - 1)];
  const bad: [string, ...unknown[]][] = [
    ["set_many", "t", [1]],
    ["set_many", "t", new Map([[nest(17), 1]])],
    ["get_many", "t", { a: 1 }],
    ["get_many", "t", ["a", nest(17)]],
    ["push_many", "s", nest(18)],
    ["push_many", "s", new Array(2 ** 18 + 1).fill(1)],
    ["union", "s"],
    ["expire", "t", "k", "1"],
    ["expire", "t", "k", 1e13],
    ["scan", "t", -1],
    ["scan", "t", 2 ** 32],
    ["scan_set", "s", 0, 1.5],
    ["incr", "t", "k", 1, "2"],
    ["incr", "t", "k", 1, 2, 3],
    ["get", "t", "k".repeat(70_000)],
  ];
  for (const command of bad) {
    const batch = client.batch([["set", "t", "k", 1], command]);
    await assert.rejects(batch, { code: "BAD_ARGUMENT" }, JSON.stringify(command).slice(0, 80));
  }
  assert.deepEqual(await client.tables(), []);
  assert.equal(await client.setMany("t", new Map([[nest(16), nest(400)]])), 1);
});

test("push_many tells how many are new; union, inter and diff are those of Sets", (engine) =>
  hosted(engine, async (client) => {
    assert.equal(await client.pushMany("s", [1, "1", 1, [1]]), 3);
    assert.equal(await client.pushMany("s", [1, 2]), 1);
    const names = ["a", "b", "c", "d"];
    const members = fc.uniqueArray(fc.integer({ min: 0, max: 40 }));
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(members, members, members),
        fc.array(fc.constantFrom(...names), { maxLength: 5 }),
        async (contents, asked) => {
          const sets = new Map(contents.map((members, i) => [names[i], new Set(members)]));
          for (const name of names) await client.dropSet(name);
          for (const [name, members] of sets) await client.pushMany(name, [...members]);
          const all = asked.map((name) => sets.get(name) ?? new Set<number>());
          const expected = (combine: (a: Set<number>, b: Set<number>) => Set<number>) =>
            sorted(all.length === 0 ? [] : all.reduce(combine));
          assert.deepEqual(sorted(await client.union(asked)), expected((a, b) => a.union(b)));
          assert.deepEqual(sorted(await client.inter(asked)), expected((a, b) => a.intersection(b)));
          assert.deepEqual(sorted(await client.diff(asked)), expected((a, b) => a.difference(b)));
        },
      ),
      { numRuns: 60 },
    );
  }));

test("an entry is gone at its time for every command, and not before", async (engine) => {
  await using host = await engine.host();
  await using client = new MemStoreClient(host.endpoint);
  await client.setMany("t", { stays: 1, goes: 2, kept: 3 });
  assert.equal(await client.expire("t", "missing", 1), false);
  assert.equal(await client.ttl("t", "missing"), undefined);
  assert.equal(await client.ttl("t", "stays"), Infinity);
  assert.equal(await client.expire("t", "kept", 0.2), true);
  assert.equal(await client.persist("t", "kept"), true);
  assert.equal(await client.persist("t", "kept"), false);
  const start = Date.now();
  assert.equal(await client.expire("t", "goes", 0.3), true);
  const left = (await client.ttl("t", "goes"))!;
  assert.ok(left > 0 && left <= 0.3, `${left}`);
  let size;
  while ((size = await client.size("t")) === 3) await sleep(5);
  const took = Date.now() - start;
  assert.equal(size, 2);
  // The promise is 100 ms; a machine that is busy gets more.
  assert.ok(took >= 300 && took < 5000, `it took ${took} ms`);
  assert.equal(await client.get("t", "goes"), undefined);
  assert.equal(await client.exists("t", "goes"), false);
  assert.deepEqual((await client.keys("t")).sort(), ["kept", "stays"]);
  assert.deepEqual([...(await client.scan("t", 0))[1].keys()].sort(), ["kept", "stays"]);
  await sleep(150);
  assert.equal((await client.stats()).entries, 2);
});

test("an entry whose time has come is not there, also before it is swept", async () => {
  await using directory = new TempDir();
  await using store = new MemStore(`${directory.path}/store.sock`);
  store.command("look", {
    args: [],
    help: "Looks at a table after a while in which nothing else can run.",
    run(host) {
      host.send("expire", "t", "goes", 0.02);
      for (const end = Date.now() + 30; Date.now() < end;);
      return [
        host.send("size", "t"),
        host.send("keys", "t"),
        host.send("all", "t"),
        host.send("scan", "t", 0)[1],
        host.send("get_many", "t", ["goes", "stays"]),
        host.send("set_new", "t", "goes", 2),
        host.send("size", "t"),
      ];
    },
  });
  await store.start();
  await using client = new MemStoreClient(store.endpoints[0]);
  await client.setMany("t", { stays: 1, goes: 1 });
  assert.deepEqual(await client.send(["look"]), [1, ["stays"], { stays: 1 }, { stays: 1 }, [null, 1], 1, 2]);
});

test("a value that is set anew stays; an expiry of 0 or less is at once", (engine) =>
  hosted(engine, async (client) => {
    await client.setMany("t", { a: 1, b: 1, c: 1 });
    for (const key of ["a", "b"]) await client.expire("t", key, 0.05);
    await client.set("t", "a", 2);
    await client.cas("t", "b", 1, 2);
    assert.equal(await client.expire("t", "c", 0), true);
    assert.equal(await client.expire("t", "c", -1), false);
    await sleep(120);
    assert.deepEqual(sorted(await client.all("t")), sorted([["a", 2], ["b", 2]]));
    assert.equal((await client.stats()).expiring, 0);
  }));

test("entries expire also after a store and a restore", (engine) =>
  hosted(engine, async (client) => {
    await client.setMany("t", { a: 1, b: 1 });
    await client.expire("t", "a", 0.4);
    await client.store("state");
    await client.drop("t");
    await client.restore("state");
    const entries = async () => (await client.stats()).entries;
    assert.equal(await client.size("t"), 2);
    while (await entries() > 1) await sleep(10);
    assert.deepEqual(await client.keys("t"), ["b"]);
  }));

test("a hundred thousand entries that expire at one moment hold up nobody", (engine) =>
  // (In this process: so nobody else's use of the machine counts.)
  hosted(engine, async (client) => {
    const count = 100_000;
    for (let i = 0; i < count; i += 1000) {
      await client.batch((batch) =>
        Array.from({ length: 1000 }, (_, n) => batch.set("t", i + n, "value", { seconds: 1e6 }))
      );
    }
    const { now } = Date;
    try {
      Date.now = () => now() + 2e9;
      let meanwhile = 0;
      for (let left; (left = (await client.stats()).entries) > 0;) if (left < count) meanwhile++;
      assert.ok(meanwhile >= 5, `${meanwhile} calls were answered meanwhile`);
      assert.equal(await client.size("t"), 0);
    } finally {
      Date.now = now;
    }
  }));

test("a scan sees every entry that stays, each once, while the table grows and shrinks", async (engine) => {
  await using host = await engine.host();
  await using client = new MemStoreClient(host.endpoint);
  const stays = Array.from({ length: 3000 }, (_, i) => `stays ${i}`);
  const comes = Array.from({ length: 3000 }, (_, i) => `comes ${i}`);
  await client.setMany("t", new Map(stays.map((key) => [key, key])));
  await client.pushMany("s", stays);
  for (const change of ["grow", "shrink"]) {
    const seen: unknown[] = [];
    let cursor = 0, round = 0;
    do {
      const [next, entries] = await client.scan("t", cursor, 100);
      assert.ok(entries.size <= 101, `${entries.size} entries`);
      for (const [key, value] of entries) seen.push(key), assert.equal(key, value);
      const some = comes.slice(round * 100, round * 100 + 100);
      if (change === "grow") await client.setMany("t", new Map(some.map((key) => [key, key])));
      else await Promise.all(some.map((key) => client.del("t", key)));
      cursor = next;
      round++;
    } while (cursor !== 0);
    assert.equal(new Set(seen).size, seen.length, "none is seen twice");
    assert.deepEqual(new Set(stays).difference(new Set(seen)), new Set());
  }
  const members: unknown[] = [];
  for (let cursor = 0, first = true; first || cursor !== 0; first = false) {
    const [next, some] = await client.scanSet("s", cursor, 7);
    assert.ok(some.length >= 1 && some.length <= 8);
    members.push(...some);
    cursor = next;
  }
  assert.deepEqual(members.sort(), stays.toSorted());
  assert.ok((await client.scanSet("s", 0, 0))[1].length > 0, "a page has one member at least");
  assert.deepEqual(await client.scan("none", 0), [0, new Map()]);
});

test("a scan's reply is of bounded size, and a table is iterated in many messages", (engine) =>
  hosted(engine, async (client) => {
    const value = "x".repeat(300_000);
    for (let i = 0; i < 40; i++) await client.set("large", i, value);
    const [cursor, entries] = await client.scan("large", 0, 1000);
    assert.ok(cursor !== 0 && entries.size >= 1 && entries.size <= 5, `${entries.size}`);
    const before = (await client.stats()).messages;
    const keys: number[] = [];
    for await (const [key, each] of client.table<number, string>("large")) {
      keys.push(key);
      assert.equal(each.length, value.length);
    }
    assert.deepEqual(keys.sort((a, b) => a - b), Array.from({ length: 40 }, (_, i) => i));
    // (Where the client reads the memory itself, nothing is sent.)
    if (engine.name !== "memory") assert.ok((await client.stats()).messages - before > 9);
    const nest = (depth: number): unknown => depth === 0 ? 1 : [nest(depth - 1)];
    await client.set("deep", "k", nest(511));
    for await (const [, value] of client.table("deep")) assert.deepEqual(value, nest(511));
  }));

test("a legacy client uses the new commands, optional arguments too", async (engine) => {
  await using host = await engine.host();
  await using peer = await Peer.connect(host.endpoint);
  const legacy = async (...command: unknown[]) => (await peer.request([[], encoded(command)])).at(-1);
  assert.deepEqual(await legacy("set", "t", "n", 1, 60), encoded(1));
  assert.deepEqual(await legacy("ttl", "t", "n"), encoded(Infinity));
  assert.deepEqual(await legacy("incr", "t", "n"), encoded(2));
  assert.deepEqual(await legacy("incr", "t", "n", 5), encoded(7));
  assert.deepEqual(await legacy("scan", "t", 0, 10), encoded([0, { n: 7 }]));
  assert.deepEqual(await legacy("incr", "t", "n", "x"), encoded(-1));
  assert.deepEqual(await legacy("pop", "t", "n"), encoded(7));
});

test("get_many returns what it is given for keys that do not exist, and for no others", (engine) =>
  hosted(engine, async (client) => {
    await client.setMany("t", { nil: null, k: 1 });
    await client.set("t", "expired", 1, { seconds: 0.001 });
    await sleep(5);
    for (const missing of [0, "none", null, { a: [1] }, "x".repeat(100_000)]) {
      assert.deepEqual(await client.send(["get_many", "t", ["none", "k", "nil", "expired"], missing]), [
        missing,
        1,
        null,
        missing,
      ]);
      assert.deepEqual(await client.send(["get_many", "none", ["k", 2], missing]), [missing, missing]);
    }
    assert.deepEqual(await client.tables(), ["t"]);
    // More than is found in one slice, and more than a reply may have.
    const keys = Array.from({ length: 100_000 }, (_, i) => i);
    const replies = await client.send(["get_many", "t", keys, "none"]) as unknown[];
    assert.ok(replies.length === keys.length && replies.every((reply) => reply === "none"));
    await assert.rejects(client.send(["get_many", "t", keys, "x".repeat(10_000)]), { code: "TOO_LARGE" });
  }));

test("a host at its limit refuses growth, serves reads and deletes, and grows again after those", (engine) =>
  hosted(engine, async (client) => {
    const value = "v".repeat(1000);
    const thousand = (from: number) => new Map(Array.from({ length: 1000 }, (_, i) => [from + i, value]));
    let count = 0;
    const fill = async () => {
      try {
        for (;; count += 1000) await client.setMany("t", thousand(count));
      } catch (error) {
        assert.equal((error as { code?: string }).code, "OUT_OF_MEMORY");
      }
    };
    await fill();
    assert.ok(count >= 8000, `${count} fit`);
    // What was refused left nothing behind.
    assert.equal(await client.size("t"), count);
    const { heap, heap_live, max_memory } = await client.stats();
    assert.equal(max_memory, 2 ** 24);
    assert.ok(heap <= 2 ** 24 + 2 ** 21 && heap_live <= heap, `${heap} ${heap_live}`);
    await assert.rejects(client.set("new", "k", "v".repeat(2 ** 21)), { code: "OUT_OF_MEMORY" });
    const many = Array.from({ length: 10_000 }, (_, i) => `${i}`.padStart(200));
    await assert.rejects(client.pushMany("new", many), { code: "OUT_OF_MEMORY" });
    assert.deepEqual([await client.tables(), await client.sets()], [["t"], []]);
    assert.equal(await client.get("t", 5), value);
    assert.equal(await client.pop("t", 5), value);
    for (let i = 0; i < count; i += 2) await client.del("t", i);
    count += 1000;
    await fill();
    assert.ok(count >= 11_000);
    // What was dropped makes room at once; but within a batch, which could still be rolled back.
    const refill = (client: CommandMethods) => [
      client.drop("t"),
      ...Array.from({ length: 8 }, (_, i) => client.setMany("u", thousand(i * 1000))),
    ];
    await assert.rejects(client.batch(refill), { code: "OUT_OF_MEMORY" });
    assert.equal(await client.size("t") > 0, true);
    const again = await Promise.all(refill(client));
    assert.deepEqual(again, [true, ...Array(8).fill(1000)]);
  }, { maxMemory: 2 ** 24 }));

test("values that set_many overwrote are back if there was no room for all", (engine) =>
  hosted(engine, async (client) => {
    await client.setMany("t", { a: "old", b: "x".repeat(5000), c: 1 });
    await client.expire("t", "b", 1000);
    const before = sorted(await client.all("t"));
    const entries: [string, unknown][] = [["a", "new"], ["n", 1], ["b", 2], ["a", "x".repeat(9000)]];
    const large = new Map<string, unknown>([...entries, ["large", "x".repeat(2 ** 23)]]);
    await assert.rejects(client.setMany("t", large), { code: "OUT_OF_MEMORY" });
    assert.deepEqual(sorted(await client.all("t")), before);
    const left = await client.ttl("t", "b");
    assert.ok(left !== undefined && left > 900 && left <= 1000);
  }, { maxMemory: 2 ** 23 }));

test("a state that is larger than the limit is not restored, and what is there stays", (engine) =>
  hosted(engine, async (large, _store, directory) => {
    for (let i = 0; i < 12; i++) await large.set("t", i, "x".repeat(2 ** 20));
    await large.store("state");
    await using small = new MemStore(`${directory}/small.sock`, {
      dataDirectory: directory,
      maxMemory: 2 ** 23,
    });
    await small.start();
    await using client = new MemStoreClient(small.endpoints[0]);
    await client.set("t", "k", 1);
    await assert.rejects(client.restore("state"), { code: "FAILED", message: /the memory is full/ });
    assert.deepEqual(sorted(await client.all("t")), sorted([["k", 1]]));
    assert.equal(await client.set("t", "l", 2), 1);
  }));

Deno.test("a limit that is too small for any data is refused", () => {
  for (const maxMemory of [0, -1, 1e6, NaN]) {
    assert.throws(() => new MemStore("limit", { maxMemory }), RangeError);
  }
});
