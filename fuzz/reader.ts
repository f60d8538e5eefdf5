/**
 * The target `reader`: the memory of a host, changed at random, and read as clients do. Part of the time another thread
 * goes on changing it meanwhile.
 *
 * @module
 */

import assert from "node:assert/strict";
import { cpuUsage } from "node:process";
import { UNIT_BITS, wordAt } from "../blocks/block.ts";
import { ROOT, stateOf } from "../blocks/descriptor.ts";
import { pageOf } from "../blocks/directory.ts";
import { hash } from "../blocks/hash.ts";
import { HEAD_BYTES, HEAD_OWNER, NAMES, SEGMENT_COUNT, STATE } from "../blocks/head.ts";
import { findEntry } from "../blocks/lookup.ts";
import { bitsOf, PAGE_HEAD } from "../blocks/page.ts";
import { BUSY, MemoryReader, MISSING } from "../blocks/reader.ts";
import { ASK, DirectReads } from "../client/direct.ts";
import { Heap } from "../engine/memory/heap.ts";
import { RANGE_BYTES } from "../blocks/block.ts";
import { SharedSegments } from "../engine/memory/shared.ts";
import { Store } from "../engine/memory/store.ts";
import { encoded } from "../msgpack/codec.ts";
import type { Span } from "../msgpack/key.ts";
import { Writer } from "../msgpack/msgpack.ts";
import { SharedView } from "../transport/shared/range.ts";
import { loadSharedMemory } from "../transport/shared/system.ts";
import { anyKey, anyWord, type Random } from "./random.ts";
import type { Scribble } from "./scribbler.ts";
import type { Target } from "./target.ts";

/** What a read may take of the processor, in milliseconds. */
const READ_MS = 1000;
/** The memory that reads of a case may take, in bytes. */
const READ_BYTES = 2 ** 29;
const SEGMENT_WORDS = 2 ** 18;

const spanOf = (value: unknown): Span => {
  const bytes = encoded(value);
  return { bytes, from: 0, to: bytes.length };
};

/** The value of a key of the table `t`. */
const valueOf = (key: number) => key % 50 === 0 ? "x".repeat(key) : { key, text: `value ${key}` };
const KEYS = 3000;
const LONG_KEY = "k".repeat(60_000);

/** A store whose memory others may read, with tables and sets of several kinds. */
function filled(segments: SharedSegments): Store {
  const store = new Store(new Heap(segments));
  const set = (name: string, key: unknown, value: unknown, expiry = 0) => {
    const bytes = encoded(value);
    store.tables.set(spanOf(name), spanOf(key), bytes, 0, bytes.length);
    if (expiry > 0) store.expire(store.tables.get(spanOf(name))!, spanOf(key), expiry);
  };
  for (let i = 0; i < KEYS; i++) set("t", i, valueOf(i));
  for (let i = 0; i < 40; i++) set("small", i, [i, "x".repeat(i)]);
  for (let i = 0; i < 400; i++) set("expiring", i, i, i % 2 === 0 ? Date.now() + 1e9 : 0);
  set("large", "mebibytes", new Uint8Array(3 << 20));
  set("large", LONG_KEY, "value");
  for (let i = 0; i < 1000; i++) store.sets.set(spanOf("s"), spanOf(i), new Uint8Array(0), 0, 0);
  return store;
}

/** Words of the memory that matter most: where descriptors, directories, pages and entries begin. */
function wordsThatMatter({ heap }: Store): number[] {
  const words: number[] = [SEGMENT_COUNT, NAMES];
  const add = (address: number) => words.push((address >>> UNIT_BITS) * SEGMENT_WORDS + wordAt(address));
  const addTable = (descriptor: number) => {
    add(descriptor);
    add(stateOf(heap, descriptor, ROOT));
    for (let i = 0; i < 64; i++) {
      const page = pageOf(heap, descriptor, i << 26), slots = heap.words[page >>> UNIT_BITS];
      const first = wordAt(page) + PAGE_HEAD;
      add(page);
      for (let slot = 0; slot < 4; slot++) if (slots[first + 2 * slot + 1]) add(slots[first + 2 * slot + 1]);
    }
  };
  for (const [i, names] of [["t", "small", "expiring", "large"], ["s"]].entries()) {
    const descriptor = heap.head![NAMES + i];
    addTable(descriptor);
    for (const name of names) {
      const span = spanOf(name);
      addTable(findEntry(heap, descriptor, hash(span.bytes, span.from, span.to), span));
    }
  }
  return words;
}

