/**
 * What the benchmark measures: each measure has ours and its peers, which take turns, and a goal.
 *
 * @module
 */

import type { Stats } from "../mod.ts";
import {
  deno,
  memoryOf,
  processorTime,
  run,
  Running,
  startHost,
  startLoop,
  startRedis,
  type Tools,
} from "./processes.ts";

/** One way to be measured: ours, or a peer's. */
export interface Contestant {
  name: string;
  /** Measures once, for about so many seconds. */
  once(seconds: number): Promise<Sample>;
}

/** What was measured once. */
export interface Sample {
  value: number;
  /** Processors that were busy, by who used them. */
  processors?: Record<string, number>;
}

/** What is measured. */
export interface Measure {
  name: string;
  unit: string;
  better: "more" | "less";
  /** What the ratio to the best peer (or the value itself, if there can be none) is to reach. */
  goal: { ratio: number } | { value: number } | undefined;
  /** Measured so often at the most. */
  rounds?: number;
  contestants: Contestant[];
}

/** How much is measured. */
export interface Size {
  /** Seconds of one measurement, about. */
  seconds: number;
  /** Entries of the large table. */
  entries: number;
  /** Entries of the very large one. */
  many: number;
}

/** Starts what is needed, and yields one measure after another; each is done before the next is asked for. */
export async function* measures(directory: string, tools: Tools, size: Size): AsyncGenerator<Measure> {
  await using stack = new AsyncDisposableStack();
  const start = async (it: Promise<Running>) => stack.use(await it);
  const host = await start(startHost(directory, "host"));
  const redis = tools.redis === undefined ? undefined : await start(startRedis(directory, "redis"));
  if (tools.load) {
    yield* memory(host, redis, tools.load, size);
    for (const what of ["get", "set"] as const) yield batches(what, host, redis, tools.load, size);
  }
  yield atOnce(host, redis);
  yield* encrypted(directory, stack);
  yield* besideHostiles(directory);
  yield* oneAfterAnother(host, redis, directory, tools, stack);
  if (tools.load && tools.python) yield legacy(host, await start(startLoop(directory)), tools.load);
  if (!tools.load) return;
  yield slowest(directory, tools.load, redis !== undefined, size);
  yield growth(directory, tools.load, size);
}

const list = (...contestants: (Contestant | false | undefined)[]) =>
  contestants.filter((each): each is Contestant => Boolean(each));

/** Runs a file of ours to its end: what it printed. */
const ask = (file: string, ...args: string[]) => run(Deno.execPath(), deno(file, ...args));

/** What a memstore host tells of itself. */
async function statsOf(host: Running): Promise<Stats> {
  return JSON.parse(await ask("cli.ts", "--raw", "-e", host.address, "stats"));
}

/** Fills a host with entries of 12-byte keys and 32-byte values. */
async function fill(load: string, host: Running, entries: number): Promise<void> {
  await run(load, [
    "batch",
    `ipc://${host.address}`,
    "set",
    `${entries}`,
    "64",
    `${Math.ceil(entries / 64)}`,
    "16",
    "fill",
  ]);
}

/** Runs a load against a process, and tells how many processors each of the two had. */
async function loaded(
  server: Running,
  load: () => Promise<[value: number, processorTime: number]>,
): Promise<Sample> {
  const before = await processorTime(server.pid), start = performance.now();
  const [value, used] = await load();
  const seconds = (performance.now() - start) / 1000;
  const after = await processorTime(server.pid);
  const share = (of: (thread: string) => boolean) => {
    let sum = 0;
    for (const [thread, time] of after) {
      if (of(thread)) sum += time - (before.get(thread) ?? 0);
    }
    return sum / seconds;
  };
  const zeromq = (thread: string) => thread.startsWith("ZMQ");
  return {
    value,
    processors: {
      server: share((thread) => !zeromq(thread)),
      "its ZeroMQ": share(zeromq),
      load: used / seconds,
    },
  };
}

/** The numbers that a load prints in its last line. */
function numbers(text: string): number[] {
  return text.split("\n").at(-1)!.split(" ").map(Number);
}

