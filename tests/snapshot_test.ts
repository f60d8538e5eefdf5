/** Snapshots of an attached store; and each command that needs no host beside the same command of the host. */

import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import {
  attach,
  Extension,
  type MemoryOffer,
  MemStoreClient,
  MemStoreError,
  type SharedStore,
} from "../mod.ts";
import { encoded } from "../msgpack/codec.ts";
import { MemoryReader } from "../blocks/reader.ts";
import { RANGE_BYTES } from "../blocks/block.ts";
import { SharedView } from "../transport/shared/range.ts";
import { latin1, Writer } from "../msgpack/msgpack.ts";
import { Host, LocalHost } from "./host.ts";

/** How long writers and readers are beside each other, in milliseconds. */
const BESIDE_MS = 700;

/** A process that changes data until the end of the block. */
class Mover implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;

  private constructor(process: Deno.ChildProcess) {
    this.#process = process;
  }

  static async start(endpoint: string, kind: string): Promise<Mover> {
    const program = new URL("mover.ts", import.meta.url).pathname;
    const allow = ["--allow-ffi", "--allow-read", "--allow-env"];
    const args = ["run", "--quiet", "--no-lock", ...allow, program, endpoint, kind];
    const process = new Deno.Command(Deno.execPath(), { args, stdout: "piped" }).spawn();
    const mover = new Mover(process);
    const reader = process.stdout.getReader();
    const { done } = await reader.read();
    await reader.cancel();
    if (done) throw new Error("Cannot start a mover: it ended");
    return mover;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#process.status;
  }
}

/** Runs a test with reads from the host's memory, and with the host alone. */
function both(name: string, test: (host: Host, shared: SharedStore) => Promise<void> | void): void {
  for (const directReads of [true, false]) {
    Deno.test(`a snapshot, ${directReads ? "direct" : "of the host"}: ${name}`, async () => {
      await using host = await Host.start();
      using shared = await attach(host.endpoint, { directReads });
      await test(host, shared);
    });
  }
}

/** Repeats reads beside a writer: for some time, and some times. */
async function beside(host: Host, kind: string, read: () => void): Promise<void> {
  await using _mover = await Mover.start(host.endpoint, kind);
  const end = performance.now() + BESIDE_MS;
  for (let reads = 0; reads < 20 || performance.now() < end; reads++) read();
}

const sum = (values: Iterable<number | undefined>) =>
  Array.from(values).reduce<number>((total, value) => total + value!, 0);

for (const kind of ["batches", "expiring"]) {
  both(`a sum is constant under ${kind}`, (host, shared) =>
    beside(host, kind, () => {
      const total = shared.snapshot((s) =>
        sum(Array.from({ length: 8 }, (_, i) => s.get<number>("amounts", i)))
      );
      assert.equal(total, 800);
      const [some, others, size, all] = shared.snapshot((s) => [
        sum(s.getMany<number>("amounts", [0, 1, 2, 3])),
        sum([4, 5, 6, 7].map((i) => s.map<number, number>("amounts").get(i))),
        s.size("amounts"),
        sum(s.map<number, number>("amounts").values()),
      ]);
      assert.deepEqual([some + others, size, all], [800, 8, 800]);
    }));
}

both(
  "a table that is read as a whole is that of one moment",
  (host, shared) =>
    beside(host, "batches", () => {
      for (let i = 0; i < 5; i++) {
        assert.equal(sum(shared.all<number, number>("amounts").values()), 800);
        const [next, page] = shared.scan<number, number>("amounts", 0);
        assert.deepEqual([next, sum(page.values())], [0, 800]);
        assert.deepEqual(shared.keys<number>("amounts").sort(), [0, 1, 2, 3, 4, 5, 6, 7]);
      }
    }),
);

both("writes one after another are seen in their order", (host, shared) =>
  beside(host, "order", () => {
    const [second, first] = shared.snapshot((s) => [
      s.get<number>("second", "n")!,
      s.get<number>("first", "n")!,
    ]);
    assert.ok(first === second || first === second + 1, `${first} and then ${second}`);
  }));

both(
  "a table that is made meanwhile, or dropped, is not overlooked",
  (host, shared) =>
    beside(host, "tables", () => {
      const next = Math.abs(shared.get<number>("mark", "n")!) + 1;
      for (const n of [next, next - 1]) {
        const [there, size, has, mark] = shared.snapshot((s) => {
          const made = `made ${n % 50}`;
          return [
            s.get("made", "n") ?? s.get(made, "n"),
            s.size(made),
            s.tables().includes(made),
            s.get("mark", "n"),
          ];
        });
        if (mark === n) assert.deepEqual([there, size, has], [n, 1, true]);
        assert.equal(has, size === 1);
        assert.equal(there !== undefined, has);
      }
    }),
);

