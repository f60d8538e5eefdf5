/** The benchmark runs with and without its peers, and `memstore bench` leaves nothing behind. */

import assert from "node:assert/strict";
import { MemStoreClient } from "../mod.ts";
import { Host, TempDir } from "./host.ts";
import { type Measure, measureInTurns } from "../bench/measure.ts";
import { chart, type Report, resultOf, table } from "../bench/report.ts";

/** Whether a client can read the host's memory here. */
const DIRECT = Deno.build.os === "linux" && Deno.build.arch === "x86_64";
const ROOT = new URL("..", import.meta.url).pathname;

/** Runs the quick benchmark, with these programs on the PATH. */
async function quick(
  directory: string,
  path: string,
): Promise<{ text: string; report: Report; drawn: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "bench", "--quick", "--out", directory],
    cwd: ROOT,
    env: { PATH: path, NO_COLOR: "1" },
    signal: AbortSignal.timeout(300_000),
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  const read = (name: string) => Deno.readTextFileSync(`${directory}/${name}`);
  return { text, report: JSON.parse(read("results.json")), drawn: read("chart.svg") };
}

Deno.test("the benchmark measures what it finds: a table, JSON and a chart", async () => {
  await using directory = new TempDir();
  const { text, report, drawn } = await quick(directory.path, Deno.env.get("PATH")!);
  assert.deepEqual(report.failed, []);
  assert.ok(report.results.length > 0);
  for (const { name, contestants } of report.results) {
    assert.ok(text.includes(name));
    // (A host may use no processor time.)
    const least = name.startsWith("processor time") ? 0 : Number.MIN_VALUE;
    for (const { samples } of contestants) for (const { value } of samples) assert.ok(value >= least, name);
  }
  assert.match(drawn, /^<svg [^]*<\/svg>\n$/);
  if (Deno.env.get("CI") === undefined) return;
  // There all peers are installed.
  assert.deepEqual(report.missing, [
    ...Deno.build.os === "linux" ? [] : ["the lane from the native load (needs Linux)"],
    ...DIRECT ? [] : ["direct reads (need Linux on x86-64)"],
  ]);
  assert.equal(report.results.length, DIRECT ? 35 : 24);
});

Deno.test("the benchmark names the peers that are missing, and goes on", async () => {
  await using directory = new TempDir();
  await Deno.mkdir(`${directory.path}/bin`);
  for (const program of ["sh", "cat"]) {
    await Deno.symlink(`/bin/${program}`, `${directory.path}/bin/${program}`);
  }
  await Deno.symlink(Deno.execPath(), `${directory.path}/bin/deno`);
  const { text, report } = await quick(`${directory.path}/out`, `${directory.path}/bin`);
  for (const peer of ["native load", "Redis, and fronts of a Redis cluster", "zeromq.js"]) {
    assert.match(text, new RegExp(`^Not measured: .*${peer}`, "m"));
  }
  assert.deepEqual(
    report.results.map(({ name }) => name).filter((name) => name.startsWith("256 gets at once, from")).length,
    1,
  );
});

/** A measure of contestants that "take" these times, round after round; one that has none left fails. */
function measureOf(better: "more" | "less", values: Record<string, number[]>): Measure {
  return {
    name: "a measure",
    unit: "µs",
    better,
    contestants: Object.entries(values).map(([name, left]) => ({
      name,
      once() {
        const value = left.shift();
        return value === undefined ? Promise.reject(new Error(`${name} broke`)) : Promise.resolve({ value });
      },
    })),
  };
}

