/**
 * The target `fronts`: four fronts of one Redis cluster at once, each with a client. All clients use the same tables and
 * sets, but each has keys and members of its own there, of which it knows what must be in them: whatever it is replied is
 * what Maps and Sets would reply, however the others' commands come in between.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MemStoreClient, MemStoreError } from "../mod.ts";
import { encoded } from "../msgpack/codec.ts";
import { Host } from "../tests/host.ts";
import { RedisCluster } from "../tests/redis.ts";
import { Model, Refused } from "./model.ts";
import { Random } from "./random.ts";
import type { Target } from "./target.ts";

const FRONTS = 4;
/** Commands that a client sends at once. */
const AT_ONCE = 8;
/** Tables and sets that all clients use. */
const NAMES = ["a", "b", 1];
/** What keys, members and values are made of. Each encodes one way only. */
const ITEMS = ["a", "b", 1, 300, -5, true, null, "k".repeat(40), new Uint8Array([1, 2])];
/** Commands on one key, … */
const ON_KEYS = [
  "set",
  "set_new",
  "cas",
  "get",
  "pop",
  "del",
  "exists",
  "incr",
  "push",
  "pull",
  "in_set",
] as const;
/** … on several, … */
const ON_MANY = ["get_many", "set_many", "push_many"] as const;
/** … on all of a table or set, of whose reply a client knows its own part, … */
const ON_ALL = ["keys", "all", "list_set", "union", "inter", "diff"] as const;
/** … and on tables and sets that only one client uses. */
const ON_OWN = ["drop", "drop_set", "clear_set", "size", "set_size"] as const;

/** A client, and what it knows. */
interface Owner {
  readonly id: string;
  readonly client: MemStoreClient;
  readonly model: Model;
}

/** Starts the cluster and the fronts. */
export async function fronts(): Promise<Target> {
  await using stack = new AsyncDisposableStack();
  const cluster = stack.use(await RedisCluster.start());
  const hosts = await Promise.all(
    Array.from(
      { length: FRONTS },
      () => Host.startWith({ flags: ["--engine", cluster.url], task: "compile" }),
    ),
  );
  for (const host of hosts) stack.use(host);
  const owners = hosts.map(({ endpoint }, i): Owner => {
    const client = new MemStoreClient(endpoint, { timeout: 30_000 });
    stack.defer(() => client.close());
    return { id: `client ${i}`, client, model: new Model() };
  });
  const all = stack.move();
  return {
    async run(random) {
      // (How the clients' commands interleave is not in the seed's hands: what each sends is.)
      const seeds = owners.map(() => random.below(2 ** 31));
      const ends = await Promise.allSettled(owners.map((owner, i) => run(owner, new Random(seeds[i]))));
      for (const end of ends) if (end.status === "rejected") throw end.reason;
    },
    [Symbol.asyncDispose]: () => all[Symbol.asyncDispose](),
  };
}

async function run(owner: Owner, random: Random): Promise<void> {
  for (let steps = 1 + random.below(10); steps > 0; steps--) {
    if (random.one(4)) {
      await runBatch(owner, random);
      continue;
    }
    // (A command on all of a table has no order among those that are sent before it is done.)
    const sent = random.one(3)
      ? [anyCommand(owner, random, random.pick([...ON_ALL, ...ON_OWN]))]
      : Array.from(
        { length: 1 + random.below(AT_ONCE) },
        () => anyCommand(owner, random, random.pick([...ON_KEYS, ...ON_KEYS, ...ON_MANY])),
      );
    const replies = sent.map((command) =>
      owner.client.send(command as [string, ...unknown[]]).catch((error: unknown) => error)
    );
    const expected = sent.map((command) => attempt(owner.model, command));
    for (const [i, reply] of (await Promise.all(replies)).entries()) {
      const what = Deno.inspect(sent[i], { depth: 4 });
      if (expected[i] instanceof Refused) {
        assert.ok(reply instanceof MemStoreError && reply.code === "FAILED", `${what}: ${reply}`);
      } else {
        if (reply instanceof Error) throw new Error(`${what}: ${reply.message}`, { cause: reply });
        assert.deepEqual(ownPart(owner, sent[i], reply), ownPart(owner, sent[i], expected[i]), what);
      }
    }
  }
}

