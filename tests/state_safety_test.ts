/** State files in hostile surroundings: links, FIFOs, the host's own file names, crafted lengths, many transfers at once. */

import assert from "node:assert/strict";
import fs from "node:fs";
import { gzipSync } from "node:zlib";
import { MemStore, MemStoreClient, MemStoreError, type MemStoreOptions } from "../mod.ts";
import { SEGMENT } from "../blocks/block.ts";
import { ownMemory } from "../engine/memory/extents.ts";
import { Heap } from "../engine/memory/heap.ts";
import { Store } from "../engine/memory/store.ts";
import { AutoSave } from "../state/autosave.ts";
import { Directory } from "../state/directory.ts";
import { Gate } from "../state/gate.ts";
import { plain } from "../state/gzip.ts";
import { Persistence } from "../state/persistence.ts";
import { TransferQueue } from "../state/transfer_queue.ts";
import { takeFileLock } from "../system/file_lock.ts";
import { Host, TempDir } from "./host.ts";
import { keyOf } from "./stores.ts";

const ROOT = new URL("..", import.meta.url);
const text = (text: string) => [0xa0 | text.length, ...new TextEncoder().encode(text)];

async function start(
  directory: TempDir,
  options: MemStoreOptions = {},
): Promise<{ store: MemStore; client: MemStoreClient }> {
  const store = new MemStore(`${directory.path}/host.sock`, { dataDirectory: directory.path, ...options });
  await store.start();
  return { store, client: new MemStoreClient(store.endpoints[0], { timeout: 60_000 }) };
}

function persistenceOf(store: Store, directory: TempDir): Persistence {
  return new Persistence(store, { directory: directory.path, anyPath: false }, {}, () => {});
}

function set(store: Store, key: number, value: number[]): void {
  store.tables.make(keyOf(new Uint8Array(text("t")))).set(
    keyOf(new Uint8Array([key])),
    new Uint8Array(value),
    0,
    value.length,
  );
}

function mkfifo(path: string): void {
  assert.ok(new Deno.Command("mkfifo", { args: [path] }).outputSync().success);
}

for (
  const [what, field, place] of [
    ["value", "store", [0x81, ...text("t"), 0x81, ...text("k")]],
    ["key", "store", [0x81, ...text("t"), 0x81]],
    ["name", "store", [0x81]],
    ["member", "sets", [0x81, ...text("s"), 0x91]],
  ] as const
) {
  Deno.test(`a ${what} of 2 GiB or more in a state file is refused, with the byte where it is`, async () => {
    await using directory = new TempDir();
    const store = new Store();
    set(store, 1, [7]);
    const persistence = persistenceOf(store, directory);
    for (const length of [[0x80, 0, 0, 0], [0x80, 0, 0, 1], [0xff, 0xff, 0xff, 0xff]]) {
      const path = `${directory.path}/state`;
      const begin = [0x82, ...text("version"), 1, ...text(field), ...place];
      Deno.writeFileSync(path, new Uint8Array([...begin, 0xc6, ...length]));
      // (Sparse: it takes no room on the disk.)
      Deno.truncateSync(path, 5 * 2 ** 30);
      await assert.rejects(persistence.restore(persistence.file("state")), {
        message: `Cannot restore from state: an item is longer than 2147483647 bytes at byte ${begin.length}`,
      });
    }
    assert.equal(store.tables.entries, 1);
    await persistence.store(persistence.file("after"));
    assert.ok(Deno.statSync(`${directory.path}/after`).size > 20);
  });
}

Deno.test("a FIFO in the place of a temporary file, of the state or of a lock holds nobody up", async () => {
  await using directory = new TempDir();
  for (const name of ["state.01234567.memstore-tmp", "state.01234567.tmp", "fifo", "fifo.lock"]) {
    mkfifo(`${directory.path}/${name}`);
    Deno.utimeSync(`${directory.path}/${name}`, new Date(0), new Date(0));
  }
  const { store, client } = await start(directory, { state: "state" });
  await using _ = client;
  await client.set("t", "k", 1);
  await client.store("state");
  await assert.rejects(client.store("fifo"), { code: "FAILED", message: /no regular file/ });
  await assert.rejects(client.restore("fifo"), { code: "FAILED", message: /no regular file/ });
  await assert.rejects(takeFileLock(`${directory.path}/fifo.lock`), /a file is there that is no lock/);
  // (It may come to be after the path was looked at.)
  using opened = await Directory.open(directory.path);
  using fifo = opened.open("fifo");
  assert.equal(fifo!.stat().isFile(), false);
  await store.stop();
  assert.ok(Deno.statSync(`${directory.path}/state`).isFile);
});

