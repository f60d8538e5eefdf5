/** A process that serves an endpoint or joins the host that does. Prints which, and whether a client gets a reply. */

import { MemStore, MemStoreClient } from "../mod.ts";

const [endpoint] = Deno.args;
await using store = new MemStore(endpoint);
const role = await store.start({ join: true });
await using client = new MemStoreClient(endpoint);
console.log(role, await client.incr("processes", "joined"));
// (Until nobody needs it any more.)
for await (const _ of Deno.stdin.readable);
