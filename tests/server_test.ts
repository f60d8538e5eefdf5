/** The host as its users see it: start, stop, signals, several endpoints, two hosts on one endpoint. */

import assert from "node:assert/strict";
import { type CommandHost, MemStore, MemStoreClient, MemStoreError } from "../mod.ts";
import { ZMQ } from "../transport/zeromq/libzmq.ts";
import { Context } from "../transport/zeromq/context.ts";
import { Host, TempDir } from "./host.ts";

Deno.test("a socket file is for its owner, or with allowGroup for its group: then it needs a path", async () => {
  await using directory = new TempDir();
  for (const [allowGroup, mode] of [[false, 0o600], [true, 0o660]] as const) {
    await using store = new MemStore(`${directory.path}/a.sock`, { allowGroup });
    await store.start();
    assert.equal(Deno.statSync(`${directory.path}/a.sock`).mode! & 0o777, mode);
    assert.equal(Deno.statSync(`${directory.path}/a.sock.lock`).mode! & 0o777, 0o600);
  }
  const named = new MemStore(["./a.sock", "jobs"], { allowGroup: true });
  await assert.rejects(named.start(), /Cannot serve jobs to the group: .* give a path/);
});

Deno.test("a host serves several endpoints, and one state through all of them", async () => {
  await using directory = new TempDir();
  const endpoints = [`${directory.path}/a.sock`, `${directory.path}/b.sock`, "tcp://127.0.0.1:*"];
  await using store = new MemStore(endpoints);
  await store.start();
  assert.equal(store.endpoints.length, 3);
  assert.match(store.endpoints[2], /^tcp:\/\/127\.0\.0\.1:\d+$/);
  for (const [i, endpoint] of store.endpoints.entries()) {
    await using client = new MemStoreClient(endpoint);
    await client.push("seen", i);
    assert.deepEqual(
      (await client.listSet<number>("seen")).sort(),
      Array.from({ length: i + 1 }, (_, n) => n),
    );
  }
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`a host ends with 0 at ${signal}, and its socket file is gone`, async () => {
    await using host = await Host.start();
    await using client = new MemStoreClient(host.endpoint);
    await client.ping();
    assert.equal((await Deno.stat(host.endpoint)).mode! & 0o777, 0o600);
    const { code, signal: endedBy } = await host.end(signal);
    assert.deepEqual([code, endedBy], [0, null]);
    await assert.rejects(Deno.stat(host.endpoint), Deno.errors.NotFound);
    assert.deepEqual([...Deno.readDirSync(host.directory)], []);
  });
}

Deno.test("a host answers what has arrived before it stops", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await client.ping();
  const value = "x".repeat(10_000);
  const sets = Array.from({ length: 3000 }, (_, i) => client.set("t", i, value));
  const done = client.done();
  assert.deepEqual([...new Set(await Promise.all(sets))], [1]);
  assert.deepEqual(await done, ["ok"]);
  assert.equal((await host.status).code, 0);
});

Deno.test("the command done ends the process with 0, every time with its reply", async () => {
  for (let i = 0; i < 5; i++) {
    await using host = await Host.start();
    await using client = new MemStoreClient(host.endpoint);
    assert.deepEqual(await client.done(), ["ok"]);
    assert.equal((await host.status).code, 0);
  }
});

Deno.test("a second host on a living host's endpoint is refused, and the first serves on", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await client.set("t", "k", 1);
  await using second = Host.spawn(host.endpoint);
  assert.equal((await second.status).code, 1);
  assert.match(await second.error(), /Cannot serve .*host\.sock: another host serves it/);
  await using later = new MemStoreClient(host.endpoint);
  assert.equal(await later.get("t", "k"), 1);
});