Deno.test("clients cannot store to the names of hosts' own files, and a second host finds the lock", async () => {
  await using directory = new TempDir();
  const { store, client } = await start(directory, { state: "state" });
  await using _ = client;
  await using __ = store;
  Deno.symlinkSync("state.lock", `${directory.path}/link`);
  const reserved = ["state.lock", "./state.LOCK", "x.lock", "link", "state.01234567.memstore-tmp"];
  for (const name of reserved) {
    await assert.rejects(client.store(name), { code: "FAILED", message: /files of their own/ }, name);
    await assert.rejects(client.restore(name), { code: "FAILED" }, name);
  }
  const second = new MemStore(`${directory.path}/second.sock`, {
    dataDirectory: directory.path,
    state: "state",
  });
  await assert.rejects(second.start(), /Cannot keep the state in state: another host does/);
});

Deno.test("a lock is not taken from a file that holds something else", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/deno.lock`;
  Deno.writeTextFileSync(path, "{}");
  await assert.rejects(takeFileLock(path), /a file is there that is no lock of a host's/);
  assert.equal(Deno.readTextFileSync(path), "{}");
});

Deno.test("a lock whose file is removed between open and lock keeps others out", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/lock`;
  const first = await takeFileLock(path);
  assert.equal(first!.abandoned, false);
  const { tryLock } = Deno.FsFile.prototype;
  let opened = 0;
  Deno.FsFile.prototype.tryLock = function (exclusive) {
    if (opened++ === 0) first!.release();
    return tryLock.call(this, exclusive);
  };
  try {
    const second = await takeFileLock(path);
    assert.ok(second);
    assert.equal(opened, 2);
    assert.equal(await takeFileLock(path), undefined);
    second.release();
  } finally {
    Deno.FsFile.prototype.tryLock = tryLock;
  }
  assert.deepEqual([...Deno.readDirSync(directory.path)], []);
});

Deno.test("a directory or a file that is swapped for a link during a store or restore leads nowhere", async () => {
  await using directory = new TempDir();
  await using outside = new TempDir();
  const { store, client } = await start(directory);
  await using _ = client;
  await using __ = store;
  Deno.mkdirSync(`${directory.path}/sub`);
  Deno.writeTextFileSync(`${outside.path}/secret`, "secret");
  await client.store("file");
  await client.set("t", "k", 1);
  const swapping = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--allow-all",
      new URL("tests/swapping.ts", ROOT).pathname,
      directory.path,
      outside.path,
    ],
    stdout: "piped",
  }).spawn();
  try {
    const reader = swapping.stdout.getReader();
    await reader.read();
    await reader.cancel();
    let stored = 0, read = 0;
    for (let i = 0; i < 1500; i++) {
      await client.store(`sub/state${i % 10}`).then(() => stored++, () => {});
      for (const path of ["sub/secret", "file"]) {
        await client.restore(path).catch(({ message }) => {
          // (What the secret holds is no state: if it is read, the error names a byte.)
          if (/at byte/.test(message)) read++;
        });
      }
    }
    assert.deepEqual(Array.from(Deno.readDirSync(outside.path), ({ name }) => name), ["secret"]);
    assert.equal(read, 0);
    assert.ok(stored > 0, "nothing was stored");
  } finally {
    swapping.kill("SIGKILL");
    await swapping.status;
  }
});

Deno.test("a state file is synced before it is renamed, its directory after; it is locked meanwhile", async () => {
  await using directory = new TempDir();
  const store = new Store();
  set(store, 1, [7]);
  const persistence = persistenceOf(store, directory);
  const path = `${directory.path}/state`;
  Deno.writeTextFileSync(path, "old");
  const synced: unknown[] = [];
  const { fsync } = fs;
  fs.fsync = ((fd: number, end: (error: Error | null) => void) => {
    const temporary = Array.from(Deno.readDirSync(directory.path), ({ name }) => name).find((name) =>
      name.endsWith(".memstore-tmp")
    );
    let locked = false;
    if (temporary) {
      using other = Deno.openSync(`${directory.path}/${temporary}`);
      locked = !other.tryLockSync(true);
    }
    const replaced = Deno.readFileSync(path).length !== 3;
    synced.push({ what: fs.fstatSync(fd).isDirectory() ? "directory" : "file", replaced, locked });
    fsync(fd, end);
  }) as typeof fs.fsync;
  try {
    await persistence.store(persistence.file("state"));
  } finally {
    fs.fsync = fsync;
  }
  assert.deepEqual(synced, [
    { what: "file", replaced: false, locked: true },
    { what: "directory", replaced: true, locked: false },
  ]);
});