both(
  "what a function throws is passed on if it has read one state",
  (host, shared) =>
    beside(host, "order", () => {
      assert.throws(() =>
        shared.snapshot((s) => {
          const second = s.get<number>("second", "n")!, first = s.get<number>("first", "n")!;
          if (first !== second && first !== second + 1) throw new Error("torn");
          throw new Error("whole");
        }), /whole/);
    }),
);

both("it returns what the function returns, and has the reads", (_host, shared) => {
  shared.setMany("t", { a: 1, b: null });
  shared.pushMany("s", [1, 2]);
  shared.pushMany("s2", [2, 3]);
  shared.expire("t", "a", 100);
  assert.equal(shared.snapshot(() => 7), 7);
  assert.equal(shared.snapshot((s) => s.get("t", "a")), 1);
  const found = shared.snapshot((s) => ({
    all: s.all("t").size,
    keys: [...s.map("t").keys()].sort(),
    members: s.listSet<number>("s").sort(),
    has: [s.set("s").has(1), s.inSet("s", 3), s.exists("t", "b"), s.map("t").has("c")],
    nil: s.map("t").get("b"),
    union: s.union<number>(["s", "s2"]).sort(),
    sets: s.set<number>("s").intersection(s.set("s2")),
    ttl: s.ttl("t", "a")! > 98,
    names: [s.tables().sort(), s.sets().sort()],
    again: s.all("t").size,
    pong: s.send(["ping"]),
    changing: s.stats().messages > 0,
  }));
  assert.deepEqual(found, {
    all: 2,
    keys: ["a", "b"],
    members: [1, 2],
    has: [true, false, true, false],
    nil: null,
    union: [1, 2, 3],
    sets: new Set([2]),
    ttl: true,
    names: [["t"], ["s", "s2"]],
    again: 2,
    pong: "pong",
    changing: true,
  });
});

both("what the function does to a reply is not seen in the next", (_host, shared) => {
  shared.setMany("t", { a: [1], b: [2] });
  const sizes = shared.snapshot((s) => {
    const all = s.all<string, number[]>("t");
    all.get("a")!.push(5);
    all.delete("b");
    s.ping();
    return [s.all("t").size, s.get<number[]>("t", "a")!.length];
  });
  assert.deepEqual(sizes, [2, 1]);
});

both("it only reads", (_host, shared) => {
  shared.set("t", "k", 1);
  const refused = [
    ["set", (s) => s.set("t", "k", 2)],
    ["incr", (s) => s.incr("t", "k")],
    ["set", (s) => s.map("t").set("k", 2)],
    ["set_new", (s) => s.map("t").getOrInsert("none", 2)],
    ["push", (s) => s.set("s").add(1)],
    ["drop", (s) => s.send(["drop", "t"])],
    ["update", (s) => s.update()],
    ["memory", (s) => s.send(["memory"])],
    ["custom", (s) => s.send(["custom", 1])],
  ] satisfies [string, (s: Parameters<Parameters<SharedStore["snapshot"]>[0]>[0]) => unknown][];
  for (const [name, write] of refused) {
    const message = `Cannot ${name} in a snapshot: it only reads`;
    assert.throws(() => shared.snapshot(write), { name: "TypeError", message });
  }
  assert.equal(shared.get("t", "k"), 1);
  assert.deepEqual(shared.tables(), ["t"]);
});

both("it ends with its function, and does not nest", async (_host, shared) => {
  shared.set("t", "k", 1);
  const ended = shared.snapshot((s) => ({ s, map: s.map("t") }));
  assert.throws(() => ended.s.get("t", "k"), { name: "TypeError", message: /has returned/ });
  assert.throws(() => ended.map.size, TypeError);
  assert.throws(() => shared.snapshot(() => shared.snapshot(() => 1)), TypeError);
  let late: unknown;
  const promise = async (s: { get(table: unknown, key: unknown): unknown }) => {
    await undefined;
    try {
      s.get("t", "k");
    } catch (error) {
      late = error;
    }
  };
  assert.throws(
    () => shared.snapshot(promise),
    /Cannot read a snapshot: its function must not be asynchronous/,
  );
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.ok(late instanceof TypeError);
  // (After all of this, it works, and so do other calls.)
  assert.equal(shared.snapshot((s) => s.get("t", "k")), 1);
  assert.equal(shared.incr("t", "k"), 2);
  assert.equal(shared.get("t", "k"), 2);
});

