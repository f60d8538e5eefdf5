/** Persistence end to end: paths, compression, a kept state, and hosts that are killed. */

import assert from "node:assert/strict";
import { MemStore, MemStoreClient, type MemStoreOptions } from "@memstore/memstore";
import { Store } from "../engine/memory/store.ts";
import { Persistence } from "../state/persistence.ts";
import { Host, TempDir } from "./host.ts";
import { keyOf } from "./stores.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const PYTHON = "/usr/bin/python3";

/** A host in this process, its data directory, and a client. */
class Setting implements AsyncDisposable {
  readonly directory = new TempDir();
  readonly path: string = this.directory.path;
  readonly lines: Record<string, unknown>[] = [];
  readonly #hosts: MemStore[] = [];
  readonly #clients: MemStoreClient[] = [];

  async start(options: MemStoreOptions = {}): Promise<{ host: MemStore; client: MemStoreClient }> {
    const host = new MemStore(`${this.path}/${this.#hosts.length}.sock`, {
      dataDirectory: this.path,
      log: (level, event, fields) => this.lines.push({ level, event, ...fields }),
      ...options,
    });
    this.#hosts.push(host);
    await host.start();
    const client = new MemStoreClient(host.endpoints[0], { timeout: 60_000 });
    this.#clients.push(client);
    return { host, client };
  }

  get files(): string[] {
    return Array.from(Deno.readDirSync(this.path), ({ name }) => name).filter((name) => !/sock/.test(name))
      .sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) await client.close();
    for (const host of this.#hosts) await host[Symbol.asyncDispose]().catch(() => {});
    await this.directory[Symbol.asyncDispose]();
  }
}

