/**
 * The benchmark: memstore beside the peers that are installed, in one run on one machine. bench/README.md says how to
 * read what it prints.
 *
 * ```text
 * deno task bench [--quick] [--seconds N] [--rounds N] [--only TEXT] [--out DIRECTORY]
 * ```
 *
 * @module
 */

import { parseArgs } from "node:util";
import os from "node:os";
import manifest from "../deno.json" with { type: "json" };
import { measureInTurns, type Size } from "./measure.ts";
import { measures } from "./measures.ts";
import { findTools, type Tools } from "./processes.ts";
import { chart, type Report, resultOf, table } from "./report.ts";

const FULL: Size = { seconds: 1, entries: 1_000_000, many: 10_000_000 };
const QUICK: Size = { seconds: 0.1, entries: 20_000, many: 50_000 };

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    seconds: { type: "string" },
    rounds: { type: "string" },
    only: { type: "string", default: "" },
    out: { type: "string" },
  },
});

/** Shows on a terminal what is measured, in the place of what was shown before. */
function show(text: string): void {
  if (Deno.stderr.isTerminal()) Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[2K${text}`));
}

/** The directory whose files are in memory; undefined where there is none. */
async function memoryDirectory(): Promise<string | undefined> {
  const path = "/dev/shm";
  return await Deno.stat(path).then(({ isDirectory }) => isDirectory ? path : undefined, () => undefined);
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
  const size = { ...(options.quick ? QUICK : FULL) };
  if (options.seconds !== undefined) size.seconds = Number(options.seconds);
  if (!(size.seconds > 0)) {
    throw new Error(`Cannot measure: --seconds must be more than 0: received ${options.seconds}`);
  }
  const rounds = Number(options.rounds ?? (options.quick ? 1 : 5));
  if (!(rounds >= 1)) {
    throw new Error(`Cannot measure: --rounds must be 1 or more: received ${options.rounds}`);
  }
  const directory = await Deno.makeTempDir({ prefix: "ms-bench-" });
  const files = await Deno.makeTempDir({ prefix: "ms-bench-", dir: await memoryDirectory() });
  try {
    const tools = await findTools(directory, files);
    const report: Report = { machine: machineOf(tools), missing: tools.missing, failed: [], results: [] };
    for await (const measure of measures(directory, tools, size)) {
      if (!measure.name.includes(options.only)) continue;
      const { samples, failed } = await measureInTurns(measure, rounds, size.seconds, show);
      show("");
      report.failed.push(...failed);
      if (samples.some(({ length }) => length > 0)) report.results.push(resultOf(measure, samples));
    }
    if (report.failed.length > 0) Deno.exitCode = 1;
    console.log(table(report, Deno.stdout.isTerminal() && !Deno.noColor));
    // Part of a run does not take the place of a whole one.
    const whole = !options.quick && options.only === "";
    const out = options.out ?? (whole ? new URL("results", import.meta.url).pathname : undefined);
    if (out === undefined) return;
    await Deno.mkdir(out, { recursive: true });
    await Deno.writeTextFile(`${out}/results.json`, JSON.stringify(report, null, 2) + "\n");
    await Deno.writeTextFile(`${out}/chart.svg`, chart(report));
  } finally {
    for (const each of [directory, files]) await Deno.remove(each, { recursive: true });
  }
}

await main();
