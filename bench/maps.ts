/// <reference lib="deno.unstable" />
/**
 * The ways to share a map between processes that a client process of the benchmark ({@link ./client.ts}) can measure:
 * memstore, and what a user of Deno would pick instead. Each has the configuration in which it is fastest while other
 * processes can still use the same map: bench/README.md gives the reasons. No client caches what it has read.
 *
 * @module
 */

import assert from "node:assert/strict";

/** A map whose calls are awaited. */
export interface AwaitedMap {
  get(key: string): Promise<unknown>;
  set(key: string, value: string): Promise<unknown>;
  close(): unknown;
}

/** A map whose calls are done when they return. */
export interface SynchronousMap {
  get(key: string): unknown;
  set(key: string, value: string): unknown;
  close(): unknown;
}

/** The table, or the hash of Redis. */
export const TABLE = "bench";

/**
 * How a client of memstore may go: as it does by itself; reads in the host's memory, and all else through the lane; all
 * through the lane; or all over the socket. What is measured goes the way that it is about, or is not measured.
 */
type Way = "any" | "direct" | "lane" | "socket";

const options = (way: Way) => ({ lane: way !== "socket", directReads: way === "any" || way === "direct" });

/** A client of memstore; the address of a host with keys is followed by the files of the client's and the host's key. */
async function memstore(address: string, way: Way): Promise<AwaitedMap> {
  const { MemStoreClient } = await import("@memstore/memstore");
  const [endpoint, key, serverKey] = address.split(",");
  const client = new MemStoreClient(endpoint, { timeout: 60_000, key, serverKey, ...options(way) });
  const before = await client.stats();
  if (way !== "socket" && Deno.build.os === "linux" && !endpoint.startsWith("tcp:")) {
    assert.notEqual(before.lanes, 0, "The host gave no lane");
  }
  if (way === "direct") {
    // (The first read asks the host where its memory is.)
    for (let i = 0; i < 2; i++) {
      await client.get(TABLE, "");
      await client.ping();
    }
    assert.notEqual((await client.stats()).direct_reads, before.direct_reads, NOT_DIRECT);
  }
  return {
    get: (key) => client.get(TABLE, key),
    set: (key, value) => client.set(TABLE, key, value),
    close: () => client.close(),
  };
}

/** A store that is attached. */
async function attached(endpoint: string, way: "direct" | "lane"): Promise<SynchronousMap> {
  const { attach } = await import("@memstore/memstore");
  const shared = await attach(endpoint, options(way));
  const before = shared.stats();
  if (way === "direct") {
    // (The first read asks the host where its memory is.)
    for (let i = 0; i < 2; i++) shared.get(TABLE, "");
    assert.notEqual(shared.stats().direct_reads, before.direct_reads, NOT_DIRECT);
  }
  return {
    get: (key) => shared.get(TABLE, key),
    set: (key, value) => shared.set(TABLE, key, value),
    close: () => shared[Symbol.dispose](),
  };
}

const NOT_DIRECT = "Reads are not direct";

/** What the versions of node-redis have in common. */
interface NodeRedis {
  connect(): Promise<unknown>;
  hGet(hash: string, field: string): Promise<unknown>;
  hSet(hash: string, field: string, value: string): Promise<unknown>;
  destroy(): void;
}

async function nodeRedis(client: NodeRedis): Promise<AwaitedMap> {
  await client.connect();
  return {
    get: (key) => client.hGet(TABLE, key),
    set: (key, value) => client.hSet(TABLE, key, value),
    close: () => client.destroy(),
  };
}

/** Plain keys: a hash would be on one of the nodes. */
async function nodeRedisCluster(nodes: string): Promise<AwaitedMap> {
  const { createCluster } = await import("redis5");
  const client = createCluster({ rootNodes: nodes.split(",").map((node) => ({ url: `redis://${node}` })) });
  await client.connect();
  return {
    get: (key) => client.get(`${TABLE}:${key}`),
    set: (key, value) => client.set(`${TABLE}:${key}`, value),
    close: () => client.destroy(),
  };
}

async function ioredis(path: string, enableAutoPipelining: boolean): Promise<AwaitedMap> {
  const { Redis } = await import("ioredis");
  const client = new Redis(path, { enableAutoPipelining });
  return {
    get: (key) => client.hget(TABLE, key),
    set: (key, value) => client.hset(TABLE, key, value),
    close: () => client.disconnect(),
  };
}

/** By name; the address is an endpoint, the path of Redis' socket, the nodes of a cluster, or the path of a file. */
export const awaited: Record<string, (address: string) => Promise<AwaitedMap>> = {
  "memstore": (address) => memstore(address, "any"),
  "memstore, direct reads": (address) => memstore(address, "direct"),
  "memstore through the lane": (address) => memstore(address, "lane"),
  "memstore over ZeroMQ": (address) => memstore(address, "socket"),
  async "node-redis 5"(path) {
    const { createClient } = await import("redis5");
    return await nodeRedis(createClient({ socket: { path, tls: false } }));
  },
  async "node-redis 6"(path) {
    const { createClient } = await import("redis6");
    return await nodeRedis(createClient({ socket: { path, tls: false } }));
  },
  "node-redis 5, cluster": nodeRedisCluster,
  "ioredis": (path) => ioredis(path, false),
  "ioredis, pipelining": (path) => ioredis(path, true),
  async "Deno KV"(path) {
    const kv = await Deno.openKv(path);
    return {
      get: async (key) => (await kv.get([TABLE, key])).value,
      set: (key, value) => kv.set([TABLE, key], value),
      close: () => kv.close(),
    };
  },
};

/** By name; the address is an endpoint, or the path of a file. */
export const synchronous: Record<string, (address: string) => Promise<SynchronousMap>> = {
  "memstore attach(), direct reads": (endpoint) => attached(endpoint, "direct"),
  "memstore attach() through the lane": (endpoint) => attached(endpoint, "lane"),
  async "node:sqlite"(path) {
    const { DatabaseSync } = await import("node:sqlite");
    const database = new DatabaseSync(path);
    database.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA busy_timeout = 10000;
      CREATE TABLE IF NOT EXISTS ${TABLE} (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID`);
    const get = database.prepare(`SELECT value FROM ${TABLE} WHERE key = ?`);
    // No object is made of a row. (Deno's types do not know the method yet.)
    (get as unknown as { setReturnArrays(on: boolean): void }).setReturnArrays(true);
    // Half the time of INSERT OR REPLACE, which deletes the row first.
    const set = database.prepare(
      `INSERT INTO ${TABLE} VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
    );
    return {
      get: (key) => (get.get(key) as unknown as [string] | undefined)?.[0],
      set: (key, value) => set.run(key, value),
      close: () => database.close(),
    };
  },
  async lmdb(path) {
    const { open } = await import("lmdb");
    const database = open<string, string>({ path, encoding: "string", noSync: true, useWritemap: true });
    return {
      get: (key) => database.get(key),
      set: (key, value) => database.putSync(key, value),
      close: () => database.close(),
    };
  },
};
