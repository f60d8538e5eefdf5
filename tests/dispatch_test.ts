/** Messages that run at once: each gets its own reply, they run in order, and none delays others for long. */

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { MemStore, MemStoreClient, MemStoreError } from "../mod.ts";
import { Key } from "../msgpack/key.ts";
import { Store } from "../engine/memory/store.ts";
import { commands } from "../commands/list.ts";
import { hostCommands, type HostServices } from "../host/commands.ts";
import { Dispatcher } from "../host/dispatch.ts";
import { memoryHandlers, runsOn } from "../host/memory.ts";
import { encoded, Reader } from "../msgpack/codec.ts";
import { completeLimits } from "../transport/limits.ts";
import { header, readReply } from "../transport/message.ts";
import { Host, Peer, TempDir } from "./host.ts";
import { concat } from "./hostiles.ts";

/** Sends commands in one message; their values, or the codes of those that were refused. */
async function send(peer: Peer, commands: unknown[][], batch = false): Promise<unknown[]> {
  const frames = await peer.request([[], header(1, batch), concat(...commands.map(encoded))]);
  const reader = new Reader(frames[2]);
  return commands.map(() => {
    const reply = readReply("value", reader);
    return reply instanceof MemStoreError ? reply.code : reply;
  });
}

/** A host in this process, with a set of many members, and peers of it. */
async function hosted(
  run: (host: { store: MemStore; path: string; directory: string; peer(): Promise<Peer> }) => Promise<void>,
  options: ConstructorParameters<typeof MemStore>[1] = {},
): Promise<void> {
  await using directory = new TempDir();
  await using peers = new AsyncDisposableStack();
  const path = `${directory.path}/store.sock`;
  await using store = new MemStore(path, { dataDirectory: directory.path, ...options });
  await store.start();
  await run({
    store,
    path,
    directory: directory.path,
    peer: async () => peers.use(await Peer.connect(path)),
  });
}

Deno.test("no client gets bytes of another's reply, though messages wait for files beside others", () =>
  hosted(async ({ peer }) => {
    const good = await peer();
    assert.deepEqual(await send(good, [["set", "t", "k", "secret ".repeat(30)]]), [1]);
    assert.deepEqual(await send(good, [["set", "t", "own", "mine"]]), [1]);
    const stop = AbortSignal.timeout(3000);
    let waited = 0, plain = 0;
    const missing = async () => {
      const peer1 = await peer();
      while (!stop.aborted) {
        assert.deepEqual(await send(peer1, [["restore", "missing"], ["get", "t", "own"]]), [
          "FAILED",
          "mine",
        ]);
        waited++;
      }
    };
    const gets = async () => {
      const peer1 = await peer();
      while (!stop.aborted) {
        assert.deepEqual(await send(peer1, [["get", "t", "k"]]), ["secret ".repeat(30)]);
        plain++;
      }
    };
    await Promise.all([missing(), missing(), missing(), missing(), gets(), gets()]);
    assert.ok(waited > 50 && plain > 50, `${waited} ${plain}`);
  }));

Deno.test("a custom command that waits for a file gets its own reply, whatever else is answered meanwhile", () =>
  hosted(async ({ store, peer }) => {
    store.command("try_restore", {
      args: ["path"],
      help: "Restores, and tells why not.",
      async run(host, path) {
        try {
          return await host.send("restore", path as string);
        } catch (error) {
          return (error as Error).message;
        }
      },
    });
    const [a, b] = [await peer(), await peer()];
    await send(b, [["set", "t", "k", "x".repeat(500)]]);
    for (let i = 0; i < 100; i++) {
      const [[tried], [got]] = await Promise.all([
        send(a, [["try_restore", "missing"]]),
        send(b, [["get", "t", "k"]]),
      ]);
      assert.match(tried as string, /^Cannot restore from missing: /);
      assert.equal(got, "x".repeat(500));
    }
  }));