/** The memory of the entries, by what each says that it uses, and by what the system gave it. */
function* memory(
  host: Running,
  redis: Running | undefined,
  load: string,
  { entries }: Size,
): Generator<Measure> {
  const measured = (before: number[], after: number[]) =>
    after.map((bytes, i) => (bytes - before[i]) / entries);
  const ours = async () => {
    return [(await statsOf(host)).heap, await memoryOf(host.pid)];
  };
  const theirs = async () => {
    const info = await run("redis-cli", ["-s", redis!.address, "info", "memory"]);
    return [Number(/used_memory:(\d+)/.exec(info)![1]), await memoryOf(redis!.pid)];
  };
  const filled = new Map<string, number[]>();
  const measure = (name: string, which: number, goal: Measure["goal"]): Measure => ({
    name: `memory of ${entries.toLocaleString("en")} entries, ${name}`,
    unit: "bytes an entry",
    better: "less",
    goal,
    rounds: 1,
    contestants: list(
      {
        name: "memstore",
        async once() {
          if (!filled.has("ours")) {
            const before = await ours();
            await fill(load, host, entries);
            filled.set("ours", measured(before, await ours()));
          }
          return { value: filled.get("ours")![which] };
        },
      },
      redis && {
        name: "Redis",
        async once() {
          if (!filled.has("theirs")) {
            const before = await theirs();
            await fillRedis(redis, entries);
            filled.set("theirs", measured(before, await theirs()));
          }
          return { value: filled.get("theirs")![which] };
        },
      },
    ),
  });
  yield measure("by stats (heap) and used_memory", 0, { ratio: 0.75 });
  yield measure("by the growth of the processes", 1, undefined);
}

/** The same entries in one hash of Redis. */
async function fillRedis(redis: Running, entries: number): Promise<void> {
  const script = `for i = 0, ARGV[1] - 1 do
    redis.call("HSET", "t", string.format("%012d", i), string.rep("v", 32))
  end`;
  await run("redis-cli", ["-s", redis.address, "eval", script, "0", `${entries}`]);
}

function batches(
  what: "get" | "set",
  host: Running,
  redis: Running | undefined,
  load: string,
  { seconds, entries }: Size,
): Measure {
  const messages = Math.ceil(seconds * 20_000);
  return {
    name: `${what}, 64 commands a message, ${entries.toLocaleString("en")} keys`,
    unit: "commands/s",
    better: "more",
    goal: { ratio: what === "get" ? 1.5 : 2.5 },
    contestants: list(
      {
        name: "memstore (native load)",
        once: () =>
          loaded(host, async () => {
            const [value, used, wrong] = numbers(
              await run(load, [
                "batch",
                `ipc://${host.address}`,
                what,
                `${entries}`,
                "64",
                `${messages}`,
                "16",
              ]),
            );
            if (wrong > 0) throw new Error(`${wrong} replies of ${messages} were wrong`);
            return [value, used];
          }),
      },
      redis && {
        name: `redis-benchmark -P 64 h${what}`,
        once: () =>
          loaded(redis, async () => {
            const command = ["hget", "t", "__rand_int__", "v".repeat(32)].with(0, `h${what}`)
              .slice(0, what === "get" ? 3 : 4);
            const options = [
              "-s",
              redis.address,
              "-P",
              "64",
              "-r",
              `${entries}`,
              "-n",
              `${messages * 64}`,
              "--csv",
            ];
            const csv = await run("redis-benchmark", [...options, ...command]);
            // The columns: "test","rps",…; the load does not tell what it used.
            return [Number(csv.split("\n").at(-1)!.split('","')[1]), NaN];
          }),
      },
    ),
  };
}

function client(name: string, server: Running, ...what: string[]): Contestant {
  return {
    name,
    once: (seconds) =>
      loaded(server, async () => {
        const [kind, ...rest] = what;
        const args = deno("bench/client.ts", name.split(" ")[0], server.address, kind, `${seconds}`, ...rest);
        const [value, used] = numbers(await run(Deno.execPath(), args));
        return [value, used];
      }),
  };
}

