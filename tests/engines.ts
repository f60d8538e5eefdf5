/**
 * One suite, several engines: a test of commands runs against the memory of the host (which clients read themselves, or
 * which is private, so that they ask), a single Redis server, and a cluster of three. What an engine does not promise is named where the test is, with the reason.
 *
 * A file's tests share one server and one cluster, which are started when the first test needs them. Each test has a
 * prefix of its own, so it begins with nothing.
 *
 * @module
 */

import type { MemStoreOptions } from "../mod.ts";
import { Host } from "./host.ts";
import { RedisCluster, RedisServer, withoutRedis } from "./redis.ts";

/** What a test runs against. */
export interface Engine {
  readonly name: EngineName;
  /** The options of hosts in this process; those of one test see the same data if the engine is Redis. */
  readonly options: MemStoreOptions;
  /** Starts a host in a process of its own. */
  host(): Promise<Host>;
}

type EngineName = "memory" | "private" | "redis" | "cluster";

const SUFFIX = { memory: "", private: " (private memory)", redis: " (Redis)", cluster: " (Redis Cluster)" };

/**
 * Makes the function that registers a test for each engine. Its last argument says what is missing on this machine, if
 * anything is.
 *
 * @param except The tests of the file that run against the memory of the host alone, by their names, and why.
 */
export function engines(
  except: Readonly<Record<string, string>> = {},
): (name: string, fn: (engine: Engine) => Promise<void>, missing?: string) => void {
  const excluded = new Map(Object.entries(except));
  Deno.test.afterAll(() => {
    if (excluded.size > 0) {
      throw new Error(`There are no tests of these names: ${[...excluded.keys()].join()}`);
    }
  });
  return (name, fn, missing) => {
    const notPromised = excluded.get(name);
    excluded.delete(name);
    for (const engine of ["memory", "private", "redis", "cluster"] as const) {
      const isRedis = engine === "redis" || engine === "cluster";
      if (isRedis && notPromised !== undefined) continue;
      const why = missing ?? (isRedis ? withoutRedis : undefined);
      Deno.test({
        name: name + SUFFIX[engine] + (why === undefined ? "" : ` [ignored: ${why}]`),
        ignore: why !== undefined,
        fn: async () => await fn(await open(engine)),
      });
    }
  };
}

let prefixes = 0;

async function open(name: EngineName): Promise<Engine> {
  if (name === "memory") return { name, options: {}, host: () => Host.start() };
  if (name === "private") {
    const host = () => Host.startWith({ flags: ["--private-memory"] });
    return { name, options: { privateMemory: true }, host };
  }
  const { url } = await shared[name]();
  const prefix = `test-${prefixes++}`;
  return {
    name,
    options: { engine: url, redis: { prefix } } as object,
    host: () => Host.startWith({ flags: ["--engine", url, "--redis-prefix", prefix], task: "compile" }),
  };
}

/** The servers of a file, which end when its tests have run. */
const stack = new AsyncDisposableStack();
const once = <Server extends AsyncDisposable>(start: () => Promise<Server>) => {
  let server: Promise<Server> | undefined;
  return () => server ??= start().then((each) => stack.use(each));
};
const shared = { redis: once(() => RedisServer.start()), cluster: once(() => RedisCluster.start()) };

Deno.test.afterAll(() => stack[Symbol.asyncDispose]());
