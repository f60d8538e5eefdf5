/**
 * No wake-up is lost: while clients connect, leave and are killed, one that behaves has every reply, and
 * none later than it should. `SOAK_SECONDS=60 deno task test tests/soak_test.ts` goes on for longer.
 *
 * A lost wake-up shows as a reply that never comes, or only when other traffic wakes the host. So the client
 * also asks in quiet moments, when nothing but its own message could wake the host.
 */

import assert from "node:assert/strict";
import { MemStoreClient } from "../mod.ts";
import { Host } from "./host.ts";

const SECONDS = Number(Deno.env.get("SOAK_SECONDS") ?? 6);
/** Far beyond any reply's usual time, far below the wait for somebody else's wake-up. */
const STALL_MS = 50;
/** Of a thousand replies, so many may be as late as the machine makes them: processes start all the while. */
const LATE_PER_MILLE = 2;

Deno.test(`a client is not delayed while others come, go and are killed, for ${SECONDS} s`, async (test) => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await client.set("t", "k", "v");
  let over = false;
  const victims = Array.from({ length: 2 }, () => killAgainAndAgain(host.endpoint, () => over));
  const times: number[] = [];
  try {
    const end = performance.now() + SECONDS * 1000;
    for (let i = 0; performance.now() < end; i++) {
      const start = performance.now();
      assert.equal(await client.get("t", "k"), "v");
      times.push(performance.now() - start);
      if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
  } finally {
    over = true;
  }
  const killed = (await Promise.all(victims)).reduce((sum, each) => sum + each, 0);
  times.sort((a, b) => a - b);
  const late = times.filter((time) => time > STALL_MS).length;
  const slowest = times.at(-1)!;
  await test.step(
    `${times.length} replies, median ${times[times.length >> 1].toFixed(2)} ms, slowest ${
      slowest.toFixed(1)
    } ms, ` +
      `${late} late, ${killed} processes killed`,
    () => {
      assert.ok(killed > SECONDS / 2, "processes were killed");
      assert.ok(late * 1000 <= times.length * LATE_PER_MILLE, `${late} of ${times.length} replies were late`);
      assert.ok(slowest < 1000, "a reply stalled");
    },
  );
});

Deno.test("a host wakes for every message, also when nothing else happens", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  for (let i = 0; i < 100; i++) {
    // A client that connects is a wake-up without a message: the one that is easily lost.
    await using other = new MemStoreClient(host.endpoint);
    assert.equal(await other.ping({ timeout: 1000 }), "pong");
    assert.equal(await client.ping({ timeout: 1000 }), "pong");
    await new Promise((resolve) => setTimeout(resolve, i % 7));
  }
});

/** Starts victims and kills each after a random while; answers how many. */
async function killAgainAndAgain(endpoint: string, over: () => boolean): Promise<number> {
  for (let killed = 0;; killed++) {
    if (over()) return killed;
    const victim = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--allow-all", new URL("victim.ts", import.meta.url).pathname, endpoint],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await new Promise((resolve) => setTimeout(resolve, 300 + Math.random() * 900));
    victim.kill("SIGKILL");
    await victim.status;
  }
}
