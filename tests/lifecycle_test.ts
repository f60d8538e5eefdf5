/** Start and stop: acknowledged writes are stored, one host serves an endpoint, and errors and log say what happened. */

import assert from "node:assert/strict";
import { MemStore, MemStoreClient, MemStoreError, type MemStoreOptions } from "../mod.ts";
import { Host, TempDir } from "./host.ts";

const ROOT = new URL("..", import.meta.url);
const run = (args: string[], options: Deno.CommandOptions = {}) =>
  new Deno.Command(Deno.execPath(), {
    ...options,
    args: ["run", "--quiet", "--allow-all", ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
const path = (name: string) => new URL(name, ROOT).pathname;

/** Runs a command of the command line; its exit code, and what it wrote. */
async function cli(...args: string[]): Promise<{ code: number; out: string; error: string }> {
  const process = run([path("cli.ts"), ...args]);
  await process.stdin.close();
  const { code, stdout, stderr } = await process.output();
  return { code, out: new TextDecoder().decode(stdout), error: new TextDecoder().decode(stderr) };
}

/** A host in this process, with a log, and a client of it. */
async function start(
  directory: TempDir,
  options: MemStoreOptions = {},
): Promise<{ store: MemStore; client: MemStoreClient; lines: Record<string, unknown>[] }> {
  const lines: Record<string, unknown>[] = [];
  const store = new MemStore(`${directory.path}/host.sock`, {
    dataDirectory: directory.path,
    log: (level, event, fields) => void lines.push({ level, event, ...fields }),
    ...options,
  });
  await store.start();
  return { store, client: new MemStoreClient(store.endpoints[0], { timeout: 60_000 }), lines };
}

/** Sets keys 0, 1, 2, … one after another until one is refused: how many were acknowledged, and why no more. */
async function setUntilRefused(
  set: (i: number) => Promise<unknown>,
): Promise<{ acknowledged: number; why: unknown }> {
  for (let i = 0;; i++) {
    try {
      await set(i);
    } catch (why) {
      return { acknowledged: i, why };
    }
  }
}

const large = "x".repeat(1 << 20);

Deno.test("what is acknowledged during a stop is stored, or refused", async () => {
  await using directory = new TempDir();
  const { store, client } = await start(directory, { state: "state" });
  await using _ = client;
  for (let i = 0; i < 30; i++) await client.set("large", i, large);
  store.command("later", {
    args: ["key"],
    help: "Sets a key in a while.",
    async run(host, key) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      return host.send("set", "later", key, 1);
    },
  });
  const direct = setUntilRefused((i) => client.set("direct", i, 1));
  const later = setUntilRefused((i) => client.send(["later", i]));
  await client.ping();
  await store.stop();
  const again = await start(directory, { state: "state" });
  await using __ = again.client;
  await using ___ = again.store;
  for (const [table, { acknowledged, why }] of [["direct", await direct], ["later", await later]] as const) {
    assert.ok(acknowledged > 0);
    assert.ok(
      why instanceof MemStoreError && ["STOPPING", "DISCONNECTED", "TIMEOUT"].includes(why.code),
      `${why}`,
    );
    const stored = await again.client.size(table);
    // (One may have been done whose reply did not arrive.)
    assert.ok(stored === acknowledged || stored === acknowledged + 1, `${stored} of ${acknowledged}`);
  }
});

Deno.test("a host whose second store at a stop fails goes on, and loses nothing", async () => {
  await using directory = new TempDir();
  Deno.mkdirSync(`${directory.path}/sub`);
  let acknowledged = 0, atStore = 0;
  const { store, client } = await start(directory, {
    state: "sub/state",
    log(_, event, { result }) {
      // The first store has succeeded: from now on there is nowhere to store to.
      if (event !== "store" || result !== "ok" || atStore > 0) return;
      atStore = acknowledged;
      Deno.renameSync(`${directory.path}/sub`, `${directory.path}/elsewhere`);
    },
  });
  await using _ = client;
  for (let i = 0; i < 30; i++) await client.set("large", i, large);
  let ended = false;
  const refusals = new Set<unknown>();
  const writing = (async () => {
    while (!ended) {
      await client.incr("t", "k").then(
        () => acknowledged++,
        (error) => void refusals.add(error.code ?? error),
      );
    }
  })();
  await client.ping();
  await assert.rejects(store.stop(), { message: /^Cannot store to sub\/state: there is no directory / });
  assert.ok(atStore > 0, "nothing was written during the store");
  const before = acknowledged;
  while (acknowledged < before + 10) await client.ping();
  ended = true;
  await writing;
  refusals.delete("STOPPING");
  assert.deepEqual([...refusals], []);
  assert.equal(await client.get("t", "k"), acknowledged);
  Deno.removeSync(`${directory.path}/elsewhere`, { recursive: true });
  Deno.mkdirSync(`${directory.path}/sub`);
  await store.stop();
  const again = await start(directory, { state: "sub/state" });
  await using __ = again.client;
  await using ___ = again.store;
  assert.equal(await again.client.get("t", "k"), acknowledged);
});

Deno.test("a host on a full disk does not stop until it can store, and done says so", async () => {
  const bytes = 16 << 20;
  await using host = await Host.startWith({ flags: ["--state", "state"], maxFileBytes: bytes });
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  await client.set("t", "small", 1);
  // (More than twice as much: shells differ in what a block is.)
  for (let i = 0; i <= bytes >> 19; i++) await client.set("large", i, large);
  const { code, error } = await cli("done", "--endpoint", host.endpoint);
  assert.equal(code, 1);
  assert.match(error, /Cannot store to state: File too large/);
  host.kill("SIGTERM");
  await client.set("t", "after", 1);
  for (let i = 0; i < 20; i++) await client.incr("t", "still there");
  await host.hasLogged("the host goes on", 2);
  await client.drop("large");
  assert.equal((await cli("done", "--endpoint", host.endpoint)).code, 0);
  assert.equal((await host.status).code, 0);
  assert.match(
    await host.error(),
    /"event":"stop","result":"the host goes on: Cannot store to state: File too large/,
  );
  await using next = await Host.start(host.endpoint, "--state", "state", "--data-dir", host.directory);
  await using later = new MemStoreClient(next.endpoint);
  assert.deepEqual(await later.all("t"), new Map([["small", 1], ["after", 1], ["still there", 20]]));
});

for (const transport of ["ipc", "tcp"]) {
  Deno.test(`when done is answered the state is stored, and its endpoint can be served (${transport})`, async () => {
    await using directory = new TempDir();
    let where = transport === "ipc" ? `${directory.path}/host.sock` : "tcp://127.0.0.1:*";
    for (let i = 0; i < 4; i++) {
      const store = new MemStore(where, { dataDirectory: directory.path, state: "state" });
      await store.start();
      [where] = store.endpoints;
      await using client = new MemStoreClient(where);
      assert.equal(await client.get("t", "k") ?? -1, i - 1);
      // (Its replies hold up the end.)
      store.command("slow", { args: [], help: "", run: () => new Promise((end) => setTimeout(end, 300)) });
      const slow = client.send(["slow"]).catch(() => {});
      await client.set("t", "k", i);
      assert.deepEqual(await client.done(), ["ok"]);
      assert.equal(store.state?.changed, false);
      await slow;
    }
  });
}

Deno.test("memstore done && memstore serve works at once", async () => {
  await using directory = new TempDir();
  const endpoint = `${directory.path}/host.sock`;
  for (let i = 0; i < 3; i++) {
    await using _host = await Host.start(endpoint, "--state", "state", "--data-dir", directory.path);
    await using client = new MemStoreClient(endpoint);
    assert.equal(await client.incr("t", "starts"), i + 1);
    assert.equal((await cli("done", "--endpoint", endpoint)).code, 0);
  }
});

Deno.test("a stop waits for a client's store to the same file, and stores what came after it", async () => {
  await using directory = new TempDir();
  const { store, client } = await start(directory, { state: "state" });
  await using _ = client;
  for (let i = 0; i < 30; i++) await client.set("large", i, large);
  const stored = client.store("./state");
  await client.set("t", "k", "later");
  await Promise.all([stored, store.stop()]);
  const again = await start(directory, { state: "state" });
  await using __ = again.client;
  await using ___ = again.store;
  assert.equal(await again.client.get("t", "k"), "later");
});

Deno.test("a log that throws, or rejects, changes nothing; finished resolves", async () => {
  const original = console.error;
  let told = 0;
  console.error = () => void told++;
  try {
    for (const log of [() => assert.fail("no log"), () => Promise.reject(new Error("no log"))]) {
      told = 0;
      await using directory = new TempDir();
      const { store, client } = await start(directory, { state: "state", log: log as () => void });
      await using _ = client;
      await client.set("t", "k", 1);
      await client.store("other");
      await assert.rejects(client.restore("missing"), { code: "FAILED" });
      await client.done();
      await store.finished;
      assert.equal(told, 1);
      assert.ok(Deno.statSync(`${directory.path}/state`).isFile);
    }
  } finally {
    console.error = original;
  }
});

Deno.test("IN_USE says that a living host serves the endpoint", async () => {
  await using directory = new TempDir();
  const { store, client } = await start(directory);
  await using _ = client;
  await using __ = store;
  await assert.rejects(new MemStore(store.endpoints[0]).start(), { name: "MemStoreError", code: "IN_USE" });
  await using tcp = new MemStore("tcp://127.0.0.1:*");
  await tcp.start();
  await assert.rejects(new MemStore(tcp.endpoints[0]).start(), { name: "MemStoreError", code: "IN_USE" });
  assert.equal(await client.ping(), "pong");
});

Deno.test("start({ join: true }) serves, or is content with the host that does", async () => {
  await using directory = new TempDir();
  const endpoint = `${directory.path}/host.sock`;
  const first = new MemStore(endpoint), second = new MemStore(endpoint);
  assert.equal(await first.start({ join: true }), "serving");
  assert.equal(await second.start({ join: true }), "joined");
  assert.deepEqual(second.endpoints, []);
  await using client = new MemStoreClient(endpoint);
  await client.set("t", "k", 1);
  await Promise.all([second.stop(), second.finished]);
  assert.equal(await client.get("t", "k"), 1);
  await first.stop();
  await using third = new MemStore(endpoint);
  assert.equal(await third.start({ join: true }), "serving");
});

Deno.test("of eight processes that start at once one serves, and the others join it", async () => {
  await using directory = new TempDir();
  const endpoint = `${directory.path}/host.sock`;
  const processes = Array.from({ length: 8 }, () => run([path("tests/joining.ts"), endpoint]));
  try {
    const lines = await Promise.all(processes.map(async ({ stdout }) => {
      const reader = stdout.pipeThrough(new TextDecoderStream()).getReader();
      const { value = "" } = await reader.read();
      await reader.cancel();
      return value.trim().split(" ");
    }));
    assert.equal(lines.filter(([role]) => role === "serving").length, 1, String(lines));
    assert.equal(lines.filter(([role]) => role === "joined").length, 7, String(lines));
    assert.deepEqual(lines.map(([, count]) => Number(count)).sort(), [1, 2, 3, 4, 5, 6, 7, 8]);
  } finally {
    await Promise.all(processes.map(async (process) => {
      await process.stdin.close().catch(() => {});
      await process.stderr.cancel();
      await process.status;
    }));
  }
});

Deno.test("the log says when a host starts and stops, and after a crash that the last one did not stop", async () => {
  await using crashed = await Host.start();
  await crashed.end("SIGKILL");
  await using host = await Host.start(crashed.endpoint);
  await host.end("SIGTERM");
  await using next = await Host.start(crashed.endpoint);
  await next.end("SIGTERM");
  const events = (text: string) =>
    text.trim().split("\n").map((line) => JSON.parse(line)).map(({ level, event, why, result }) =>
      [level, event, why ?? result].filter(Boolean).join(" ")
    );
  const why =
    "warning start the last host did not stop, it crashed or was killed: what it had not stored is lost";
  assert.deepEqual(events(await host.error()), [why, "info start", "info stop ok"]);
  assert.deepEqual(events(await next.error()), ["info start", "info stop ok"]);
});

Deno.test("a second signal gives up, and the log says whether data is lost", async () => {
  await using host = await Host.startWith({ flags: ["--state", "state"] });
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  for (let i = 0; i < 100; i++) await client.set("large", i, large);
  // (Two of the same could become one.)
  host.kill("SIGTERM");
  const { code } = await host.end("SIGINT");
  assert.equal(code, 1);
  assert.match(
    await host.error(),
    /"event":"stop","result":"given up at a second signal: what was changed .* is lost"/,
  );
});

Deno.test("a host that cannot store its state goes on at the first signal, and gives up at the second", async () => {
  await using host = await Host.startWith({ flags: ["--state", "state"] });
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  await client.set("t", "k", 1);
  await Deno.mkdir(`${host.directory}/state/in the way`, { recursive: true });
  host.kill("SIGTERM");
  await assert.rejects(client.done(), /Cannot store to state/);
  assert.equal(await client.get("t", "k"), 1);
  let status: Deno.CommandStatus | undefined;
  // (A signal can arrive later than what was sent after it.)
  for (let tries = 0; tries < 40 && status === undefined; tries++) {
    host.kill("SIGTERM");
    const later = new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 500));
    [status] = await Promise.all([Promise.race([host.status, later]), later]);
  }
  assert.ok(status, "it goes on");
  assert.equal(status.code, 1);
  assert.match(
    await host.error(),
    /"event":"stop","result":"given up at a second signal: what was changed .* is lost"/,
  );
});