/** Memory of a host that is broken or hostile: a reader neither throws nor hangs, and takes no more memory than it may. */
export async function reader(): Promise<Target> {
  if (!loadSharedMemory() || Deno.build.arch !== "x86_64") {
    return { run: () => {}, [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  await using resources = new AsyncDisposableStack();
  const segments = new SharedSegments();
  const store = resources.adopt(filled(segments), (store) => store.closeNow());
  const { heap } = store, offer = segments.offer!;
  letWrite(offer.fd);
  const matter = wordsThatMatter(store);
  const used = heap.head![SEGMENT_COUNT];
  const wordsOf = (segment: number) => segment === 0 ? heap.head! : heap.words[segment];
  const whole = Array.from({ length: used }, (_, segment) => wordsOf(segment).slice());
  const restore = () => {
    for (const [segment, words] of whole.entries()) {
      // (The owner is the system's.)
      const owner = HEAD_OWNER / 4, behind = segment === 0 ? owner + 10 : 0;
      if (segment === 0) wordsOf(0).set(words.subarray(0, owner));
      wordsOf(segment).set(words.subarray(behind), behind);
    }
  };
  const view = resources.use(new SharedView(offer.pid, offer.fd, RANGE_BYTES));
  const direct = resources.adopt(new DirectReads(true), (direct) => direct.close());
  const worker = new Worker(import.meta.resolve("./scribbler.ts"), { type: "module" });
  resources.defer(() => worker.terminate());
  const kept = resources.move();

  const change = (random: Random) => {
    if (random.one(6)) return fillPage(store, random);
    const at = random.one(4) ? random.below(HEAD_BYTES / 4) : random.pick(matter) + random.below(12);
    const words = wordsOf(Math.floor(at / SEGMENT_WORDS)), w = at % SEGMENT_WORDS;
    // (The owner is the system's, and the head says by its first words that it is one.)
    if (at < 8 && at !== SEGMENT_COUNT || at >= HEAD_OWNER / 4 && at < HEAD_OWNER / 4 + 10) return;
    if (w < words.length) words[w] = anyWord(random, words[w]);
  };

  return {
    async run(random) {
      if (!direct.open) {
        direct.forget();
        direct.use(offer, undefined);
        assert.ok(direct.open);
      }
      const memory = new MemoryReader(view.buffer, offer.token);
      const rss = Deno.memoryUsage().rss;
      const flag = new Int32Array(new SharedArrayBuffer(4));
      let ended: Promise<unknown> | undefined;
      if (random.one(2)) {
        for (let i = random.below(6); i >= 0; i--) change(random);
      } else {
        ended = new Promise((resolve) => worker.onmessage = resolve);
        const told: Scribble = {
          offer,
          bytes: RANGE_BYTES,
          used: used << 20,
          words: matter,
          seed: random.below(2 ** 31),
          flag,
        };
        worker.postMessage(told);
      }
      try {
        for (let reads = 20; reads > 0; reads--) {
          const start = cpuUsage();
          const what = random.one(2) ? readDirectly(direct, random) : read(memory, random);
          const { user, system } = cpuUsage(start), ms = (user + system) / 1000;
          // (The scribbler may have used as much meanwhile.)
          assert.ok(ms < READ_MS, `${what} took ${ms} ms of the processor`);
          if (ended) await new Promise((resolve) => setTimeout(resolve));
        }
        const taken = Deno.memoryUsage().rss - rss;
        assert.ok(taken < READ_BYTES, `the reads took ${taken} bytes`);
      } finally {
        Atomics.store(flag, 0, 1);
        await ended;
        restore();
      }
      if (heap.head![STATE] !== 0 || !direct.open) return;
      const key = random.below(KEYS);
      assert.deepEqual(direct.read("get", ["t", key]), valueOf(key));
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Lets the scribbler open memory that is for reading. */
function letWrite(fd: number): void {
  const libc = Deno.dlopen("libc.so.6", { fchmod: { parameters: ["i32", "u32"], result: "i32" } });
  assert.equal(libc.symbols.fchmod(fd, 0o600), 0);
  libc.close();
}

/** All slots of a page lead to one entry, whose lengths may be anything. */
function fillPage({ heap }: Store, random: Random): void {
  const name = spanOf(random.pick(["t", "large", "small"]));
  const descriptor = findEntry(heap, heap.head![NAMES], hash(name.bytes, name.from, name.to), name);
  const h = random.below(2 ** 32), page = pageOf(heap, descriptor, h);
  const words = heap.words[page >>> UNIT_BITS], p = wordAt(page), first = p + PAGE_HEAD;
  if (random.one(2)) words[p + 1] = words[p + 1] & ~15 | random.below(16);
  const slots = 1 << bitsOf(words[p + 1]);
  const full = Array.from({ length: slots }, (_, i) => first + 2 * i).find((slot) => words[slot + 1] !== 0);
  if (full === undefined) return;
  const entry = words[full + 1], hashed = words[full];
  for (let slot = first; slot < first + 2 * slots && slot + 1 < words.length; slot += 2) {
    words[slot] = hashed;
    words[slot + 1] = entry;
  }
  const there = heap.words[entry >>> UNIT_BITS], w = wordAt(entry);
  if (random.one(2)) return;
  there[w] |= 1 << 29;
  there[w + 1] = random.pick([0, 1, 5, 60_000, -1, -100, 2 ** 24, 2 ** 31 - 1]);
  there[w + 2] = random.pick([0, 1, 100, 2 ** 20, 2 ** 24 - 10, 2 ** 24, -1, -(2 ** 31)]);
}

const anyTable = (random: Random) => random.pick(["t", "t", "small", "expiring", "large", "s", "none", 5]);
const keyFor = (random: Random) =>
  random.pick([() => random.below(KEYS), () => anyKey(random), () => LONG_KEY, () => "mebibytes"])();

/** Reads as a client does. Returns what it did. */
function readDirectly(direct: DirectReads, random: Random): string {
  const name = random.pick([
    "get",
    "get",
    "exists",
    "in_set",
    "get_many",
    "size",
    "set_size",
    "scan",
    "scan_set",
  ]);
  const table = anyTable(random);
  const args: Record<string, () => unknown[]> = {
    get_many: () => [
      Array.from({ length: random.pick([1, 10, 300]) }, () => keyFor(random)),
      random.pick([null, "none"]),
    ],
    size: () => [],
    set_size: () => [],
    scan: () => [random.pick([0, random.below(2 ** 32)]), random.pick([1, 100, 10_000])],
  };
  args.scan_set = args.scan;
  const given = [table, ...args[name]?.() ?? [keyFor(random)]];
  const found = direct.read(name, given);
  assert.ok(found !== undefined);
  return found === ASK ? `${name}: ask` : name;
}

/** Reads with all methods of a reader. */
function read(memory: MemoryReader, random: Random): string {
  const kind = random.pick(["tables", "sets"] as const),
    table = memory.table(kind, encoded(anyTable(random)));
  const key = () => {
    const span = spanOf(keyFor(random));
    return { ...span, hash: memory.hash(span) };
  };
  const get = () => {
    const length = memory.get(table, key());
    assert.ok(length >= 0 && length <= memory.value.length || length === MISSING || length === BUSY);
    return length;
  };
  switch (random.below(5)) {
    case 0:
      for (let i = 0; i < 50; i++) get();
      return "get";
    case 1:
      assert.ok(Number.isInteger(memory.size(table)));
      return "size";
    case 2: {
      memory.begin();
      get();
      memory.size(table);
      memory.end();
      return "begin, get, size, end";
    }
    case 3:
      memory.together(3, () => {
        get();
        return memory.together(2, get);
      });
      return "together";
    default: {
      const most = { entries: random.pick([0, 1, 1000, 10_000]), bytes: random.pick([0, 1000, 2 ** 20]) };
      let cursor = random.one(2) ? 0 : random.below(2 ** 32);
      for (let pages = 10; pages > 0; pages--) {
        const page = memory.scan(table, cursor, random.one(2), most, new Writer());
        if (!page || page.next === 0) break;
        cursor = page.next;
      }
      return "scan";
    }
  }
}
