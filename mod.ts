/**
 * Tables and sets in memory that many processes share.
 *
 * One process, the host, holds the data: a {@linkcode MemStore}, or the executable `memstore`. Any other process reads
 * and changes it with a {@linkcode MemStoreClient}, or without `await`, as if it were its own: {@linkcode attach}.
 *
 * @example
 * ```ts
 * import { MemStore, MemStoreClient } from "@memstore/memstore";
 *
 * const endpoint = `${Deno.makeTempDirSync()}/store.sock`;
 * await using store = new MemStore(endpoint);
 * await store.start();
 *
 * await using client = new MemStoreClient(endpoint);
 * await client.set("users", "alice", { age: 31 });
 * console.assert((await client.get<{ age: number }>("users", "alice"))?.age === 31);
 * ```
 *
 * @module
 */

import "./system/deno.ts";
export {
  type CommandHost,
  type CustomCommand,
  MemStore,
  type MemStoreOptions,
  type RedisOptions,
} from "./server.ts";
export { LocalCommands, LocalStore } from "./server.ts";
export { type NoOptions, SyncCommands, type SyncEntryOptions } from "./commands/sync.ts";
export { SharedMap } from "./commands/shared_map.ts";
export { SharedSet } from "./commands/shared_set.ts";
export { attach, type ClientOptions, MemStoreClient } from "./client.ts";
export { SharedStore, type SyncCallOptions, type SyncStoreOptions } from "./client/shared.ts";
export { SnapshotCommands } from "./client/snapshot.ts";
export { RemoteSet, RemoteTable } from "./client/views.ts";
export { type CallOptions, CommandMethods, type EntryOptions, type StoreOptions } from "./client/methods.ts";
export { Lock, type LockOptions } from "./client/lock.ts";
export type { Update } from "./client/update.ts";
export type { RawCommand } from "./client/batch.ts";
export type { Log, LogLevel } from "./state/persistence.ts";
export type {
  CommandInfo,
  Commands,
  Hello,
  NodeStats,
  StateStatus,
  Stats,
  Transfer,
} from "./commands/list.ts";
export type { MemoryOffer } from "./transport/shared/offer.ts";
export { type ClientCode, type Code, MemStoreError } from "./transport/message.ts";
export { S3MemStore, type S3MemStoreOptions, type S3Options } from "./s3.ts";
export type { Right } from "./auth/clients.ts";
export type { Limits } from "./transport/limits.ts";
export { Extension } from "./msgpack/codec.ts";