/** Commands on one key of several tables and sets, as a batch: all are done, or none. */
async function runBatch(owner: Owner, random: Random): Promise<void> {
  const key = [owner.id, random.pick(ITEMS)];
  const sent = Array.from({ length: 1 + random.below(5) }, () => {
    const [name, , , ...rest] = anyCommand(owner, random, random.pick(ON_KEYS));
    return [name, random.pick(NAMES), key, ...rest];
  });
  const model = owner.model.copy();
  const expected = sent.map((command) => attempt(model, command));
  const what = Deno.inspect(sent, { depth: 4 });
  const batch = owner.client.batch(sent as [string, ...unknown[]][]);
  if (expected.some((each) => each instanceof Refused)) {
    await assert.rejects(batch, { code: "FAILED" }, what);
    // (What was rolled back is as it was.)
    for (const name of NAMES) {
      const [value, isMember] = [["get", name, key], ["in_set", name, key]];
      assert.deepEqual(await owner.client.send(value as ["get"]), owner.model.run(value), what);
      assert.deepEqual(await owner.client.send(isMember as ["in_set"]), owner.model.run(isMember), what);
    }
  } else {
    assert.deepEqual(await batch, expected, what);
    owner.model.adopt(model);
  }
}

type Name = (typeof ON_KEYS | typeof ON_MANY | typeof ON_ALL | typeof ON_OWN)[number];

/** A command of a client. */
function anyCommand({ id }: Owner, random: Random, name: Name): unknown[] {
  const shared = !(ON_OWN as readonly string[]).includes(name) && !random.one(4);
  const place = shared ? random.pick(NAMES) : [id, random.pick(NAMES)];
  const item = () => random.pick(ITEMS);
  const key = () => shared ? [id, item()] : item();
  const some = <Item>(one: () => Item) => Array.from({ length: random.below(5) }, one);
  switch (name) {
    case "set":
    case "set_new":
      return [name, place, key(), item()];
    case "cas":
      return [name, place, key(), item(), item()];
    case "incr":
      return [name, place, key(), random.below(100) - 50];
    case "get_many":
      return [name, place, some(key), item()];
    case "set_many":
      return [name, place, new Map(some(key).map((key) => [key, item()]))];
    case "push_many":
      return [name, place, some(key)];
    case "union":
    case "inter":
    case "diff":
      return [name, some(() => shared ? random.pick(NAMES) : [id, random.pick(NAMES)])];
    case "get":
    case "pop":
    case "del":
    case "exists":
    case "push":
    case "pull":
    case "in_set":
      return [name, place, key()];
    default:
      return [name, place];
  }
}

function attempt(model: Model, command: readonly unknown[]): unknown {
  try {
    return model.run(command);
  } catch (error) {
    if (error instanceof Refused) return error;
    throw error;
  }
}

const text = (value: unknown) => String(encoded(value));

/** The part of a reply that is of this client's keys, in an order. */
function ownPart({ id }: Owner, [name, place]: readonly unknown[], reply: unknown): unknown {
  if (!(ON_ALL as readonly unknown[]).includes(name)) return Array.isArray(reply) ? reply.map(text) : reply;
  const places = ["union", "inter", "diff"].includes(name as string) ? place as unknown[] : [place];
  const isShared = places.some((each) => !Array.isArray(each));
  const isOwn = (key: unknown) => !isShared || Array.isArray(key) && key[0] === id;
  if (!(reply instanceof Map)) return (reply as unknown[]).filter(isOwn).map(text).sort();
  return [...reply].filter(([key]) => isOwn(key)).map(([key, value]) => `${text(key)}:${text(value)}`).sort();
}
