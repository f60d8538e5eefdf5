/**
 * What a read promises that asks nobody: a host in another process, and clients that read its memory. Whether reads were
 * direct is seen in the host's figures, or by stopping the host: it cannot reply then.
 */

import assert from "node:assert/strict";
import { BUSY, type KnownTable, MemoryReader, MISSING } from "../blocks/reader.ts";
import { STRUCTURE } from "../blocks/head.ts";
import { PAGE, TABLE, UNIT_BITS, wordAt } from "../blocks/block.ts";
import { keyFrom } from "../blocks/entry.ts";
import type { Changes } from "../engine/memory/changes.ts";
import { Heap } from "../engine/memory/heap.ts";
import { SharedSegments } from "../engine/memory/shared.ts";
import { Store } from "../engine/memory/store.ts";
import { Random } from "../fuzz/random.ts";
import {
  attach,
  type ClientOptions,
  MemStore,
  MemStoreClient,
  MemStoreError,
  type SharedStore,
} from "../mod.ts";
import { encoded, Reader } from "../msgpack/codec.ts";
import { Key } from "../msgpack/key.ts";
import { SharedView } from "../transport/shared/range.ts";
import { loadSharedMemory } from "../transport/shared/system.ts";
import { Ledger, READY } from "./direct_ledger.ts";
import { Host, TempDir } from "./host.ts";

/** How soon a reader notices that its host has ended, in milliseconds; … */
const NOTICE_MS = 2000;
/** … and how much longer it may take on a machine that is busy. */
const GRACE_MS = 3000;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const ENDED = ["DISCONNECTED", "UNAVAILABLE"];

/** A test of what is only there where reads can be direct. */
function test(name: string, fn: () => void | Promise<void>): void {
  Deno.test({ name, ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64", fn });
}

/** Either client: what is awaited may be there at once. */
type Client = (SharedStore | MemStoreClient) & AsyncDisposable;
type Connect = (endpoint: string, options?: ClientOptions) => Promise<Client>;

const attached: Connect = attach;
const asynchronous: Connect = (endpoint, options) => Promise.resolve(new MemStoreClient(endpoint, options));

/** A test with a host, for each client. */
function both(name: string, fn: (host: Host, connect: Connect) => Promise<void>): void {
  for (const [kind, connect] of [["attached", attached], ["a client", asynchronous]] as const) {
    test(`${kind}: ${name}`, async () => {
      await using host = await Host.start();
      await fn(host, connect);
    });
  }
}

/** The figures of a host's direct reads, told by a client that does not read so. */
async function figures(endpoint: string): Promise<{ reads: number; retries: number; fallbacks: number }> {
  await using client = new MemStoreClient(endpoint, { lane: false });
  const { direct_reads, direct_retries, direct_fallbacks } = await client.stats();
  return { reads: direct_reads, retries: direct_retries, fallbacks: direct_fallbacks };
}

async function until(what: string, holds: () => boolean | Promise<boolean>, seconds = 20): Promise<void> {
  for (const end = performance.now() + seconds * 1000; !await holds(); await sleep(10)) {
    assert.ok(performance.now() < end, `not within ${seconds} s: ${what}`);
  }
}

/** Waits until a client reads directly: it asks for the memory at its first read. */
async function ready(client: Client): Promise<void> {
  const { direct_reads } = await client.stats();
  await until("reads are direct", async () => {
    await client.get("warm", "up");
    return (await client.stats()).direct_reads > direct_reads;
  });
}

/** What a shell prints. */
async function shell(script: string): Promise<string> {
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  return new TextDecoder().decode(stdout).trim();
}

/** A process that is killed at the end of the block. */
function runs(args: string[]): Deno.ChildProcess & AsyncDisposable {
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", "--allow-all", ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  return Object.assign(process, {
    async [Symbol.asyncDispose]() {
      try {
        process.kill("SIGKILL");
      } catch {
        // It has ended.
      }
      await process.stdout.cancel().catch(() => {});
      await process.status;
    },
  });
}

/** The code of the error with which something ends. */
async function codeOf(run: () => unknown): Promise<string | undefined> {
  try {
    await run();
  } catch (error) {
    if (error instanceof MemStoreError) return error.code;
    throw error;
  }
}

