/**
 * Opens the data in Redis: connects, checks the server, and agrees with all other fronts on the layout.
 *
 * @module
 */

import { MemStoreError } from "../../transport/message.ts";
import { Agreement } from "./agreement.ts";
import { Database } from "./database.ts";
import { Nodes } from "./nodes.ts";
import type { RedisOptions } from "./options.ts";
import type { RedisAddress } from "./url.ts";

/** The first version of Redis whose commands this engine uses. */
const MIN_VERSION = 7;

/** The data, and the agreement with other fronts: close both. */
export interface OpenDatabase {
  readonly database: Database;
  readonly agreement: Agreement;
}

/**
 * Connects to Redis.
 *
 * @throws {MemStoreError} if it cannot be used.
 */
export async function openDatabase(address: RedisAddress, options: RedisOptions): Promise<OpenDatabase> {
  const nodes = await Nodes.connect(address, options.replicas);
  try {
    await checkVersion(nodes);
    const agreement = await Agreement.reach(nodes, options);
    return { database: new Database(agreement.layout, nodes), agreement };
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