Deno.test("a command that was done, and whose reply does not fit, is not said not to have run", () =>
  hosted(async ({ store, peer }) => {
    store.command("write_and_tell", {
      args: [],
      help: "Sets a key, and replies too much.",
      run(host) {
        host.send("incr", "t", "n");
        return "x".repeat(5000);
      },
    });
    const one = await peer();
    assert.deepEqual(await send(one, [["write_and_tell"], ["get", "t", "n"]]), ["REPLY_TOO_LARGE", 1]);
    // In a batch it is rolled back, and said not to have run.
    const batch = [["write_and_tell"], ["get", "t", "n"]];
    assert.deepEqual(await send(one, batch, true), ["TOO_LARGE", "NOT_RUN"]);
    assert.deepEqual(await send(one, [["get", "t", "n"]]), [1]);
    // What is too large to be replied is not done: pop deletes nothing.
    await send(one, [["set", "t", "large", "y".repeat(2000)]]);
    const pops = [["pop", "t", "large"], ["set", "u", "a", "z".repeat(1500)], ["get", "u", "a"], [
      "pop",
      "t",
      "large",
    ]];
    assert.deepEqual((await send(one, pops)).map((each) => String(each).slice(0, 9)), [
      "yyyyyyyyy",
      "1",
      "zzzzzzzzz",
      "null",
    ]);
    await send(one, [["set", "t", "large", "y".repeat(2000)]]);
    const twice = [["get", "t", "large"], ["get", "t", "large"], ["pop", "t", "large"]];
    assert.equal((await send(one, twice))[2], "TOO_LARGE");
    assert.equal((await send(one, [["exists", "t", "large"]]))[0], true);
  }, { limits: { message: 4096 } }));

Deno.test("a batch is done whole or not at all, also when a command fails while it runs", () =>
  hosted(async ({ store, peer }) => {
    store.command("later", { args: [], help: "Waits.", run: async () => await sleep(1) });
    store.command("promised", {
      args: [],
      help: "Waits.",
      run: (host) => (host.send("set", "t", "p", 1), sleep(1)),
    });
    store.command("fails", {
      args: [],
      help: "Changes something, and fails.",
      run(host) {
        host.send("set", "t", "c", 3);
        host.send("drop", "u");
        throw new Error("no");
      },
    });
    const one = await peer();
    await send(one, [["set", "t", "text", "x"], ["set", "u", "k", 1], ["set", "t", "e", 1], [
      "expire",
      "t",
      "e",
      100,
    ]]);
    const all = () => send(one, [["all", "t"], ["all", "u"], ["tables"], ["list_set", "s"]]);
    const before = await all();
    const bad: [unknown[], string][] = [
      [["incr", "t", "text"], "FAILED"],
      [["nope"], "UNKNOWN_COMMAND"],
      [["get", "t"], "BAD_ARGUMENT"],
      [["store", "x"], "NOT_IN_BATCH"],
      [["restore", "x"], "NOT_IN_BATCH"],
      [["s3store", "x", "y"], "NOT_IN_BATCH"],
      [["s3restore", "x", "y"], "NOT_IN_BATCH"],
      [["done"], "NOT_IN_BATCH"],
      [["later"], "NOT_IN_BATCH"],
      [["promised"], "NOT_IN_BATCH"],
      [["fails"], "FAILED"],
    ];
    for (const [command, code] of bad) {
      const commands = [
        ["set", "t", "new", 1],
        ["set", "t", "text", "y"],
        ["del", "t", "e"],
        ["drop", "u"],
        ["set", "u", "other", 1],
        ["push", "s", 1],
        command,
        ["set", "t", "new", 2],
      ];
      const codes = commands.map((each) => each === command ? code : "NOT_RUN");
      assert.deepEqual(await send(one, commands, true), codes, String(command));
      assert.deepEqual(await all(), before, String(command));
    }
    assert.ok((await send(one, [["ttl", "t", "e"]]))[0] as number > 90);
    // The same without the mark: each on its own.
    assert.deepEqual(await send(one, [["set", "t", "n", 1], ["incr", "t", "text"], ["incr", "t", "n"]]), [
      1,
      "FAILED",
      2,
    ]);
  }));

