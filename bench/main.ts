/**
 * The benchmark: memstore beside the peers that are installed, in one run on one machine. bench/README.md says how to
 * read what it prints.
 *
 * ```text
 * deno task bench [--quick] [--rounds N] [--only TEXT] [--out DIRECTORY]
 * ```
 *
 * @module
 */

import { parseArgs } from "node:util";
import os from "node:os";
import manifest from "../deno.json" with { type: "json" };
import type { Measure, Sample, Size } from "./measure.ts";
import { measures } from "./measures.ts";
import { findTools, type Tools } from "./processes.ts";
import { chart, type Report, resultOf, table } from "./report.ts";

const FULL: Size = { seconds: 1, entries: 1_000_000, many: 10_000_000 };
const QUICK: Size = { seconds: 0.1, entries: 20_000, many: 50_000 };

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    only: { type: "string", default: "" },
    out: { type: "string" },
  },
});

/** Shows on a terminal what is measured, in the place of what was shown before. */
function show(text: string): void {
  if (Deno.stderr.isTerminal()) Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[2K${text}`));
}

/** Measures ours and its peers in turn. */
async function measureAll(measure: Measure, rounds: number, seconds: number): Promise<Sample[][]> {
  const samples: Sample[][] = measure.contestants.map(() => []);
  const times = Math.min(rounds, measure.rounds ?? rounds);
  let done = 0;
  for (let round = 0; round < times; round++) {
    for (const [i, { once }] of measure.contestants.entries()) {
      show(`${done++}/${times * samples.length} ${measure.name}`);
      samples[i].push(await once(seconds));
    }
  }
  show("");
  return samples;
}

function machineOf({ redis, python }: Tools): Record<string, string> {
  return {
    memstore: manifest.version,
    Deno: Deno.version.deno,
    Redis: redis ?? "none",
    Python: python ?? "none",
    system: `${os.type()} ${os.release()}`,
    processor: `${os.cpus().length} × ${os.cpus()[0]?.model.trim() ?? "?"}`,
    date: new Date().toISOString().slice(0, 10),
  };
}

async function main(): Promise<void> {
  const size = options.quick ? QUICK : FULL;
  const rounds = Number(options.rounds ?? (options.quick ? 1 : 5));
  if (!(rounds >= 1)) {
    throw new Error(`Cannot measure: --rounds must be 1 or more: received ${options.rounds}`);
  }
  const directory = await Deno.makeTempDir({ prefix: "ms-bench-" });
  try {
    const tools = await findTools(directory);
    const report: Report = { machine: machineOf(tools), missing: tools.missing, results: [] };
    for await (const measure of measures(directory, tools, size)) {
      // (Memory is measured in any case: what follows needs the entries.)
      const wanted = measure.name.includes(options.only) || measure.name.startsWith("memory");
      if (!wanted || measure.contestants.length === 0) continue;
      report.results.push(resultOf(measure, await measureAll(measure, rounds, size.seconds)));
    }
    console.log(table(report, Deno.stdout.isTerminal() && !Deno.noColor));
    // Part of a run does not take the place of a whole one.
    const whole = !options.quick && options.only === "";
    const out = options.out ?? (whole ? new URL("results", import.meta.url).pathname : undefined);
    if (out === undefined) return;
    await Deno.mkdir(out, { recursive: true });
    await Deno.writeTextFile(`${out}/results.json`, JSON.stringify(report, null, 2) + "\n");
    await Deno.writeTextFile(`${out}/chart.svg`, chart(report));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

await main();
