/**
 * The gate that all writes pass. It is closed when the state has been stored for the last time, since a write after that
 * would be lost.
 *
 * @module
 */

import { MemStoreError } from "../transport/message.ts";

/** Open until the host is certain to stop. */
export class Gate {
  #closed = false;

  /** Lets writes pass again: the host does not stop. */
  open(): void {
    this.#closed = false;
  }

  /** Refuses writes from now on. */
  close(): void {
    this.#closed = true;
  }

  /**
   * Call it before a write.
   *
   * @param what What is refused: the name of a command.
   * @throws {MemStoreError} `STOPPING` if the gate is closed.
   */
  check(what: string): void {
    if (!this.#closed) return;
    throw new MemStoreError("STOPPING", `Cannot run ${what}: the host is stopping, and has stored its state`);
  }
}