Deno.test("after a store, done or failed, the heap is not frozen any more", async () => {
  await using directory = new TempDir();
  const store = new Store();
  set(store, 1, [7]);
  const persistence = persistenceOf(store, directory);
  for (const path of ["state", "missing/state", "state.gz"]) {
    const storing = persistence.store(persistence.file(path));
    assert.equal(store.heap.frozen, true);
    await storing.catch(() => {});
    assert.equal(store.heap.frozen, false);
  }
});

Deno.test("what is set while the state is saved is in the next one", async () => {
  await using directory = new TempDir();
  const store = new Store();
  set(store, 1, [1]);
  const persistence = persistenceOf(store, directory);
  const autoSave = await AutoSave.open(persistence.own("state"), store, persistence);
  const saving = autoSave.save();
  set(store, 1, [2]);
  await saving;
  assert.equal(autoSave.status.changed, true);
  await autoSave.save();
  assert.equal(autoSave.status.changed, false);
  const { mtime, ino } = Deno.statSync(`${directory.path}/state`);
  await autoSave.save();
  assert.deepEqual([
    Deno.statSync(`${directory.path}/state`).ino,
    Deno.statSync(`${directory.path}/state`).mtime,
  ], [
    ino,
    mtime,
  ]);
  await autoSave.close();
  const { state } = (await persistence.load(persistence.file("state")))!;
  const table = state.tables.get(keyOf(new Uint8Array(text("t"))))!;
  const { bytes, keyTo } = state.entry.read(table.find(keyOf(new Uint8Array([1]))));
  assert.equal(bytes[keyTo], 2);
});

/** A state whose one table begins so and goes on with so many bytes, compressed. */
function bomb(begin: number[], count: number, rest: Uint8Array = new Uint8Array(0)): Uint8Array {
  const whole = new Uint8Array(begin.length + count);
  whole.fill(0xc0);
  whole.set(begin);
  whole.set(rest, begin.length);
  return gzipSync(whole, { level: 1 });
}

Deno.test("a gzip bomb in a host with little memory is refused, and all memory is given back", async () => {
  const limit = 16 * SEGMENT;
  await using host = await Host.startWith({ flags: ["--max-memory", `${limit}`] });
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  await client.set("t", "k", "stays");
  const head = [0x82, ...text("version"), 1, ...text("store")];
  const tables = new Uint8Array(6 * (1 << 22));
  const view = new DataView(tables.buffer);
  for (let at = 0; at < tables.length; at += 6) {
    tables[at] = 0xce;
    view.setUint32(at + 1, at);
    tables[at + 5] = 0x80;
  }
  const bombs = {
    "a value of 128 MB": bomb([...head, 0x81, ...text("t"), 0x81, 1, 0xc6, 8, 0, 0, 0], 8 << 24),
    "an array of 128 million nils": bomb([...head, 0x81, ...text("t"), 0x81, 1, 0xdd, 8, 0, 0, 0], 8 << 24),
    "four million tables": bomb([...head, 0xdf, 0, 0x40, 0, 0], tables.length, tables),
  };
  const { memory } = await client.stats();
  for (const [name, bytes] of Object.entries(bombs)) {
    Deno.writeFileSync(`${host.directory}/${name}`, bytes);
    let most = 0, ended = false;
    const restoring = client.restore(name).then(() => undefined, (error) => error).finally(() =>
      ended = true
    );
    while (!ended) most = Math.max(most, (await client.stats()).memory - memory);
    assert.match((await restoring)?.message ?? "", /the memory is full/, name);
    assert.ok(most < 4 * limit + 64 * 2 ** 20, `${name} took ${most >> 20} MiB`);
  }
  assert.equal(await client.get("t", "k"), "stays");
  assert.ok((await client.stats()).heap <= limit);
});

Deno.test("a gzip bomb is decompressed in pieces of bounded size", async () => {
  const count = 8 << 24;
  const compressed = gzipSync(new Uint8Array(count), { level: 9 });
  let bytes = 0, largest = 0;
  for await (const piece of plain(ReadableStream.from([new Uint8Array(compressed)]))) {
    bytes += piece.length;
    largest = Math.max(largest, piece.length);
  }
  assert.equal(bytes, count);
  assert.ok(largest < 4 << 20, `a piece has ${largest} bytes`);
});

