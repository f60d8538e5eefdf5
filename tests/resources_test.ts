/** A host and a client leave nothing behind when they are disposed, as Deno's sanitizers see it. */

import assert from "node:assert/strict";
import { TempDir } from "./host.ts";

/** Two tests, each with a host and a client in all states that a client can be in. */
const TESTS = `
import "@memstore/memstore/preload";
import { MemStore, MemStoreClient } from "@memstore/memstore";

for (const name of ["first", "second"]) {
  Deno.test(name, async () => {
    const directory = await Deno.makeTempDir();
    {
      await using idle = new MemStoreClient(directory + "/idle.sock");
      await using nobody = new MemStoreClient(directory + "/nobody.sock", { connectTimeout: 0 });
      await nobody.ping().catch(() => {});
      const keep = { dataDirectory: directory, state: "state", storeEvery: 60_000 };
      await using store = new MemStore(directory + "/store.sock", keep);
      await store.start();
      await store.local.store("other");
      await using client = new MemStoreClient(directory + "/store.sock");
      await client.set("t", "k", 1, { signal: new AbortController().signal });
      const hasLane = (await client.stats()).lanes === 1;
      if (hasLane !== (Deno.build.os === "linux")) throw new Error("lanes are for Linux");
      await client.batch([["get", "t", "k"]]);
      await client.get("t", "k", { timeout: 0.001 }).catch(() => {});
      await using lock = await client.lock("mine", { ttl: 60_000 });
      await client.update("t", "n", (n = 0) => n + lock.fence);
      for await (const _ of client.table("t"));
    }
    await Deno.remove(directory, { recursive: true });
    const mapped = Deno.build.os === "linux" ? Deno.readTextFileSync("/proc/self/maps") : "";
    if (mapped.includes("memstore lane")) throw new Error("a lane is still mapped");
  });
}
`;

Deno.test("a host and a client that were disposed leave nothing behind but the library", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/leaks_test.ts`;
  await Deno.writeTextFile(path, TESTS);
  const config = new URL("../deno.json", import.meta.url).pathname;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "test",
      "--no-check",
      "--allow-all",
      `--config=${config}`,
      "--sanitize-resources",
      "--sanitize-ops",
      path,
    ],
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assert.ok(success && /2 passed/.test(text), text);
});
