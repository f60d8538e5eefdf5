/** A reader in Python, written from docs/memory.md: it reads a host's memory, whatever the host does meanwhile. */

import assert from "node:assert/strict";
import { MemStoreClient } from "../mod.ts";
import { Host } from "./host.ts";

const DOCS = new URL("../docs/", import.meta.url).pathname;
const PYTHON = "/usr/bin/python3";

const isShared = Deno.build.os === "linux" && Deno.build.arch === "x86_64";
const hasPython = await new Deno.Command(PYTHON, { args: ["-c", "import zmq, msgpack"], stderr: "null" })
  .output()
  .then(({ success }) => success, () => false);

/** Runs a part of python_reader.py beside a host, as long as the block. */
function python(host: Host, part: string): Deno.ChildProcess {
  return new Deno.Command(PYTHON, {
    args: [new URL("python_reader.py", import.meta.url).pathname, DOCS, `ipc://${host.endpoint}`, part],
    env: { PYTHONDONTWRITEBYTECODE: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    // (It ends by itself before that.)
    signal: AbortSignal.timeout(120_000),
  }).spawn();
}

/** Fails unless a program ends well. */
async function succeeds(program: Deno.ChildProcess): Promise<void> {
  const { success, stdout, stderr } = await program.output();
  assert.ok(success, new TextDecoder().decode(stderr));
  assert.match(new TextDecoder().decode(stdout), /^ok\n/);
}

function test(name: string, fn: (host: Host) => Promise<void>): void {
  const why = !isShared
    ? " [ignored: there is no shared memory here]"
    : hasPython
    ? ""
    : " [ignored: python3-zmq or python3-msgpack is not installed]";
  Deno.test({
    name: `a reader in Python: ${name}${why}`,
    // (In CI they are installed: there their absence is a failure.)
    ignore: !isShared || !hasPython && Deno.env.get("CI") === undefined,
    async fn() {
      await using host = await Host.start();
      await fn(host);
    },
  });
}

Deno.test("docs/memory.md shows docs/reader.py, all of it", async () => {
  const page = await Deno.readTextFile(`${DOCS}memory.md`);
  const shown = Array.from(page.matchAll(/^```python\n(.*?)^```$/gms), ([, code]) => code);
  assert.deepEqual(shown, [await Deno.readTextFile(`${DOCS}reader.py`)]);
});

test("keys, values and tables of all kinds", (host) => succeeds(python(host, "values")));

test("entries expire", (host) => succeeds(python(host, "expiry")));

test("after a restore it says that the data is elsewhere", (host) => succeeds(python(host, "moved")));

test("beside a writer, each value is whole and none is older than the last", async (host) => {
  await using client = new MemStoreClient(host.endpoint);
  let done = false, number = 0;
  const write = async () => {
    number++;
    const letter = String.fromCharCode(97 + number % 26);
    const writes: Promise<unknown>[] = [];
    for (let key = 0; key < 20; key++) {
      const length = key % 2 ? number % 5 * 100 + 4000 : 4000;
      writes.push(client.set("hot", key, [number, letter.repeat(length)]));
    }
    // (A table that grows and shrinks: its pages are split and merged, and the directory moves.)
    writes.push(client.set("pages", number % 3000, number), client.del("pages", (number - 1000) % 3000));
    writes.push(client.batch((batch) => [
      batch.set("pair", "one", number),
      batch.set("other pair", "other", number),
    ]));
    await Promise.all(writes);
  };
  await write();
  const writing = (async () => {
    while (!done) await write();
  })();
  try {
    await succeeds(python(host, "torn"));
  } finally {
    done = true;
    await writing;
  }
});

test("a host that is killed is gone", async (host) => {
  const program = python(host, "gone");
  const reader = program.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let printed = "";
  for (let chunk; !(chunk = await reader.read()).done;) {
    printed += chunk.value;
    if (printed === "reading\n") await host.end("SIGKILL");
  }
  const error = await new Response(program.stderr).text();
  assert.ok((await program.status).success, error);
  assert.equal(printed, "reading\nok\n");
});
