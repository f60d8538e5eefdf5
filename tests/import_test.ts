/** What one is told who runs memstore without a permission, outside of Deno, or with another libzmq. */

import assert from "node:assert/strict";
import { Host, TempDir } from "./host.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const SYSTEM_LIBZMQ = "/usr/lib/x86_64-linux-gnu/libzmq.so.5";

/** What a host and a client of a bare name need. */
const PERMISSIONS = [
  "--allow-ffi",
  "--allow-read",
  "--allow-write",
  "--allow-env=XDG_RUNTIME_DIR,TMPDIR,TMP,TEMP",
  "--allow-sys=uid",
];

const PROGRAMS = {
  host: `import { MemStore } from "${ROOT}mod.ts";
    await using store = new MemStore("jobs");
    await store.start();`,
  client: `import { MemStoreClient } from "${ROOT}client.ts";
    await using client = new MemStoreClient("jobs", { connectTimeout: 1 });
    await client.ping();`,
};

/** Runs a program that prints what it throws, without a configuration: all that it printed. */
async function failureOf(
  program: string,
  flags: string[],
  env: Record<string, string> = {},
): Promise<string> {
  await using directory = new TempDir();
  const path = `${directory.path}/program.ts`;
  const [imports, ...rest] = program.split("\n");
  const code = `${imports}\ntry {\n${rest.join("\n")}\n} catch (error) {\nconsole.log(error.message);\n}\n`;
  await Deno.writeTextFile(path, code);
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", "--no-check", "--no-config", ...flags, path],
    env: { XDG_RUNTIME_DIR: directory.path, ...env },
    stdin: "null",
  }).output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

for (const [kind, program] of Object.entries(PROGRAMS)) {
  Deno.test(`a ${kind} without a permission fails with a sentence that names the flag`, async () => {
    for (const missing of PERMISSIONS) {
      const text = await failureOf(program, PERMISSIONS.filter((each) => each !== missing));
      assert.match(text, /^Cannot .*\n$/);
      assert.ok(text.includes(missing), `without ${missing} it prints ${text}`);
    }
    const all = await failureOf(program, PERMISSIONS);
    assert.match(all, kind === "host" ? /^$/ : /^Cannot ping: no host at .*\n$/);
  });
}

Deno.test("a client of a path needs --allow-ffi and --allow-read, and names each that is missing", async () => {
  const program = PROGRAMS.client.replace('"jobs"', '"./jobs.sock"');
  for (const missing of ["--allow-ffi", "--allow-read"]) {
    const text = await failureOf(program, ["--allow-ffi", "--allow-read"].filter((each) => each !== missing));
    assert.equal(text, `Cannot load libzmq: a permission is missing: run it with ${missing}\n`);
  }
  assert.match(await failureOf(program, ["--allow-ffi", "--allow-read"]), /^Cannot ping: no host at /);
});

Deno.test({
  name: "a lane needs no permission beside those, of the client and of the host",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await using host = await Host.start();
    const program = PROGRAMS.client.replace("jobs", host.endpoint).replace(", { connectTimeout: 1 }", "")
      .replace("await client.ping()", "console.log((await client.stats()).lanes)");
    assert.equal(await failureOf(program, ["--allow-ffi", "--allow-read"]), "1\n");
    const without = program.replace('.sock")', '.sock", { lane: false })');
    assert.equal(await failureOf(without, ["--allow-ffi", "--allow-read"]), "0\n");
  },
});

Deno.test("a libzmq that cannot be loaded, or lacks what memstore needs, is named in one sentence", async () => {
  const load = (path: string) => failureOf(PROGRAMS.client, ["--allow-all"], { MEMSTORE_LIBZMQ: path });
  const none = "/nowhere/libzmq.so.5";
  assert.match(
    await load(none),
    /^Cannot load libzmq: .*no such file.*: received \/nowhere\/libzmq\.so\.5 \(MEMSTORE_LIBZMQ\)\n$/i,
  );
  const text = `${ROOT}README.md`;
  assert.match(await load(text), /^Cannot load libzmq: .*: received .*README\.md \(MEMSTORE_LIBZMQ\)\n$/);
  const denied = await failureOf(PROGRAMS.client, PERMISSIONS.slice(1).concat("--allow-env"), {
    MEMSTORE_LIBZMQ: none,
  });
  assert.equal(denied, "Cannot load libzmq: a permission is missing: run it with --allow-ffi\n");
  const { binaryPath } = await import("../transport/zeromq/libzmq.ts");
  assert.match(await load(await binaryPath()), /^Cannot ping: no host at /);
  // (Where npm:zeromq has no binary, or is not there.)
  const named = { MEMSTORE_LIBZMQ: await binaryPath() };
  const alone = await failureOf(PROGRAMS.client, ["--allow-all", "--no-npm"], named);
  assert.match(alone, /^Cannot ping: no host at /);
  const without = await failureOf(PROGRAMS.client, ["--allow-all", "--no-npm"]);
  assert.match(
    without,
    /^Cannot load libzmq from npm:zeromq: .*: install libzmq, and set MEMSTORE_LIBZMQ to its file\n$/,
  );
});

const installed = await Deno.stat(SYSTEM_LIBZMQ).then(() => true, () => false);

Deno.test({
  name: "Debian's libzmq is used if it has what memstore needs, or it is said what it lacks",
  ignore: !installed,
  async fn() {
    const text = await failureOf(PROGRAMS.host, ["--allow-all"], { MEMSTORE_LIBZMQ: SYSTEM_LIBZMQ });
    if (text === "") return;
    const why = "it lacks its draft options (--enable-drafts), which it must be built with";
    assert.equal(text, `Cannot load libzmq: ${why}: received ${SYSTEM_LIBZMQ} (MEMSTORE_LIBZMQ)\n`);
  },
});

Deno.test("outside of Deno, an import says that memstore is for Deno, and what to do", async () => {
  for (const path of ["mod.ts", "client.ts", "preload.ts"]) {
    const [, first] = /^(?:import|export)\b[^;"]*"([^"]+)"/m.exec(Deno.readTextFileSync(ROOT + path)) ?? [];
    assert.equal(first, "./system/deno.ts", `${path} imports something before`);
  }
  await using directory = new TempDir();
  await Deno.copyFile(`${ROOT}system/deno.ts`, `${directory.path}/deno.mjs`);
  const { success, stderr } = await new Deno.Command("node", {
    args: [`${directory.path}/deno.mjs`],
  }).output();
  assert.ok(!success);
  assert.match(new TextDecoder().decode(stderr), /^Error: Cannot load memstore: it runs on Deno alone: /m);
});
