/** What a client does while no host is there, while one is busy, and when one refuses its key. */

import assert from "node:assert/strict";
import { MemStore, MemStoreClient } from "../mod.ts";
import { writeKeys } from "../auth/curve.ts";
import { Deadlines } from "../client/deadlines.ts";
import { Host, TempDir } from "./host.ts";
import { abortListeners, pair } from "./pair.ts";

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** What a call rejects with, and after how many milliseconds. */
async function failure(
  call: () => Promise<unknown>,
): Promise<{ code: string; message: string; took: number }> {
  const start = performance.now();
  const error = await call().then(() => assert.fail("it was answered"), (error) => error);
  return { code: error.code, message: error.message, took: performance.now() - start };
}

Deno.test("with a connectTimeout of 0 a call fails at once where no host is", async (test) => {
  await using directory = new TempDir();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  const stale = `${directory.path}/stale.sock`;
  await using host = await Host.start(stale);
  await host.end("SIGKILL");
  assert.ok((await Deno.stat(stale)).isSocket);
  for (const endpoint of [`${directory.path}/missing.sock`, stale, `tcp://127.0.0.1:${port}`]) {
    await test.step(endpoint.replace(directory.path, ""), async () => {
      await using client = new MemStoreClient(endpoint, { connectTimeout: 0 });
      for (let i = 0; i < 3; i++) {
        const { code, message, took } = await failure(() => client.ping());
        assert.equal(code, "UNAVAILABLE");
        assert.match(message, /^Cannot ping: no host at .*: nobody serves it$/);
        assert.ok(took < 1000, `${took} ms`);
      }
      assert.equal((await failure(() => client.batch([["ping"]]))).code, "UNAVAILABLE");
    });
  }
});

Deno.test("a call fails after connectTimeout where no host is, though its own timeout is longer", async () => {
  await using directory = new TempDir();
  await using client = new MemStoreClient(`${directory.path}/nobody.sock`, { connectTimeout: 150 });
  for (let i = 0; i < 2; i++) {
    const { code, message, took } = await failure(() => client.ping());
    assert.equal(code, "UNAVAILABLE");
    assert.match(message, /no connection could be made within 150 ms \(connectTimeout\)/);
    assert.ok(took >= 149 && took < 2000, `${took} ms`);
  }
  assert.equal((await failure(() => client.ping({ timeout: 50 }))).code, "TIMEOUT");
  assert.throws(() => new MemStoreClient("x", { connectTimeout: -1 }), RangeError);
  assert.throws(() => new MemStoreClient("x", { connectTimeout: NaN }), RangeError);
});

Deno.test("each call waits for its own connectTimeout", async () => {
  await using directory = new TempDir();
  await using client = new MemStoreClient(`${directory.path}/nobody.sock`, { connectTimeout: 400 });
  const early = failure(() => client.ping());
  await sleep(200);
  const late = failure(() => client.ping());
  assert.equal((await early).code, "UNAVAILABLE");
  const { code, took } = await late;
  assert.equal(code, "UNAVAILABLE");
  assert.ok(took > 390, `${took} ms`);
});

Deno.test("a host that comes back is found within a second or so", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { connectTimeout: 10_000, timeout: 10_000 });
  await client.ping();
  await host.end("SIGKILL");
  const call = client.ping().catch((error) => error.code);
  assert.ok(["pong", "DISCONNECTED"].includes(await Promise.race([call, sleep(100).then(() => "pong")])));
  await using next = await Host.start(host.endpoint);
  const start = performance.now();
  assert.equal((await client.stats()).pid, next.pid);
  assert.ok(performance.now() - start < 2500);
});

Deno.test("of hundreds of clients that connect one after another, each is answered at once", async () => {
  await using host = await Host.start();
  for (let i = 0; i < 500; i++) {
    await using client = new MemStoreClient(host.endpoint);
    // A change of the connection that went unnoticed would only be seen at the timeout.
    assert.equal(await client.ping({ timeout: 2000 }), "pong");
  }
});

