/**
 * A client process of the benchmark under Deno: calls memstore or a peer ({@link ./maps.ts}), and prints what it
 * measured.
 *
 * ```text
 * client.ts MAP ADDRESS WHAT SECONDS [KEYS]
 *   get|set     microseconds a call, one after another
 *   together    gets a second, one after another
 *   median      the median get, in microseconds
 *   slowest     the slowest get, in milliseconds
 *   idle        the median get, in microseconds, when nothing has happened for 50 ms before each
 *   many        gets a second, 256 at once
 *   both        gets and sets a second, 128 of each at once
 *   large       sets of 1 MiB a second
 * ```
 *
 * A synchronous map is measured by the first four lines alone. Once the map is filled and warmed up, it prints `ready`, and
 * measures when a line comes on stdin. After the figure it prints the seconds of processor time that it used.
 *
 * @module
 */

import assert from "node:assert/strict";
import process from "node:process";
import { awaited, type AwaitedMap, synchronous, type SynchronousMap } from "./maps.ts";

const [name, address, what, seconds, keys = "10000"] = Deno.args;

/** Keys of 12 bytes, and their values of 32 bytes. */
const KEYS = Array.from({ length: Number(keys) }, (_, i) => `${i}`.padStart(12, "0"));
const VALUES = KEYS.map((key) => key.padEnd(32, "v"));
/** How many calls are made at once. */
const MANY = 256;
/** How many synchronous calls are made before the clock is read again: reading it takes 0.05 µs. */
const SYNCHRONOUS_CALLS = 100;
/** How long nothing happens before a call to an idle host, in milliseconds. */
const IDLE_MS = 50;

/** The order in which the keys are used: random, and the same in every process. */
const ORDER = Uint32Array.from(KEYS, randomly(KEYS.length));

/** Random numbers below a bound, from a fixed seed (xorshift). */
function randomly(bound: number): () => number {
  let state = 88172645;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % bound;
  };
}

/** Sets all entries, unless another process did; and checks that what is read is what was set. */
async function prepare(map: AwaitedMap | SynchronousMap): Promise<void> {
  const last = KEYS.length - 1;
  if (await map.get(KEYS[last]) !== VALUES[last]) {
    for (let i = 0; i < KEYS.length; i += MANY) {
      await Promise.all(KEYS.slice(i, i + MANY).map((key, j) => map.set(key, VALUES[i + j])));
    }
  }
  // A key of its own: another process may check the same map.
  const key = `check ${Deno.pid}`;
  for (const value of [VALUES[0], VALUES[1]]) {
    await map.set(key, value);
    assert.equal(await map.get(key), value, "The value read is not the value set");
  }
  for (const i of [0, ORDER[0], last]) assert.equal(await map.get(KEYS[i]), VALUES[i]);
}

/** How often something was done, and how long it took in milliseconds. */
interface Repeated {
  count: number;
  took: number;
}

/** Repeats an awaited call for a number of seconds. */
async function repeat(seconds: number, call: (i: number) => Promise<unknown>): Promise<Repeated> {
  const start = performance.now(), end = start + seconds * 1000;
  let count = 0;
  for (; performance.now() < end; count++) await call(ORDER[count % ORDER.length]);
  return { count, took: performance.now() - start };
}

/** Repeats a synchronous call for a number of seconds. */
function repeatSynchronously(seconds: number, call: (i: number) => unknown): Repeated {
  const start = performance.now(), end = start + seconds * 1000;
  let count = 0;
  while (performance.now() < end) {
    for (let i = 0; i < SYNCHRONOUS_CALLS; i++) call(ORDER[count++ % ORDER.length]);
  }
  return { count, took: performance.now() - start };
}

/** The times of gets, in milliseconds, from the shortest to the longest. */
async function times(seconds: number, map: AwaitedMap, pause = 0): Promise<number[]> {
  const times: number[] = [];
  await repeat(seconds, async (i) => {
    if (pause > 0) await new Promise((done) => setTimeout(done, pause));
    const start = performance.now();
    await map.get(KEYS[i]);
    times.push(performance.now() - start);
  });
  return times.sort((a, b) => a - b);
}

