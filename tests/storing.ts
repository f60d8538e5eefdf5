/**
 * A host that stores its state to the file `state` again and again until it is killed. In each state the
 * entries 0, 1 and 2 are the same, and no two states have the same ones.
 */

import { MemStore, MemStoreClient } from "@memstore/memstore";

const [directory] = Deno.args;
await using host = new MemStore(`${directory}/host.sock`, { dataDirectory: directory });
await host.start();
await using client = new MemStoreClient(host.endpoints[0]);
for (let i = 3; i < 23; i++) await client.set("t", i, new Uint8Array(50_000));
for (let round = Date.now();; round++) {
  await client.batch((batch) => [0, 1, 2].map((i) => batch.set("t", i, round)));
  await client.store("state");
  await Deno.stdout.write(new Uint8Array([10]));
}