Deno.test("of two hosts that start at once on one endpoint, one serves", async () => {
  await using directory = new TempDir();
  const endpoint = `${directory.path}/one.sock`;
  const stores = Array.from({ length: 4 }, () => new MemStore(endpoint));
  const starts = await Promise.allSettled(stores.map((store) => store.start()));
  assert.equal(starts.filter(({ status }) => status === "fulfilled").length, 1);
  await using client = new MemStoreClient(endpoint);
  assert.equal(await client.ping(), "pong");
  await Promise.all(stores.map((store) => store.stop()));
  assert.deepEqual([...Deno.readDirSync(directory.path)], []);
});

Deno.test("a host takes over the socket file that a crash left", async () => {
  await using host = await Host.start();
  await host.end("SIGKILL");
  assert.ok((await Deno.stat(host.endpoint)).isSocket);
  await using next = await Host.start(host.endpoint);
  await using client = new MemStoreClient(next.endpoint);
  assert.equal(await client.ping(), "pong");
});

Deno.test("a host does not take the socket file of another program's ZeroMQ socket, or of a host without lock", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/socket`;
  const context = await Context.open();
  const other = context.socket(ZMQ.ROUTER, { linger: 0 });
  try {
    other.bind(`ipc://${path}`);
    const store = new MemStore(path);
    await assert.rejects(store.start(), { message: `Cannot serve ipc://${path}: another process serves it` });
    assert.ok((await Deno.stat(path)).isSocket);
  } finally {
    other.close();
    await context.close();
  }
  await using host = await Host.start();
  await Deno.remove(`${host.endpoint}.lock`);
  await assert.rejects(new MemStore(host.endpoint).start(), /another process serves it/);
});