Deno.test("stats tell where the state is, when it was stored, and whether it has changed since", async () => {
  await using directory = new TempDir();
  {
    const { store, client } = await start(directory, { state: "state" });
    await using _ = client;
    assert.deepEqual((await client.stats()).state, { path: "state", stored: null, changed: true });
    await client.set("t", "k", 1);
    await store.stop();
  }
  const { store, client } = await start(directory, { state: "state", storeEvery: 50 });
  await using _ = client;
  await using __ = store;
  const loaded = (await client.stats()).state!;
  assert.ok(Math.abs(loaded.stored! - Date.now() / 1000) < 60);
  assert.equal(loaded.changed, false);
  await client.set("t", "k", 2);
  while ((await client.stats()).state!.changed);
  assert.ok((await client.stats()).state!.stored! >= loaded.stored!);
  await using other = new MemStore(`${directory.path}/other.sock`);
  await other.start();
  await using asking = new MemStoreClient(other.endpoints[0]);
  assert.equal((await asking.stats()).state, null);
});

Deno.test("a state that is stored every month is not stored all the time", async () => {
  await using directory = new TempDir();
  const { store, client, lines } = await start(directory, { state: "state", storeEvery: 31 * 86_400_000 });
  await using _ = client;
  await using __ = store;
  await client.set("t", "k", 1);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.deepEqual(lines.filter(({ event }) => event === "store"), []);
  assert.throws(() => new MemStore("x", { storeEvery: 0 }), RangeError);
});