/** Runs something while a host is stopped: it replies to nobody. */
async function whileStopped<Result>(host: Host, run: () => Result | Promise<Result>): Promise<Result> {
  Deno.kill(host.pid, "SIGSTOP");
  try {
    // (It is sent; a moment later it has worked.)
    await sleep(20);
    return await run();
  } finally {
    Deno.kill(host.pid, "SIGCONT");
  }
}

both("sees every write that was acknowledged before, its own and others'", async (host, connect) => {
  await using mine = await connect(host.endpoint);
  await using other = new MemStoreClient(host.endpoint);
  await ready(mine);
  const before = await figures(host.endpoint);
  let reads = 0;
  const sees = async (read: () => unknown, expected: unknown) => {
    reads++;
    assert.deepEqual(await read(), expected);
  };
  for (let round = 0; round < 30; round++) {
    for (const writer of [mine, other]) {
      const t = `t${round % 3}`, s = `s${round % 3}`, blob = new Uint8Array(round * 40).fill(round);
      await writer.set(t, "k", [round, blob]);
      await sees(() => mine.get(t, "k"), [round, blob]);
      assert.equal(await writer.setNew(t, "new", round), true);
      await sees(() => mine.get(t, "new"), round);
      const sum = await writer.incr(t, "sum", 3);
      await sees(() => mine.get(t, "sum"), sum);
      assert.equal(await writer.cas(t, "new", round, "swapped"), true);
      await sees(() => mine.get(t, "new"), "swapped");
      assert.equal(await writer.pop(t, "new"), "swapped");
      await sees(() => mine.exists(t, "new"), false);
      await sees(() => mine.size(t), 2);
      await writer.setMany(t, new Map(Array.from({ length: 300 }, (_, i) => [i, `${round} ${i}`])));
      await sees(() => mine.size(t), 302);
      await sees(() => mine.getMany(t, [299, "none", 0]), [`${round} 299`, undefined, `${round} 0`]);
      await writer.expire(t, 7, 600);
      await sees(() => mine.get(t, 7), `${round} 7`);
      await writer.persist(t, 7);
      await sees(() => mine.get(t, 7), `${round} 7`);
      await writer.expire(t, 7, 0);
      await sees(() => mine.get(t, 7), undefined);
      assert.equal(await writer.del(t, 8), true);
      await sees(() => mine.exists(t, 8), false);
      await writer.batch([["set", t, 8, 1], ["set", t, 9, 2], ["del", t, 10]]);
      await sees(() => mine.getMany(t, [8, 9, 10]), [1, 2, undefined]);
      await writer.push(s, "a");
      await sees(() => mine.inSet(s, "a"), true);
      await writer.pushMany(s, ["b", "c"]);
      await sees(() => mine.setSize(s), 3);
      assert.equal(await writer.pull(s, "a"), true);
      await sees(() => mine.inSet(s, "a"), false);
      await writer.clearSet(s);
      await sees(() => mine.setSize(s), 0);
      await writer.push(s, "d");
      await writer.dropSet(s);
      await sees(() => mine.inSet(s, "d"), false);
      assert.equal(await writer.drop(t), true);
      await sees(() => mine.get(t, "k"), undefined);
      await sees(() => mine.size(t), 0);
    }
  }
  const after = await figures(host.endpoint);
  assert.equal(after.fallbacks, before.fallbacks);
  // (Of `get_many` every key counts.)
  assert.ok(
    after.reads - before.reads >= reads,
    `${after.reads - before.reads} of ${reads} reads were direct`,
  );
});

test("attached: nothing of a batch is seen before all of it, and nothing of one that fails", async () => {
  await using host = await Host.start();
  using reader = await attach(host.endpoint);
  await using client = new MemStoreClient(host.endpoint);
  await ready(reader);
  const keys = Array.from({ length: 400 }, (_, i) => i);
  await client.batch(keys.map((key) => ["set", "t", key, 0]));
  const sample = [keys[0], keys[200], keys[399]];
  let seen = 0;
  for (let round = 1; round <= 60; round++) {
    const fails = round % 3 === 0;
    const commands = keys.map((key): [string, ...unknown[]] => ["set", "t", key, fails ? "never" : round]);
    if (fails) commands.push(["incr", "t", 1, 1]);
    const done = client.batch(commands).then(() => 0, () => 0);
    // (Sent at the end of the tick; the host works while this thread reads.)
    await undefined;
    for (const end = performance.now() + 3; performance.now() < end;) {
      const all = reader.getMany<number>("t", sample);
      assert.ok(all.every((each) => each === all[0]), `${all}`);
      const first = reader.get("t", keys[0]), last = reader.get("t", keys[399]);
      assert.notEqual(last, "never");
      if (first === round) assert.equal(last, round);
      if (last === round) seen++;
    }
    await done;
    assert.equal(reader.get("t", 0), fails ? round - 1 : round);
  }
  assert.ok(seen > 0 && (await figures(host.endpoint)).reads > 1000);
});