Deno.test("a batch that the memory has no room for leaves nothing behind", () =>
  hosted(async ({ peer }) => {
    const one = await peer();
    await send(one, [["set", "t", "k", "old"]]);
    const commands = [
      ["set", "t", "k", "new"],
      ...Array.from({ length: 20 }, (_, i) => ["set", "t", i, "x".repeat(2 ** 19)]),
    ];
    const replies = await send(one, commands, true);
    assert.equal(replies.filter((each) => each === "OUT_OF_MEMORY").length, 1);
    assert.equal(replies.filter((each) => each === "NOT_RUN").length, 20);
    assert.deepEqual(await send(one, [["get", "t", "k"], ["size", "t"]]), ["old", 1]);
  }, { maxMemory: 2 ** 23 }));

/** A set of a million members. */
async function fill(path: string, set: string, size: number): Promise<void> {
  await using client = new MemStoreClient(path, { timeout: 60_000 });
  for (let i = 0; i < size; i += 10_000) {
    await client.pushMany(set, Array.from({ length: Math.min(10_000, size - i) }, (_, j) => i + j));
  }
}

Deno.test("a message of work without end holds nobody up, and ends with its client", async () => {
  await using host = await Host.start();
  await fill(host.endpoint, "big", 300_000);
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  await client.set("t", "k", 1);
  // What one of those commands takes here and now.
  const began = performance.now();
  await client.diff(["big", "big"]);
  const whole = performance.now() - began;
  const hostiles = await Promise.all([1, 2, 3].map(() => Peer.connect(host.endpoint)));
  const diff = encoded(["diff", ["big", "big"]]);
  const endless = concat(...Array(5000).fill(diff));
  for (const peer of hostiles) peer.send([[], header(1), endless]);
  await sleep(100);
  const asked = performance.now();
  for (let i = 0; i < 200; i++) assert.equal(await client.get("t", "k"), 1);
  const each = (performance.now() - asked) / 200;
  // Where a diff runs in one go, a get waits for its end, or for the end of all: minutes.
  assert.ok(each < whole / 8, `a get took ${each} ms, a diff ${whole} ms`);
  // Those who ask themselves for all of a set get it, whole.
  assert.equal((await client.listSet("big")).length, 300_000);
  for (const peer of hostiles) await peer[Symbol.asyncDispose]();
  const stop = performance.now();
  assert.equal((await host.end("SIGTERM")).code, 0);
  assert.ok(performance.now() - stop < 20_000);
});

Deno.test("who reads without end keeps no writes from the room that others left", () => {
  const store = new Store(), dispatcher: Dispatcher = new Dispatcher(runsOn(store), completeLimits({}));
  for (const command of hostCommands({} as HostServices, memoryHandlers)) dispatcher.add(command);
  store.heap.limit = 24 * 2 ** 20;
  const key = (value: unknown) => {
    const bytes = encoded(value);
    return new Key().aim(bytes, 0, bytes.length);
  };
  for (let i = 0; i < 20_000; i++) store.sets.set(key("s"), key(i), new Uint8Array(0), 0, 0);
  const payload = concat(...Array(40).fill(encoded(["list_set", "s"])));
  let replied = 0;
  const value = new Uint8Array(60_000);
  const reader = dispatcher.run(
    { payload, legacy: false, batch: false, right: "read" },
    ({ length }) => void (replied = length),
    0,
  )!;
  // (Six megabytes, written again and again.)
  for (let i = 0; replied === 0; i++) {
    store.tables.set(key("t"), key(i % 100), value, 0, value.length);
    dispatcher.resume(reader, 0);
  }
  assert.ok(replied > 40 * 20_000);
});

Deno.test("what a client only reads ends when it is gone, and what it writes is done", async () => {
  await using host = await Host.start();
  await fill(host.endpoint, "big", 300_000);
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  const diff = encoded(["diff", ["big", "big"]]);
  for (const commands of [["first"], ["first", "second"]]) {
    await using peer = await Peer.connect(host.endpoint);
    const sets = commands.map((key) => encoded(["set", "t", key, 1]));
    peer.send([
      [],
      header(1),
      concat(...sets, ...Array(20_000).fill(diff), encoded(["set", "t", "last", 1])),
    ]);
    while (!await client.exists("t", commands.at(-1))) await sleep(10);
  }
  // (Those reads would take minutes.)
  for (const end = performance.now() + 20_000; !await client.exists("t", "last"); await sleep(50)) {
    assert.ok(performance.now() < end, "the reads of a client that is gone go on");
  }
});

