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
import { slotOf } from "./layout.ts";
import { LEASE, SWEEP } from "./scripts.ts";

/** How often it is done, in milliseconds. */
const SWEEP_MS = 1000;
/** How long a lease holds, in milliseconds. */
const LEASE_MS = 5000;
/** How many entries are deleted at a time. */
const ENTRIES = "256";

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
    const { layout } = this.#database;
    const args = [this.#database.due(partition), layout.bases[partition], ENTRIES];
    while (!this.#closed && performance.now() < end) {
      if (await this.#database.run(partition, SWEEP, args, "repeatable") === -1) return;
    }
  }
}