both(
  "an entry is not there from its deadline on, though the host has not swept it",
  async (host, connect) => {
    await using client = await connect(host.endpoint);
    await ready(client);
    for (let round = 0; round < 5; round++) {
      const sent = Date.now();
      await client.set("t", "k", round, { seconds: 0.3 });
      await client.push("t", "other");
      const acknowledged = Date.now();
      await whileStopped(host, async () => {
        for (;;) {
          const before = Date.now(), value = await client.get("t", "k"), after = Date.now();
          if (after < sent + 300) assert.equal(value, round);
          if (before >= acknowledged + 301) {
            assert.equal(value, undefined);
            assert.equal(await client.exists("t", "k"), false);
            assert.deepEqual(await client.getMany("t", ["k"]), [undefined]);
            const [, page] = await client.scan("t", 0);
            assert.deepEqual(page, new Map());
            break;
          }
        }
      });
    }
  },
);

both("a restore shows at once and whole, and reads are direct again after it", async (_host, connect) => {
  await using directory = new TempDir();
  await using host = await Host.startWith({ flags: ["--data-dir", directory.path] });
  await using reader = await connect(host.endpoint);
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  const keys = Array.from({ length: 3000 }, (_, i) => i), sample = keys.filter((key) => key % 100 === 0);
  const files = ["a", "b"];
  for (const file of files) {
    await client.setMany("t", new Map(keys.map((key) => [key, file])));
    if (file === "b") await client.set("only", "b", 1);
    await client.store(`${directory.path}/${file}`);
  }
  await ready(reader);
  let old = "b";
  for (let round = 0; round < 10; round++) {
    const next = files[round % 2];
    let over = false, restored: string | undefined;
    const done = client.restore(`${directory.path}/${next}`).then(() => over = true);
    await undefined;
    for (let i = 0; !over; i++) {
      const values = await reader.getMany<string>("t", sample);
      assert.ok(values.every((value) => value === values[0]), `${values}`);
      assert.ok(values[0] === old || values[0] === next);
      if (restored === next) assert.equal(values[0], next);
      if (old !== next) restored = values[0];
      if (i % 20 === 0) await sleep(0);
    }
    await done;
    assert.equal(await reader.get("t", 5), next);
    assert.equal(await reader.exists("only", "b"), next === "b");
    assert.equal(await reader.size("t"), keys.length);
    old = next;
  }
  await ready(reader);
});

both("reads become direct again, however quickly one restore follows another", async (_host, connect) => {
  await using directory = new TempDir();
  await using host = await Host.startWith({ flags: ["--data-dir", directory.path] });
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  await client.set("t", "k", 1);
  await client.store(`${directory.path}/a`);
  await using readers = new AsyncDisposableStack();
  for (let i = 0; i < 6; i++) {
    const reader = readers.use(await connect(host.endpoint));
    for (let j = 0; j < 20; j++) {
      const done = client.restore(`${directory.path}/a`);
      await undefined;
      for (let n = 0; n < 5; n++) assert.equal(await reader.get("t", "k"), 1);
      await done;
    }
    await ready(reader);
  }
});

test("attached: a drop shows at once and whole", async () => {
  await using host = await Host.start();
  using reader = await attach(host.endpoint);
  await using client = new MemStoreClient(host.endpoint);
  await ready(reader);
  const keys = Array.from({ length: 2000 }, (_, i) => i), sample = keys.filter((key) => key % 100 === 0);
  const entries = new Map(keys.map((key) => [key, key]));
  for (let round = 0; round < 15; round++) {
    await client.setMany("t", entries);
    assert.equal(reader.size("t"), keys.length);
    const done = client.drop("t");
    await undefined;
    for (let gone = false, end = performance.now() + 2; performance.now() < end;) {
      const values = reader.getMany("t", sample),
        there = values.filter((value) => value !== undefined).length;
      assert.ok(there === 0 || !gone && there === sample.length, `${there} of ${sample.length} are there`);
      gone = there === 0;
    }
    await done;
    assert.equal(reader.get("t", 0), undefined);
    assert.equal(reader.size("t"), 0);
  }
});