async function settles(what: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; !await what(); i++) {
    assert.ok(i < 500, "it does not come to be");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

Deno.test("paths lead nowhere but into the data directory, links included, unless any path is allowed", async () => {
  await using setting = new Setting();
  const inner = `${setting.path}/inner`;
  Deno.mkdirSync(`${inner}/sub`, { recursive: true });
  const { client } = await setting.start({ dataDirectory: inner });
  await client.set("t", "k", 1);
  await client.store("state");
  await client.store("sub/state");
  await client.store(`${inner}/absolute`);
  await client.store("sub/../up");
  Deno.symlinkSync("state", `${inner}/link`);
  await client.restore("link");
  Deno.writeTextFileSync(`${setting.path}/secret`, "secret");
  Deno.symlinkSync("../secret", `${inner}/out`);
  Deno.symlinkSync("..", `${inner}/outdir`);
  Deno.symlinkSync("nowhere", `${inner}/dangling`);
  const refused = { code: "FAILED", message: /leads out of the host's data directory/ };
  for (
    const path of [
      "../x",
      "/etc/passwd",
      "out",
      "outdir/x",
      "outdir/secret",
      "sub/../../x",
      `${inner}-x`,
      "/",
    ]
  ) {
    await assert.rejects(client.store(path), path === "/" ? { code: "FAILED" } : refused, path);
    await assert.rejects(client.restore(path), path === "/" ? { code: "FAILED" } : refused, path);
  }
  for (const path of ["", "a\0b", "sub", "sub/", ".", "..", "dangling", "missing/x"]) {
    await assert.rejects(client.store(path), { code: "FAILED", message: /^Cannot store to / }, path);
    await assert.rejects(client.restore(path), { code: "FAILED", message: /^Cannot restore from / }, path);
  }
  assert.equal(Deno.readTextFileSync(`${setting.path}/secret`), "secret");
  assert.ok(Deno.lstatSync(`${inner}/dangling`).isSymlink);
  assert.deepEqual(setting.files, ["inner", "secret"]);

  const { client: free } = await setting.start({ dataDirectory: inner, allowAnyPath: true });
  await free.restore("outdir/inner/state");
  await free.store("../beside");
  await free.store(`${setting.path}/absolute`);
  assert.deepEqual(setting.files, ["absolute", "beside", "inner", "secret"]);
});

Deno.test("two stores to one file at once, however it is written: the second is refused", async () => {
  await using setting = new Setting();
  const { client } = await setting.start();
  for (let i = 0; i < 5000; i++) client.set("t", i, "x".repeat(100));
  await client.ping();
  Deno.mkdirSync(`${setting.path}/sub`);
  const ends = await Promise.allSettled(
    ["state", "./sub/../state", `${setting.path}/state`].map((path) => client.store(path)),
  );
  assert.deepEqual(ends.map(({ status }) => status), ["fulfilled", "rejected", "rejected"]);
  for (const end of ends.slice(1)) {
    assert.match(String((end as PromiseRejectedResult).reason), /another store to it is running/);
  }
  await client.restore("state");
});

Deno.test("a state is compressed where its name or the client says so, and known by its content", async () => {
  await using setting = new Setting();
  const { client } = await setting.start();
  for (let i = 0; i < 3000; i++) client.set("t", i, "x".repeat(100));
  await client.store("plain");
  await client.store("named.gz");
  await client.store("asked", { compress: true });
  Deno.renameSync(`${setting.path}/named.gz`, `${setting.path}/renamed`);
  const bytes = (name: string) => Deno.readFileSync(`${setting.path}/${name}`);
  for (const name of ["renamed", "asked"]) {
    assert.deepEqual([...bytes(name).subarray(0, 2)], [0x1f, 0x8b]);
    assert.ok(bytes(name).length * 5 < bytes("plain").length);
    await client.drop("t");
    await client.restore(name);
    assert.equal(await client.size("t"), 3000);
  }
  const whole = bytes("renamed");
  for (const length of [1, 2, 10, 1000, whole.length - 1]) {
    Deno.writeFileSync(`${setting.path}/cut`, whole.subarray(0, length));
    await assert.rejects(client.restore("cut"), { code: "FAILED" }, `${length} bytes`);
  }
  whole[whole.length >> 1] ^= 1;
  Deno.writeFileSync(`${setting.path}/flipped`, whole);
  await assert.rejects(client.restore("flipped"), { code: "FAILED", message: /damaged|checksum|at byte/ });
  assert.equal(await client.size("t"), 3000);
});

Deno.test("a hundred damaged copies of a state change nothing, and leave the host as it is", async () => {
  await using setting = new Setting();
  const { client } = await setting.start();
  for (let i = 0; i < 500; i++) client.set("t", `key ${i}`, { i, text: "x".repeat(i % 50) });
  await client.push("s", "member");
  await client.store("state");
  const whole = Deno.readFileSync(`${setting.path}/state`);
  await client.set("t", "key 0", "the state that is there");
  for (let i = 0; i < 100; i++) {
    let copy = whole.slice();
    const at = () => Math.floor(Math.random() * whole.length);
    if (i % 3 === 0) { for (let flips = 0; flips <= i / 10; flips++) copy[at()] ^= 1 << (i & 7); }
    else if (i % 3 === 1) copy = copy.subarray(0, at());
    else copy = new Uint8Array([...copy.subarray(0, at()), ...copy.subarray(at())]);
    if (copy.length === whole.length && copy.every((byte, i) => byte === whole[i])) continue;
    Deno.writeFileSync(`${setting.path}/copy`, copy);
    await assert.rejects(client.restore("copy"), {
      code: "FAILED",
      message: /^Cannot restore from copy: .*at byte \d+$/,
    });
  }
  assert.equal(await client.get("t", "key 0"), "the state that is there");
  assert.equal(await client.size("t"), 500);
});

Deno.test("a state is loaded at the start if it is there, and stored at the stop", async () => {
  await using setting = new Setting();
  const first = await setting.start({ state: "state" });
  await first.client.set("t", "k", 1);
  assert.deepEqual(setting.files, ["state.lock"]);
  await first.host.stop();
  assert.deepEqual(setting.files, ["state"]);
  const second = await setting.start({ state: "state" });
  assert.equal(await second.client.get("t", "k"), 1);
  await second.client.set("t", "k", 2);
  await second.client.done();
  await second.host.finished;
  const third = await setting.start({ state: "state" });
  assert.equal(await third.client.get("t", "k"), 2);
  await third.client.store("copy");
  await third.client.restore("copy");
  const transfers = setting.lines.filter(({ event }) => event === "store" || event === "restore");
  assert.deepEqual(transfers.map(({ event, result }) => [event, result]), [
    ["restore", "nothing is there"],
    ["store", "ok"],
    ["restore", "ok"],
    ["store", "ok"],
    ["restore", "ok"],
    ["store", "ok"],
    ["restore", "ok"],
  ]);
  assert.deepEqual(Object.keys(transfers[1]), [
    "level",
    "event",
    "where",
    "entries",
    "bytes",
    "seconds",
    "result",
  ]);
});

Deno.test("a host does not start with a state that it cannot load, nor with one that another host keeps", async () => {
  await using setting = new Setting();
  Deno.writeTextFileSync(`${setting.path}/foreign`, "{}");
  await assert.rejects(setting.start({ state: "foreign" }), /Cannot restore from foreign: .* at byte 0/);
  assert.equal(Deno.readTextFileSync(`${setting.path}/foreign`), "{}");
  await assert.rejects(setting.start({ state: "no/directory" }), /there is no directory /);
  await setting.start({ state: "state" });
  await assert.rejects(setting.start({ state: "./state" }), /another host does/);
});

Deno.test("a state is stored now and then if it was changed", async () => {
  await using setting = new Setting();
  const { client } = await setting.start({ state: "state", storeEvery: 30 });
  const stores = () => setting.lines.filter(({ event }) => event === "store").length;
  await settles(() => stores() === 1);
  await client.set("t", "k", 1);
  await settles(() => stores() === 2);
  const mtime = () => Deno.statSync(`${setting.path}/state`).mtime!.getTime();
  const before = mtime();
  await client.get("t", "k");
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(mtime(), before);
  for (
    const change of [
      () => client.del("t", "k"),
      () => client.push("s", 1),
      () => client.clearSet("s"),
      () => client.drop("t"),
      () => client.store("other").then(() => client.restore("other")),
    ]
  ) {
    const done = stores();
    await change();
    await settles(() => stores() > done);
  }
});

Deno.test("a host that cannot store its state does not stop, and loses nothing", async () => {
  await using setting = new Setting();
  Deno.mkdirSync(`${setting.path}/sub`);
  const { host, client } = await setting.start({ state: "sub/state" });
  await client.set("t", "k", 1);
  Deno.renameSync(`${setting.path}/sub`, `${setting.path}/elsewhere`);
  await assert.rejects(host.stop(), /Cannot store to sub\/state: there is no directory /);
  await assert.rejects(client.done(), { code: "FAILED", message: /^Cannot store to sub\/state: / });
  assert.equal(await client.get("t", "k"), 1);
  Deno.renameSync(`${setting.path}/elsewhere`, `${setting.path}/sub`);
  await host.stop();
  const again = await setting.start({ state: "sub/state" });
  assert.equal(await again.client.get("t", "k"), 1);
});

Deno.test("what a killed host left beside its state is removed by the next store", async () => {
  await using setting = new Setting();
  const { client } = await setting.start();
  const file = (name: string) => {
    Deno.writeTextFileSync(`${setting.path}/${name}`, "");
    Deno.utimeSync(`${setting.path}/${name}`, new Date(0), new Date(0));
  };
  const left = "state.01234567.memstore-tmp";
  const locked = "state.11111111.memstore-tmp";
  const young = "state.89abcdef.memstore-tmp";
  // (The last two are other programs'.)
  for (const name of [left, locked, young, "state.other.memstore-tmp", "state.01234567.tmp"]) file(name);
  Deno.utimeSync(`${setting.path}/${young}`, new Date(), new Date());
  const owner = Deno.openSync(`${setting.path}/${locked}`);
  owner.lockSync(true);
  await client.store("state");
  const kept = ["state", "state.01234567.tmp", young, "state.other.memstore-tmp"];
  assert.deepEqual(setting.files, [...kept, locked].sort());
  owner.close();
  await client.store("state");
  assert.deepEqual(setting.files, kept);
});

/** Starts a host that stores all the time; kills it at a random moment after it has begun. */
async function killWhileStoring(directory: string): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--allow-all",
      `--config=${ROOT}deno.json`,
      `${ROOT}tests/storing.ts`,
      directory,
    ],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  try {
    const reader = child.stdout.getReader();
    await reader.read();
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 50));
    child.kill("SIGKILL");
    while (!(await reader.read()).done);
  } finally {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await child.status;
  }
}