Deno.test("a restore that fails gives back all the memory that it has taken", async () => {
  await using directory = new TempDir();
  let bytes = 0, most = 0;
  const heap = new Heap({
    ...ownMemory,
    another() {
      return this;
    },
    allocate(_segment, length) {
      most = Math.max(most, bytes += length);
      return new ArrayBuffer(length);
    },
    release: (_segment, buffer) => void (bytes -= buffer.byteLength),
  });
  heap.limit = 16 * SEGMENT;
  const store = new Store(heap);
  const persistence = persistenceOf(store, directory);
  // Some entries, and then one that is an array too large for the memory.
  const head = [0x82, ...text("version"), 1, ...text("store"), 0x81, ...text("t")];
  const entries = Array.from({ length: 200 }, (_, i) => [0xcc, i, 0xc5, 16, 0, ...new Array(4096).fill(0)]);
  const begin = [...head, 0xde, 0, 201, ...entries.flat(), 0xcd, 1, 0, 0xdd, 4, 0, 0, 0];
  Deno.writeFileSync(`${directory.path}/state`, bomb(begin, 4 << 24));
  const before = bytes;
  await assert.rejects(persistence.restore(persistence.file("state")), /the memory is full/);
  assert.equal(bytes, before);
  assert.ok(most > before, "nothing was taken");
});

Deno.test("a queue runs as much work at a time as it may, the rest in its order, and refuses what is too much", async () => {
  const queue = new TransferQueue(2, 3);
  const ends: PromiseWithResolvers<void>[] = [], begun: number[] = [];
  const add = (i: number) =>
    queue.run("store", () => {
      begun.push(i);
      return (ends[i] = Promise.withResolvers<void>()).promise;
    });
  const turn = () => new Promise((resolve) => setTimeout(resolve, 0));
  const work = [0, 1, 2, 3, 4].map(add);
  await assert.rejects(add(5), { code: "TOO_LARGE", message: /pending: 3 at most/ });
  assert.deepEqual(begun, [0, 1]);
  ends[0].reject(new Error("it fails"));
  await assert.rejects(work[0], /it fails/);
  await turn();
  assert.deepEqual(begun, [0, 1, 2]);
  ends[1].resolve();
  await turn();
  assert.deepEqual(begun, [0, 1, 2, 3]);
  queue.refusePending(new Error("the end"));
  await assert.rejects(work[4], /the end/);
  const late = add(6);
  await turn();
  assert.deepEqual(begun, [0, 1, 2, 3]);
  ends[2].resolve(), ends[3].resolve();
  await turn();
  ends[6].resolve();
  await Promise.all([work[1], work[2], work[3], late]);
  // All turns are free again.
  const next = [7, 8].map(add);
  assert.deepEqual(begun, [0, 1, 2, 3, 6, 7, 8]);
  ends[7].resolve(), ends[8].resolve();
  await Promise.all(next);
});

Deno.test("a gate refuses writes while it is closed", () => {
  const gate = new Gate();
  gate.check("set");
  gate.close();
  assert.throws(() => gate.check("set"), { code: "STOPPING", message: /Cannot run set/ });
  gate.open();
  gate.check("set");
});

Deno.test("of many stores and restores a few run at a time, the others wait, and too many are refused", async () => {
  await using directory = new TempDir();
  const { store, client } = await start(directory, { limits: { requests: 1000 } });
  await using _ = client;
  await using __ = store;
  for (let i = 0; i < 4; i++) await client.set("large", i, "x".repeat(1 << 20));
  await client.store("there");
  for (
    const [name, send] of [
      ["store", (i: number) => client.store(`state${i}`)],
      ["restore", () => client.restore("there")],
    ] as const
  ) {
    let most = 0, ended = false;
    const { memory } = await client.stats();
    let grown = 0;
    const transfers = Promise.allSettled(Array.from({ length: 300 }, (_, i) => send(i))).finally(() =>
      ended = true
    );
    while (!ended) {
      most = Math.max(most, (await client.transfers()).length);
      grown = Math.max(grown, (await client.stats()).memory - memory);
    }
    const ends = await transfers;
    const refused = ends.filter((end) => end.status === "rejected");
    for (const { reason } of refused) {
      assert.ok(reason instanceof MemStoreError && reason.code === "TOO_LARGE", `${reason}`);
      assert.match(reason.message, /too many stores and restores are pending/);
    }
    assert.ok(most > 0 && most <= 2, `${most} ${name}s at once`);
    // (Some have ended when the last ones arrive.)
    assert.ok(refused.length > 0 && refused.length <= 300 - 66, `${refused.length} were refused`);
    assert.ok(grown < 150e6, `${name}s took ${grown} bytes`);
  }
  assert.equal(await client.size("large"), 4);
});