function atOnce(host: Running, redis: Running | undefined): Measure {
  return {
    name: "256 gets at once, from one Deno process",
    unit: "gets/s",
    better: "more",
    goal: { ratio: 2.5 },
    contestants: list(
      client("memstore", host, "many", "256"),
      redis && client("node-redis", redis, "many", "256"),
      redis && client("ioredis", redis, "many", "256"),
    ),
  };
}

async function* oneAfterAnother(
  host: Running,
  redis: Running | undefined,
  directory: string,
  { zeromq, python }: Tools,
  stack: AsyncDisposableStack,
): AsyncGenerator<Measure> {
  const measure = (name: string, goal: Measure["goal"], ...peers: Contestant[]): Measure => ({
    name: `one get after another, against ${name}`,
    unit: "µs",
    better: "less",
    goal,
    contestants: [client("memstore", host, "one"), ...peers],
  });
  if (zeromq !== undefined) {
    const address = `ipc://${directory}/node.sock`;
    const server = stack.use(await Running.start("node", ["zeromq.mjs", "serve", address], address, zeromq));
    yield measure("zeromq.js under Node", { ratio: 1 }, {
      name: "zeromq.js REQ/REP under Node",
      once: (seconds) =>
        loaded(server, async () => {
          const ask = ["zeromq.mjs", "ask", address, `${seconds}`];
          return [numbers(await run("node", ask, zeromq))[0], NaN];
        }),
    });
  }
  if (redis) {
    yield measure(
      "Redis' clients",
      { ratio: 1 },
      client("node-redis", redis, "one"),
      client("ioredis", redis, "one"),
    );
  }
  if (python !== undefined) {
    yield measure("a Manager", undefined, {
      name: "multiprocessing.Manager",
      async once(seconds) {
        const script = new URL("peers/manager.py", import.meta.url).pathname;
        return { value: Number(await run("/usr/bin/python3", [script, `${seconds}`])) };
      },
    });
  }
}

/** What CURVE costs, beside the same over TCP without keys. */
async function* encrypted(directory: string, stack: AsyncDisposableStack): AsyncGenerator<Measure> {
  const at = (name: string) => `${directory}/${name}`;
  await ask("cli.ts", "keygen", at("host.key"));
  await Deno.writeTextFile(
    at("clients"),
    `${await ask("cli.ts", "keygen", at("client.key"))} admin client\n`,
  );
  const start = async (name: string, ...flags: string[]) => {
    const host = stack.use(await startHost(directory, name, "tcp://127.0.0.1:*", ...flags));
    return (await statsOf(host)).endpoints[1];
  };
  const keys = ["--key", at("host.key"), "--authorized-clients", at("clients")];
  const addresses = {
    "memstore with keys": [await start("curve", ...keys), at("client.key"), at("host.key.pub")].join(","),
    "memstore without": await start("plain"),
  };
  for (
    const [name, unit, better, ...what] of [
      ["one get after another over TCP", "µs", "less", "one"],
      ["256 gets at once over TCP", "gets/s", "more", "many", "256"],
      ["sets of 1 MiB over TCP, one after another", "sets/s", "more", "large"],
    ] as const
  ) {
    yield {
      name: `${name}, with keys`,
      unit,
      better,
      goal: undefined,
      contestants: Object.entries(addresses).map(([name, address]) => ({
        name,
        async once(seconds) {
          const [kind, ...rest] = what;
          const printed = await ask("bench/client.ts", "memstore", address, kind, `${seconds}`, ...rest);
          return { value: numbers(printed)[0] };
        },
      })),
    };
  }
}