Deno.test("a host that is killed while it stores leaves a state that loads, a hundred times", async () => {
  await using setting = new Setting();
  const directories = ["a", "b"].map((name) => `${setting.path}/${name}`);
  let unfinished = 0;
  await Promise.all(directories.map(async (directory) => {
    const { client } = await setting.start({ allowAnyPath: true });
    Deno.mkdirSync(directory);
    for (let i = 0; i < 50; i++) {
      await killWhileStoring(directory);
      const left = Array.from(Deno.readDirSync(directory), ({ name }) => name).filter((name) =>
        name.endsWith(".memstore-tmp")
      );
      unfinished += left.length;
      for (const name of left) Deno.removeSync(`${directory}/${name}`);
      await client.restore(`${directory}/state`);
      const values = await client.all("t");
      assert.equal(values.size, 23);
      assert.equal(new Set([0, 1, 2].map((i) => values.get(i))).size, 1);
    }
  }));
  // Otherwise nothing was shown.
  assert.ok(unfinished > 10, `${unfinished} of 100 were killed while they stored`);
});

Deno.test("to store and to restore take little memory beside the data, and others are answered meanwhile", async () => {
  await using setting = new Setting();
  const { client } = await setting.start();
  const value = crypto.getRandomValues(new Uint8Array(50_000));
  for (let i = 0; i < 4000; i += 100) {
    await Promise.all(Array.from({ length: 100 }, (_, j) => client.set("t", i + j, value)));
  }
  /** How much the memory of a host grows meanwhile, and how often it answers. */
  const watch = async (client: MemStoreClient, work: (client: MemStoreClient) => Promise<unknown>) => {
    const { memory } = await client.stats();
    let done = false, most = 0, answered = 0;
    const working = work(client).finally(() => done = true);
    while (!done) {
      most = Math.max(most, (await client.stats()).memory - memory);
      answered++;
    }
    await working;
    return { most, answered };
  };
  const storing = await watch(client, (client) => client.store("state"));
  assert.ok(storing.most < 64 * 2 ** 20, `storing 200 MB took ${storing.most >> 20} MiB`);
  assert.ok(storing.answered > 50, `${storing.answered} were answered during the store`);
  // (A host that has held the data before would use that memory again.)
  await using host = await Host.start();
  Deno.renameSync(`${setting.path}/state`, `${host.directory}/state`);
  await using other = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  const restoring = await watch(other, (client) => client.restore("state"));
  assert.ok(restoring.most > 150e6, "nothing was measured");
  assert.ok(restoring.most < 200e6 + 96 * 2 ** 20, `restoring 200 MB took ${restoring.most >> 20} MiB`);
  assert.ok(restoring.answered > 50, `${restoring.answered} were answered during the restore`);
  assert.deepEqual(await other.get("t", 3999), value);
});