both("attempts end with the timeout, also if each throws", (_host, shared) => {
  let i = 0;
  const changing = (s: { get(table: unknown, key: unknown): unknown }) => {
    s.get("t", "n");
    // (Another key at each attempt, and what has been read is changed.)
    s.get("t", i++);
    shared.incr("t", "n");
  };
  // (Or the last attempt had no time left for its call.)
  const message =
    /^Cannot read a snapshot: others changed what it reads at each attempt for 150 ms$|did not answer within \d+ ms$/;
  for (const fails of [false, true]) {
    const start = performance.now();
    const run = (s: Parameters<typeof changing>[0]) => {
      changing(s);
      if (fails) throw new Error("each time");
    };
    assert.throws(() => shared.snapshot(run, { timeout: 150 }), { code: "TIMEOUT", message });
    assert.ok(performance.now() - start < 3000);
  }
  assert.throws(() => shared.snapshot(() => 1, { timeout: 0 }), RangeError);
});

both("the same reads are enough, however often others write", (_host, shared) => {
  let calls = 0;
  const value = shared.snapshot((s) => {
    const n = s.get<number>("t", "n"), stats = s.stats().uptime;
    shared.incr("t", "n");
    calls++;
    return [n, s.get<number>("t", "n"), stats];
  });
  assert.equal(value[0], value[1]);
  assert.ok(calls <= 4, `${calls} calls`);
});

both("errors of the host are passed on at once", async (host, shared) => {
  shared.set("t", "k", 1);
  let calls = 0;
  const failing = (key: unknown) => () =>
    shared.snapshot((s) => {
      calls++;
      s.get("t", "k");
      s.get("t", key);
    });
  assert.throws(failing("x".repeat(70_000)), MemStoreError);
  assert.throws(failing(() => {}), TypeError);
  assert.equal(calls, 2);
  host.kill("SIGSTOP");
  try {
    assert.throws(() => shared.snapshot((s) => s.stats(), { timeout: 100 }), { code: "TIMEOUT" });
  } finally {
    host.kill("SIGCONT");
  }
  assert.equal(shared.snapshot((s) => s.get("t", "k")), 1);
  await host.end("SIGKILL");
  const message = /^Cannot (get|read a snapshot): no host at .* within \d+ ms$/;
  for (let i = 0; i < 2; i++) {
    const gone = () => shared.snapshot((s) => s.get("t", "k"), { timeout: 300 });
    assert.throws(gone, { code: "TIMEOUT", message });
  }
});

both("an entry that expires meanwhile is there for all reads, or for none", (host, shared) => {
  const wait = (ms: number) => {
    for (const end = performance.now() + ms; performance.now() < end;);
  };
  const read = () => {
    let calls = 0;
    return shared.snapshot((s) => {
      const value = s.get("t", "k");
      if (calls++ === 0) wait(120);
      return [value !== undefined, s.exists("t", "k"), s.all("t").size];
    });
  };
  shared.set("t", "k", 1, { seconds: 0.05 });
  assert.deepEqual(read(), [false, false, 0]);
  shared.set("t", "other", 1);
  shared.set("t", "k", 1, { seconds: 0.05 });
  if (!canBeDirect(host, shared)) return;
  // (Nobody deletes it then: only the time tells.)
  shared.set("t", "k", 1, { seconds: 0.05 });
  host.kill("SIGSTOP");
  try {
    assert.deepEqual(read(), [false, false, 1]);
  } finally {
    host.kill("SIGCONT");
  }
});

both("an entry that expires from now on changes what the number of entries is", (host, shared) => {
  shared.setMany("t", { a: 1, b: 2 });
  shared.get("t", "a");
  if (!canBeDirect(host, shared)) return;
  let calls = 0;
  const size = shared.snapshot((s) => {
    const size = s.size("t");
    if (calls++ === 0) shared.expire("t", "b", 1000);
    return size;
  });
  assert.deepEqual([size, calls], [2, 2]);
});

