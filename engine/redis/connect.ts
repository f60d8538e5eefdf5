/**
 * Opens the data in Redis: connects, checks the server, and agrees with all other fronts on the layout.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { MemStoreError } from "../../transport/message.ts";
import { Database } from "./database.ts";
import { Layout, PARTITIONS, slotOf, VERSION } from "./layout.ts";
import { Nodes } from "./nodes.ts";
import type { RedisOptions } from "./options.ts";
import type { RedisAddress } from "./url.ts";

/** The first version of Redis whose commands this engine uses. */
const MIN_VERSION = 7;

/**
 * Connects to Redis.
 *
 * @throws {MemStoreError} if it cannot be used.
 */
export async function openDatabase(address: RedisAddress, options: RedisOptions): Promise<Database> {
  const nodes = await Nodes.connect(address, options.replicas);
  try {
    await checkVersion(nodes);
    return new Database(await agree(nodes, options), nodes);
  } catch (error) {
    nodes.close();
    throw error;
  }
}

async function checkVersion(nodes: Nodes): Promise<void> {
  for (const { node } of nodes.masters) {
    const info = String(await node.send(["INFO", "server"]));
    const [, version = "0"] = /^redis_version:(\S+)/m.exec(info) ?? [];
    if (parseInt(version) >= MIN_VERSION) continue;
    const why = `${node.address} must be Redis ${MIN_VERSION}.0 or newer, or Valkey: it is ${version}`;
    throw new MemStoreError("FAILED", `Cannot use Redis: ${why}`);
  }
}

/** Reads what all fronts must agree on. The first front writes it. */
async function agree(nodes: Nodes, { prefix, partitions }: RedisOptions): Promise<Layout> {
  const slot = slotOf(prefix);
  const secret = Buffer.from(crypto.getRandomValues(new Uint8Array(8)));
  const fresh = { version: VERSION, partitions: String(partitions ?? PARTITIONS), secret };
  // (Where several fronts start at once, the first value of each field counts for all.)
  for (const [field, value] of Object.entries(fresh)) {
    await nodes.send(slot, ["HSETNX", prefix, field, value], "repeatable");
  }
  const fields = Object.keys(fresh);
  const [version, count, shared] = await nodes.send(
    slot,
    ["HMGET", prefix, ...fields],
    "repeatable",
  ) as Buffer[];
  if (version.toString() !== VERSION) {
    const why = `the data under "${prefix}" has layout ${version}, and this version needs ${VERSION}`;
    throw new MemStoreError("FAILED", `Cannot use the data in Redis: ${why}`);
  }
  if (partitions !== undefined && partitions !== Number(count)) {
    const why = `the data under "${prefix}" has ${count} partitions, and not ${partitions}`;
    throw new MemStoreError("FAILED", `Cannot use the data in Redis: ${why}: leave the setting out`);
  }
  return new Layout(prefix, Number(count), shared);
}
