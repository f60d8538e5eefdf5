/** Memory that others read: what is left of it, where the system has none, who may read it, and readers of bad memory. */

import assert from "node:assert/strict";
import { Peer, TempDir } from "./host.ts";
import { LanePeer } from "./lane_peer.ts";
import { UNIT_BITS, wordAt } from "../blocks/block.ts";
import { DEPTH, ROOT, STATE as TABLE_STATE, stateAt } from "../blocks/descriptor.ts";
import { pageOf } from "../blocks/directory.ts";
import { hash } from "../blocks/hash.ts";
import { HEAD_OWNER, NAMES, OWNER_THREAD } from "../blocks/head.ts";
import { findEntry } from "../blocks/lookup.ts";
import { PAGE_HEAD } from "../blocks/page.ts";
import { BUSY, MAX_VALUE, MemoryReader, MISSING } from "../blocks/reader.ts";
import { ASK, DirectReads } from "../client/direct.ts";
import { Heap } from "../engine/memory/heap.ts";
import { RANGE_BYTES } from "../blocks/block.ts";
import { SharedSegments } from "../engine/memory/shared.ts";
import { Store } from "../engine/memory/store.ts";
import { MemStore, MemStoreClient } from "../mod.ts";
import { encoded, Reader } from "../msgpack/codec.ts";
import type { Span } from "../msgpack/key.ts";
import { Writer } from "../msgpack/msgpack.ts";
import type { MemoryOffer } from "../transport/shared/offer.ts";
import { FIGURES } from "../transport/transport.ts";
import { Context } from "../transport/zeromq/context.ts";
import { ZMQ } from "../transport/zeromq/libzmq.ts";
import { SharedRange, SharedView } from "../transport/shared/range.ts";
import { loadSharedMemory } from "../transport/shared/system.ts";

const SHARES = Deno.build.os === "linux" && Deno.build.arch === "x86_64" && loadSharedMemory();
const test = (name: string, run: () => void | Promise<void>) => Deno.test({ name, ignore: !SHARES, fn: run });

const spanOf = (value: unknown): Span => {
  const bytes = encoded(value);
  return { bytes, from: 0, to: bytes.length };
};

/** What a shell writes. (This process may not read all of /proc.) */
async function shell(script: string, ...args: string[]): Promise<string> {
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script, "sh", ...args] }).output();
  return new TextDecoder().decode(stdout).trim();
}

/** How many descriptors and mappings of hosts' memory a process has: two numbers. */
function held(pid: number = Deno.pid): Promise<string> {
  const count = (what: string) => `echo $(${what} | grep -cF "memfd:memstore (")`;
  return shell(`${count('ls -l "/proc/$1/fd"')}; ${count('cat "/proc/$1/maps"')}`, `${pid}`);
}

