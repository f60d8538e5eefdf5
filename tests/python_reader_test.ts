/** A reader in Python, written from docs/memory.md: it reads a host's memory, whatever the host does meanwhile. */

import assert from "node:assert/strict";
import { halfSipHash } from "../blocks/hash.ts";
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

Deno.test("docs/memory.md gives hashes as they are", async () => {
  const page = await Deno.readTextFile(`${DOCS}memory.md`);
  const rows = Array.from(page.matchAll(/^\| `.*` +\| `((?:[\da-f]{2} ?)+)` +\| `([\da-f]{8})` \|$/gm));
  assert.equal(rows.length, 4);
  for (const [, bytes, hash] of rows) {
    const key = Uint8Array.from(bytes.split(" "), (byte) => parseInt(byte, 16));
    assert.equal(halfSipHash(key, 0, key.length, 0x03020100, 0x07060504) >>> 0, parseInt(hash, 16), bytes);
  }
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
    for (let key = 0; key < 4; key++) {
      // (Of the same length: it is overwritten where it is. Of another one: it moves.)
      const length = 100_000 + number % 3 * 1000 * (key % 2);
      writes.push(client.set("hot", key, [number, letter.repeat(length)]));
    }
    const between = Array.from({ length: 300 }, (_, i) => number * 300 + i);
    writes.push(client.batch((batch) => [
      batch.set("pair", "one", number),
      // (A table that grows and shrinks, so that pages are split and merged.)
      ...between.map((i) => batch.set("pages", i % 3000, i)),
      ...between.map((i) => batch.del("pages", (i - 1500) % 3000)),
      batch.set("pair", "other", number),
    ]));
    // One that is rolled back.
    const failing = client.batch((batch) => [
      batch.set("pair", "one", -1),
      ...between.map((i) => batch.set("fixed", i % 1000, -1)),
      batch.incr("hot", 0),
    ]);
    writes.push(assert.rejects(failing));
    await Promise.all(writes);
  };
  await client.setMany("fixed", new Map(Array.from({ length: 1000 }, (_, i) => [i, i])));
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
