/**
 * Deletes entries whose time has come, a few hundred at a time. Nobody sees them before either: to delete them frees their
 * memory.
 *
 * Of all fronts of the same data one does it, which has a lease. If it goes away, another one has the lease some seconds later.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { Database } from "./database.ts";
import { nameOf, slotOf } from "./layout.ts";
import { LEASE, SWEEP } from "./scripts.ts";

/** How often it is done, in milliseconds. */
const SWEEP_MS = 1000;
/** How long a lease holds, in milliseconds. */
const LEASE_MS = 5000;
/** How many entries are deleted at a time. */
const ENTRIES = 256;
/** How many tables of a partition are looked at each time. */
const TABLES = "256";

/** Deletes what has expired in a database, until it is closed. */
export class Sweeper {
  readonly #database: Database;
  readonly #id = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("hex");
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sweeping: Promise<void> | undefined;
  #closed = false;

  constructor(database: Database) {
    this.#database = database;
    this.#schedule();
  }

  /** Stops. Resolves when nothing is under way. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#sweeping;
  }

  #schedule(): void {
    this.#timer = setTimeout(async () => {
      // (What fails is done the next time.)
      await (this.#sweeping = this.#sweep().catch(() => {}));
      if (!this.#closed) this.#schedule();
    }, SWEEP_MS);
  }

  async #sweep(): Promise<void> {
    const { layout, nodes } = this.#database, lease = `${layout.meta}:lease`;
    const args = ["EVALSHA", LEASE.sha, LEASE.keys, lease, this.#id, String(LEASE_MS)];
    if (await nodes.send(slotOf(lease), args, "repeatable") !== 1) return;
    const end = performance.now() + LEASE_MS / 2;
    for await (const _ of this.#database.each((partition) => this.#sweepPartition(partition, end)));
  }

  async #sweepPartition(partition: number, end: number): Promise<void> {
    const database = this.#database, until = String(database.now(partition));
    const args = ["ZRANGEBYSCORE", database.due(partition), "-inf", until, "LIMIT", "0", TABLES];
    for (const suffix of await database.send(partition, args, "repeatable") as Buffer[]) {
      const name = nameOf(suffix);
      const table = database.layout.collection("tables", { bytes: name, from: 0, to: name.length });
      const keys = database.tableKeys(table, partition);
      for (let swept = ENTRIES; swept === ENTRIES && !this.#closed && performance.now() < end;) {
        const args = [...keys, suffix, String(ENTRIES)];
        swept = await database.run(partition, SWEEP, args, "repeatable") as number;
      }
    }
  }
}
