/**
 * One synchronous call after another, beside embedded databases whose files processes share.
 *
 * @module
 */

import { clientOf } from "../load.ts";
import { type Comparison, list, type Measure } from "../measure.ts";
import type { Running, Tools } from "../processes.ts";

const OURS = "memstore attach()";

const COMPARISONS: Record<"get" | "set", Comparison[]> = {
  // lmdb reads a mapped file, which is faster still.
  get: [{ ours: OURS, against: ["node:sqlite"], atLeast: 1 }, { ours: OURS, against: ["lmdb"] }],
  set: [{ ours: OURS, against: ["lmdb"], atLeast: 1.5 }, { ours: OURS, against: ["node:sqlite"] }],
};

/** Measures the time of a get, and of a set. */
export function* synchronous(host: Running, { files, lmdb }: Tools): Generator<Measure> {
  for (const what of ["get", "set"] as const) {
    yield {
      name: `one synchronous ${what} after another`,
      unit: "µs",
      better: "less",
      comparisons: COMPARISONS[what],
      contestants: list(
        clientOf(OURS, host, what),
        clientOf("node:sqlite", `${files}/sqlite`, what),
        lmdb && clientOf("lmdb", `${files}/lmdb`, what),
      ),
    };
  }
}