test("a client keeps the order with its own calls that are unanswered", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await ready(client);
  for (let i = 0; i < 100; i++) {
    const set = client.set("t", "k", i), get = client.get("t", "k");
    const batch = client.batch([["set", "t", "k", -i]]), after = client.get("t", "k");
    assert.deepEqual(await Promise.all([set, get, batch, after]), [1, i, [1], -i]);
  }
  // (Once all is answered, the host is not needed.)
  const values = await whileStopped(host, async () => {
    const all = Promise.all(Array.from({ length: 1000 }, () => client.get("t", "k", { timeout: 5000 })));
    return [await client.get("t", "k"), ...await all];
  });
  assert.deepEqual(new Set(values), new Set([-99]));
});

both("a read after a call that timed out does not overtake it", async (host, connect) => {
  await using client = await connect(host.endpoint);
  await client.set("t", "k", 1);
  await ready(client);
  for (let i = 2; i < 6; i++) {
    let read: unknown;
    await whileStopped(host, async () => {
      assert.equal(await codeOf(() => client.set("t", "k", i, { timeout: 60 })), "TIMEOUT");
      if (client instanceof MemStoreClient) read = client.get("t", "k");
      else assert.equal(await codeOf(() => client.get("t", "k", { timeout: 60 })), "TIMEOUT");
    });
    assert.equal(await (read ?? client.get("t", "k")), i);
    await ready(client);
  }
});

test("a loop of reads that are there at once lets timers run", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await client.set("t", "k", 1);
  await ready(client);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  for (let i = 0; i < 30_000; i++) await client.get("t", "k");
  clearInterval(timer);
  assert.ok(ticks > 3, `${ticks} ticks`);
});

both(
  "keys and values of many sizes are read whole, also where they are too long to be read directly",
  async (host, connect) => {
    await using client = await connect(host.endpoint);
    await ready(client);
    const blob = crypto.getRandomValues(new Uint8Array(60_000));
    const kept: [Uint8Array, Uint8Array][] = [];
    for (let bytes = 0; bytes < 2 ** 24 + 2 ** 20; bytes = bytes * 3 + 1) {
      const value = new Uint8Array(bytes).map((_, i) => blob[i % blob.length]);
      for (const key of ["k", "long key ".repeat(bytes % 7000)]) {
        await client.set("t", key, value);
        const found = await client.get<Uint8Array>("t", key);
        assert.deepEqual(found, value);
        kept.push([found!, value]);
      }
    }
    await client.set("t", "k", new Uint8Array(2 ** 24 + 1));
    assert.equal((await client.get<Uint8Array>("t", "k"))?.length, 2 ** 24 + 1);
    // (What was read stays as it was, whatever is read after it.)
    for (const [found, value] of kept) assert.deepEqual(found, value);
  },
);

both("a key whose getter closes the client, or makes a call, is no harm", async (host, connect) => {
  await using client = await connect(host.endpoint);
  await client.set("t", { a: 1 }, "found");
  await ready(client);
  const calling = {
    get a() {
      return (client.get("t", "other"), 1);
    },
  };
  assert.equal(await client.get("t", calling), "found");
  assert.deepEqual(await client.getMany("t", [calling]), ["found"]);
  const closing = {
    get a() {
      return (void client.close(), 1);
    },
  };
  assert.equal(await codeOf(() => client.getMany("t", [closing])), "CLOSED");
  assert.equal(await codeOf(() => client.get("t", closing)), "CLOSED");
});

both("two clients read what each other wrote; after close() neither reads", async (host, connect) => {
  const one = await connect(host.endpoint), two = await connect(host.endpoint);
  try {
    await ready(one);
    await ready(two);
    for (let i = 0; i < 200; i++) {
      await one.set("t", "k", i);
      assert.equal(await two.get("t", "k"), i);
      await two.set("t", "k", -i);
      assert.equal(await one.get("t", "k"), -i);
    }
    await one.close();
    for (const read of [() => one.get("t", "k"), () => one.size("t"), () => one.exists("t", "k")]) {
      assert.equal(await codeOf(read), "CLOSED");
    }
    assert.equal(await two.get("t", "k"), -199);
  } finally {
    await one.close();
    await two.close();
  }
  assert.equal(await codeOf(() => two.get("t", "k")), "CLOSED");
});