Deno.test("a call whose reply has arrived is answered, however long the process was busy", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  const value = new Uint8Array(16 << 20);
  await client.set("t", "large", value);
  for (let i = 0; i < 3; i++) {
    const call = client.get<Uint8Array>("t", "large", { timeout: 150 });
    const batch = client.batch<Promise<Uint8Array | undefined>[]>((batch) => [batch.get("t", "large")], {
      timeout: 150,
    });
    // The messages leave, and the client waits. Then the process is busy past the deadline.
    await new Promise((resolve) => setTimeout(resolve, 0));
    for (const end = performance.now() + 1000; performance.now() < end;);
    const [single, [first]] = await Promise.all([call, batch]);
    assert.deepEqual([single?.length, first?.length], [value.length, value.length]);
  }
});

Deno.test("a deadline that is further away than a timer can wait is waited for in peace", async () => {
  let looked = 0;
  const far = performance.now() + 2 ** 32;
  const deadlines = new Deadlines(() => (looked++, far));
  deadlines.add(far);
  await sleep(50);
  assert.equal(looked, 0);
  deadlines.add(performance.now() + 10);
  while (looked === 0) await sleep(10);
  await sleep(50);
  deadlines.clear();
  assert.equal(looked, 1);
});

Deno.test("a call leaves no listener at its signal, however it ends", async () => {
  await using both = await pair();
  const { client } = both;
  const { signal } = new AbortController();
  await using _held = await client.lock("held");
  const calls = [
    client.ping({ signal }),
    client.lock("held", { signal, wait: 100 }),
    client.send(["no_such_command"], { signal }),
    client.set("t", "k", () => 1, { signal }),
    client.ping({ signal, timeout: 0.001 }),
    client.lock("mine", { signal }).then((lock) => lock.release()),
    client.update("t", "n", (n: number = 0) => n + 1, { signal }),
  ];
  assert.ok(abortListeners(signal) > 0);
  await Promise.allSettled(calls);
  assert.equal(abortListeners(signal), 0);
});

Deno.test("a key that the host refuses fails when it is refused, and is tried again ever less often", async () => {
  await using directory = new TempDir();
  const at = (name: string) => `${directory.path}/${name}`;
  for (const name of ["host", "known", "unknown"]) await writeKeys(at(`${name}.key`));
  const line = async (name: string) =>
    `${(await Deno.readTextFile(at(`${name}.key.pub`))).trim()} admin ${name}\n`;
  await Deno.writeTextFile(at("clients"), await line("known"), { mode: 0o600 });
  let refusals = 0;
  await using store = new MemStore("tcp://127.0.0.1:*", {
    key: at("host.key"),
    authorizedClients: at("clients"),
    log: (_level, event) => {
      if (event === "refused") refusals++;
    },
  });
  await store.start();
  const keys = { key: at("unknown.key"), serverKey: at("host.key.pub") };
  await using client = new MemStoreClient(store.endpoints[0], {
    ...keys,
    timeout: 20_000,
    connectTimeout: 20_000,
  });
  const end = performance.now() + 2000;
  let failed = 0;
  for (; performance.now() < end; failed++) {
    const { code, message, took } = await failure(() => client.ping());
    assert.equal(code, "DENIED");
    assert.match(message, /does not accept the key/);
    assert.ok(took < 3000, `${took} ms`);
  }
  assert.ok(failed >= 2 && failed <= 10, `${failed} calls`);
  assert.ok(refusals <= 10, `${refusals} attempts`);
  await Deno.writeTextFile(at("clients"), await line("known") + await line("unknown"));
  for (const until = performance.now() + 10_000; performance.now() < until;) {
    if (await client.ping().catch(() => undefined) === "pong") return;
  }
  assert.fail("a key that was added is not let in");
});