const python = await new Deno.Command(PYTHON, { args: ["-c", "import msgpack"], stderr: "null" }).output()
  .then(({ success }) => success, () => false);

Deno.test({
  name: "a state written by Python loads, and one written here loads in Python" +
    (python ? "" : " [ignored: python3-msgpack is not installed]"),
  // In CI it is installed: there its absence is a failure.
  ignore: !python && Deno.env.get("CI") === undefined,
  async fn() {
    await using setting = new Setting();
    const { client } = await setting.start();
    const run = async (code: string) => {
      const { stdout, stderr } = await new Deno.Command(PYTHON, { args: ["-c", code], cwd: setting.path })
        .output();
      assert.equal(new TextDecoder().decode(stderr), "");
      return new TextDecoder().decode(stdout);
    };
    await run(`
import msgpack
state = {"version": 1, "store": {"users": {b"alice": {"age": 31}, 7: None}}, "sets": {"online": ["a", 1]}}
open("python", "wb").write(msgpack.packb(state, use_bin_type=False))`);
    await client.restore("python");
    assert.deepEqual(
      await client.all("users"),
      new Map<unknown, unknown>([["alice", { age: 31 }], [7, null]]),
    );
    assert.deepEqual(new Set(await client.listSet("online")), new Set(["a", 1]));
    await client.set("users", "bob", new Uint8Array([1, 2]));
    await client.store("deno");
    assert.equal(
      await run(`
import msgpack
state = msgpack.unpackb(open("deno", "rb").read(), strict_map_key=False)
print(state["version"], state["store"] == {"users": {"alice": {"age": 31}, 7: None, "bob": b"\\x01\\x02"}},
      set(state["sets"]["online"]) == {"a", 1})`),
      "1 True True\n",
    );
  },
});