/** Reads until the host has ended; fails if that takes too long, or reads work again by themselves. */
async function readsEnd(client: Client, allowed: (value: unknown) => boolean): Promise<void> {
  const start = performance.now();
  for (let i = 0;; i++) {
    try {
      const value = await client.get("t", "k");
      assert.ok(allowed(value), `read ${value}`);
      if (i % 50 === 0) await sleep(0);
    } catch (error) {
      if (!(error instanceof MemStoreError)) throw error;
      assert.ok(ENDED.includes(error.code), error.code);
      break;
    }
    assert.ok(performance.now() - start < NOTICE_MS + GRACE_MS, "reads go on");
  }
  assert.ok(performance.now() - start < NOTICE_MS + GRACE_MS, `${performance.now() - start} ms`);
  // (Nothing is read any more.)
  const code = await codeOf(() => client.get("t", "k", { timeout: 100 }));
  assert.ok(code === "TIMEOUT" || ENDED.includes(code!), code);
}

for (const how of ["stops", "is killed", "is killed in the middle of a write"]) {
  both(`reads end when the host ${how}, and go on with one that is back`, async (_host, connect) => {
    await using directory = new TempDir();
    const endpoint = `${directory.path}/host.sock`;
    using ledger = Ledger.create();
    await using client = await connect(endpoint, { connectTimeout: 1000 }).catch(async () => {
      // (`attach()` needs a host.)
      await using _first = await Host.start(endpoint);
      return await connect(endpoint, { connectTimeout: 1000 });
    });
    for (let round = 0; round < 2; round++) {
      await using host = await Host.start(endpoint);
      ledger.store(READY, 0);
      await until("the host is found", async () => {
        return await codeOf(() => client.set("t", "k", round)) === undefined;
      });
      await ready(client);
      assert.equal(await client.get("t", "k"), round);
      assert.equal(await client.get("t", "before"), undefined);
      await client.set("t", "before", round);
      if (how === "stops") {
        await using other = new MemStoreClient(endpoint);
        await other.done();
        await readsEnd(client, (value) => value === round);
      } else {
        const file = new URL("direct_writer.ts", import.meta.url).pathname;
        await using writer = how === "is killed" ? undefined : runs([file, endpoint, ledger.place, "0"]);
        if (writer) await until("a writer writes", () => ledger.load(READY) === 1);
        await sleep(Math.random() * 20);
        host.kill("SIGKILL");
        await readsEnd(client, (value) => value === round);
      }
      await host.status;
    }
  });
}

test("readers that are killed leave nothing in the host", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await client.setMany("t", new Map(Array.from({ length: 1000 }, (_, i) => [i, `value ${i}`])));
  const open = async () => Number(await shell(`ls /proc/${host.pid}/fd | wc -l`));
  const memory = async () => Number(await shell(`awk '/^VmRSS/ { print $2 }' /proc/${host.pid}/status`));
  const program = `
    import { attach, MemStoreClient } from "${import.meta.resolve("../mod.ts")}";
    const shared = await attach("${host.endpoint}"), client = new MemStoreClient("${host.endpoint}");
    await client.get("t", 0);
    for (let i = 0;; i++) {
      if (shared.get("t", i % 1000) !== "value " + i % 1000) throw new Error();
      if (await client.get("t", i % 1000) !== "value " + i % 1000) throw new Error();
      if (i === 1000) console.log("reads");
    }`;
  let before = 0, size = 0;
  for (let round = 0; round < 4; round++) {
    await using readers = new AsyncDisposableStack();
    const url = `data:text/javascript,${encodeURIComponent(program)}`;
    const processes = Array.from({ length: 3 }, () => readers.use(runs([url])));
    for (const { stdout } of processes) {
      const lines = stdout.getReader();
      assert.match(new TextDecoder().decode((await lines.read()).value), /reads/);
      lines.releaseLock();
    }
    assert.ok((await client.stats()).direct_reads > 3000);
    for (const process of processes) process.kill("SIGKILL");
    for (const process of processes) await process.status;
    await until("the lanes are closed", async () => (await client.stats()).lanes === 1);
    // (The first round brings what stays: threads and their descriptors.)
    if (round === 0) before = await open(), size = await memory();
    else await until(`${before} descriptors are open again`, async () => await open() <= before);
  }
  assert.ok(await memory() < size * 1.2, `${await memory()} KiB, ${size} before`);
  assert.equal(await client.get("t", 999), "value 999");
});