/** What can be measured: of each, how it is warmed up and measured. */
const measures: Record<string, (map: AwaitedMap, seconds: number) => Promise<number>> = {
  async get(map, seconds) {
    const { count, took } = await repeat(seconds, (i) => map.get(KEYS[i]));
    return took / count * 1000;
  },
  async set(map, seconds) {
    const { count, took } = await repeat(seconds, (i) => map.set(KEYS[i], VALUES[i]));
    return took / count * 1000;
  },
  async many(map, seconds) {
    const { count, took } = await repeat(seconds, (first) =>
      Promise.all(
        Array.from({ length: MANY }, (_, i) => map.get(KEYS[ORDER[(first + i) % ORDER.length]])),
      ));
    return count * MANY / took * 1000;
  },
  async both(map, seconds) {
    const { count, took } = await repeat(seconds, (first) =>
      Promise.all(
        Array.from({ length: MANY }, (_, i): Promise<unknown> => {
          const at = ORDER[(first + i) % ORDER.length];
          return i % 2 === 0 ? map.get(KEYS[at]) : map.set(KEYS[at], VALUES[at]);
        }),
      ));
    return count * MANY / took * 1000;
  },
  async together(map, seconds) {
    return 1e6 / await measures.get(map, seconds);
  },
  async large(map, seconds) {
    const value = "v".repeat(2 ** 20);
    const { count, took } = await repeat(seconds, () => map.set("large", value));
    return count / took * 1000;
  },
  async median(map, seconds) {
    const all = await times(seconds, map);
    return all[all.length >> 1] * 1000;
  },
  async idle(map, seconds) {
    const all = await times(seconds, map, IDLE_MS);
    return all[all.length >> 1] * 1000;
  },
  async slowest(map, seconds) {
    return (await times(seconds, map)).at(-1)!;
  },
};

/** How fine times of single synchronous calls are told apart, in nanoseconds, and up to which time. */
const TIME_STEP_NS = 10, TIME_STEPS = 100_000;

/**
 * The times of single synchronous calls.
 *
 * @returns The median and the longest, in milliseconds. Both include reading the clock.
 */
function timesSynchronously(
  seconds: number,
  call: (i: number) => unknown,
): { median: number; slowest: number } {
  const counts = new Uint32Array(TIME_STEPS + 1);
  let slowest = 0;
  const { count } = repeatSynchronously(seconds, (i) => {
    const start = performance.now();
    call(i);
    const took = performance.now() - start;
    if (took > slowest) slowest = took;
    counts[Math.min(Math.floor(took * 1e6 / TIME_STEP_NS), TIME_STEPS)]++;
  });
  let step = 0;
  for (let seen = counts[0]; seen < count / 2;) seen += counts[++step];
  return { median: (step + 0.5) * TIME_STEP_NS / 1e6, slowest };
}

/** What can be measured of a synchronous map. */
const synchronousMeasures: Record<string, (map: SynchronousMap, seconds: number) => number> = {
  get(map, seconds) {
    const { count, took } = repeatSynchronously(seconds, (i) => map.get(KEYS[i]));
    return took / count * 1000;
  },
  set(map, seconds) {
    const { count, took } = repeatSynchronously(seconds, (i) => map.set(KEYS[i], VALUES[i]));
    return took / count * 1000;
  },
  together(map, seconds) {
    return 1e6 / synchronousMeasures.get(map, seconds);
  },
  median(map, seconds) {
    const { median } = timesSynchronously(seconds, (i) => map.get(KEYS[i]));
    // (Reading the clock takes a part of the time of a get that must not hide how that changes.)
    return (median - timesSynchronously(0.1, () => {}).median) * 1000;
  },
  slowest(map, seconds) {
    return timesSynchronously(seconds, (i) => map.get(KEYS[i])).slowest;
  },
};

const duration = Number(seconds);
/** How long each is warmed up, in seconds: the first calls measure V8's compiler. */
const warmUp = Math.min(0.5, duration / 2);

let measure: (seconds: number) => number | Promise<number>;
let map: AwaitedMap | SynchronousMap;
if (name in awaited) {
  const opened = map = await awaited[name](address);
  measure = (seconds) => measures[what](opened, seconds);
} else {
  const opened = map = await synchronous[name](address);
  measure = (seconds) => synchronousMeasures[what](opened, seconds);
}
await prepare(map);
await measure(warmUp);
console.log("ready");
await Deno.stdin.read(new Uint8Array(1));
const before = process.cpuUsage();
const result = await measure(duration);
const { user, system } = process.cpuUsage(before);
console.log(result, (user + system) / 1e6);
await map.close();
Deno.exit();
