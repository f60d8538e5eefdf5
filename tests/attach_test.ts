/** An attached store: synchronous calls to a host in another process. */

import assert from "node:assert/strict";
import { attach, MemStoreClient, MemStoreError, type SharedStore } from "../mod.ts";
import { Host, TempDir } from "./host.ts";
import { mapCases } from "./map_cases.ts";
import { setCases } from "./set_cases.ts";
import { sharedCases } from "./shared_cases.ts";

/** The code of the error that a function throws. */
function codeOf(fn: () => unknown): string | undefined {
  try {
    fn();
  } catch (error) {
    return error instanceof MemStoreError ? error.code : String(error);
  }
}

/** Runs a program to its end. Returns what it printed. */
async function run(program: string): Promise<string> {
  const url = `data:text/javascript,${encodeURIComponent(program)}`;
  const args = ["run", "--quiet", "--no-lock", "--allow-ffi", "--allow-read", "--allow-env", url];
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** Runs a test over the lane, and over the socket alone. */
function both(name: string, test: (host: Host, attached: () => Promise<SharedStore>) => Promise<void>): void {
  for (const lane of [true, false]) {
    Deno.test(`an attached store, ${lane ? "with a lane" : "over the socket"}: ${name}`, async () => {
      await using host = await Host.start();
      await test(host, () => attach(host.endpoint, { lane }));
    });
  }
}

both("commands are done when they return, for others too", async (host, attached) => {
  using shared = await attached();
  await using client = new MemStoreClient(host.endpoint);
  assert.equal(shared.set("t", "k", { a: [1, 2n ** 60n, new Uint8Array(3)] }), 1);
  assert.deepEqual(await client.get("t", "k"), { a: [1, 2n ** 60n, new Uint8Array(3)] });
  await client.set("t", "other", "é");
  assert.equal(shared.get("t", "other"), "é");
  assert.equal(shared.get("t", "missing"), undefined);
  assert.equal(shared.incr("t", "n", 2n ** 53n), 2n ** 53n);
  assert.equal(shared.incr("t", "n"), 2n ** 53n + 1n);
  assert.deepEqual(shared.update<number>("t", "m", (value = 1) => value + 1), 2);
  assert.deepEqual(shared.getMany("t", ["m", "?"]), [2, undefined]);
  assert.deepEqual(shared.stats().tables, 1);
  const { age } = { age: shared.ttl("t", "m") };
  assert.equal(age, Infinity);
});

both("errors have the codes of the client's", async (_host, attached) => {
  using shared = await attached();
  shared.set("t", "k", "text");
  assert.equal(codeOf(() => shared.incr("t", "k")), "FAILED");
  assert.equal(codeOf(() => shared.send(["no such"])), "UNKNOWN_COMMAND");
  assert.throws(() => shared.set("t", "k", () => {}), TypeError);
  assert.throws(() => shared.get("t", "k", { timeout: 0 }), RangeError);
  assert.equal(codeOf(() => shared.set("t", "k", new Uint8Array(2 ** 26))), "TOO_LARGE");
  assert.deepEqual(shared.get("t", "k"), "text");
});

both("a batch is a transaction", async (_host, attached) => {
  using shared = await attached();
  assert.deepEqual(shared.batch([["set", "t", 1, "a"], ["get", "t", 1], ["size", "t"]]), [1, "a", 1]);
  assert.equal(codeOf(() => shared.batch([["set", "t", 2, "b"], ["incr", "t", 1]])), "FAILED");
  assert.equal(shared.size("t"), 1);
  assert.deepEqual(shared.batch([]), []);
  // (A batch of a client may be a function.)
  const fn = (() => [["get", "t", 1]]) as never;
  assert.throws(() => shared.batch(fn), /Cannot run a batch: it must be an array of commands: received/);
});

both("values of many sizes arrive whole, larger than a ring too", async (_host, attached) => {
  using shared = await attached();
  const blob = crypto.getRandomValues(new Uint8Array(60_000));
  for (let bytes = 0; bytes <= 400_000; bytes = bytes * 2 + 1) {
    const value = new Uint8Array(bytes).map((_, i) => blob[i % blob.length]);
    shared.set("t", "k", value);
    assert.deepEqual(shared.get("t", "k"), value);
  }
});

both("a call waits no longer than its timeout, and a late reply is nobody else's", async (host, attached) => {
  using shared = await attached();
  shared.set("t", "k", 1);
  Deno.kill(host.pid, "SIGSTOP");
  const start = performance.now();
  try {
    assert.equal(codeOf(() => shared.get("t", "k", { timeout: 100 })), "TIMEOUT");
  } finally {
    Deno.kill(host.pid, "SIGCONT");
  }
  assert.ok(performance.now() - start < 2000);
  assert.equal(shared.size("t"), 1);
  assert.equal(shared.get("t", "k"), 1);
});

both("a host that dies is noticed, and one that comes back is found", async (host, attached) => {
  using shared = await attached();
  shared.set("t", "k", 1);
  Deno.kill(host.pid, "SIGKILL");
  // (Whether the call finds the host gone or loses it on its way.)
  assert.match(codeOf(() => shared.get("t", "k"))!, /^(DISCONNECTED|UNAVAILABLE)$/);
  assert.equal(codeOf(() => shared.get("t", "k", { timeout: 100 })), "TIMEOUT");
  await host.status;
  await using again = await Host.start(host.endpoint);
  assert.equal(shared.get("t", "k"), undefined);
  assert.equal(again.endpoint, host.endpoint);
});

both("after close() calls throw CLOSED", async (_host, attached) => {
  const shared = await attached();
  shared.close();
  shared.close();
  assert.equal(codeOf(() => shared.ping()), "CLOSED");
});

Deno.test("attach() rejects where there is no host", async () => {
  await using directory = new TempDir();
  const endpoint = `${directory.path}/nobody.sock`;
  await assert.rejects(attach(endpoint, { connectTimeout: 50 }), { code: "UNAVAILABLE" });
  await assert.rejects(attach(endpoint, { connectTimeout: 0 }), { code: "UNAVAILABLE" });
});

Deno.test("attach() waits no longer for a host than it should, however often libzmq tries", async () => {
  await using directory = new TempDir();
  const start = performance.now();
  // (libzmq tries the last time after 750 ms, and then after 1550.)
  const attached = attach(`${directory.path}/nobody.sock`, { connectTimeout: 800 });
  await assert.rejects(attached, { code: "UNAVAILABLE" });
  const ms = performance.now() - start;
  assert.ok(ms >= 790 && ms < 1400, `${ms} ms`);
});

Deno.test("an attached store does not keep the process alive", async () => {
  await using host = await Host.start();
  const output = await run(`
    import { attach } from "${import.meta.resolve("../mod.ts")}";
    const shared = await attach("${host.endpoint}");
    console.log(shared.ping());
  `);
  assert.equal(output, "pong\n");
});

Deno.test("Web Workers share a map", async () => {
  await using host = await Host.start();
  // (In a process of its own: `deno test` checks the types again in each worker.)
  const worker = `
    import { attach } from "${import.meta.resolve("../mod.ts")}";
    using shared = await attach("${host.endpoint}");
    const map = shared.map("t");
    for (let i = 0; i < 1000; i++) map.set([self.name, i], i);
    for (let i = 0; i < 1000; i++) shared.incr("n", "sum");
    self.postMessage(shared.stats().lanes > 0);
  `;
  const output = await run(`
    const url = ${JSON.stringify(`data:text/javascript,${encodeURIComponent(worker)}`)};
    const workers = ["a", "b", "c"].map((name) => new Worker(url, { type: "module", name }));
    const all = workers.map((worker) => new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = reject;
    }));
    console.log(...await Promise.all(all));
    for (const worker of workers) worker.terminate();
  `);
  assert.equal(output, "true true true\n");
  using shared = await attach(host.endpoint);
  assert.equal(shared.get("n", "sum"), 3000);
  assert.equal(shared.map("t").size, 3000);
});

let names = 0;

Deno.test("attached: the cases of Map and Set", async (t) => {
  await using host = await Host.start();
  using shared = await attach(host.endpoint);
  for (const [name, run] of Object.entries(mapCases)) {
    await t.step(`a map: ${name}`, () => run(<Key, Value>() => shared.map<Key, Value>(`t${names++}`)));
  }
  for (const [name, run] of Object.entries(setCases)) {
    await t.step(`a set: ${name}`, () => run(<Value>() => shared.set<Value>(`s${names++}`)));
  }
});

for (const [name, run] of Object.entries(sharedCases)) {
  both(name, async (_host, attached) => {
    using mine = await attached(), other = await attached();
    run(mine, other);
  });
}
