/** Values that a client read a short time ago and uses again: which they are, and that none is out of date. */

import assert from "node:assert/strict";
import { KnownTable, MemoryReader } from "../blocks/reader.ts";
import { KEPT_BYTES, MOST, PAUSE, type RecentKey, RecentValues } from "../client/recent.ts";
import { attach, MemStoreClient, type MemStoreError, type SharedStore } from "../mod.ts";
import { SharedMemory } from "../transport/shared/memory.ts";
import { loadSharedMemory } from "../transport/shared/system.ts";
import { Host, TempDir } from "./host.ts";

const table = new KnownTable(new Uint8Array(1), 0, "tables");
const relied = { structure: 2, at: 4096, sequence: 6 };

/** Reads a key as a client does, whose values always hold. Returns whether it was kept. */
function read(values: RecentValues, key: RecentKey, value: unknown = key, of = table): boolean {
  const kept = values.find(of, key);
  if (kept === undefined) values.keep(of, key, value, relied);
  else assert.equal(values.use(kept), value);
  return kept !== undefined;
}

Deno.test("strings, numbers, booleans, nil and integers of 64 bits are kept, and what they relied on; nothing else", () => {
  const values = new RecentValues();
  for (const value of ["text", "", 0, -1.5, NaN, true, false, null, 2n ** 60n]) {
    values.keep(table, "k", value, relied);
    assert.deepEqual(values.find(table, "k"), { value, ...relied });
  }
  for (const [i, value] of [[], {}, new Uint8Array(1), new Date(), new Map(), Symbol()].entries()) {
    values.keep(table, i, value, relied);
    assert.equal(values.find(table, i), undefined);
  }
});

Deno.test("keys are found by their value and type", () => {
  const values = new RecentValues();
  const keys = [1, "1", "", 0, 1.5, NaN, Infinity, "k".repeat(100)];
  for (const key of keys) values.keep(table, key, `${typeof key} ${key}`, relied);
  for (const key of keys) assert.equal(values.find(table, key)?.value, `${typeof key} ${key}`);
  assert.equal(values.find(table, -0)?.value, "number 0");
  assert.equal(values.find(table, "NaN"), undefined);
});

Deno.test("values that are used stay kept, however many reads there are", () => {
  const values = new RecentValues();
  for (let round = 0; round < 20; round++) {
    for (let key = 0; key < MOST / 2; key++) assert.equal(read(values, key), round > 0);
  }
});

Deno.test("values that change are kept anew, as long as they are used as often as they change", () => {
  const values = new RecentValues();
  let used = 0;
  for (let i = 0; i < 5 * MOST; i++) {
    const key = i % 100;
    values.keep(table, key, i, relied);
    for (let j = 0; j < 2; j++) if (read(values, key, i)) used++;
  }
  assert.equal(used, 10 * MOST);
});

Deno.test("where kept values are used too rarely, none is kept for a while; after that it is tried again", () => {
  const values = new RecentValues();
  let key = 0;
  // (All of them are new.)
  for (; key < MOST; key++) assert.equal(read(values, key), false);
  assert.equal(read(values, 0), true);
  read(values, key++);
  for (let i = 0; i < PAUSE; i++) {
    assert.equal(values.find(table, i % 100), undefined);
    values.keep(table, i % 100, i, relied);
  }
  assert.equal(read(values, 7), false);
  assert.equal(read(values, 7), true);
});

Deno.test("no more values are kept than there may be, also of keys that are read again and again", () => {
  const values = new RecentValues();
  const size = (keys: number) => {
    let kept = 0;
    for (let key = 0; key < keys; key++) if (values.find(table, key)) kept++;
    return kept;
  };
  // (A value that is kept anew counts, and takes no more room.)
  for (let i = 0; i < 100; i++) values.keep(table, 0, 0, relied);
  let largest = 0;
  for (let key = 0; key < 4 * MOST; key++) {
    for (let i = 0; i < 3; i++) read(values, key);
    if (key % 4096 === 4090) largest = Math.max(largest, size(key + 1));
  }
  assert.ok(largest > MOST / 2 && largest <= MOST, `${largest}`);
});