/** Waits until something holds; fails after ten seconds. */
async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = performance.now() + 10_000; !await holds();) {
    assert.ok(performance.now() < end, `${what} in time`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Runs a program in a process of its own. */
async function run(
  code: string,
  { limits = "", flags = ["--allow-all"], uid }: { limits?: string; flags?: string[]; uid?: number } = {},
): Promise<string> {
  await using directory = new TempDir();
  await Deno.chmod(directory.path, 0o755);
  const path = `${directory.path}/program.ts`;
  await Deno.writeTextFile(path, code);
  const config = new URL("../deno.json", import.meta.url).pathname;
  const deno = [Deno.execPath(), "run", "--quiet", "--no-check", `--config=${config}`, ...flags, path];
  const { success, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", `${limits}exec "$@"`, "sh", ...deno],
    env: { NO_COLOR: "1" },
    stdin: "null",
    uid,
    signal: AbortSignal.timeout(60_000),
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert.ok(success, text + new TextDecoder().decode(stderr));
  return text.trim();
}

const IMPORTS = `
import { MemStore, MemStoreClient } from "@memstore/memstore";
import { RANGE_BYTES } from "${import.meta.resolve("../blocks/block.ts")}";
import { SharedSegments, sharedMemory } from "${import.meta.resolve("../engine/memory/shared.ts")}";
import { SharedView } from "${import.meta.resolve("../transport/shared/range.ts")}";
import { loadSharedMemory } from "${import.meta.resolve("../transport/shared/system.ts")}";
`;

/** A store that others may read, with a table `t`; and what reads it. */
class Shared implements Disposable {
  readonly segments = new SharedSegments();
  readonly heap = new Heap(this.segments);
  readonly store = new Store(this.heap);
  readonly offer = this.segments.offer!;
  readonly view = new SharedView(this.offer.pid, this.offer.fd, RANGE_BYTES);
  readonly direct = new DirectReads(true);

  constructor() {
    this.direct.use(this.offer, undefined);
    assert.ok(this.direct.open);
  }

  get reader(): MemoryReader {
    return new MemoryReader(this.view.buffer, this.offer.token);
  }

  set(key: unknown, value: Uint8Array): void {
    this.store.tables.set(spanOf("t"), spanOf(key), value, 0, value.length);
  }

  /** The descriptor of the table. */
  get descriptor(): number {
    const name = spanOf("t");
    return findEntry(this.heap, this.heap.head![NAMES], hash(name.bytes, name.from, name.to), name);
  }

  page(h: number): { words: Int32Array; p: number } {
    const page = pageOf(this.heap, this.descriptor, h);
    return { words: this.heap.words[page >>> UNIT_BITS], p: wordAt(page) };
  }

  [Symbol.dispose](): void {
    this.direct.close();
    this.view[Symbol.dispose]();
    this.store.closeNow();
  }
}

const hashed = (reader: MemoryReader, value: unknown) => {
  const span = spanOf(value);
  return { ...span, hash: reader.hash(span) };
};

test("values of all lengths up to 16 MiB are read, also across segments; larger ones are left to the host", () => {
  using shared = new Shared();
  const reader = shared.reader, table = reader.table("tables", encoded("t"));
  for (
    const length of [
      1,
      2 ** 20,
      2 ** 20 + 1,
      5 * 2 ** 20,
      MAX_VALUE - 5,
      MAX_VALUE,
      MAX_VALUE + 1,
      40 * 2 ** 20,
    ]
  ) {
    const value = new Uint8Array(length).fill(length & 255);
    value[length - 1] = 7;
    for (const key of [length, `${length}`.padEnd(65_000, "k")]) {
      shared.set(key, value);
      const found = reader.get(table, hashed(reader, key));
      if (length > MAX_VALUE) assert.equal(found, BUSY);
      else {
        assert.equal(found, length);
        assert.equal(reader.value[length - 1], 7);
        assert.ok(length < 3 || reader.value[length >> 1] === (length & 255));
      }
    }
  }
});

test("names and keys of 65,536 bytes are read", () => {
  using shared = new Shared();
  const { store, direct } = shared;
  const longest = "x".repeat(65_536 - 5), name = spanOf(longest + "nn"), key = spanOf(longest + "kk");
  assert.equal(key.to, 65_536);
  store.tables.set(name, key, encoded("value"), 0, 6);
  assert.equal(direct.read("get", [longest + "nn", longest + "kk"]), "value");
  assert.equal(direct.read("get", [longest + "nn", longest + "kl"]), null);
  assert.equal(direct.read("exists", [longest + "no", longest + "kk"]), false);
  assert.equal(direct.read("get", [longest + "nn", longest + "kkk"]), ASK);
});

test("a value that is no MessagePack is left to the host", () => {
  using shared = new Shared();
  // (A map of which the rest is missing.)
  shared.set("bad", new Uint8Array([0xdf, 0x7f, 0xff, 0xff, 0xff]));
  shared.set("c1", new Uint8Array([0xc1]));
  for (const key of ["bad", "c1"]) {
    assert.equal(shared.direct.read("get", ["t", key]), ASK);
    assert.equal(shared.direct.read("get_many", ["t", [key]]), ASK);
  }
  assert.equal(shared.direct.read("scan", ["t", 0]), ASK);
});

test("many large values at once are left to the host", () => {
  using shared = new Shared();
  const bytes = new Uint8Array(2 ** 20);
  shared.set("large", encoded(bytes));
  const few = shared.direct.read("get_many", ["t", Array(4).fill("large")]) as unknown[];
  assert.deepEqual(few, Array(4).fill(bytes));
  assert.equal(shared.direct.read("get_many", ["t", Array(10_000).fill("large")]), ASK);
});

test("a client that is closed while an argument is encoded reads nothing more", () => {
  for (const name of ["get", "exists", "get_many", "scan"]) {
    using shared = new Shared();
    shared.set("k", encoded(1));
    const key = {
      get k() {
        shared.direct.close();
        return 1;
      },
    };
    const keys = Object.defineProperty(["k", "k"], 0, { get: () => key.k });
    const args = name === "scan" ? [key, 0] : ["t", name === "get_many" ? keys : key];
    assert.equal(shared.direct.read(name, args), ASK);
    assert.equal(shared.direct.read("get", ["t", "k"]), ASK);
  }
});

test("a client whose memory becomes another while a name is encoded reads the other", () => {
  using first = new Shared();
  using second = new Shared();
  second.store.tables.set(spanOf({ k: 1 }), spanOf("k"), encoded(2), 0, 1);
  const name = {
    get k() {
      first.direct.forget();
      first.direct.use(second.offer, undefined);
      return 1;
    },
  };
  assert.equal(first.direct.read("get", [name, "k"]), ASK);
  assert.equal(first.direct.read("get", [{ k: 1 }, "k"]), 2);
});

test("a page whose slots all lead to one large entry takes neither gigabytes nor minutes", () => {
  using shared = new Shared();
  shared.set("k", new Uint8Array(MAX_VALUE - 100));
  const reader = shared.reader, table = reader.table("tables", encoded("t"));
  const h = reader.hash(spanOf("k")), { words, p } = shared.page(h), first = p + PAGE_HEAD;
  const used = words[first + 1] !== 0 ? first : first + 2, entry = words[used + 1];
  words[p + 1] |= 15;
  for (let slot = first; slot < first + 2 * 2 ** 15; slot += 2) words[slot] = h, words[slot + 1] = entry;
  const before = Deno.memoryUsage();
  const to = new Writer();
  const found = reader.scan(table, 0, true, { entries: 10_000, bytes: 2 ** 20 }, to);
  assert.equal(found, undefined);
  assert.ok(to.length <= 2 * MAX_VALUE);
  const after = Deno.memoryUsage();
  assert.ok(after.external + after.rss < before.external + before.rss + 2 ** 28, "it took no gigabytes");
});

test("keys are compared with a page's slots, however many it says it has", () => {
  using shared = new Shared();
  const key = "k".repeat(65_000);
  shared.set(key, encoded(1));
  const reader = shared.reader, table = reader.table("tables", encoded("t"));
  const h = reader.hash(spanOf(key)), { words, p } = shared.page(h), first = p + PAGE_HEAD;
  const used = words[first + 1] !== 0 ? first : first + 2, entry = words[used + 1];
  words[p + 1] |= 15;
  for (let slot = first; slot < first + 2 * 2 ** 15; slot += 2) words[slot] = h, words[slot + 1] = entry;
  const other = { ...hashed(reader, key.slice(1) + "l"), hash: h };
  const start = performance.now();
  assert.equal(reader.get(table, other), MISSING);
  // (With all that the page says there are, it takes seconds.)
  assert.ok(performance.now() - start < 1000, `it took ${performance.now() - start} ms`);
});

test("a directory that is larger than what can be read of it is left to the host, and so is one of nonsense", () => {
  using shared = new Shared();
  for (let i = 0; i < 2000; i++) shared.set(i, encoded(i));
  const reader = shared.reader, table = reader.table("tables", encoded("t"));
  const { heap, descriptor } = shared;
  const words = heap.words[descriptor >>> UNIT_BITS], s = stateAt(words, wordAt(descriptor));
  const state = words[s + TABLE_STATE], root = words[s + ROOT];
  // (Nothing is read beyond the last view of a segment.)
  words[s + ROOT] = (2 ** 15 - 1) << UNIT_BITS;
  for (const depth of [23, 30, 31, 32, 33, 255]) {
    words[s + TABLE_STATE] = state & ~DEPTH | depth;
    for (let i = 0; i < 50; i++) assert.equal(reader.get(table, hashed(reader, i)), BUSY);
  }
  words[s + ROOT] = root;
  for (const depth of [31, 255]) {
    words[s + TABLE_STATE] = state & ~DEPTH | depth;
    const busy = Array.from({ length: 50 }, (_, i) => reader.get(table, hashed(reader, i)) === BUSY);
    assert.ok(busy.filter(Boolean).length > 20);
    assert.equal(reader.scan(table, 2 ** 32 - 1, false, { entries: 10, bytes: 10 }, new Writer()), undefined);
  }
  words[s + TABLE_STATE] = state;
  assert.equal(reader.get(table, hashed(reader, 5)), 1);
});

test("memory is refused that is another's, or whose thread has ended", () => {
  using shared = new Shared();
  const { view, offer, heap } = shared;
  for (const token of [new Uint8Array(0), offer.token.slice(0, 1), offer.token.map((byte) => byte ^ 1)]) {
    assert.throws(() => new MemoryReader(view.buffer, token), /another/);
  }
  assert.throws(() => new MemoryReader(new ArrayBuffer(100), offer.token), Error);
  const head = heap.head!, owner = head[OWNER_THREAD];
  // (The system sets this bit when the thread ends; 0 is no thread.)
  for (const ended of [2 ** 30, 0]) {
    head[OWNER_THREAD] = ended;
    const reader = new MemoryReader(view.buffer, offer.token), table = reader.table("tables", encoded("t"));
    assert.equal(reader.usable, false);
    assert.equal(reader.get(table, hashed(reader, "k")), BUSY);
  }
  head[OWNER_THREAD] = owner;
  assert.ok(new MemoryReader(view.buffer, offer.token).usable);
});

test("an offer may be anything", () => {
  using shared = new Shared();
  const { pid, fd, token } = shared.offer;
  const offers = [null, 5, [], {}, { pid, fd }, { pid, fd, token: [] }, { pid: -1, fd, token }];
  offers.push({ pid: 2 ** 60, fd, token }, { pid, fd: 0, token }, { pid, fd: 1e6, token });
  offers.push({ pid: NaN, fd, token }, { pid, fd, token: new Uint8Array(1) });
  for (const offer of offers) {
    const direct = new DirectReads(true);
    direct.use(offer, undefined);
    assert.ok(!direct.open, JSON.stringify(offer));
    direct.close();
  }
});

test("to open what is no memory does not block", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/pipe`;
  await new Deno.Command("mkfifo", { args: [path] }).output();
  // (A pipe that nobody writes to: to open it waits for somebody.)
  const both = await Deno.open(path, { read: true, write: true });
  await using stack = new AsyncDisposableStack();
  const child = new Deno.Command("sh", { args: ["-c", `exec 3<"${path}"; exec sleep 100`] }).spawn();
  stack.defer(async () => {
    child.kill("SIGKILL");
    await child.status;
  });
  const opened = () => shell(`readlink "/proc/${child.pid}/fd/3"`).then((target) => target === path);
  await until(opened, "the child has opened it");
  both.close();
  const said = await run(`${IMPORTS}
    loadSharedMemory();
    try { new SharedView(${child.pid}, 3, RANGE_BYTES); } catch (error) { console.log(error.message); }
  `);
  assert.match(said, /no sealed memory/);
});

test("memory may be read by its user alone, and not written", async () => {
  using shared = new Shared();
  assert.equal(await shell(`stat -Lc %a "/proc/${Deno.pid}/fd/${shared.offer.fd}"`), "400");
});

test("two ranges in one thread may go in any order, and one that was never owned", async () => {
  const before = await held();
  for (const order of [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]]) {
    const all = Array.from({ length: 3 }, () => new SharedSegments());
    const heads = all.map(({ head }) => head[OWNER_THREAD]);
    assert.ok(heads.every((owner) => owner === heads[0] && owner > 0));
    for (const i of order) {
      const token = all[i].offer!;
      assert.equal(token.pid, Deno.pid);
      all[i].close();
      all[i].close();
      assert.equal(all[i].offer, undefined);
    }
    // (The rest of the thread's mutexes are as they were.)
    new SharedSegments().close();
  }
  const range = new SharedRange("memstore", RANGE_BYTES, HEAD_OWNER);
  range[Symbol.dispose]();
  range[Symbol.dispose]();
  assert.equal(await held(), before);
});

test("a host leaves no descriptor and no mapping, however far it came", async () => {
  await using directory = new TempDir();
  const before = await held();
  const path = `${directory.path}/host.sock`;
  {
    await using _never = new MemStore(path);
  }
  assert.equal(await held(), before, "never started");
  const used = new MemStore(path);
  used.local.set("t", "k", 1);
  assert.notEqual(await held(), before);
  await used.stop();
  assert.equal(await held(), before, "used and never started");
  const host = new MemStore(path);
  await host.start();
  const joining = new MemStore(path);
  assert.equal(await joining.start({ join: true }), "joined");
  await joining.stop();
  const failing = new MemStore(path);
  await assert.rejects(failing.start());
  await host.stop();
  assert.equal(await held(), before, "joined, failed, stopped");
  const elsewhere = new MemStore("/nonexistent/directory/host.sock");
  await assert.rejects(elsewhere.start());
  assert.equal(await held(), before, "cannot start");
  assert.throws(() => new MemStore(path, { maxMemory: 1 }));
  assert.equal(await held(), before, "refused");
});

test("a restore leaves nothing of the memory before it, also if it fails, or a store was reading that", async () => {
  await using directory = new TempDir();
  const before = await held();
  const options = { dataDirectory: directory.path };
  await using host = new MemStore(`${directory.path}/host.sock`, options);
  await host.start();
  const one = await held();
  const { local } = host;
  local.setMany("t", new Map(Array.from({ length: 50_000 }, (_, i) => [i, `value ${i}`])));
  local.pushMany("a", [1, 2, 3]);
  local.pushMany("b", [3, 4]);
  assert.equal(local.union(["a", "b"]).length, 4);
  await local.store("state");
  await Deno.writeTextFile(`${directory.path}/bad`, "no state");
  await assert.rejects(local.restore("bad"));
  const stored = [local.store("one"), local.store("two")];
  await local.restore("state");
  await Promise.all([...stored, local.restore("state")]);
  assert.equal(local.size("t"), 50_000);
  await until(async () => await held() === one, "what was restored over is gone");
  await host.stop();
  assert.equal(await held(), before);
});

test("a client's mapping is gone once it is closed, the data is elsewhere, or the host has stopped", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/host.sock`;
  const before = await held();
  await using host = new MemStore(path, { dataDirectory: directory.path });
  await host.start();
  const one = await held();
  host.local.set("t", "k", 1);
  await host.local.store("state");
  await using client = new MemStoreClient(path);
  const reads = async () => {
    await client.get("t", "k");
    return await held() !== one;
  };
  await until(reads, "it maps the memory");
  await client.close();
  assert.equal(await held(), one, "closed");
  await using idle = new MemStoreClient(path);
  await until(async () => (await idle.get("t", "k"), await held() !== one), "it maps the memory");
  // (Nobody reads: the memory that was restored over, and that of the host, are given up all the same.)
  await host.local.restore("state");
  await until(async () => await held() === one, "an idle client unmaps what was restored over");
  await until(async () => (await idle.get("t", "k"), await held() !== one), "it maps the memory again");
  await host.stop();
  await until(async () => await held() === before, "an idle client unmaps the memory of a host that stopped");
});

test("the memory of a host that is dropped without a stop is given back", async () => {
  const said = await run(
    `${IMPORTS}
    const count = () => Array.from(Deno.readDirSync("/proc/self/fd")).filter(({ name }) => {
      try { return Deno.readLinkSync("/proc/self/fd/" + name).includes("memfd:memstore ("); } catch { return false; }
    }).length;
    const shared = () => Number(/RssShmem:\\s*(\\d+)/.exec(Deno.readTextFileSync("/proc/self/status"))[1]);
    let views;
    (() => {
      for (let i = 0; i < 20; i++) {
        const host = new MemStore("never");
        host.local.set("t", "k", new Uint8Array(3 << 20));
      }
      const segments = new SharedSegments();
      views = [segments.head, new Uint8Array(segments.allocate(1, 1 << 20))];
    })();
    const most = count(), full = shared();
    for (let i = 0; i < 50 && count() > 0; i++) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    // (What still reads it finds memory.)
    views[1].fill(1);
    const again = new SharedSegments();
    again.close();
    console.log(most, count(), full > 60_000, shared() < 10_000, views[0][0]);
  `,
    { flags: ["--allow-all", "--v8-flags=--expose-gc"] },
  );
  assert.equal(said, "21 0 true true 0");
});

test("where the system limits the size of files, addresses or descriptors, memory is private", async () => {
  const make = `${IMPORTS}
    const host = new MemStore("never");
    host.local.set("t", "k", "value");
    console.log(host.local.get("t", "k"), Deno.readTextFileSync("/proc/self/maps").includes("memfd:memstore ("));
  `;
  assert.equal(await run(make), "value true");
  assert.equal(await run(make, { limits: "ulimit -f 1000000 && " }), "value false");
  const limited = (resource: number, to: string) =>
    `${
      make.replace(
        "const host",
        `
    const libc = Deno.dlopen("libc.so.6", { setrlimit: { parameters: ["i32", "buffer"], result: "i32" } });
    if (libc.symbols.setrlimit(${resource}, new BigUint64Array([${to}, ${to}])) < 0) throw new Error("no limit");
    const host`,
      )
    }`;
  // (Deno itself reserves more than 4 GiB.)
  const size =
    `BigInt(/VmSize:\\s*(\\d+)/.exec(Deno.readTextFileSync("/proc/self/status"))[1]) * 1024n + 2n ** 32n`;
  assert.equal(await run(limited(9, size)), "value false");
  const files = `BigInt(Array.from(Deno.readDirSync("/proc/self/fd")).length - 1)`;
  assert.equal(
    await run(
      limited(7, files).replace(
        /console.log.*\n/,
        `console.log(host.local.get("t", "k"), sharedMemory().offer);`,
      ),
    ),
    "value undefined",
  );
});

test("without the permission memory is private, and nobody is asked", async () => {
  const make = `${IMPORTS}
    const host = new MemStore("never");
    host.local.set("t", "k", "value");
    const client = new MemStoreClient("never", { lane: false });
    await client.close();
    console.log(host.local.get("t", "k"));
  `;
  const few = ["--allow-read", "--allow-env", "--allow-sys"];
  for (const flags of [["--no-prompt"], ["--no-prompt", "--allow-ffi=/nonexistent.so"], []]) {
    assert.equal(await run(make, { flags: [...few, ...flags] }), "value");
  }
  // (In a terminal, Deno would ask.)
  await using directory = new TempDir();
  const path = `${directory.path}/program.ts`;
  await Deno.writeTextFile(path, make);
  const config = new URL("../deno.json", import.meta.url).pathname;
  const command = `${Deno.execPath()} run --quiet --no-check --config=${config} ${few.join(" ")} ${path}`;
  const { stdout } = await new Deno.Command("timeout", {
    args: ["20", "script", "-qec", command, "/dev/null"],
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert.equal(text.trim(), "value");
});

/** Where a lane has what its client tells, in bytes: see transport/shared/lane.ts. */
const FIGURES_AT = 512;
const MEMORY = encoded(["memory"]);
const NATIVE = [0x4d, 1, 9, 9, 9, 9];
/** What the host replies, to a native message or a legacy one. */
const replyOf = (frames: Uint8Array[]) => new Reader(frames.at(-1)!);

test("the memory is told to native clients of this machine alone", async () => {
  await using directory = new TempDir();
  await using host = new MemStore([`${directory.path}/host.sock`, "tcp://127.0.0.1:*"]);
  await host.start();
  const [path, tcp] = host.endpoints;
  for (const [endpoint, told] of [[path, true], [tcp, false]] as const) {
    await using peer = await Peer.connect(endpoint);
    const reply = replyOf(await peer.request([[], NATIVE, MEMORY]));
    assert.equal(reply.value(), 0);
    const offer = reply.value() as MemoryOffer | null;
    assert.equal(offer !== null, told, endpoint);
    if (told) assert.deepEqual(Object.keys(offer!), ["pid", "fd", "token"]);
    assert.equal(replyOf(await peer.request([[], MEMORY])).value(), null, "a legacy client");
    await using client = new MemStoreClient(endpoint);
    const before = (await client.stats()).direct_reads;
    await client.set("t", "k", 1);
    for (let i = 0; i < 3; i++) assert.equal(await client.get("t", "k"), 1);
    assert.equal((await client.stats()).direct_reads > before, told);
  }
});

test("a client behind a proxy reads through it", async () => {
  await using directory = new TempDir();
  await using host = new MemStore(`${directory.path}/host.sock`);
  await host.start();
  const context = await Context.open();
  const front = context.socket(ZMQ.ROUTER, { linger: 0 }), back = context.socket(ZMQ.DEALER, { linger: 0 });
  front.bind(`ipc://${directory.path}/proxy.sock`);
  back.connect(host.endpoints[0]);
  let ended = false;
  const pass = async (from: typeof front, to: typeof front) => {
    while (!ended) {
      const frames = from.receive();
      if (frames) to.send(frames.map((frame) => frame.slice()));
      else await from.wait();
    }
  };
  const passing = [pass(front, back), pass(back, front)];
  try {
    await using client = new MemStoreClient(`${directory.path}/proxy.sock`);
    await client.set("t", "k", 1);
    for (let i = 0; i < 10; i++) {
      await client.set("t", "k", i);
      assert.equal(await client.get("t", "k"), i);
    }
  } finally {
    ended = true;
    front.wake();
    back.wake();
    await Promise.all(passing);
    front.close();
    back.close();
    await context.close();
  }
});

test("another user cannot open the memory", async () => {
  if (Deno.uid() !== 0) return;
  using shared = new Shared();
  const path = `/proc/${Deno.pid}/fd/${shared.offer.fd}`;
  assert.equal(await shell('head -c 4 "$1"', path), "MSMH");
  const other = 'setpriv --reuid 65534 --regid 65534 --clear-groups head -c 4 "$1" 2>&1';
  assert.match(await shell(other, path), /Permission denied/);
});

test("what clients tell of their reads may be anything", async () => {
  await using directory = new TempDir();
  await using host = new MemStore(`${directory.path}/host.sock`);
  await host.start();
  for (const figure of [NaN, Infinity, -Infinity, -5, 1e300, 2 ** 53, 0.5, Number.MAX_SAFE_INTEGER]) {
    await using peer = await LanePeer.connect(`${directory.path}/host.sock`);
    assert.ok(peer);
    new Float64Array(peer.bytes.buffer, FIGURES_AT, FIGURES).fill(figure);
    const stats = await host.local.stats();
    for (const name of ["direct_reads", "direct_retries", "direct_fallbacks"] as const) {
      assert.ok(Number.isInteger(stats[name]) && stats[name] >= 0, `${figure}: ${stats[name]}`);
    }
  }
});

test("a limit of the memory holds whether others read it or not, and readers go on", async () => {
  await using directory = new TempDir();
  const limit = 2 ** 24;
  const counts: number[] = [];
  for (const privateMemory of [false, true]) {
    await using host = new MemStore(`${directory.path}/host.sock`, { maxMemory: limit, privateMemory });
    await host.start();
    await using client = new MemStoreClient(`${directory.path}/host.sock`);
    let count = 0;
    const fill = async () => {
      for (;; count++) await client.set("t", count, new Uint8Array(100_000).fill(count));
    };
    await assert.rejects(fill(), { code: "OUT_OF_MEMORY" });
    assert.ok((await client.stats()).heap <= limit);
    for (let i = 0; i < count; i++) assert.equal((await client.get<Uint8Array>("t", i))![99], i & 255);
    assert.equal((await client.stats()).direct_reads > 0, !privateMemory);
    await client.drop("t");
    await client.set("t", 0, 1);
    assert.equal(await client.get("t", 0), 1);
    counts.push(count);
  }
  assert.equal(counts[0], counts[1]);
});

test("memory that is given back reads as zeros, and ends nobody", () => {
  using shared = new Shared();
  const { segments, view } = shared;
  const part = segments.allocate(20, 2 ** 21), seen = new Uint8Array(view.buffer, 20 << 20, 2 ** 21);
  new Uint8Array(part).fill(7);
  assert.equal(seen[2 ** 20], 7);
  segments.release(20, part);
  assert.equal(seen[2 ** 20], 0);
  assert.ok(new Uint8Array(segments.allocate(20, 2 ** 21)).every((byte) => byte === 0));
  // (Nor does what was never taken.)
  assert.equal(new Uint8Array(view.buffer)[RANGE_BYTES - 1], 0);
});

test("readers are told that a host has stopped while a snapshot of its memory is read", async () => {
  const before = await held();
  {
    using shared = new Shared();
    shared.set("k", encoded("value"));
    const reader = shared.reader;
    const snapshot = shared.store.snapshot();
    shared.store.closeNow();
    assert.equal(reader.usable, false);
    assert.equal(shared.direct.read("get", ["t", "k"]), ASK);
    assert.equal(snapshot.tables.size, 1);
    assert.notEqual(await held(), before);
    snapshot[Symbol.dispose]();
  }
  assert.equal(await held(), before);
});

test("the end of a worker that has a host shows to readers in its process, and leaves other hosts alone", async () => {
  await using directory = new TempDir();
  const said = await run(`${IMPORTS}
    const path = "${directory.path}/";
    const code = \`
      import { MemStore } from "@memstore/memstore";
      const host = new MemStore("\${path}worker.sock");
      await host.start();
      host.local.set("t", "k", "value");
      self.postMessage("ready");
    \`;
    await Deno.writeTextFile(path + "worker.ts", code.replace("@memstore/memstore", "${
    import.meta.resolve("../mod.ts")
  }"));
    const own = new MemStore(path + "own.sock");
    await own.start();
    own.local.set("t", "k", "own");
    const worker = new Worker("file://" + path + "worker.ts", { type: "module" });
    await new Promise((resolve) => worker.onmessage = resolve);
    const client = new MemStoreClient(path + "worker.sock", { timeout: 3000, connectTimeout: 200 });
    const other = new MemStoreClient(path + "own.sock");
    for (let i = 0; i < 20; i++) await client.get("t", "k"), await other.get("t", "k");
    const direct = (await client.stats()).direct_reads > 0;
    worker.terminate();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const code2 = await client.get("t", "k").then((value) => value, (error) => error.code);
    console.log(direct, code2, await other.get("t", "k"));
    await client.close();
    await other.close();
    await own.stop();
    const again = new MemStore(path + "again.sock");
    await again.start();
    await again.stop();
    Deno.exit(0);
  `);
  assert.match(said, /^true (DISCONNECTED|UNAVAILABLE|TIMEOUT) own$/);
});