/** The median get over ipc while a hundred clients mean ill, in that without them. */
function* besideHostiles(directory: string): Generator<Measure> {
  const HOSTILE = ["deaf", "noise", "babble", "silent", "huge"].map((kind) => `${kind}=20`);
  let round = 0;
  for (const [i, where] of ["ipc", "tcp"].entries()) {
    yield {
      name: `median get beside 100 hostile clients over ${where}, in that without them`,
      unit: "times",
      better: "less",
      goal: { value: 2 },
      contestants: [{
        name: "memstore",
        async once(seconds) {
          await using host = await startHost(directory, `hostile${round++}`, "tcp://127.0.0.1:*");
          const table = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [i, "v".repeat(1000)]));
          await ask("cli.ts", "-e", host.address, "set_many", "t", JSON.stringify(table));
          const { endpoints } = await statsOf(host);
          const median = async () =>
            numbers(await ask("bench/client.ts", "memstore", host.address, "median", `${seconds * 4}`))[0];
          const before = await median();
          const args = deno("tests/hostiles.ts", endpoints[i], ...HOSTILE);
          await using _hostiles = await Running.start(Deno.execPath(), args, "", directory);
          return { value: await median() / before };
        },
      }],
    };
  }
}

function legacy(host: Running, loop: Running, load: string): Measure {
  const clients = (name: string, server: Running, endpoint: string): Contestant => ({
    name,
    once: (seconds) =>
      loaded(server, async () => {
        const [value, used] = numbers(
          await run(load, ["req", endpoint, "16", `${Math.ceil(seconds * 50_000)}`]),
        );
        return [value, used];
      }),
  });
  return {
    name: "16 legacy REQ clients at once",
    unit: "gets/s",
    better: "more",
    goal: { ratio: 4 },
    contestants: [
      clients("memstore", host, `ipc://${host.address}`),
      clients("pymemstore's loop in Python 3", loop, loop.address),
    ],
  };
}

function slowest(directory: string, load: string, redis: boolean, { entries }: Size): Measure {
  let round = 0;
  const during = async (server: Running, name: string, insert: () => Promise<unknown>): Promise<Sample> => {
    // (The load is there for as long as the inserts take, and a little longer.)
    const args = deno("bench/client.ts", name, server.address, "slowest", "3");
    await using client = await Running.start(Deno.execPath(), args, "", directory);
    const inserted = insert();
    const [value] = numbers((await client.output).trim());
    await inserted;
    return { value };
  };
  return {
    name: `slowest get while ${entries.toLocaleString("en")} entries are inserted`,
    unit: "ms",
    better: "less",
    goal: { value: 10 },
    rounds: 5,
    contestants: list(
      {
        name: "memstore",
        async once() {
          await using host = await startHost(directory, `slowest${round++}`);
          return await during(host, "memstore", () => fill(load, host, entries));
        },
      },
      redis && {
        name: "Redis (redis-benchmark -P 64 hset)",
        async once() {
          await using server = await startRedis(directory, `slowest${round++}`);
          const options = ["-s", server.address, "-P", "64", "-r", `${entries}`, "-n", `${entries}`, "--csv"];
          const command = ["hset", "inserted", "__rand_int__", "v".repeat(32)];
          return await during(server, "node-redis", () => run("redis-benchmark", [...options, ...command]));
        },
      },
    ),
  };
}

function growth(directory: string, load: string, { seconds, many }: Size): Measure {
  const rate = async (entries: number) => {
    await using host = await startHost(directory, `growth${entries}`);
    await fill(load, host, entries);
    const messages = `${Math.ceil(seconds * 20_000)}`;
    const rates: number[] = [];
    for (let i = 0; i < 3; i++) {
      const printed = await run(load, [
        "batch",
        `ipc://${host.address}`,
        "get",
        `${entries}`,
        "64",
        messages,
        "16",
      ]);
      rates.push(numbers(printed)[0]);
    }
    return rates.sort((a, b) => a - b)[1];
  };
  return {
    name: `cost of a get at ${many.toLocaleString("en")} entries, in that at 10,000`,
    unit: "times",
    better: "less",
    goal: { value: 2 },
    rounds: 1,
    contestants: [{
      name: "memstore (native load)",
      async once() {
        return { value: await rate(10_000) / await rate(many) };
      },
    }],
  };
}
