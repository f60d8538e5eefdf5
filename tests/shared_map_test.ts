/** A table as a `Map`: what the standard says of it. */

import { MemStore } from "../mod.ts";
import { TempDir } from "./host.ts";
import { mapCases } from "./map_cases.ts";

let tables = 0;

for (const [name, run] of Object.entries(mapCases)) {
  Deno.test(`a Map: ${name}`, () => run(() => new Map()));

  Deno.test(`a SharedMap in the host's process: ${name}`, async () => {
    await using directory = new TempDir();
    await using store = new MemStore(`${directory.path}/store.sock`);
    await store.start();
    run(<Key, Value>() => store.local.map<Key, Value>(`table ${tables++}`));
  });
}
