/** Legacy clients: a real Python client over pyzmq, and its frames written by hand. */

import assert from "node:assert/strict";
import { engines } from "./engines.ts";
import { Peer } from "./host.ts";

const test = engines();

const PYTHON = "/usr/bin/python3";

async function pythonHasZmq(): Promise<boolean> {
  try {
    return (await new Deno.Command(PYTHON, { args: ["-c", "import zmq, msgpack"], stderr: "null" }).output())
      .success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

// (In CI they are installed: there their absence is a failure.)
const available = await pythonHasZmq() || Deno.env.get("CI") !== undefined;

test("a pymemstore client (REQ, old MessagePack) completes its test script", async (engine) => {
  await using host = await engine.host();
  const { stdout, stderr } = await new Deno.Command(PYTHON, {
    args: [new URL("legacy_client.py", import.meta.url).pathname, `ipc://${host.endpoint}`],
    cwd: host.directory,
    signal: AbortSignal.timeout(60_000),
  }).output();
  assert.equal(new TextDecoder().decode(stdout), "ok\n", new TextDecoder().decode(stderr));
  assert.equal((await host.status).code, 0);
}, available ? undefined : "python3-zmq or python3-msgpack is not installed");

test("legacy replies are single items under the client's envelope, through proxies too", async (engine) => {
  await using host = await engine.host();
  await using peer = await Peer.connect(host.endpoint);
  const bytes = (text: string) => new TextEncoder().encode(text);
  assert.deepEqual(
    await peer.request([[], [0x91, 0xa4, ...bytes("ping")]]),
    [[], [0xa4, ...bytes("pong")]].map(u8),
  );
  const proxied = await peer.request([[1, 2], [3], [], [0x91, 0xa4, ...bytes("sets")]]);
  assert.deepEqual(proxied, [[1, 2], [3], [], [0x90]].map(u8));
});

const u8 = (bytes: number[]) => new Uint8Array(bytes);
