/**
 * `deno task compile`: the built program is run end to end where Deno can download its base binary. Where
 * it cannot (no network besides npm), `DENORT_BIN` names the deno executable as a stand-in: the result does
 * not run, but it shows that the graph compiles and that libzmq's binary for this platform is embedded.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createRequire } from "node:module";
import manifest from "../deno.json" with { type: "json" };
import { libzmq } from "../transport/zeromq/libzmq.ts";
import { TempDir } from "./host.ts";

const ROOT = new URL("..", import.meta.url).pathname;

/** Runs the task's command, with another output. */
async function compile(
  output: string,
  env: Record<string, string> = {},
): Promise<{ ok: boolean; log: string }> {
  const [, ...args] = manifest.tasks.compile.command.split(" ");
  args[args.indexOf("--output") + 1] = output;
  const { success, stderr } = await new Deno.Command(Deno.execPath(), { args, cwd: ROOT, env }).output();
  return { ok: success, log: new TextDecoder().decode(stderr) };
}

async function run(program: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args, stdin: "null" }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

async function serveSetAndGet(program: string, endpoint: string): Promise<void> {
  const host = new Deno.Command(program, { args: ["serve", endpoint], stdin: "null", stdout: "piped" })
    .spawn();
  try {
    const lines = host.stdout.pipeThrough(new TextDecoderStream()).getReader();
    assert.equal((await lines.read()).value, `memstore ready on ipc://${endpoint}\n`);
    assert.equal(await run(program, "-e", endpoint, "set", "users", "alice", '{"age":31}'), "1\n");
    assert.equal(await run(program, "-e", endpoint, "get", "users", "alice"), '{"age": 31}\n');
    assert.equal(await run(program, "-e", endpoint, "done"), '["ok"]\n');
    assert.equal((await host.status).code, 0);
    await lines.cancel();
  } finally {
    killIfAlive(host);
  }
}

function killIfAlive(process: Deno.ChildProcess): void {
  try {
    process.kill("SIGKILL");
  } catch {
    // It has ended.
  }
}

/** The addon of npm:zeromq that this platform loads. */
async function addonPath(): Promise<string> {
  await libzmq();
  const path = Object.keys(createRequire(import.meta.url).cache).find((path) => path.endsWith(".node"));
  assert.ok(path);
  return path;
}

Deno.test("deno task compile makes one executable: the steps say what was run and what was not", async (t) => {
  await using directory = new TempDir();
  const program = `${directory.path}/memstore`;
  const { ok, log } = await compile(program);
  // Whatever else goes wrong is our fault.
  const noBase = !ok && /base binary|denort/.test(log);
  assert.ok(ok || noBase, log);

  await t.step({
    name: noBase
      ? "NOT RUN, since Deno's base binary cannot be downloaded: the built program serves, sets and gets"
      : "run: the built program serves, sets and gets",
    ignore: noBase,
    fn: () => serveSetAndGet(program, `${directory.path}/a.sock`),
  });
  await t.step({
    name: noBase
      ? "run: with a stand-in for the base binary, the graph compiles and libzmq's binary is embedded"
      : "not needed: the stand-in for the base binary",
    ignore: !noBase,
    fn: async () => {
      const { ok, log } = await compile(program, { DENORT_BIN: await Deno.realPath(Deno.execPath()) });
      assert.ok(ok, log);
      const bytes = Buffer.from((await Deno.readFile(program)).buffer);
      // What is imported when it is needed could be missed, and so could what is loaded as a library.
      for (
        const path of [
          `${ROOT}server.ts`,
          `${ROOT}terminal/repl.ts`,
          `${ROOT}transport/shared/lane.ts`,
          await addonPath(),
        ]
      ) {
        const file = Buffer.from((await Deno.readFile(path)).buffer);
        assert.ok(bytes.includes(file), `${path} is not embedded`);
      }
      // (Their imports stand in no module graph: the task includes them.)
      for (const name of ["@aws-sdk/client-s3", "@redis/client"]) {
        assert.ok(bytes.includes(`"name": "${name}"`), `${name} is not embedded`);
      }
    },
  });
});
