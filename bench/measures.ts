/**
 * The measures of the benchmark, in their order; each is a file of {@link ./measures/}.
 *
 * @module
 */

import type { Measure, Size } from "./measure.ts";
import { atOnce } from "./measures/at_once.ts";
import { batches } from "./measures/batches.ts";
import { cluster } from "./measures/cluster.ts";
import { direct } from "./measures/direct.ts";
import { encrypted } from "./measures/encrypted.ts";
import { growth } from "./measures/growth.ts";
import { besideHostiles } from "./measures/hostiles.ts";
import { idle } from "./measures/idle.ts";
import { legacy } from "./measures/legacy.ts";
import { entriesOf, memory } from "./measures/memory.ts";
import { oneAfterAnother } from "./measures/one_after_another.ts";
import { sharedHeap } from "./measures/shared_heap.ts";
import { slowest } from "./measures/slowest.ts";
import { synchronous } from "./measures/synchronous.ts";
import { together } from "./measures/together.ts";
import { type Running, startHost, startLoop, startRedis, type Tools } from "./processes.ts";

/** Starts what is needed, and yields one measure after another; each is done before the next is asked for. */
export async function* measures(directory: string, tools: Tools, size: Size): AsyncGenerator<Measure> {
  await using stack = new AsyncDisposableStack();
  const start = async (it: Promise<Running>) => stack.use(await it);
  const host = await start(startHost(directory, "host"));
  const redis = tools.redis === undefined ? undefined : await start(startRedis(directory, "redis"));
  if (tools.load) {
    const filled = entriesOf(host, redis, tools.load, size);
    yield* memory(filled, redis !== undefined, size);
    for (const what of ["get", "set"] as const) yield batches(what, host, redis, filled, tools, size);
  }
  yield* oneAfterAnother(host, redis, directory, tools, stack);
  yield* synchronous(directory, host, redis, tools, size);
  if (tools.direct) yield* direct(directory, host, tools.load);
  if (tools.direct && tools.load) yield* sharedHeap(directory, tools.load, size);
  yield atOnce(host, redis);
  yield* together(host, redis);
  yield idle(host);
  yield* encrypted(directory, stack);
  yield* besideHostiles(directory);
  if (tools.redis) yield* cluster(directory, size, stack);
  if (tools.load && tools.python) yield legacy(host, await start(startLoop(directory)), tools.load);
  if (!tools.load) return;
  yield slowest(directory, tools.load, redis !== undefined, size);
  yield growth(directory, tools.load, size);
}