Deno.test("a value that is far larger than the bound is stored and restored piece by piece", async () => {
  await using directory = new TempDir();
  const bounds = { directory: directory.path, anyPath: false };
  const persistence = new Persistence(new Store(), bounds, {}, () => {});
  const size = 200 << 20;
  const fill = () => {
    const store = new Store();
    const table = store.tables.make(keyOf(new Uint8Array([0xa1, 0x74])));
    for (const [name, length] of [[1, 10], [2, size], [3, 10]]) {
      const { bytes, from } = table.reserve(keyOf(new Uint8Array([name])), length + 5);
      bytes.set([0xc6, length >>> 24, length >>> 16, length >>> 8, length], from);
      for (let i = 0; i < length; i += 4097) bytes[from + 5 + i] = i;
    }
    return store;
  };
  for (const name of ["state", "state.gz"]) {
    const { rss } = Deno.memoryUsage();
    let most = 0;
    const watch = setInterval(() => most = Math.max(most, Deno.memoryUsage().rss - rss), 5);
    try {
      const store = fill();
      await new Persistence(store, bounds, {}, () => {}).store(persistence.file(name));
      assert.ok(most < size + 64 * 2 ** 20, `storing took ${(most - size) >> 20} MiB beside the data`);
      await store.close();
      most = 0;
      const { state: restored } = (await persistence.load(persistence.file(name)))!;
      assert.ok(most < size + 64 * 2 ** 20, `restoring took ${(most - size) >> 20} MiB beside the data`);
      const table = restored.tables.get(keyOf(new Uint8Array([0xa1, 0x74])))!;
      const { bytes, keyTo, valueTo } = restored.entry.read(table.find(keyOf(new Uint8Array([2]))));
      assert.equal(valueTo - keyTo, size + 5);
      for (let i = 0; i < size; i += 4097) if (bytes[keyTo + 5 + i] !== (i & 255)) assert.fail(`at ${i}`);
      assert.equal(table.size, 3);
      await restored.close();
    } finally {
      clearInterval(watch);
    }
  }
  const whole = await Deno.readFile(`${directory.path}/state`);
  await Deno.writeFile(`${directory.path}/cut`, whole.subarray(0, whole.length - 1000));
  const cut = `Cannot restore from cut: the bytes end within an item at byte ${whole.length - 1000}`;
  await assert.rejects(persistence.load(persistence.file("cut")), { message: cut });
});
