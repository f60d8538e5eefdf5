/**
 * The engine `redis`: the data is in a Redis or Valkey server or cluster, and this host is a front to it that holds nothing. Any
 * number of fronts have the same data.
 *
 * @module
 */

import type { Agreement } from "../engine/redis/agreement.ts";
import { Batch } from "../engine/redis/batch.ts";
import type { Database } from "../engine/redis/database.ts";
import { openDatabase } from "../engine/redis/connect.ts";
import { setHandlers } from "../engine/redis/sets.ts";
import { figuresOf } from "../engine/redis/figures.ts";
import { Sweeper } from "../engine/redis/sweeper.ts";
import { tableHandlers } from "../engine/redis/tables.ts";
import { parseRedis, type RedisAddress } from "../engine/redis/url.ts";
import { RedisTransfers } from "../state/redis.ts";
import type { Engine } from "./engine.ts";
import type { Execution, Shared } from "./execution.ts";
import { Flow } from "./flow.ts";
import type { HostOptions } from "./options.ts";
import { PipelinedExecution } from "./pipeline.ts";

/** Holds the data in Redis. */
export class RedisEngine implements Engine {
  readonly handlers: Engine["handlers"] = { ...tableHandlers, ...setHandlers };
  readonly persistence: RedisTransfers;
  readonly state = undefined;
  readonly isLocal = false;
  readonly #address: RedisAddress;
  readonly #options: HostOptions;
  readonly #flow = new Flow();
  #database: Database | undefined;
  #agreement: Agreement | undefined;
  #sweeper: Sweeper | undefined;

  /** @throws {TypeError} if the URL cannot be one of Redis. */
  constructor(url: string, options: HostOptions) {
    this.#address = parseRedis(url);
    this.#options = options;
    const { dataDirectory, allowAnyPath, s3, log } = options;
    const bounds = { directory: dataDirectory, anyPath: allowAnyPath };
    this.persistence = new RedisTransfers(() => this.#open, bounds, s3, log);
  }

  makeExecution(shared: Shared): Execution {
    const data = this.#open;
    const everywhere = data.layout.partitions, begin = () => new Batch(data);
    return new PipelinedExecution({ data, flow: this.#flow, everywhere, begin }, shared);
  }

  get busy(): boolean {
    return this.awaitsReplies;
  }

  get awaitsReplies(): boolean {
    return this.#open.nodes.pending > 0;
  }

  transaction<Result>(): Result {
    throw notLocal("run a batch");
  }

  checkLocal(command: string): void {
    throw notLocal(command);
  }

  async open(): Promise<boolean> {
    const { database, agreement } = await openDatabase(this.#address, this.#options.redis);
    this.#database = database;
    this.#agreement = agreement;
    this.#sweeper = new Sweeper(this.#database);
    return false;
  }

  async save(): Promise<void> {}

  cleanWhenIdle(): boolean {
    return false;
  }

  async stats(): Promise<Record<string, unknown>> {
    return await figuresOf(this.#open);
  }

  readonly memory = undefined;

  release(): void {}

  async close(): Promise<void> {
    await this.#sweeper?.close();
    this.#agreement?.close();
    this.#database?.nodes.close();
  }

  get #open(): Database {
    if (!this.#database) throw new Error("Cannot run a command: the host is not connected to Redis");
    return this.#database;
  }
}

function notLocal(what: string): Error {
  const why =
    "the data is in Redis, and replies come later: use a client of this host, await MemStoreClient's methods";
  return new Error(`Cannot ${what} with store.local: ${why}`);
}
