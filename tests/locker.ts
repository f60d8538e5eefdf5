/**
 * A process that takes a lock again and again, and is killed at some moment by `lock_test.ts`. Each time it holds the
 * lock it writes to a ledger: `enter <fence> <pid>`, and at the end `leave <fence> <pid>`.
 *
 * @module
 */

import { MemStoreClient } from "../client.ts";

const [endpoint, ledger, ttl] = Deno.args;
const client = new MemStoreClient(endpoint);
using file = await Deno.open(ledger, { append: true });
/** (One write to a file that is open for appending is one line, whoever else writes.) */
const write = (line: string) => file.writeSync(new TextEncoder().encode(`${line} ${Deno.pid}\n`));

for (;;) {
  await using lock = await client.lock("ledger", { ttl: Number(ttl), wait: 600_000 });
  if (lock.lost.aborted) continue;
  write(`enter ${lock.fence}`);
  // Mostly short, sometimes so long that the lock must be renewed.
  const work = Math.random() < 0.1 ? Number(ttl) * 1.5 : Math.random() * 30;
  await new Promise((resolve) => setTimeout(resolve, work));
  write(`${lock.lost.aborted ? "lost" : "leave"} ${lock.fence}`);
}