Deno.test("a message pauses however few its commands are: what they cost counts", () => {
  const store = new Store(), dispatcher: Dispatcher = new Dispatcher(runsOn(store), completeLimits({}));
  const services = { persistence: { transfers: [] }, commands: () => dispatcher.commands, stats: () => ({}) };
  for (const command of hostCommands(services as unknown as HostServices, memoryHandlers)) {
    dispatcher.add(command);
  }
  const run = (commands: unknown[][], batch = false) => {
    let pauses = 0, reply: unknown;
    const payload = concat(...commands.map(encoded));
    const deliver = (bytes: Uint8Array) => void (reply = readReply("value", new Reader(bytes)));
    const execution = dispatcher.run({ payload, legacy: false, batch, right: "read" }, deliver, 0);
    if (execution) { do pauses++; while (!dispatcher.resume(execution, 0)); }
    return reply instanceof MemStoreError ? reply.code : pauses;
  };
  // To put a map of 60 KB in order takes a millisecond.
  const key = Object.fromEntries(Array.from({ length: 6000 }, (_, i) => [`k${9999 - i}`, i]));
  store.tables.set(
    new Key().aim(encoded("t"), 0, 2),
    new Key().aim(encoded("k"), 0, 2),
    new Uint8Array(2 ** 21),
    0,
    2 ** 21,
  );
  assert.ok(Number(run(Array(100).fill(["get", "t", key]))) >= 99);
  assert.ok(Number(run(Array(100).fill(["get", key, "k"]))) >= 99);
  assert.ok(Number(run(Array(100).fill(["commands"]))) >= 40);
  assert.equal(run(Array(100).fill(["get", "t", key]), true), "NOT_RUN");
  assert.equal(run(Array(10_000).fill(["commands"]), true), "NOT_RUN");
  assert.equal(run([["union", Array(10).fill(key)]]), "BAD_ARGUMENT");
  assert.equal(run([["union", Array(2).fill(key)]]), 0);
  assert.equal(typeof run(Array(10_000).fill(["get", "t", { b: 1, a: 2 }]), true), "number");
});

Deno.test("what goes through a table in steps replies the state of one moment", () =>
  hosted(async ({ path, peer }) => {
    await fill(path, "s", 100_000);
    await using client = new MemStoreClient(path, { timeout: 60_000 });
    const [reader, writer] = [await peer(), await peer()];
    let stop = false;
    // Each number leaves the set and comes back under another name, in one transaction: the size is always the same.
    const churn = (async () => {
      for (let i = 0; !stop; i = (i + 7919) % 100_000) {
        const there = (await send(writer, [["in_set", "s", i]]))[0];
        const moved = there
          ? [["pull", "s", i], ["push", "s", `${i}`]]
          : [["push", "s", i], ["pull", "s", `${i}`]];
        await send(writer, moved, true);
      }
    })();
    for (let i = 0; i < 5; i++) {
      const [members] = await send(reader, [["list_set", "s"]]) as [unknown[]];
      assert.equal(new Set(members.map(String)).size, 100_000);
      assert.equal(members.length, 100_000);
      assert.equal(((await send(reader, [["union", ["s", "none"]]]))[0] as unknown[]).length, 100_000);
      assert.equal(((await send(reader, [["inter", ["s", "s"]]]))[0] as unknown[]).length, 100_000);
      assert.equal(((await send(reader, [["diff", ["s", "none"]]]))[0] as unknown[]).length, 100_000);
    }
    stop = true;
    await churn;
    assert.equal(await client.setSize("s"), 100_000);
  }));

Deno.test("messages of a client run in their order, though the first takes long", () =>
  hosted(async ({ path, peer }) => {
    await fill(path, "big", 200_000);
    const one = await peer(), two = await peer();
    for (let i = 0; i < 5; i++) {
      const slow = concat(encoded(["diff", ["big", "none"]]), encoded(["set", "t", "k", "first"]));
      one.send([[], header(1), slow]);
      one.send([[], header(2), encoded(["set", "t", "k", "second"])]);
      // Another client is served in between.
      assert.deepEqual(await send(two, [["ping"]]), ["pong"]);
      await one.receive();
      await one.receive();
      assert.deepEqual(await send(two, [["get", "t", "k"]]), ["second"]);
    }
  }));