Deno.test("a snapshot of the host that is too much for a batch is refused, one command alone is not", async () => {
  await using host = await Host.start();
  using shared = await attach(host.endpoint, { directReads: false });
  for (let i = 0; i < 40_000; i += 10_000) {
    shared.setMany("t", new Map(Array.from({ length: 10_000 }, (_, k) => [i + k, k])));
  }
  assert.equal(shared.snapshot((s) => s.all("t")).size, 40_000);
  const message =
    /^Cannot read a snapshot: the host must read all of it at once, and it is too much for that: Cannot/;
  assert.throws(() => shared.snapshot((s) => [s.size("t"), s.all("t")]), { code: "TOO_LARGE", message });
  const each = () => shared.snapshot((s) => Array.from({ length: 10_001 }, (_, i) => s.get("t", i)));
  assert.throws(each, { code: "TOO_LARGE", message });
  using direct = await attach(host.endpoint);
  direct.get("t", 0);
  if (canBeDirect(host, direct)) {
    assert.equal(direct.snapshot((s) => [s.size("t"), ...s.map("t")]).length, 40_001);
  }
});

/** Whether reads need no host here. */
function canBeDirect(host: Host, shared: SharedStore): boolean {
  host.kill("SIGSTOP");
  try {
    shared.tables({ timeout: 100 });
    return true;
  } catch {
    return false;
  } finally {
    host.kill("SIGCONT");
  }
}

const LONG = "k".repeat(65_533);

/** Keys of all kinds, each another one. */
const KEYS: unknown[] = [
  0,
  -1,
  127,
  128,
  2 ** 31,
  -(2 ** 31) - 1,
  2 ** 53,
  1.5,
  -1.5e300,
  NaN,
  Infinity,
  2n ** 63n,
  2n ** 64n - 1n,
  -(2n ** 63n),
  "",
  "a",
  "é".repeat(20),
  "s".repeat(300),
  LONG,
  true,
  false,
  null,
  new Uint8Array(0),
  new Uint8Array([1, 2, 3]),
  new Uint8Array(65_000),
  [],
  [1, [2, ["x"]]],
  { b: 1, a: { c: [null] } },
  new Map<unknown, unknown>([[[1], 2], [1, "x"]]),
  new Date(0),
  new Date(1.5e12 + 1),
  new Extension(5, new Uint8Array([1])),
  new Extension(-128, new Uint8Array(70)),
];
/** The same keys in other words. */
const SAME: unknown[] = [
  -0,
  128n,
  1n,
  { a: { c: [null] }, b: 1 },
  undefined,
  new Float32Array([1]),
  "\ud800",
];
/** No keys for the host. */
const REFUSED: unknown[] = [
  LONG + "xxxxx",
  new Uint8Array(65_536),
  Array.from({ length: 17 }).reduce((inner) => [inner], 1 as unknown),
  Array.from({ length: 70_000 }, () => 1),
  2n ** 64n,
  () => {},
  Symbol("key"),
];

const VALUES: unknown[] = [
  ...KEYS,
  -0,
  "long".repeat(100_000),
  new Uint8Array(3_000_000).fill(7),
  Array.from({ length: 2000 }, (_, i) => ({ i })),
  new Map<unknown, unknown>([[1, new Map([["a", 1]])]]),
  Array.from({ length: 200 }).reduce((inner) => [inner], "deep" as unknown),
];

/** What a call returns or throws, comparable. */
function outcome(run: () => unknown): unknown {
  try {
    return { value: run() };
  } catch (error) {
    const { name, message } = error as Error;
    return { name, message, code: (error as MemStoreError).code };
  }
}

/** The same of a promise. */
async function eventual(run: () => Promise<unknown>): Promise<unknown> {
  try {
    return { value: await run() };
  } catch (error) {
    const { name, message } = error as Error;
    return { name, message, code: (error as MemStoreError).code };
  }
}

/** Every command that may need no host, about a name and a key. */
function commandsOn(name: unknown, key: unknown): [string, ...unknown[]][] {
  return [
    ["get", name, key],
    ["exists", name, key],
    ["ttl", name, key],
    ["in_set", name, key],
    ["get_many", name, [key, "a", key]],
    ["get_many", name, [key, "none"], "missing"],
    ["get_many", name, [key, "none"], key],
    ["size", name],
    ["set_size", name],
    ["keys", name],
    ["all", name],
    ["list_set", name],
    ["scan", name, 0],
    ["scan_set", name, 0, 3],
  ];
}

