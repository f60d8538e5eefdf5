/** A process that serves an endpoint or uses the host that does: prints which, and whether a client is answered. */

import { MemStore, MemStoreClient } from "../mod.ts";

const [endpoint] = Deno.args;
await using store = new MemStore(endpoint);
const role = await store.start({ join: true });
await using client = new MemStoreClient(endpoint);
console.log(role, await client.incr("processes", "joined"));
// (Until nobody needs it any more.)
for await (const _ of Deno.stdin.readable);