Deno.test("many long replies at once are made one after another: they do not fill the memory", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  await client.set("t", "k", new Uint8Array(2 ** 20));
  const { memory } = await client.stats();
  let peak = 0, done = false;
  const watch = (async () => {
    while (!done) peak = Math.max(peak, (await client.stats()).memory - memory);
  })();
  const gets = concat(...Array(60).fill(encoded(["get", "t", "k"])));
  await Promise.all(Array.from({ length: 30 }, async () => {
    await using one = await Peer.connect(host.endpoint);
    one.send([[], header(1), gets]);
    const end = performance.now() + 60_000;
    for (;;) {
      const frames = await one.receive().catch(() => undefined);
      if (frames) return assert.ok(frames[2].length > 60 * 2 ** 20);
      assert.ok(performance.now() < end, "no reply within a minute");
    }
  }));
  done = true;
  await watch;
  // Together they have 1,800 MB.
  assert.ok(peak < 900 * 2 ** 20, `the host grew by ${peak >> 20} MB`);
});

Deno.test("a batch has a bound on its commands, and on what they go through", () =>
  hosted(async ({ path, peer }) => {
    await fill(path, "big", 150_000);
    const one = await peer();
    assert.deepEqual(await send(one, [["set", "t", "k", 1], ["list_set", "big"]], true), [
      "NOT_RUN",
      "TOO_LARGE",
    ]);
    assert.deepEqual(await send(one, [["exists", "t", "k"]]), [false]);
    const frames = await one.request([[], header(1, true), concat(...Array(20_000).fill(encoded(["ping"])))]);
    assert.equal((readReply("value", new Reader(frames[2])) as MemStoreError).code, "TOO_LARGE");
  }));

Deno.test("hello tells what the host allows", () =>
  hosted(async ({ path }) => {
    await using client = new MemStoreClient(path);
    const { protocol, right, limits } = await client.hello();
    assert.deepEqual([protocol, right], [1, "admin"]);
    assert.deepEqual(limits, { message: 2 ** 20, commands: 100, depth: 30, requests: 20, batch: 100 });
  }, { limits: { message: 2 ** 20, commands: 100, depth: 30, requests: 20 } }));

Deno.test("a value that is nested too deep for the host fails no neighbour", () =>
  hosted(async ({ peer }) => {
    const one = await peer();
    assert.deepEqual(await send(one, [["set", "t", "a", 1], ["set", "t", "b", [[[1]]]], ["get", "t", "a"]]), [
      1,
      "TOO_LARGE",
      1,
    ]);
  }, { limits: { depth: 3 } }));

Deno.test("set, set_new and incr take seconds: the expiry of the entry that they make", () =>
  hosted(async ({ path, peer }) => {
    const one = await peer();
    assert.deepEqual(
      await send(one, [["set", "t", "a", 1, 100], ["set_new", "t", "b", 1, 100], ["incr", "t", "c", 5, 100]]),
      [1, 1, 5],
    );
    const ttls = await send(one, [["ttl", "t", "a"], ["ttl", "t", "b"], ["ttl", "t", "c"]]) as number[];
    for (const ttl of ttls) assert.ok(ttl > 90 && ttl <= 100, `${ttl}`);
    // The expiry is given when the entry is made, and then left alone; set makes it anew.
    assert.deepEqual(
      await send(one, [["incr", "t", "c", 5, 1000], ["set_new", "t", "b", 1, 1000], ["set", "t", "a", 2]]),
      [10, 0, 1],
    );
    const [a, b, c] = await send(one, [["ttl", "t", "a"], ["ttl", "t", "b"], ["ttl", "t", "c"]]) as number[];
    assert.ok(a === Infinity && b <= 100 && c <= 100, `${a} ${b} ${c}`);
    assert.deepEqual(
      await send(one, [["set", "t", "x", 1, 0], ["set", "t", "x", 1, -1], ["exists", "t", "x"]]),
      ["BAD_ARGUMENT", "BAD_ARGUMENT", false],
    );
    assert.deepEqual(await send(one, [["set", "t", "x", 1, 0.05]]), [1]);
    await sleep(100);
    assert.deepEqual(await send(one, [["exists", "t", "x"]]), [false]);
    // A surplus argument of a legacy client stays ignored.
    const legacy = await one.request([[], encoded(["set", "t", "l", 1, 100])]);
    assert.deepEqual(legacy.at(-1), encoded(1));
    await using client = new MemStoreClient(path);
    assert.equal(await client.ttl("t", "l"), Infinity);
  }));

