/**
 * A process that the soak test kills: clients that connect, ask, leave with and without their replies, and
 * never stop by themselves.
 */

import { MemStoreClient } from "../client.ts";

const [endpoint] = Deno.args;
const busy = Array.from({ length: 4 }, () => new MemStoreClient(endpoint));
for (let i = 0;; i++) {
  const passing = new MemStoreClient(endpoint);
  await Promise.all([...busy, passing].map((client, n) => client.set("victims", `${Deno.pid}.${n}`, i)));
  // Leaves without its reply.
  const unheard = passing.all("victims").catch(() => {});
  await passing.close();
  await unheard;
}