/** Malformed calls. */
const ODD: [string, ...unknown[]][] = [
  ["get", "t"],
  ["get", "t", "a", "b"],
  ["exists", "t"],
  ["ttl", "t"],
  ["in_set", "t", 1, 2],
  ["size"],
  ["size", "t", 1],
  ["set_size"],
  ["keys"],
  ["all", "t", "t"],
  ["list_set"],
  ["tables", 1],
  ["sets", "s"],
  ["get_many", "t"],
  ["get_many", "t", "a"],
  ["get_many", "t", new Set(["a"])],
  ["get_many", "t", ["a", () => {}]],
  ["get_many", "t", ["a"], "b", "c"],
  ["get_many", "t", ["a", "x"], undefined],
  ["get_many", "t", [["a", REFUSED[2]]]],
  ["get_many", "t", []],
  ["scan", "t"],
  ["scan", "t", -1],
  ["scan", "t", -0],
  ["scan", "t", 1.5],
  ["scan", "t", 0n],
  ["scan", "t", 2 ** 32],
  ["scan", "t", "0"],
  ["scan", "t", 0, undefined],
  ["scan", "t", 0, -0],
  ["scan", "t", 0, 0],
  ["scan", "t", 0, 1e9],
  ["scan", "t", 0, 2 ** 32],
  ["scan", "t", 12345, 10],
  ["scan", "t", 0, 1, 2],
];

/** Replies without what no two replies need have in common: the order of entries, and the time that passes. */
function comparable([name]: [string, ...unknown[]], reply: unknown): unknown {
  const { value } = reply as { value?: unknown };
  if (name === "ttl" && typeof value === "number" && value !== Infinity) return value > 990 && value <= 1000;
  const sorted = (items: unknown[]) =>
    items.map((item) => encoded(item)).map((bytes) => latin1(bytes, 0, bytes.length)).sort();
  if (["keys", "list_set", "tables", "sets"].includes(name) && Array.isArray(value)) return sorted(value);
  if (name === "all" && value instanceof Map) return sorted([...value]);
  return reply;
}

Deno.test("a command that needs no host replies as the host does, for names, keys and values of all kinds", async () => {
  await using host = await Host.start();
  using asking = await attach(host.endpoint, { directReads: false });
  using direct = await attach(host.endpoint);
  await using client = new MemStoreClient(host.endpoint);
  for (const [i, key] of KEYS.entries()) {
    asking.set("t", key, i);
    asking.push("t", key);
    asking.set("e", key, i, { seconds: 1000 });
    asking.set(key, "a", i);
    asking.push(key, "a");
    asking.set(key, key, i);
  }
  VALUES.forEach((value, i) => asking.set("values", i, value));
  asking.set("short", "gone", 1, { seconds: 0.001 });
  asking.set("short", "there", 1);
  asking.clearSet("t2");
  asking.push("emptied", 1);
  asking.pull("emptied", 1);
  direct.get("t", 1);
  await client.get("t", 1);
  await client.ping();
  await new Promise((resolve) => setTimeout(resolve, 20));

  const commands: [string, ...unknown[]][] = [["tables"], ["sets"], ...ODD];
  for (const key of REFUSED) commands.push(...commandsOn("t", key), ["size", key]);
  for (const key of [...KEYS, ...SAME]) {
    commands.push(...commandsOn("t", key), ...commandsOn(key, "a"), ["get", key, key]);
    for (const kind of ["get", "ttl", "exists"]) commands.push([kind, "e", key]);
  }
  for (const name of ["e", "short", "emptied", "t2", "none", "values"]) {
    commands.push(...commandsOn(name, "there"));
  }
  for (const i of VALUES.keys()) commands.push(["get", "values", i]);

  for (const command of commands) {
    const expected = comparable(command, outcome(() => asking.send(command as [string])));
    const found = comparable(command, outcome(() => direct.send(command as [string])));
    const awaited = comparable(command, await eventual(() => client.send(command as [string])));
    // (To compare them in an error's text takes minutes for some.)
    const text = (what: unknown) =>
      Deno.inspect(what, { iterableLimit: 5, strAbbreviateSize: 80 }).slice(0, 500);
    for (const each of [found, awaited]) {
      if (isDeepStrictEqual(each, expected)) continue;
      assert.fail(`${text(command)}: ${text(each)} instead of ${text(expected)}`);
    }
  }
});

/** Runs what must not need the host: it does not run meanwhile. */
async function withoutHost(host: Host, run: () => void | Promise<void>): Promise<void> {
  host.kill("SIGSTOP");
  try {
    await run();
  } finally {
    host.kill("SIGCONT");
  }
}

