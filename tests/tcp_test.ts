/** TCP: which machines may connect, over IPv4 and IPv6, and peers that die silently. */

import assert from "node:assert/strict";
import { MemStore, MemStoreClient } from "../mod.ts";
import { isLocal } from "../transport/endpoint.ts";
import { Host, TempDir } from "./host.ts";

Deno.test("an address is local if only processes of this machine reach it", () => {
  const local = [
    "ipc://x",
    "ipc://@x",
    "tcp://127.0.0.1:1",
    "tcp://127.1.2.3:*",
    "tcp://[::1]:1",
    "tcp://localhost:1",
  ];
  for (const address of local) assert.ok(isLocal(address), address);
  const open = [
    "tcp://0.0.0.0:1",
    "tcp://*:1",
    "tcp://[::]:1",
    "tcp://eth0:1",
    "tcp://127.0.0.1.nip.io:1",
    "tcp://x:1",
  ];
  for (const address of [...open, "tcp://127.0.0.1", "tcp://1270.0.0.1:1"]) {
    assert.ok(!isLocal(address), address);
  }
});

Deno.test("a host does not serve other machines unless it is told to, and then nothing else either", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/a.sock`;
  for (const open of ["tcp://0.0.0.0:*", "tcp://*:*", "tcp://[::]:*"]) {
    await using store = new MemStore([path, open]);
    await assert.rejects(
      store.start(),
      /^Error: Cannot serve tcp:.*: other machines reach it, .* \(insecure\)$/,
    );
    assert.deepEqual(Array.from(Deno.readDirSync(directory.path)), []);
  }
  await using store = new MemStore(["tcp://0.0.0.0:*", path], { insecure: true });
  await store.start();
  const port = store.endpoints[0].split(":").at(-1);
  await using client = new MemStoreClient(`tcp://127.0.0.1:${port}`);
  assert.equal(await client.ping(), "pong");
});

Deno.test("a host serves IPv4, IPv6 and ipc at once, and its clients see one state", async () => {
  await using directory = new TempDir();
  const endpoints = ["tcp://127.0.0.1:*", "tcp://[::1]:*", `${directory.path}/a.sock`];
  await using store = new MemStore(endpoints);
  await store.start();
  assert.equal(store.endpoints.length, 3);
  for (const [i, endpoint] of store.endpoints.entries()) {
    await using client = new MemStoreClient(endpoint);
    assert.equal(await client.incr("t", "clients"), i + 1);
  }
});

Deno.test("over TCP, a host that stops to live without a word is lost in some seconds", async () => {
  await using host = await Host.start("tcp://127.0.0.1:*");
  await using client = new MemStoreClient(host.addresses[0], { timeout: 30_000 });
  await client.ping();
  Deno.kill(host.pid, "SIGSTOP");
  try {
    await assert.rejects(client.ping(), { code: "DISCONNECTED" });
  } finally {
    Deno.kill(host.pid, "SIGCONT");
  }
  assert.equal(await client.ping(), "pong");
});