test("without shared memory, or where it is not wanted, no read is direct, and all else is the same", async () => {
  /** Whether reads need the host. */
  const asks = async (host: Host, connect: Connect, options: ClientOptions) => {
    await using client = await connect(host.endpoint, options);
    await client.set("t", "k", "v");
    const before = await figures(host.endpoint);
    for (let i = 0; i < 3; i++) {
      assert.equal(await client.get("t", "k"), "v");
      assert.deepEqual(await client.getMany("t", ["k", "?"]), ["v", undefined]);
      assert.equal(await client.exists("t", "?"), false);
      assert.equal(await client.size("t"), 1);
      await sleep(20);
    }
    const code = await whileStopped(host, () => codeOf(() => client.get("t", "k", { timeout: 100 })));
    const { reads, fallbacks } = await figures(host.endpoint);
    assert.equal(fallbacks, before.fallbacks);
    assert.equal(reads > before.reads, code === undefined);
    assert.ok(code === undefined || code === "TIMEOUT", code);
    return code === "TIMEOUT";
  };
  await using host = await Host.start();
  await using own = await Host.startWith({ flags: ["--private-memory"] });
  for (const connect of [attached, asynchronous]) {
    assert.equal(await asks(host, connect, {}), false);
    assert.equal(await asks(host, connect, { directReads: false }), true);
    assert.equal(await asks(host, connect, { lane: false }), true);
    assert.equal(await asks(own, connect, {}), true);
  }
  for (const privateMemory of [false, true]) {
    await using directory = new TempDir();
    await using store = new MemStore(`${directory.path}/host.sock`, { privateMemory });
    await store.start();
    await using client = new MemStoreClient(store.endpoints[0]);
    await client.set("t", "k", 1);
    for (let i = 0; i < 5; i++) assert.equal(await client.get("t", "k"), 1), await sleep(5);
    assert.equal((await client.stats()).direct_reads > 0, !privateMemory);
  }
});

test("a million entries take as much memory shared as private, and deleting them gives it back", async () => {
  const rss = async (host: Host) => {
    return Number(await shell(`awk '/^VmRSS/ { print $2 }' /proc/${host.pid}/status`));
  };
  /** The bytes that the memory of a host takes: the system counts blocks of 512 bytes. */
  const allocated = async ({ pid }: Host) => {
    const each = `case $(readlink $fd) in *memfd:memstore\\ *) stat -L -c %b $fd;; esac`;
    const blocks = await shell(`for fd in /proc/${pid}/fd/*; do ${each}; done`);
    return blocks.split("\n").reduce((sum, each) => sum + Number(each), 0) * 512;
  };
  const sizes: number[] = [];
  for (const flags of [[], ["--private-memory"]]) {
    await using host = await Host.startWith({ flags });
    await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
    for (let i = 0; i < 1_000_000; i += 10_000) {
      const entries = new Map(Array.from({ length: 10_000 }, (_, j) => [i + j, `value ${i + j}`]));
      await client.setMany("t", entries);
    }
    assert.equal(await client.get("t", 999_999), "value 999999");
    sizes.push(await rss(host));
    if (flags.length > 0) continue;
    const { heap } = await client.stats(), full = await allocated(host);
    assert.ok(
      full >= heap && full < heap * 1.05 + 2 ** 21,
      `${full} bytes are allocated, the heap has ${heap}`,
    );
    using reader = await attach(host.endpoint);
    await ready(reader);
    await client.drop("t");
    await until("the memory is given back", async () => await allocated(host) < 4 * 2 ** 20, 60);
    assert.equal(reader.get("t", 1), undefined);
    assert.equal(reader.size("t"), 0);
  }
  assert.ok(sizes[0] / sizes[1] < 1.15, `${sizes[0]} KiB shared, ${sizes[1]} KiB private`);
});