Deno.test({
  name: "commands that only look something up, and snapshots of them, need no host",
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64",
  async fn() {
    await using host = await Host.start();
    using shared = await attach(host.endpoint, { timeout: 500 });
    await using client = new MemStoreClient(host.endpoint, { timeout: 500 });
    const numbers = Array.from({ length: 1500 }, (_, i) => i);
    shared.setMany("t", new Map(numbers.map((i) => [i, -i])));
    shared.pushMany("s", numbers);
    shared.set("e", "k", 1, { seconds: 1000 });
    shared.setMany("larger", new Map(numbers.concat(numbers.map((i) => -1 - i)).map((i) => [i, i])));
    const big = new Uint8Array(2 ** 24 + 1).fill(5);
    shared.set("big", "k", big);
    assert.equal(shared.get("t", 1), -1);
    assert.equal(await client.get("t", 1), -1);
    await client.ping();
    await withoutHost(host, async () => {
      const look = () => [
        shared.get("t", 5),
        shared.exists("t", 1500),
        shared.getMany("t", [7, "none"]),
        shared.ttl("t", 5),
        shared.ttl("t", "none"),
        shared.ttl("e", "k")! > 900,
        shared.inSet("s", 5),
        [shared.size("t"), shared.size("none"), shared.setSize("s")],
        shared.keys<number>("t").sort((a, b) => a - b).length,
        sum(shared.all<number, number>("t").values()),
        sum(shared.listSet<number>("s")),
        [shared.all("none").size, shared.keys("none"), shared.listSet("none")],
        shared.tables().sort(),
        shared.sets(),
        sum(shared.map<number, number>("larger").values()),
        sum(shared.set<number>("s")),
      ];
      const total = 1500 * 1499 / 2;
      const expected = [
        -5,
        false,
        [-7, undefined],
        Infinity,
        undefined,
        true,
        true,
        [1500, 0, 1500],
        1500,
        -total,
        total,
        [0, [], []],
        ["big", "e", "larger", "t"],
        ["s"],
        -1500,
        total,
      ];
      assert.deepEqual(look(), expected);
      let calls = 0;
      const found = shared.snapshot((s) => {
        calls++;
        return [
          s.get("t", 5),
          s.size("none"),
          s.all("t").size,
          s.tables().length,
          [...s.map("larger")].length,
        ];
      });
      assert.deepEqual([found, calls], [[-5, 0, 1500, 4, 3000], 1]);

      assert.deepEqual([await client.ttl("t", 5), await client.ttl("t", "none")], [Infinity, undefined]);
      assert.equal((await client.keys("t")).length, 1500);
      assert.equal(sum((await client.all<number, number>("t")).values()), -total);
      assert.equal(sum(await client.listSet<number>("s")), total);
      assert.deepEqual([(await client.tables()).sort(), await client.sets()], [["big", "e", "larger", "t"], [
        "s",
      ]]);
      let values = 0, members = 0;
      for await (const [, value] of client.table<number, number>("larger")) values += value;
      for await (const member of client.namedSet<number>("s")) members += member;
      assert.deepEqual([values, members], [-1500, total]);
      assert.equal((await client.table("t").all()).size, 1500);

      // (The table has too many entries, or the value too many bytes.)
      assert.throws(() => shared.keys("larger"), { code: "TIMEOUT" });
    });
    assert.equal(shared.keys("larger").length, 3000);
    await withoutHost(host, () => assert.throws(() => shared.get("big", "k"), { code: "TIMEOUT" }));
    assert.equal(shared.get<Uint8Array>("big", "k", { timeout: 5000 })?.length, big.length);
    assert.equal(shared.snapshot((s) => s.get<Uint8Array>("big", "k"), { timeout: 5000 })?.at(-1), 5);
    assert.equal((await client.get<Uint8Array>("big", "k", { timeout: 5000 }))?.length, big.length);
  },
});

Deno.test({
  name: "a page that is read again has nothing of the attempt before",
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64",
  async fn() {
    await using host = await LocalHost.start({});
    await using client = new MemStoreClient(host.endpoint);
    await client.setMany("t", { a: 1, b: 2 });
    const { pid, fd, token } = await client.send<MemoryOffer>(["memory"]);
    using view = new SharedView(pid, fd, RANGE_BYTES);
    const reader = new MemoryReader(view.buffer, token), to = new Writer();
    // (The first of two attempts did not hold.)
    const together = reader.together.bind(reader);
    reader.together = (tries, run) => together(tries, () => (run(), run()));
    const page = reader.scan(reader.table("tables", encoded("t")), 0, true, { entries: 10, bytes: 1000 }, to);
    assert.deepEqual(page, { entries: 2, next: 0 });
    assert.equal(to.length, 2 * (encoded("a").length + 1));
  },
});