Deno.test("tables have their own values, and share the room for them", () => {
  const values = new RecentValues();
  const tables = Array.from({ length: 64 }, (_, i) => new KnownTable(new Uint8Array([i]), i, "tables"));
  const keys = MOST / tables.length;
  for (let round = 0; round < 8; round++) {
    for (let key = 0; key < keys; key++) {
      for (const [i, each] of tables.entries()) {
        assert.equal(read(values, key, `${i} ${key}`, each), round > 0);
      }
    }
  }
  // (There is no more room: all others go.)
  assert.equal(read(values, "one more"), false);
  for (const each of tables) assert.equal(values.find(each, 0), undefined);
  assert.equal(read(values, "one more"), true);
  values.clear();
  assert.equal(read(values, "one more"), false);
});

/** A test of what is only there where reads can be direct. */
function test(name: string, fn: () => void | Promise<void>): void {
  Deno.test({ name, ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64", fn });
}

/** Counts what is looked up in the host's memory until the end of the block: a value that was kept is not. */
class Lookups implements Disposable {
  count = 0;
  readonly #get = MemoryReader.prototype.get;

  constructor() {
    // deno-lint-ignore no-this-alias
    const lookups = this, get = this.#get;
    MemoryReader.prototype.get = function (this: MemoryReader, table: KnownTable, key) {
      lookups.count++;
      return get.call(this, table, key);
    };
  }

  /** How many lookups something takes. */
  async of(run: () => unknown): Promise<number> {
    const before = this.count;
    await run();
    return this.count - before;
  }

  [Symbol.dispose](): void {
    MemoryReader.prototype.get = this.#get;
  }
}

/** Waits until a client reads directly: it asks for the memory at its first read. */
async function ready(client: SharedStore | MemStoreClient): Promise<void> {
  const { direct_reads } = await client.stats();
  for (const end = performance.now() + 20_000; (await client.stats()).direct_reads === direct_reads;) {
    assert.ok(performance.now() < end, "reads are not direct");
    await client.get("warm", "up");
  }
}

/** A process that sends commands, one after another. */
class Writer implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #text = "";

  constructor(
    endpoint: string,
    { args = [], program = PROGRAM }: { args?: string[]; program?: string } = {},
  ) {
    const url = `data:text/javascript,${encodeURIComponent(program)}`;
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-lock", "--allow-all", url, endpoint, ...args],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#input = this.#process.stdin.getWriter();
    this.#lines = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Sends commands as a batch, or one alone. Returns when they are acknowledged: whether none failed. */
  send(...commands: unknown[][]): Promise<boolean> {
    return this.#send(commands, commands.length > 1);
  }

  /** Sends commands that are no batch. */
  sendEach(commands: unknown[][]): Promise<boolean> {
    return this.#send(commands, false);
  }

  async #send(commands: unknown[][], batch: boolean): Promise<boolean> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify({ commands, batch })}\n`));
    return await this.line() === "done";
  }

  /** The next line that it prints. */
  async line(): Promise<string> {
    while (!this.#text.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error("The writer has ended");
      this.#text += value;
    }
    const [line] = this.#text.split("\n", 1);
    this.#text = this.#text.slice(line.length + 1);
    return line;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#input.close().catch(() => {});
    await this.#lines.cancel().catch(() => {});
    await this.#process.status;
  }
}

/** Sends what each line of its input says. */
const PROGRAM = `
  import { MemStoreClient } from "${import.meta.resolve("../mod.ts")}";
  const client = new MemStoreClient(Deno.args[0], { timeout: 60_000 });
  let text = "";
  for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end; (end = text.indexOf("\\n")) >= 0; text = text.slice(end + 1)) {
      const { commands, batch } = JSON.parse(text.slice(0, end));
      const sent = batch ? client.batch(commands) : Promise.all(commands.map((each) => client.send(each)));
      console.log(await sent.then(() => "done", () => "failed"));
    }
  }`;

test("a value that is read again is not looked up, and counts as a read", async () => {
  await using host = await Host.start();
  for (const connect of [attach, (endpoint: string) => new MemStoreClient(endpoint)]) {
    await using client = await connect(host.endpoint);
    using lookups = new Lookups();
    const short = "v".repeat(KEPT_BYTES / 2);
    const kept = [short, "", 1, -2.5, NaN, true, false, null, 2n ** 63n];
    const long = "v".repeat(KEPT_BYTES + 1);
    const others = [long, new Uint8Array(3), [1], { a: 1 }, new Date(0)];
    await client.setMany("t", new Map([...kept, ...others].map((value, i) => [i, value])));
    await ready(client);
    for (const [i, value] of [...kept, ...others].entries()) {
      const { direct_reads } = await client.stats();
      const get = async () => assert.deepEqual((await client.get("t", i)) ?? null, value);
      assert.equal(await lookups.of(get), 1);
      for (let j = 0; j < 4; j++) assert.equal(await lookups.of(get), i < kept.length ? 0 : 1, `${value}`);
      assert.equal((await client.stats()).direct_reads - direct_reads, 5);
    }
    // (Of what is missing, that is kept.)
    await client.get("t", "none");
    assert.equal(await lookups.of(async () => assert.equal(await client.get("t", "none"), undefined)), 0);
    // (Where keys are long, they take more memory than it is worth.)
    const key = "k".repeat(KEPT_BYTES);
    await client.set("t", key, 1);
    await client.get("t", key);
    assert.equal(await lookups.of(async () => assert.equal(await client.get("t", key), 1)), 1);
    await client.drop("t");
  }
});

test("what a caller changes of a value is not seen by the next read", async () => {
  await using host = await Host.start();
  using client = await attach(host.endpoint);
  client.set("t", "k", { list: [1], bytes: new Uint8Array(2) });
  await ready(client);
  for (let i = 0; i < 3; i++) {
    const found = client.get<{ list: number[]; bytes: Uint8Array }>("t", "k")!;
    assert.deepEqual(found, { list: [1], bytes: new Uint8Array(2) });
    found.list.push(2);
    found.bytes[0] = 9;
  }
});

test("a value is not used after another process has changed it, however it did", async () => {
  await using directory = new TempDir();
  await using host = await Host.startWith({ flags: ["--data-dir", directory.path] });
  using client = await attach(host.endpoint);
  await using writer = new Writer(host.endpoint);
  using lookups = new Lookups();
  const file = `${directory.path}/state`;
  client.set("t", "stored", "stored");
  client.store(file);
  await ready(client);
  const changes: [expected: unknown, ...commands: unknown[][]][] = [
    ["new", ["set", "t", "k", "new"]],
    ["longer than before", ["set", "t", "k", "longer than before"]],
    [9, ["incr", "t", "n", 8]],
    [undefined, ["del", "t", "k"]],
    ["", ["set", "t", "k", ""]],
    [null, ["set", "t", "k", null]],
    ["swapped", ["cas", "t", "k", "old", "swapped"]],
    [undefined, ["expire", "t", "k", 0]],
    [undefined, ["pop", "t", "k"]],
    ["map", ["set_many", "t", { k: "map" }]],
    [undefined, ["drop", "t"]],
    ["again", ["drop", "t"], ["set", "t", "k", "again"]],
    ["batch", ["set", "t", "k", "no"], ["set", "t", "k", "batch"]],
    ["old", ["set", "t", "k", "never"], ["incr", "t", "text", 1]],
    [undefined, ["restore", file]],
  ];
  for (let round = 0; round < 2; round++) {
    for (const [expected, ...commands] of changes) {
      const key = commands[0][2] === "n" ? "n" : "k", old = key === "n" ? 1 : "old";
      client.setMany("t", new Map<string, unknown>([["n", 1], ["k", "old"], ["text", "text"]]));
      await ready(client);
      for (const again of [false, true]) {
        assert.equal(await lookups.of(() => assert.equal(client.get("t", key), old)), again ? 0 : 1);
      }
      const failed = commands.at(-1)![2] === "text";
      assert.equal(await writer.send(...commands), !failed);
      assert.equal(client.get("t", key), expected === null ? client.get("t", key) : expected, `${commands}`);
      if (expected === null) assert.equal(client.exists("t", key), true);
      assert.equal(client.get("t", key) ?? undefined, expected ?? undefined, `${commands}, again`);
    }
    assert.equal(client.get("t", "stored"), "stored");
  }
});

test("what is missing is found once it is there: a key, a table", async () => {
  await using host = await Host.start();
  using client = await attach(host.endpoint);
  await using writer = new Writer(host.endpoint);
  await ready(client);
  for (let round = 0; round < 3; round++) {
    for (const [name, key] of [["t", "first"], ["t", "second"], ["t", 3]]) {
      for (let i = 0; i < 3; i++) assert.equal(client.get(name as string, key), undefined);
      await writer.send(["set", name, key, round]);
      for (let i = 0; i < 3; i++) assert.equal(client.get(name as string, key), round);
      await writer.send(["push", name, key]);
    }
    // (An empty table is another one than none.)
    await writer.send(["del", "t", "first"]);
    await writer.send(["del", "t", "second"]);
    await writer.send(["del", "t", 3]);
    assert.equal(client.get("t", "first"), undefined);
    if (round === 1) await writer.send(["drop", "t"]);
    assert.equal(client.get("t", "first"), undefined);
  }
});

test("an entry that expires is not kept; one that does not any more is", async () => {
  await using host = await Host.start();
  using client = await attach(host.endpoint);
  await using writer = new Writer(host.endpoint);
  using lookups = new Lookups();
  client.set("t", "k", 1);
  await ready(client);
  const get = () => lookups.of(() => assert.equal(client.get("t", "k"), 1));
  assert.deepEqual([await get(), await get()], [1, 0]);
  await writer.send(["expire", "t", "k", 600]);
  assert.deepEqual([await get(), await get()], [1, 1]);
  await writer.send(["persist", "t", "k"]);
  assert.deepEqual([await get(), await get()], [1, 0]);
  const sent = Date.now();
  await writer.send(["expire", "t", "k", 0.5]);
  for (;;) {
    const value = client.get("t", "k"), after = Date.now();
    if (after < sent + 500) assert.equal(value, 1);
    if (value === undefined) break;
    assert.ok(after < sent + 10_000);
  }
  // (The key is missing now, and that may be kept.)
  await writer.send(["set", "t", "k", 1]);
  assert.deepEqual([await get(), await get()], [1, 0]);
});

test("kept values are right while pages are split and merged, and the heap is cleaned, frozen and swept", async () => {
  await using directory = new TempDir();
  await using host = await Host.startWith({ flags: ["--max-memory", "16MB", "--data-dir", directory.path] });
  using client = await attach(host.endpoint);
  await using writer = new Writer(host.endpoint);
  using lookups = new Lookups();
  await ready(client);
  const model = new Map<string, string | undefined>();
  let next = 0, used = 0;
  // (Several times, so that it pays to keep values.)
  const check = () => {
    for (let i = 0; i < 4; i++) {
      for (const [key, value] of model) {
        const before = lookups.count;
        assert.equal(client.get("t", key), value);
        if (lookups.count === before) used++;
      }
    }
  };
  for (let round = 0; round < 12; round++) {
    const first = next, many: Record<string, string> = {};
    const stored = round % 4 === 1 ? writer.send(["store", `${directory.path}/state`]) : undefined;
    for (; next < first + 300; next++) many[`${next}`] = `${round}`.repeat(1 + next % 40);
    await stored;
    // (A batch would change the structure: what is kept is right though pages alone have changed.)
    assert.ok(await writer.sendEach(Object.entries(many).map(([key, value]) => ["set", "t", key, value])));
    for (const [key, value] of Object.entries(many)) model.set(key, value);
    check();
    const changed = [...model.keys()].filter((_, i) => i % 7 === 0);
    assert.ok(await writer.sendEach(changed.map((key) => ["set", "t", key, `changed ${round}`])));
    for (const key of changed) model.set(key, `changed ${round}`);
    check();
    const gone = [...model.keys()].slice(0, 150);
    assert.ok(await writer.sendEach(gone.map((key) => ["del", "t", key])));
    for (const key of gone) model.set(key, undefined);
    check();
    // (What is overwritten with other sizes leaves holes, and makes the cleaner move the others.)
    const filler = "f".repeat(2000 + 500 * round);
    for (let i = 0; i < 5; i++) {
      await writer.send([
        "set_many",
        `filler ${i}`,
        Object.fromEntries(Array.from({ length: 100 }, (_, j) => [j, filler])),
      ]);
    }
    await writer.send(["set_many", "soon", many, { seconds: 0.01 }]);
    check();
    for (const key of gone) if (Number(key) % 3) model.delete(key);
  }
  assert.ok(used > 20_000, `${used} kept values were used`);
});

test("a value is not used after its entry has moved to another page and is changed there", async () => {
  await using host = await Host.start();
  using client = await attach(host.endpoint);
  await using writer = new Writer(host.endpoint);
  using lookups = new Lookups();
  await ready(client);
  const values = Array.from({ length: 700 }, (_, i) => i);
  assert.ok(await writer.sendEach(values.slice(0, 400).map((i) => ["set", "t", i, i])));
  let reads = 0;
  for (let count = 400; count < values.length; count++) {
    // (Twice, so that it pays to keep values.)
    for (let i = 0; i < 2 * count; i++, reads++) assert.equal(client.get("t", i % count), values[i % count]);
    // One entry comes: then a page may be split, of which one part has not changed.
    await writer.send(["set", "t", count, count]);
    const key = count * 7919 % 397;
    for (let i = 0; i < 3; i++) {
      const changed = (key + i * 131) % count;
      await writer.send(["set", "t", changed, ++values[changed]]);
      assert.equal(client.get("t", changed), values[changed]);
    }
  }
  assert.ok(lookups.count < reads / 2, `${lookups.count} lookups of ${reads} reads`);
});

test("beside a process that writes without pause, no value is older than what it has seen acknowledged", async () => {
  await using host = await Host.start();
  using client = await attach(host.endpoint);
  assert.ok(loadSharedMemory());
  const bytes = 1 << 16, parts = [{ at: 0, bytes }];
  using memory = SharedMemory.create("acknowledged", bytes, parts);
  const acknowledged = new Int32Array(memory.buffer);
  const KEYS = 20;
  client.setMany("t", new Map(Array.from({ length: KEYS }, (_, i) => [i, 0])));
  await ready(client);
  // (It also makes tables and drops them, and pauses, so that values are used.)
  const program = `
    import { attach } from "${import.meta.resolve("../mod.ts")}";
    import { SharedMemory } from "${import.meta.resolve("../transport/shared/memory.ts")}";
    import { loadSharedMemory } from "${import.meta.resolve("../transport/shared/system.ts")}";
    loadSharedMemory();
    const [endpoint, pid, fd] = Deno.args;
    const memory = SharedMemory.open(Number(pid), Number(fd), ${bytes}, ${JSON.stringify(parts)});
    const acknowledged = new Int32Array(memory.buffer), store = await attach(endpoint);
    console.log("writes");
    for (let i = 1;; i++) {
      const key = i % ${KEYS};
      if (i % 50 === 0) store.batch([["set", "t", key, i], ["set", "other", i, i]]);
      else store.set("t", key, i);
      Atomics.store(acknowledged, key, i);
      if (i % 500 === 0) store.drop("other");
      if (i % 10 === 0) for (let j = 0; j < 20_000; j++) Atomics.load(acknowledged, 0);
    }`;
  await using writer = new Writer(host.endpoint, { args: [`${Deno.pid}`, `${memory.fd}`], program });
  assert.equal(await writer.line(), "writes");
  using lookups = new Lookups();
  const seen = new Int32Array(KEYS);
  let reads = 0;
  for (const end = performance.now() + 3000; performance.now() < end || reads < 100_000;) {
    for (let key = 0; key < KEYS; key++, reads++) {
      const least = Math.max(seen[key], Atomics.load(acknowledged, key));
      seen[key] = client.get<number>("t", key)!;
      assert.ok(
        seen[key] >= least && (seen[key] === 0 || seen[key] % KEYS === key),
        `${seen[key]}, ${least}`,
      );
    }
  }
  assert.ok(seen.every((value) => value > 0));
  assert.ok(lookups.count < reads && lookups.count > 100, `${lookups.count} lookups of ${reads} reads`);
});

test("keys that are equal to the host have one value, and others have others", async () => {
  await using host = await Host.start();
  using client = await attach(host.endpoint);
  await using writer = new Writer(host.endpoint);
  const keys = [
    0,
    1,
    "1",
    "",
    1.5,
    "1.5",
    true,
    "true",
    null,
    "null",
    "é",
    "e\u0301",
    2 ** 40,
    new Uint8Array([49]),
  ];
  client.setMany("t", new Map(keys.map((key, i) => [key, i])));
  await ready(client);
  for (let i = 0; i < 3; i++) {
    assert.deepEqual(
      keys.map((key) => client.get("t", key)),
      keys.map((_, i) => i),
    );
  }
  for (let round = 0; round < 3; round++) {
    for (
      const [key, same] of [[0, [-0, 0n]], [1, [1n, 1.0]], [2 ** 40, [2n ** 40n]]] as const
    ) {
      await writer.send(["set", "t", key, round]);
      for (const each of [key, ...same, key]) assert.equal(client.get("t", each), round, `${String(each)}`);
    }
  }
  // (The writer's JSON has no NaN.)
  for (const key of [NaN, Infinity, -Infinity]) {
    client.set("t", key, `${key}`);
    for (let i = 0; i < 2; i++) assert.equal(client.get("t", key), `${key}`);
  }
});

test("tables do not get the values of others, however many there are; those of other names are not kept", async () => {
  await using host = await Host.start();
  using client = await attach(host.endpoint);
  await using writer = new Writer(host.endpoint);
  using lookups = new Lookups();
  const names = Array.from({ length: 40 }, (_, i) => `table ${i}`);
  await ready(client);
  for (let round = 0; round < 5; round++) {
    await writer.send(...names.map((name, i) => ["set", name, "k", `${i} ${round}`]));
    for (const count of [40, 3, 16, 17]) {
      for (let again = 0; again < 3; again++) {
        const before = lookups.count;
        for (let i = 0; i < count; i++) assert.equal(client.get(names[i], "k"), `${i} ${round}`);
        if (again > 0) assert.equal(lookups.count, before);
      }
    }
    client.push(names[0], "k");
    assert.equal(client.get(names[0], "k"), `0 ${round}`);
  }
  // (A name that is no string is made canonical each time: nothing is kept by it, nor are others' values lost.)
  client.set(5, "k", "five");
  client.set("5", "k", "text");
  for (const name of ["5", names[1]]) client.get(name, "k");
  for (let i = 0; i < 2 * MOST; i++) client.get(5, "k");
  for (let i = 0; i < 40; i++) {
    assert.equal(await lookups.of(() => assert.equal(client.get(5, "k"), "five")), 1);
    assert.equal(await lookups.of(() => assert.equal(client.get("5", "k"), "text")), 0);
    assert.equal(await lookups.of(() => assert.equal(client.get(names[1], "k"), "1 4")), 0);
  }
});

test("a snapshot and getMany see one state, though some of the values were kept", async () => {
  await using host = await Host.start();
  using client = await attach(host.endpoint);
  const program = `
    import { attach } from "${import.meta.resolve("../mod.ts")}";
    const store = await attach(Deno.args[0]), keys = [...Array(8).keys()];
    console.log("writes");
    for (let n = 1;; n++) {
      // (The keys one after another: none is ahead of the one before it.)
      for (const key of keys) store.set("t", key, n);
      for (let j = 0; j < 50_000; j++) performance.now();
    }`;
  client.setMany("t", new Map(Array.from({ length: 8 }, (_, i) => [i, 0])));
  await ready(client);
  await using writer = new Writer(host.endpoint, { program });
  assert.equal(await writer.line(), "writes");
  using lookups = new Lookups();
  /** Whether the values are those of one state: as many writes as they tell of, and not more. */
  const check = (values: number[]) => {
    assert.ok(
      values.every((value, i) => i === 0 || value === values[i - 1] || value === values[i - 1] - 1),
      `${values}`,
    );
    assert.ok(values[0] - values.at(-1)! <= 1, `${values}`);
  };
  let reads = 0;
  for (const end = performance.now() + 3000; performance.now() < end;) {
    // (From the last one on: what is read first is older.)
    check(client.snapshot((snapshot) => {
      const values: number[] = [];
      for (const key of [7, 0, 6, 1, 5, 2, 4, 3]) {
        values[key] = snapshot.get<number>("t", key)!;
        for (let i = 0; i < 200; i++) performance.now();
        reads++;
      }
      return values;
    }));
    check(client.getMany<number>("t", [0, 1, 2, 3, 4, 5, 6, 7]) as number[]);
    check(client.snapshot((snapshot) => {
      const many = snapshot.getMany<number>("t", [0, 1, 2, 3]) as number[];
      return [...many, ...[4, 5, 6, 7].map((key) => snapshot.get<number>("t", key)!)];
    }));
  }
  assert.ok(lookups.count > 0 && reads > 100, `${lookups.count} lookups, ${reads} reads`);
});

test("a kept value is not used when its host has ended, nor with the next one", async () => {
  await using directory = new TempDir();
  const endpoint = `${directory.path}/host.sock`;
  await using first = await Host.start(endpoint);
  using client = await attach(endpoint, { connectTimeout: 1000 });
  using lookups = new Lookups();
  client.set("t", "k", "first");
  await ready(client);
  const get = () => client.get("t", "k");
  get();
  assert.equal(await lookups.of(get), 0);
  await first.end("SIGKILL");
  assert.throws(get, (error: MemStoreError) => ["DISCONNECTED", "UNAVAILABLE"].includes(error.code));
  await using _second = await Host.start(endpoint);
  assert.equal(client.get("t", "k", { timeout: 20_000 }), undefined);
  client.set("t", "k", "second");
  await ready(client);
  for (let i = 0; i < 3; i++) assert.equal(get(), "second");
});
