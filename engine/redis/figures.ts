/**
 * What `stats` tells of the data in Redis.
 *
 * @module
 */

import type { Buffer } from "node:buffer";
import type { NodeStats } from "../../commands/list.ts";
import type { Database } from "./database.ts";
import type { Kind } from "./layout.ts";
import type { Node } from "./node.ts";
import { COUNT } from "./scripts.ts";
import { namesOf } from "./walk.ts";

/** Entries, and those of them that have a deadline. */
interface Count {
  entries: number;
  expiring: number;
}

/** Figures of the data and of the nodes that have it. */
export async function figuresOf(database: Database): Promise<Record<string, unknown>> {
  const [tables, sets, nodes] = await Promise.all([
    namesOf(database, "tables"),
    namesOf(database, "sets"),
    nodesOf(database),
  ]);
  const sum = (name: "entries" | "members" | "expiring") => nodes.reduce((sum, node) => sum + node[name], 0);
  return {
    engine: "redis",
    nodes: nodes.map(({ expiring: _, ...node }) => node),
    tables: tables.size,
    entries: sum("entries"),
    sets: sets.size,
    members: sum("members"),
    expiring: sum("expiring"),
    heap: 0,
    heap_live: 0,
  };
}

async function nodesOf(database: Database): Promise<(NodeStats & { expiring: number })[]> {
  const found = new Map<Node, NodeStats & { expiring: number }>();
  for (const { node } of database.nodes.masters) {
    const { address } = node;
    found.set(node, { address, entries: 0, members: 0, memory: await memoryOf(node), expiring: 0 });
  }
  const ask = async (partition: number) => {
    const [tables, sets] = [
      await count(database, "tables", partition),
      await count(database, "sets", partition),
    ];
    // (It is the node that has the partition now.)
    const node = found.get(database.nodes.ownerOf(database.layout.slots[partition]));
    if (!node) return;
    node.entries += tables.entries;
    node.expiring += tables.expiring;
    node.members += sets.entries;
  };
  for await (const _ of database.each(ask));
  return Array.from(found.values());
}

async function count(database: Database, kind: Kind, partition: number): Promise<Count> {
  const base = database.layout.bases[partition], letter = kind === "tables" ? "t" : "s";
  const found = { entries: 0, expiring: 0 };
  let cursor = "0";
  do {
    const args = [database.catalog(kind, partition), base, letter, cursor];
    const reply = await database.run(partition, COUNT, args, "repeatable") as [Buffer, number, number];
    cursor = reply[0].toString();
    found.entries += reply[1];
    found.expiring += reply[2];
  } while (cursor !== "0");
  return found;
}

async function memoryOf(node: Node): Promise<number> {
  const info = String(await node.send(["INFO", "memory"]).catch(() => ""));
  return Number(/^used_memory:(\d+)/m.exec(info)?.[1] ?? 0);
}
