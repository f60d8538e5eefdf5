/** The benchmark runs with and without its peers, and `memstore bench` leaves nothing behind. */

import assert from "node:assert/strict";
import { MemStoreClient } from "../mod.ts";
import { Host, TempDir } from "./host.ts";
import type { Report } from "../bench/report.ts";

const ROOT = new URL("..", import.meta.url).pathname;

/** Runs the quick benchmark, with these programs on the PATH. */
async function quick(
  directory: string,
  path: string,
): Promise<{ text: string; report: Report; chart: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "bench", "--quick", "--out", directory],
    cwd: ROOT,
    env: { PATH: path, NO_COLOR: "1" },
    signal: AbortSignal.timeout(120_000),
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  const read = (name: string) => Deno.readTextFileSync(`${directory}/${name}`);
  return { text, report: JSON.parse(read("results.json")), chart: read("chart.svg") };
}

Deno.test("the benchmark measures what it finds: a table, JSON and a chart", async () => {
  await using directory = new TempDir();
  const { text, report, chart } = await quick(directory.path, Deno.env.get("PATH")!);
  assert.ok(report.results.length > 0);
  for (const { name, contestants } of report.results) {
    assert.ok(text.includes(name));
    for (const { samples } of contestants) for (const { value } of samples) assert.ok(value > 0, name);
  }
  assert.match(chart, /^<svg [^]*<\/svg>\n$/);
  if (Deno.env.get("CI") === undefined) return;
  // There all peers are installed.
  assert.deepEqual(report.missing, []);
  assert.equal(report.results.length, 16);
});

Deno.test("the benchmark names the peers that are missing, and goes on", async () => {
  await using directory = new TempDir();
  await Deno.mkdir(`${directory.path}/bin`);
  for (const program of ["sh", "cat"]) {
    await Deno.symlink(`/bin/${program}`, `${directory.path}/bin/${program}`);
  }
  await Deno.symlink(Deno.execPath(), `${directory.path}/bin/deno`);
  const { text, report } = await quick(`${directory.path}/out`, `${directory.path}/bin`);
  for (const peer of ["native load", "Redis", "zeromq.js"]) {
    assert.match(text, new RegExp(`^Not measured: .*${peer}`, "m"));
  }
  assert.deepEqual(
    report.results.map(({ name }) => name).filter((name) => name.startsWith("256 gets at once, from")).length,
    1,
  );
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
  assert.equal(stdout.match(/^[gs]et, .* [\d,]+( +[\d.]+ [mµ]s){3}$/gm)?.length, 5, stdout);
  assert.match(stdout, /^get, one after another .* µs/m);
  assert.match(stdout, Deno.build.os === "linux" ? /^over shared memory / : /^over the socket /);
  assert.match((await bench(host.endpoint, "--no-lane")).stdout, /^over the socket /);
  assert.deepEqual(await client.tables(), []);
  const none = await bench(`${host.directory}/none`);
  assert.deepEqual({ code: none.code, stdout: none.stdout }, { code: 1, stdout: "" });
  assert.match(none.stderr, /^memstore: Cannot ping: no host at /);
});
