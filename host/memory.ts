/**
 * The engine `memory`: the data is in this process, and goes to a file or S3 if its state is kept.
 *
 * @module
 */

import type { StateStatus } from "../commands/list.ts";
import { setHandlers } from "../engine/memory/commands/sets.ts";
import { tableHandlers } from "../engine/memory/commands/tables.ts";
import { Heap } from "../engine/memory/heap.ts";
import { ownMemory } from "../engine/memory/extents.ts";
import { sharedMemory } from "../engine/memory/shared.ts";
import { Store } from "../engine/memory/store.ts";
import { Sweeper } from "../engine/memory/sweeper.ts";
import { AutoSave } from "../state/autosave.ts";
import type { Gate } from "../state/gate.ts";
import { Persistence } from "../state/persistence.ts";
import type { MemoryOffer } from "../transport/shared/offer.ts";
import type { RunsMessages } from "./dispatch.ts";
import type { Engine } from "./engine.ts";
import { type Execution, LocalExecution, type Shared } from "./execution.ts";
import type { HostOptions } from "./options.ts";

/** The handlers of commands on data in this process. */
export const memoryHandlers: Engine["handlers"] = { ...tableHandlers, ...setHandlers };

/** What runs messages on a store. */
export function runsOn(store: Store): RunsMessages {
  return {
    makeExecution: (shared) => new LocalExecution(store, shared),
    transaction: (run) => store.transaction(run),
  };
}

/** Holds the data in this process. */
export class MemoryEngine implements Engine {
  readonly handlers: Engine["handlers"] = memoryHandlers;
  readonly isLocal = true;
  readonly persistence: Persistence;
  readonly awaitsReplies = false;
  readonly #store: Store;
  readonly #options: HostOptions;
  #autoSave: AutoSave | undefined;
  #sweeper: Sweeper | undefined;

  /** @param gate Closed when the state was stored for the last time. */
  constructor(options: HostOptions, gate: Gate) {
    const { dataDirectory, allowAnyPath, s3, maxMemory, log } = options;
    const heap = new Heap(options.privateMemory ? ownMemory : sharedMemory());
    if (maxMemory !== undefined) heap.limit = maxMemory;
    this.#store = new Store(heap);
    this.#options = options;
    const bounds = { directory: dataDirectory, anyPath: allowAnyPath };
    this.persistence = new Persistence(this.#store, bounds, s3, log, gate);
  }

  get state(): StateStatus | undefined {
    return this.#autoSave?.status;
  }

  get busy(): boolean {
    return this.#sweeper?.busy ?? false;
  }

  makeExecution(shared: Shared): Execution {
    return new LocalExecution(this.#store, shared);
  }

  transaction<Result>(run: () => Result): Result {
    return this.#store.transaction(run);
  }

  checkLocal(): void {}

  async open(): Promise<boolean> {
    const { state, storeEvery } = this.#options, { persistence } = this;
    if (state !== undefined) {
      this.#autoSave = await AutoSave.open(persistence.own(state), this.#store, persistence, storeEvery);
    }
    this.#sweeper = new Sweeper(this.#store);
    return this.#autoSave?.abandoned ?? false;
  }

  async save(): Promise<void> {
    await this.#autoSave?.save();
  }

  get memory(): MemoryOffer | undefined {
    return this.#store.heap.offer;
  }

  cleanWhenIdle(): boolean {
    return this.#store.cleanWhenIdle();
  }

  stats(): Record<string, unknown> {
    const { tables, sets, heap } = this.#store;
    return {
      engine: "memory",
      nodes: null,
      tables: tables.size,
      entries: tables.entries,
      sets: sets.size,
      members: sets.entries,
      expiring: tables.expiring,
      heap: heap.size,
      heap_live: heap.live,
    };
  }

  async close(): Promise<void> {
    await using resources = new AsyncDisposableStack();
    resources.defer(() => this.#sweeper?.close());
    resources.defer(() => this.#autoSave?.close());
  }

  release(): void {
    // (What is in this process alone is left to the garbage collector.)
    if (this.#store.heap.offer) this.#store.closeNow();
  }
}
