/** A named set as a `Set`: what the standard says of it. */

import { MemStore } from "../mod.ts";
import { TempDir } from "./host.ts";
import { setCases } from "./set_cases.ts";

let sets = 0;

for (const [name, run] of Object.entries(setCases)) {
  Deno.test(`a Set: ${name}`, () => run(() => new Set()));

  Deno.test(`a SharedSet in the host's process: ${name}`, async () => {
    await using directory = new TempDir();
    await using store = new MemStore(`${directory.path}/store.sock`);
    await store.start();
    run(<Value>() => store.local.set<Value>(`set ${sets++}`));
  });
}