Deno.test("a host does not take a file that is no socket for one", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/precious`;
  await Deno.writeTextFile(path, "data");
  await using store = new MemStore(path);
  await assert.rejects(store.start(), /no socket/);
  assert.equal(await Deno.readTextFile(path), "data");
});

Deno.test("a host that is stopped while it starts has stopped, and leaves nothing", async () => {
  await using directory = new TempDir();
  const store = new MemStore([`${directory.path}/a.sock`, `${directory.path}/b.sock`]);
  const started = store.start();
  await Promise.all([started, store.stop(), store.stop(), store.finished]);
  assert.deepEqual([...Deno.readDirSync(directory.path)], []);
  await assert.rejects(store.start(), /it is stopped/);
  const bad = new MemStore("http://nowhere");
  await assert.rejects(bad.start(), TypeError);
  await bad.stop();
});

Deno.test("a host that cannot serve one of its endpoints serves none", async () => {
  await using directory = new TempDir();
  const first = `${directory.path}/first.sock`;
  await using store = new MemStore([first, "tcp://no.such.address.invalid:1"], { insecure: true });
  await assert.rejects(store.start(), /Cannot serve tcp:/);
  assert.deepEqual([...Deno.readDirSync(directory.path)], []);
});

Deno.test("MemStore.command() adds a command that clients send, with data, promises and errors", async () => {
  await using directory = new TempDir();
  await using store = new MemStore(`${directory.path}/store.sock`, { dataDirectory: directory.path });
  store.command("swap", {
    args: ["table", "a", "b"],
    help: "Swaps two values.",
    run(host, table, a, b) {
      const old = host.send("get", table, a);
      host.send("set", table, a, host.send("get", table, b));
      host.send("set", table, b, old);
      return { swapped: [a, b] };
    },
  });
  store.command("count", { args: [], help: "Counts.", run: (host) => host.send("size", "t") });
  store.command("later", { args: [], help: "Answers later.", run: async () => (await Promise.resolve(), 7) });
  store.command("fails", {
    args: [],
    help: "Fails.",
    run() {
      throw new Error("no luck");
    },
  });
  assert.throws(() => store.command("get", { args: [], help: "", run: () => 1 }), TypeError);
  await store.start();
  await using client = new MemStoreClient(store.endpoints[0]);
  const replies = await client.batch([
    ["set", "t", "a", 1],
    ["set", "t", "b", 2],
    ["swap", "t", "a", "b"],
    ["get", "t", "a"],
  ]);
  assert.deepEqual(replies, [1, 1, { swapped: ["a", "b"] }, 2]);
  assert.deepEqual(await Promise.all([client.send(["later"]), client.send(["count"])]), [7, 2]);
  await assert.rejects(client.send(["fails"]), new MemStoreError("FAILED", "no luck"));
  await assert.rejects(client.send(["swap", "t"]), { code: "BAD_ARGUMENT" });
  assert.ok((await client.commands()).some(({ name }) => name === "swap"));
});

Deno.test("no command of the application's own can take the host down, or keep it from stopping", async () => {
  await using directory = new TempDir();
  const store = new MemStore(`${directory.path}/store.sock`, { dataDirectory: directory.path });
  const add = (name: string, run: (host: CommandHost) => unknown) =>
    store.command(name, { args: [], help: "", run });
  add("silent", () => {
    throw Object.create(null);
  });
  add("forgetful", (host) => {
    host.send("store", `${directory.path}/missing/state`);
    return 1;
  });
  add("thenable", () => ({ then: (resolve: (value: unknown) => void) => resolve(2) }));
  add("endless", () => new Promise(() => {}));
  await store.start();
  await using client = new MemStoreClient(store.endpoints[0]);
  await assert.rejects(client.send(["silent"]), { code: "FAILED" });
  assert.equal(await client.send(["forgetful"]), 1);
  assert.equal(await client.send(["thenable"]), 2);
  const endless = client.send(["endless"]);
  await client.ping();
  await Promise.all([
    store.stop(),
    assert.rejects(endless, { code: "FAILED", message: "the host stopped before it was done" }),
  ]);
});

Deno.test("a store is the state of the moment at which it was asked for, and restores", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  for (let i = 0; i < 2000; i++) client.set("t", i, "x".repeat(100));
  await client.push("s", ["any", "type"]);
  const stored = client.store("state.msgpack");
  const changed = client.batch([["drop", "t"], ["push", "s", 2]]);
  assert.equal((await stored)[0], "stored");
  await changed;
  assert.deepEqual(await client.tables(), []);
  const [word, seconds] = await client.restore("state.msgpack");
  assert.equal(word, "restored");
  assert.ok(seconds >= 0);
  assert.equal(await client.size("t"), 2000);
  assert.deepEqual(await client.listSet("s"), [["any", "type"]]);
});

Deno.test("a restore that fails says why and leaves the state as it is", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await client.set("t", "k", 1);
  await Deno.writeFile(`${host.directory}/foreign`, new Uint8Array([1, 2, 3]));
  await assert.rejects(client.restore("missing"), { code: "FAILED", message: /Cannot restore from missing/ });
  await assert.rejects(client.restore("foreign"), { code: "FAILED", message: /must be a map at byte 0/ });
  await assert.rejects(client.store("no/such/directory"), { code: "FAILED", message: /Cannot store to/ });
  assert.equal(await client.get("t", "k"), 1);
});

Deno.test("a store follows links, and replaces nothing but files; a restore reads nothing else", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await client.set("t", "k", 1);
  await Deno.writeTextFile(`${host.directory}/target`, "old");
  await Deno.symlink("target", `${host.directory}/link`);
  await client.store("link");
  assert.ok((await Deno.lstat(`${host.directory}/link`)).isSymlink);
  await client.set("t", "k", 2);
  await client.restore("target");
  assert.equal(await client.get("t", "k"), 1);
  await Deno.mkdir(`${host.directory}/directory`);
  for (const path of ["directory", "host.sock"]) {
    await assert.rejects(client.store(path), { code: "FAILED", message: /no regular file/ });
    await assert.rejects(client.restore(path), { code: "FAILED", message: /no regular file/ });
  }
  await assert.rejects(client.restore("/dev/zero"), { code: "FAILED", message: /leads out of/ });
});
