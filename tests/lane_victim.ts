/**
 * A process that the lane's tests kill: `lane_victim.ts ENDPOINT [idle]`. Its clients write values that tell who wrote
 * them, small and large, and end the process if they read anything else.
 *
 * @module
 */

import { MemStoreClient } from "../client.ts";

const [endpoint, idle] = Deno.args;
const clients = Array.from(
  { length: 3 },
  () => new MemStoreClient(endpoint, { directReads: false, timeout: 60_000 }),
);
await Promise.all(clients.map((client) => client.ping()));
console.log("connected");
if (idle) await new Promise((resolve) => setTimeout(resolve, 3_600_000));

await Promise.all(clients.map(async (client, n) => {
  const table = `${Deno.pid}.${n}`, values: string[] = [];
  for (let i = 0;; i++) {
    const key = i % 8;
    const calls = Array.from({ length: 4 }, (_, j) => {
      const length = Math.floor(Math.random() * (Math.random() < 0.02 ? 200_000 : 500));
      values[key] = `${table} ${i} ${j} ` + "x".repeat(length);
      return client.batch([["set", table, key, values[key]]]);
    });
    const expected = values[key];
    const [value] = await client.batch([["get", table, key]]);
    await Promise.all(calls);
    if (value !== expected) {
      console.error(`Read ${String(value).slice(0, 100)} instead of ${expected.slice(0, 100)}`);
      Deno.exit(3);
    }
  }
}));