test("values are right while the heap grows, is frozen, is cleaned and swept", async () => {
  await using directory = new TempDir();
  await using host = await Host.startWith({ flags: ["--max-memory", "24MB", "--data-dir", directory.path] });
  using store = await attach(host.endpoint);
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  await ready(store);
  const before = await figures(host.endpoint), random = new Random(16);
  const model = new Map<number, Uint8Array>();
  let refused = 0;
  for (let round = 0; round < 40; round++) {
    // (The host stores while this thread writes and reads.)
    const stored = round % 2 ? client.store(`${directory.path}/state`) : undefined;
    await undefined;
    for (let i = 0; i < 400; i++) {
      const key = random.below(1500), what = random.below(20);
      try {
        if (what < 14) {
          const value = new Uint8Array(random.below(random.below(10) === 0 ? 60_000 : 600)).fill(key + i);
          store.set("t", key, value);
          model.set(key, value);
        } else if (what < 17) {
          assert.equal(store.del("t", key), model.delete(key));
        } else if (what < 19) {
          store.set(`gone ${key % 5}`, key, "soon", { seconds: 0.01 });
        } else {
          store.drop(`gone ${key % 5}`);
        }
      } catch (error) {
        if (!(error instanceof MemStoreError) || error.code !== "OUT_OF_MEMORY") throw error;
        refused++;
      }
      assert.deepEqual(store.get("t", key), model.get(key));
      const other = random.below(1500);
      assert.deepEqual(store.get("t", other), model.get(other));
      if (i % 20 === 0) assert.equal(store.size("t"), model.size);
    }
    await stored;
  }
  const { reads, fallbacks } = await figures(host.endpoint);
  assert.ok(
    reads - before.reads > 30_000,
    `${reads - before.reads} reads, ${fallbacks} fallbacks, ${refused} refused`,
  );
});