Deno.test("cas and del_if compare values as keys are compared", () =>
  hosted(async ({ peer }) => {
    const one = await peer();
    const raw = async (...command: Uint8Array[]) =>
      readReply(
        "value",
        new Reader(
          (await one.request([[], header(1), concat(new Uint8Array([0x90 + command.length]), ...command)]))[
            2
          ],
        ),
      );
    const float = encoded(20.5).fill(0).map((_, i) => [0xcb, 0x40, 0x34][i] ?? 0); // 20.0
    await raw(encoded("set"), encoded("t"), encoded("k"), float);
    assert.deepEqual(
      await send(one, [["cas", "t", "k", 20, 21], ["cas", "t", "k", 20, 22], ["get", "t", "k"]]),
      [1, 0, 21],
    );
    await send(one, [["set", "t", "m", { a: [1, { x: 1 }], b: 2 }]]);
    assert.deepEqual(
      await send(one, [["del_if", "t", "m", { b: 2, a: [1, { x: 2 }] }], ["del_if", "t", "m", {
        b: 2,
        a: [1, { x: 1 }],
      }]]),
      [0, 1],
    );
    assert.deepEqual(
      await send(one, [["del_if", "t", "m", null], ["cas", "t", "m", null, 1], ["del_if", "t", "m", 1]]),
      [0, 1, 1],
    );
    // (Values that are too large to be put in order are compared byte by byte, and no byte further.)
    const large = new Uint8Array(300_001), other = large.slice();
    other[300_000] = 1;
    await send(one, [["set", "t", "large", large]]);
    assert.deepEqual(
      await send(one, [["del_if", "t", "large", other], ["cas", "t", "large", large.subarray(1), 0]]),
      [0, 0],
    );
    assert.deepEqual(await send(one, [["cas", "t", "large", large, 0]]), [1]);
  }));

Deno.test("a name, a key or a member has a bound", () =>
  hosted(async ({ peer }) => {
    const one = await peer();
    const long = "k".repeat(2 ** 16);
    for (
      const command of [
        ["get", "t", long],
        ["set", long, 1, 1],
        ["push", "s", long],
        ["get_many", "t", [1, long]],
        ["set_many", "t", { [long]: 1 }],
        ["union", [long]],
        ["drop", long],
      ]
    ) {
      assert.deepEqual(await send(one, [command]), ["BAD_ARGUMENT"], command[0] as string);
    }
    assert.deepEqual(await send(one, [["set", "t", "k".repeat(2 ** 16 - 3), 1], ["size", "t"]]), [1, 1]);
  }));

Deno.test("a value is set with its expiry in one change: nobody sees it without, and none is left without room", () => {
  const store = new Store();
  const dispatcher = new Dispatcher(runsOn(store), completeLimits({}));
  for (const [name, run] of Object.entries(memoryHandlers)) {
    const command = commands.find((each) => each.name === name);
    if (command) dispatcher.add({ ...command, run });
  }
  const changesOf = (...command: unknown[]) => {
    const before = store.changeCount, job = { payload: encoded(command), legacy: false, batch: false };
    dispatcher.run({ ...job, right: "admin" }, () => {}, Infinity);
    return store.changeCount - before;
  };
  changesOf("set", "t", "k", 1);
  for (
    const command of [["set", "t", "k", 2, 60], ["set_new", "t", "new", 2, 60], ["incr", "t", "n", 1, 60]]
  ) {
    assert.equal(changesOf(...command), 1, command[0] as string);
  }
  assert.equal(store.tables.expiring, 3);
});
