/**
 * A load of writes, and a ledger of what became of each: it was acknowledged, refused, or nobody knows. Afterwards the
 * data must be what the ledger allows.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MemStoreClient, MemStoreError } from "../mod.ts";

/** How long a call may take, in milliseconds; … */
const TIMEOUT_MS = 8000;
/** … and how much longer it may take on a machine that is busy, before it counts as one that hangs. */
const GRACE_MS = 4000;
/** Codes that say that nothing was done. */
const REFUSED = ["UNAVAILABLE", "OUT_OF_MEMORY"];
/** Codes that say that it may have been done. */
const UNKNOWN = ["TIMEOUT", "UNCERTAIN"];
/** Over how many keys the counters are spread. */
const COUNTERS = 300;

/** What became of the writes of one key. */
interface Entry {
  acknowledged: number;
  unknown: number;
  /** When those were acknowledged, in the time of `performance.now()`. */
  readonly times: number[];
}

/** A load on fronts that share their data, and what became of it. */
export class Ledger implements AsyncDisposable {
  readonly counters = new Map<string, Entry>();
  readonly entries = new Map<string, Entry>();
  acknowledged = 0;
  refused = 0;
  unknown = 0;
  /** The milliseconds of the call that took longest. */
  slowest = 0;
  /** The errors, by their codes. */
  readonly codes = new Map<string, string>();
  #stopped = false;
  /** What ended a worker; an error that no write may end with. */
  #failed: unknown;
  readonly #clients: MemStoreClient[] = [];
  readonly #workers: Promise<void>[] = [];

  /** Begins to write through the fronts at these endpoints. */
  start(endpoints: readonly string[], workers = 8): void {
    for (const [i, endpoint] of endpoints.entries()) {
      const client = new MemStoreClient(endpoint, { timeout: TIMEOUT_MS });
      this.#clients.push(client);
      for (let n = 0; n < workers; n++) {
        this.#workers.push(
          this.#work(client, `${i} ${n}`).catch((error) => this.#failed ??= error) as Promise<void>,
        );
      }
    }
  }

  /** Waits until so many more writes were acknowledged: the load goes on. */
  async proceeds(more: number): Promise<void> {
    const end = performance.now() + 30_000, enough = this.acknowledged + more;
    while (this.acknowledged < enough) {
      if (this.#failed) throw this.#failed;
      assert.ok(performance.now() < end, `the load does not go on: ${this}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Stops the load. Resolves when the last call has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#workers);
    if (this.#failed) throw this.#failed;
    assert.ok(this.slowest < TIMEOUT_MS + GRACE_MS, `a call took ${this.slowest} ms`);
  }

  async #work(client: MemStoreClient, name: string): Promise<void> {
    for (let i = 0; !this.#stopped; i++) {
      const counter = `counter ${Math.floor(Math.random() * COUNTERS)}`, key = `${name} ${i}`;
      await this.#call(this.counters, counter, () => client.incr("counters", counter));
      await this.#call(this.entries, `t ${key}`, () => client.set("t", key, key));
      await this.#call(this.entries, `s ${key}`, () => client.push("s", key));
    }
  }

  async #call(book: Map<string, Entry>, key: string, write: () => Promise<unknown>): Promise<void> {
    const entry = book.get(key) ?? { acknowledged: 0, unknown: 0, times: [] };
    book.set(key, entry);
    const start = performance.now();
    try {
      await write();
      entry.acknowledged++;
      entry.times.push(performance.now());
      this.acknowledged++;
    } catch (error) {
      if (!(error instanceof MemStoreError)) throw error;
      this.codes.set(error.code, error.message);
      if (UNKNOWN.includes(error.code)) entry.unknown++, this.unknown++;
      else if (REFUSED.includes(error.code)) this.refused++;
      else throw error;
      // (A loop of refusals would keep the machine from what it waits for.)
      await new Promise((resolve) => setTimeout(resolve, 5));
    } finally {
      this.slowest = Math.max(this.slowest, performance.now() - start);
    }
  }

  /**
   * Compares the data with the ledger: what was refused was not done, what was acknowledged was done once.
   *
   * @param since Writes that were acknowledged after this time and before the next may be lost: Redis' own promise.
   * @returns How many were lost.
   */
  async check(client: MemStoreClient, [since, until]: readonly [number, number] = [0, 0]): Promise<number> {
    const counters = await contents(client.table<string, number>("counters").entries());
    const found = new Set([
      ...(await contents(client.table<string, string>("t").keys())).map((key) => `t ${key}`),
      ...(await contents(client.namedSet<string>("s").values())).map((key) => `s ${key}`),
    ]);
    const counts = new Map<string, number>(counters);
    let lost = 0;
    const compare = (key: string, { acknowledged, unknown, times }: Entry, done: number) => {
      const mayBeLost = times.filter((time) => time >= since && time < until).length;
      const range = `${acknowledged} acknowledged, ${unknown} unknown, ${mayBeLost} may be lost`;
      assert.ok(done <= acknowledged + unknown, `${key} was done ${done} times: ${range}`);
      assert.ok(done >= acknowledged - mayBeLost, `${key} was done ${done} times: ${range}`);
      lost += Math.max(0, acknowledged - done);
    };
    for (const [key, entry] of this.counters) compare(key, entry, counts.get(key) ?? 0);
    for (const [key, entry] of this.entries) compare(key, entry, found.has(key) ? 1 : 0);
    return lost;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#clients.map((client) => client.close()));
    await Promise.all(this.#workers);
  }

  toString(): string {
    const { acknowledged, refused, unknown, codes } = this;
    return `${acknowledged} acknowledged, ${refused} refused, ${unknown} unknown: ${
      [...codes.values()].join("; ")
    }`;
  }
}

async function contents<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  return await Array.fromAsync(items);
}