test("between any two steps of a change, a reader finds what was or what will be, or nothing that it believes", () => {
  assert.ok(loadSharedMemory());
  const segments = new SharedSegments(), heap = new Heap(segments), store = new Store(heap);
  using view = new SharedView(Deno.pid, segments.offer!.fd, 2 ** 35);
  const reader = new MemoryReader(view.buffer, segments.offer!.token), random = new Random(3);
  const span = (value: unknown) => {
    const bytes = encoded(value), key = new Key();
    key.aim(bytes, 0, bytes.length);
    return key;
  };
  const table = (name: string): KnownTable => {
    const { bytes, from, to } = span(name);
    return reader.table("tables", bytes.slice(from, to));
  };
  const tables = new Map(["t", "u"].map((name) => [name, table(name)]));
  const keys = Array.from({ length: 700 }, (_, i) => i % 2 ? "t" : "u").map((name, i) => ({
    name,
    key: span(i),
  }));
  /** What there is before a change and after it: a number for each key. */
  let before = new Map<number, number>(), after = before, looks = 0, busy = 0, inLook = false;

  /** What a reader finds: -1 for nothing, undefined if it does not know. */
  const find = (i: number): number | undefined => {
    const { name, key } = keys[i];
    key.hash = reader.hash(key);
    const length = reader.get(tables.get(name)!, key);
    if (length === MISSING) return -1;
    if (length < 0) return undefined;
    const [number, filler] = new Reader(reader.value).value() as [number, Uint8Array];
    assert.ok(filler.every((byte) => byte === (number & 255)), `the value of ${i} is not whole`);
    return number;
  };
  let changed: number[] = [];
  const look = () => {
    // (While everything changes, all is busy; to find that out takes its time.)
    if (inLook || (looks++ % 64 > 0 && heap.head![STRUCTURE] & 1)) return;
    inLook = true;
    let old = true, next = true;
    for (const i of [...changed, random.below(keys.length), random.below(keys.length)]) {
      const found = find(i);
      if (found === undefined) {
        busy++;
        break;
      }
      old &&= found === (before.get(i) ?? -1);
      next &&= found === (after.get(i) ?? -1);
    }
    assert.ok(old || next, "a reader found what never was");
    inLook = false;
  };
  const watched = <Name extends string>(
    object: Record<Name, unknown>,
    name: Name,
    then?: (...args: number[]) => void,
  ) => {
    const own = (object[name] as (...args: unknown[]) => unknown).bind(object);
    object[name] = (...args: unknown[]) => {
      look();
      const result = own(...args);
      then?.(...args as number[]);
      look();
      return result;
    };
  };
  const steps = [
    "beginPage",
    "endPage",
    "beginAll",
    "endAll",
  ] as const;
  for (const step of steps) watched(heap.changes as Changes & Record<typeof step, unknown>, step);
  watched(heap as Heap & Record<"allocate", unknown>, "allocate");
  watched(heap as Heap & Record<"free", unknown>, "free", (address, bytes) => {
    // (What is freed may be written at once: it is here, if no snapshot needs it.)
    const words = heap.words[address >>> UNIT_BITS], w = wordAt(address);
    if (heap.frozen || words.length < w || words[w] & (PAGE | TABLE)) return;
    heap.bytes[address >>> UNIT_BITS].fill(0xc1, keyFrom(words, w), (w << 2) + bytes);
  });

  const set = (i: number, number: number) => {
    const bytes = encoded([number, new Uint8Array(number % 5 ? number % 700 : 20_000).fill(number)]);
    const expiry = number % 7 ? 0 : Date.now() + 3_600_000;
    store.tables.change(
      span(keys[i].name),
      (table) => table.set(keys[i].key, bytes, 0, bytes.length, expiry),
    );
    after.set(i, number);
  };
  const del = (i: number) => {
    store.tables.get(span(keys[i].name))?.delete(keys[i].key);
    after.delete(i);
  };
  const some = () => Array.from({ length: 1 + random.below(6) }, () => random.below(keys.length));
  for (let n = 1; n < 1000; n++) {
    const what = random.below(100);
    after = new Map(before);
    // (What is to be is known before it is done.)
    const many = what < 70 ? [random.below(keys.length)] : some();
    changed = many;
    if (what < 45) {
      after.set(many[0], n);
      set(many[0], n);
    } else if (what < 60) {
      after.delete(many[0]);
      del(many[0]);
    } else if (what < 70) {
      store.cleanWhenIdle();
    } else if (what < 85) {
      for (const i of many) after.set(i, n);
      store.transaction(() => many.forEach((i) => set(i, n)));
    } else if (what < 92) {
      const kept = new Map(before);
      assert.throws(() =>
        store.transaction(() => {
          many.forEach((i) => i % 2 ? set(i, n) : del(i));
          after = kept;
          throw new Error("taken back");
        }), /^Error: taken back$/);
    } else if (what < 98) {
      using _snapshot = store.snapshot();
      for (const i of many) after.set(i, n), changed = [i], set(i, n), before = new Map(after);
    } else if (n % 10 === 0) {
      const name = n % 20 ? "t" : "u";
      changed = keys.keys().filter((i) => keys[i].name === name).take(20).toArray();
      for (const i of keys.keys()) if (keys[i].name === name) after.delete(i);
      if (n % 3) store.tables.drop(span(name));
      else store.tables.clear(span(name));
    }
    before = after;
    look();
  }
  for (const i of keys.keys()) assert.equal(find(i), before.get(i) ?? -1);
  assert.ok(busy < looks, `${looks} looks, ${busy} of them too early`);
  heap.close();
});

test("what is left of a heap while it is given back is not believed", () => {
  assert.ok(loadSharedMemory());
  const segments = new SharedSegments(), heap = new Heap(segments), store = new Store(heap);
  using view = new SharedView(Deno.pid, segments.offer!.fd, 2 ** 35);
  const reader = new MemoryReader(view.buffer, segments.offer!.token);
  const name = new Key(), key = new Key(), value = encoded(new Uint8Array(500_000));
  name.aim(encoded("t"), 0, 2);
  for (let i = 0; i < 8; i++) {
    key.aim(encoded(i), 0, 1);
    store.tables.change(name, (table) => table.set(key, value, 0, value.length));
  }
  const table = reader.table("tables", encoded("t"));
  key.hash = reader.hash(key);
  assert.equal(reader.get(table, key), value.length);
  const lengths: number[] = [], release = segments.release.bind(segments);
  segments.release = (segment, buffer) => {
    release(segment, buffer);
    lengths.push(reader.get(table, key));
  };
  heap.close();
  assert.ok(lengths.length > 2 && lengths.every((length) => length === BUSY), `${lengths}`);
});
