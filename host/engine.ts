/**
 * What a host needs of whatever holds its data. There are two: {@link ./memory.ts} holds it in this process, and
 * {@link ./redis.ts} in a Redis or Valkey server or cluster, for which the host is a front that holds nothing.
 *
 * A host chooses its engine once, when it is made. All else (endpoints, clients, rights, limits, the log, custom commands)
 * is the same for both.
 *
 * @module
 */

import type { StateStatus } from "../commands/list.ts";
import type { HostCommand } from "./execution.ts";
import type { Execution, Shared } from "./execution.ts";
import type { MemoryOffer } from "../transport/shared/offer.ts";
import type { Transfers } from "../state/persistence.ts";

/** Holds the data of a host, and carries out the commands on it. */
export interface Engine {
  /** The handlers of the commands on tables and sets, by the commands' names. */
  readonly handlers: Readonly<Record<string, HostCommand["run"]>>;
  /** Stores and restores the data. */
  readonly persistence: Transfers;
  /** Where the state is kept, and whether that is up to date; undefined if it is not kept. */
  readonly state: StateStatus | undefined;
  /** Whether its data is in this process, so that a command of the application can be part of a transaction. */
  readonly isLocal: boolean;
  /** Whether it has work to do that must not wait. */
  readonly busy: boolean;
  /** Whether replies from elsewhere are awaited, which come soon. */
  readonly awaitsReplies: boolean;
  /** Makes what runs messages. */
  makeExecution(shared: Shared): Execution;
  /**
   * Runs a function of this process as a transaction.
   *
   * @throws {Error} if this engine's data is not in this process.
   */
  transaction<Result>(run: () => Result): Result;
  /**
   * Call it before this process runs a command that must have its reply at once.
   *
   * @throws {Error} if this engine's data is not in this process.
   */
  checkLocal(command: string): void;
  /**
   * Opens the data, before the first message runs.
   *
   * @returns Whether the host that had it before did not stop, but crashed or was killed.
   */
  open(): Promise<boolean>;
  /** Stores the state, if it is kept. */
  save(): Promise<void>;
  /** Does a little of the work that waits until no message does; whether there is more. */
  cleanWhenIdle(): boolean;
  /** Where the memory of the data is, for those who may read it; undefined if it cannot be read from other processes. */
  readonly memory: MemoryOffer | undefined;
  /** What `stats` tells of the data. */
  stats(): Record<string, unknown> | Promise<Record<string, unknown>>;
  /** Closes it; no message runs any more. */
  close(): Promise<void>;
  /** Gives back what others could still use after that. Nobody uses the data any more, and it may never have been opened. */
  release(): void;
}
