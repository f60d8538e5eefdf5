/**
 * Locks: one owner at a time, also while owners are killed. `SOAK_SECONDS=600 deno task test tests/lock_test.ts` goes on
 * for longer.
 */

import assert from "node:assert/strict";
import { MemStore, MemStoreClient } from "../mod.ts";
import { Host, TempDir } from "./host.ts";
import { pair } from "./pair.ts";

const SECONDS = Number(Deno.env.get("SOAK_SECONDS") ?? 8);
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Resolves when a signal has aborted. (Nothing that a lock does keeps a process alive.) */
async function aborted(signal: AbortSignal): Promise<void> {
  for (const end = performance.now() + 20_000; !signal.aborted;) {
    assert.ok(performance.now() < end, "it is not aborted");
    await sleep(5);
  }
}

Deno.test("a lock has one owner, and its numbers rise", async () => {
  await using both = await pair();
  const { client } = both;
  await using other = new MemStoreClient(client.endpoint);
  let inside = 0, most = 0;
  const fences: number[] = [];
  await Promise.all(Array.from({ length: 20 }, async (_, i) => {
    await using lock = await (i % 2 ? client : other).lock(["a", "name"], { wait: 20_000 });
    most = Math.max(most, ++inside);
    fences.push(Number(lock.fence));
    await sleep(1);
    inside--;
  }));
  assert.equal(most, 1);
  assert.deepEqual(fences, fences.toSorted((a, b) => a - b));
  assert.equal(new Set(fences).size, 20);
});

Deno.test("a lock that another owner holds is waited for, as long as one says", async () => {
  await using both = await pair();
  const { client } = both;
  const lock = await client.lock("job");
  const held = { code: "TIMEOUT", message: /Cannot lock "job": another owner held it for \d+ ms/ };
  await assert.rejects(client.lock("job", { wait: 0 }), held);
  await assert.rejects(client.lock("job", { wait: 150 }), held);
  const abort = new AbortController();
  const waiting = client.lock("job", { signal: abort.signal, wait: 60_000 });
  abort.abort(new Error("enough"));
  await assert.rejects(waiting, /enough/);
  const next = client.lock("job", { wait: 20_000 });
  await sleep(50);
  assert.equal(await lock.release(), true);
  assert.equal(await lock.release(), true);
  await using got = await next;
  assert.ok(got.fence > lock.fence);
  for (const options of [{ ttl: 0 }, { ttl: NaN }, { ttl: -1 }, { wait: -1 }, { wait: NaN }]) {
    await assert.rejects(client.lock("other", options), RangeError);
  }
});

Deno.test("a lock is renewed while it is held, and free some time after its owner went away", async () => {
  await using both = await pair();
  const { client } = both;
  const owner = new MemStoreClient(client.endpoint);
  const lock = await owner.lock("job", { ttl: 300 });
  await sleep(1000);
  assert.equal(lock.lost.aborted, false);
  await assert.rejects(client.lock("job", { wait: 0 }), { code: "TIMEOUT" });
  await owner.close();
  await using next = await client.lock("job", { wait: 10_000 });
  assert.ok(next.fence > lock.fence);
  // What cannot be released expires.
  await lock[Symbol.asyncDispose]();
});

Deno.test("a lock that is lost says so, and touches nothing of its next owner", async () => {
  await using both = await pair();
  const { client } = both;
  await using lock = await client.lock("job", { ttl: 200 });
  // Somebody took it: its entry is another one.
  await client.set("memstore:locks", "job", "another owner", { seconds: 1000 });
  await aborted(lock.lost);
  assert.equal(lock.lost.reason.code, "TIMEOUT");
  assert.equal(await lock.release(), false);
  assert.equal(await client.get("memstore:locks", "job"), "another owner");
  assert.ok((await client.ttl("memstore:locks", "job"))! > 900);
});

Deno.test("a lock whose host is gone is lost when it has expired", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  await using lock = await client.lock("job", { ttl: 400 });
  await host.end("SIGKILL");
  await aborted(lock.lost);
});

Deno.test("a process that holds a lock and has nothing else to do ends", async () => {
  await using host = await Host.start();
  const code = `
    import { MemStoreClient } from ${JSON.stringify(new URL("../client.ts", import.meta.url).href)};
    const lock = await new MemStoreClient(${JSON.stringify(host.endpoint)}).lock("job", { ttl: 60_000 });
    console.log(lock.fence);`;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", "--no-check", code],
    signal: AbortSignal.timeout(20_000),
  }).output();
  assert.equal(new TextDecoder().decode(stdout), "1\n");
});

Deno.test(`a lock is never held by two while its owners are killed, for ${SECONDS} s`, async (test) => {
  const TTL_MS = 2000, PROCESSES = 4;
  await using directory = new TempDir();
  await using store = new MemStore(`${directory.path}/store.sock`);
  await store.start();
  const ledger = `${directory.path}/ledger`;
  await Deno.writeTextFile(ledger, "");
  const spawn = () =>
    new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-check",
        "--allow-all",
        new URL("locker.ts", import.meta.url).pathname,
        store.endpoints[0],
        ledger,
        String(TTL_MS),
      ],
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
  let over = false;
  const killAgainAndAgain = async () => {
    for (let killed = 0;; killed++) {
      const owner = spawn();
      await sleep(500 + Math.random() * 1500);
      // From here on it may hold the lock without leaving it.
      await Deno.writeTextFile(ledger, `killed 0 ${owner.pid}\n`, { append: true });
      owner.kill("SIGKILL");
      await owner.status;
      if (over) return killed + 1;
    }
  };
  const owners = Array.from({ length: PROCESSES }, killAgainAndAgain);
  await sleep(SECONDS * 1000);
  over = true;
  const killed = (await Promise.all(owners)).reduce((sum, each) => sum + each, 0);
  const { entered, left, orphaned } = check(await Deno.readTextFile(ledger));
  await test.step(`${entered} owners, ${left} left, ${orphaned} were killed as owners, of ${killed}`, () => {
    assert.ok(entered > SECONDS && killed >= PROCESSES);
  });
});

/** Reads the ledger; fails if one owner entered before the last one had left or was killed, or numbers do not rise. */
function check(ledger: string): { entered: number; left: number; orphaned: number } {
  const killed = new Set<string>();
  let owner: { fence: number; pid: string } | undefined;
  let last = 0, entered = 0, left = 0, orphaned = 0;
  for (const line of ledger.trim().split("\n")) {
    const [what, number, pid] = line.split(" ");
    const fence = Number(number);
    if (what === "killed") {
      killed.add(pid);
    } else if (what === "enter") {
      if (owner) {
        assert.ok(killed.has(owner.pid), `${line}, while ${owner.pid} holds it with ${owner.fence}`);
        orphaned++;
      }
      assert.ok(fence > last, `${line}, after number ${last}`);
      last = fence;
      owner = { fence, pid };
      entered++;
    } else {
      assert.equal(what, "leave", line);
      assert.deepEqual(owner, { fence, pid }, line);
      owner = undefined;
      left++;
    }
  }
  return { entered, left, orphaned };
}
