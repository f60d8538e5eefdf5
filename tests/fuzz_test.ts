/** Runs the fuzzer for a moment, with new seeds each time. `deno task fuzz` runs it longer. */

import { fuzz, newSeed } from "../fuzz/main.ts";
import { targets } from "../fuzz/targets.ts";
import { testWithRedis } from "./redis.ts";

const SECONDS = 1.5;

for (const target of Object.keys(targets)) {
  const test = target === "fronts" ? testWithRedis : Deno.test;
  test(`the fuzzer finds nothing in ${target}`, async () => {
    // (What it finds says its seed.)
    await fuzz(target, { seed: newSeed(), seconds: SECONDS, cases: Infinity });
  });
}
