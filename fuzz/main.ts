/**
 * The fuzzer: sends random and damaged input wherever bytes come in, and reports what breaks.
 *
 * ```text
 * deno task fuzz [--seconds N] [--only TARGET] [--seed N] [--cases N]
 * ```
 *
 * Each case has a seed. For a case that finds something, it prints the command that repeats it. Findings are kept as
 * tests in tests/findings_test.ts.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { Random } from "./random.ts";
import type { Target } from "./target.ts";
import { targets } from "./targets.ts";

/** What a fuzzed target is given. */
export interface Bounds {
  /** The seed of the first case; each has the next. */
  seed: number;
  seconds: number;
  cases: number;
}

/** A case that found something. */
export class Finding extends Error {
  override name = "Finding";

  constructor(target: string, seed: number, cause: unknown) {
    const again = `deno task fuzz --only ${target} --seed ${seed} --cases 1`;
    super(`${again}\n${cause instanceof Error ? cause.stack : String(cause)}`, { cause });
  }
}

/**
 * Runs the cases of a target, until one of the bounds is reached: how many.
 *
 * @throws {Finding} for the first that found something.
 */
export async function fuzz(name: string, { seed, seconds, cases }: Bounds): Promise<number> {
  await using target: Target = await targets[name]();
  const end = performance.now() + seconds * 1000;
  let done = 0;
  for (; done < cases && performance.now() < end; done++) {
    try {
      await target.run(new Random(seed + done));
    } catch (error) {
      throw new Finding(name, seed + done, error);
    }
  }
  return done;
}

/** A seed that nobody has had. */
export const newSeed = (): number => Math.floor(Math.random() * 2 ** 31);

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "60" },
      only: { type: "string" },
      seed: { type: "string" },
      cases: { type: "string" },
    },
  });
  const names = values.only === undefined ? Object.keys(targets) : [values.only];
  const unknown = names.find((name) => !Object.hasOwn(targets, name));
  if (unknown !== undefined) {
    console.error(`Cannot fuzz ${unknown}: the targets are ${Object.keys(targets).join(", ")}`);
    Deno.exit(2);
  }
  const seconds = Number(values.seconds) / names.length;
  const cases = Number(values.cases ?? Infinity);
  let found = 0;
  for (const name of names) {
    const seed = Number(values.seed ?? newSeed());
    try {
      console.log(
        `${name}: ${await fuzz(name, { seed, seconds, cases })} cases from seed ${seed}, nothing found`,
      );
    } catch (error) {
      found++;
      console.error(`${name}: ${error instanceof Finding ? error.message : error}`);
    }
  }
  Deno.exit(found > 0 ? 1 : 0);
}
