/**
 * One synchronous call after another, beside embedded databases whose files processes share; and beside the clients of
 * Redis, whose calls are awaited.
 *
 * @module
 */

import { clientOf, KEYS } from "../load.ts";
import { type Comparison, list, type Measure, type Size } from "../measure.ts";
import { type Running, startHost, startRedis, type Tools } from "../processes.ts";

const DIRECT = "memstore attach(), direct reads";
const LANE = "memstore attach() through the lane";
const REDIS = ["node-redis 5", "node-redis 6", "ioredis"];

/** The goals of direct reads. */
const goals = (lmdb: number): Comparison[] => [
  { ours: DIRECT, against: ["lmdb"], atLeast: lmdb },
  { ours: DIRECT, against: ["node:sqlite"], atLeast: 1 },
  { ours: DIRECT, against: REDIS, atLeast: 150 },
];

/** Measures the time of a get, with few keys and with many, and of a set. */
export async function* synchronous(
  directory: string,
  host: Running,
  redis: Running | undefined,
  { files, lmdb, direct }: Tools,
  { entries }: Size,
): AsyncGenerator<Measure> {
  const measure = (
    what: "get" | "set",
    keys: number,
    comparisons: Comparison[],
    all: Measure["contestants"],
  ) => ({
    name: `one synchronous ${what} after another, ${keys.toLocaleString("en")} keys`,
    unit: "µs",
    better: "less" as const,
    comparisons,
    contestants: all,
  });
  const embedded = (what: "get" | "set", at: string, keys: number) => [
    clientOf("node:sqlite", `${at}/sqlite`, what, keys),
    lmdb && clientOf("lmdb", `${at}/lmdb`, what, keys),
  ];
  const clients = (redis: Running | undefined, keys: number) =>
    REDIS.map((name) => redis && clientOf(name, redis, "get", keys));

  yield measure(
    "get",
    KEYS,
    // (Through the lane: lmdb reads a mapped file, which is faster than any message.)
    [...goals(2), { ours: LANE, against: ["node:sqlite"], atLeast: 1 }, { ours: LANE, against: ["lmdb"] }],
    list(
      direct && clientOf(DIRECT, host, "get"),
      clientOf(LANE, host, "get"),
      ...embedded("get", files, KEYS),
      ...clients(redis, KEYS),
    ),
  );
  if (direct) yield* many();
  yield measure(
    "set",
    KEYS,
    [{ against: ["lmdb"], atLeast: 1.5 }, { against: ["node:sqlite"] }],
    list(clientOf(LANE, host, "set"), ...embedded("set", files, KEYS)),
  );

  /** Measures a get with many keys, of maps that are filled for this alone. */
  async function* many(): AsyncGenerator<Measure> {
    await using stack = new AsyncDisposableStack();
    const at = `${files}/many`;
    await Deno.mkdir(at);
    stack.defer(() => Deno.remove(at, { recursive: true }));
    const host = stack.use(await startHost(directory, "many"));
    const server = redis && stack.use(await startRedis(directory, "many"));
    yield measure(
      "get",
      entries,
      goals(1.5),
      list(
        clientOf(DIRECT, host, "get", entries),
        ...embedded("get", at, entries),
        ...clients(server, entries),
      ),
    );
  }
}