Deno.test("a contestant that cannot be measured is named with the reason, and does not count", async () => {
  const measure = {
    ...measureOf("less", { ours: [2, 4, 6], quick: [1], slow: [8, 8, 20], slower: [10, 10, 10] }),
    comparisons: [
      { against: ["quick", "slow", "slower"], atLeast: 2.5 },
      { against: ["slow"], atLeast: 1.9 },
      { against: ["quick"], atLeast: 1 },
      { ours: "quick", atLeast: 1 },
    ],
  };
  const { samples, failed } = await measureInTurns(measure, 3, 1);
  const result = resultOf(measure, samples);
  assert.deepEqual(failed, ["quick, a measure: quick broke"]);
  assert.deepEqual(result.contestants.map(({ name, median }) => [name, median]), [
    ["ours", 4],
    ["slow", 8],
    ["slower", 10],
  ]);
  assert.deepEqual(result.judgements, [
    { ours: "ours", peer: "slow", ratio: 2, goal: { atLeast: 2.5 }, reached: false },
    { ours: "ours", peer: "slow", ratio: 2, goal: { atLeast: 1.9 }, reached: true },
  ]);
  const text = table({ machine: {}, missing: [], failed, results: [result] }, false);
  assert.match(text, /^Cannot measure: quick, a measure: quick broke$/m);
  assert.match(text, /→ ours: 2\.00 × slow, goal ≥ 2\.5 ×, not reached/);
});

Deno.test("a ratio above 1 says that ours is better, but for a part; a value has a goal of its own", async () => {
  const judge = async (measure: Measure) => resultOf(measure, (await measureInTurns(measure, 1, 1)).samples);
  const more = measureOf("more", { ours: [30], peer: [10], other: [20] });
  assert.deepEqual((await judge(more)).judgements, [{ ours: "ours", peer: "other", ratio: 1.5 }]);
  const part = { ...measureOf("less", { ours: [3], peer: [4] }), comparisons: [{ atMost: 0.7 }] };
  assert.deepEqual((await judge(part)).judgements, [
    { ours: "ours", peer: "peer", ratio: 0.75, goal: { atMost: 0.7 }, reached: false },
  ]);
  for (const better of ["more", "less"] as const) {
    const alone = { ...measureOf(better, { ours: [3] }), value: 2 };
    const goal = better === "more" ? { atLeast: 2 } : { atMost: 2 };
    assert.deepEqual((await judge(alone)).judgements, [{ ours: "ours", goal, reached: better === "more" }]);
  }
});

Deno.test("a large ratio leaves room for the others in the chart", async () => {
  const results = await Promise.all([2, 200].map(async (peer) => {
    const measure = measureOf("less", { ours: [1], peer: [peer] });
    return resultOf(measure, (await measureInTurns(measure, 1, 1)).samples);
  }));
  const drawn = chart({ machine: {}, missing: [], failed: [], results });
  const widths = [...drawn.matchAll(/<rect [^>]*width="([\d.]+)"/g)].map(([, width]) => Number(width));
  assert.deepEqual(widths, [34, 340]);
  assert.match(drawn, /200\.00 ×/);
});

Deno.test("memstore bench measures a host and leaves no table there; without a host it fails", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  const bench = async (endpoint: string, ...flags: string[]) => {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--allow-all", `${ROOT}cli.ts`, "bench", "-e", endpoint, "-t", "2", ...flags],
      signal: AbortSignal.timeout(60_000),
    }).output();
    return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
  };
  const { code, stdout, stderr } = await bench(host.endpoint);
  assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
  assert.equal(stdout.match(/^[gs]et, .* [\d,]+( +[\d.]+ [mµ]s){3}$/gm)?.length, DIRECT ? 6 : 5, stdout);
  assert.match(stdout, /^get, one after another .* µs/m);
  assert.equal(/^get, read directly .* µs/m.test(stdout), DIRECT);
  assert.match(stdout, Deno.build.os === "linux" ? /^over shared memory / : /^over the socket /);
  const overSocket = (await bench(host.endpoint, "--no-lane")).stdout;
  assert.match(overSocket, /^over the socket /);
  assert.doesNotMatch(overSocket, /directly/);
  assert.deepEqual(await client.tables(), []);
  const none = await bench(`${host.directory}/none`);
  assert.deepEqual({ code: none.code, stdout: none.stdout }, { code: 1, stdout: "" });
  assert.match(none.stderr, /^memstore: Cannot ping: no host at /);
});
