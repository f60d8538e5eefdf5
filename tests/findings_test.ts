/** Findings of the fuzzer, each kept as a test. */

import assert from "node:assert/strict";
import { MemStore, MemStoreClient } from "../mod.ts";
import { replyShape } from "../commands/list.ts";
import { encoded, Reader } from "../msgpack/codec.ts";
import { ZMQ } from "../transport/zeromq/libzmq.ts";
import { readReply } from "../transport/message.ts";
import { MalformedError } from "../msgpack/msgpack.ts";
import { Context } from "../transport/zeromq/context.ts";
import { TempDir } from "./host.ts";

Deno.test("a reply that is none is an error of ours, wherever its bytes end and whatever they claim", () => {
  const nested = new Uint8Array(100_000).fill(0x91);
  const claims = [0xc6, 0xc9, 0xdb, 0xdd, 0xdf].map((head) => [0, head, 0xff, 0xff, 0xff, 0xff]);
  const cut = encoded([1, 2.5, "text", new Uint8Array(5), { a: 2n ** 60n }, new Date(0)]);
  const cuts = Array.from(cut, (_, length) => [0, ...cut.subarray(0, length)]);
  for (
    const bytes of [
      [],
      [0],
      [0, 0xc1],
      [2, 0xc0],
      [1, 0xc0],
      [1, 0x92, 1, 2],
      nested,
      [0, ...nested],
      ...claims,
      ...cuts,
    ]
  ) {
    assert.throws(
      () => readReply("value", new Reader(new Uint8Array(bytes))),
      MalformedError,
      String(bytes.slice(0, 50)),
    );
  }
  for (const name of ["all", "scan"]) {
    assert.throws(() => readReply(replyShape(name), new Reader(new Uint8Array([0, 1]))), MalformedError);
  }
});

Deno.test("a client tells of a reply that cannot be read, and goes on", async () => {
  await using directory = new TempDir();
  const endpoint = `${directory.path}/store.sock`;
  const context = await Context.open();
  const socket = context.socket(ZMQ.ROUTER, { linger: 0 });
  const client = new MemStoreClient(endpoint);
  let stopped = false;
  const answer = async () => {
    while (!stopped) {
      const frames = socket.receive();
      if (!frames) await socket.wait();
      else socket.send([...frames.slice(0, 3), new Uint8Array([0, 0xdd, 0xff, 0xff, 0xff, 0xff])]);
    }
  };
  try {
    socket.bind(`ipc://${endpoint}`);
    const answering = answer();
    for (let i = 0; i < 3; i++) {
      await assert.rejects(client.get("t", "k"), {
        code: "FAILED",
        message: /Cannot get: the reply cannot be read/,
      });
    }
    stopped = true;
    socket.wake();
    await answering;
  } finally {
    await client.close();
    socket.close();
    await context.close();
  }
});

Deno.test("setting or pushing nothing makes no table and no set", async () => {
  await using directory = new TempDir();
  await using store = new MemStore(`${directory.path}/store.sock`);
  await store.start();
  await using client = new MemStoreClient(`${directory.path}/store.sock`);
  assert.equal(await client.setMany("t", new Map()), 0);
  assert.equal(await client.pushMany("s", []), 0);
  assert.deepEqual([await client.tables(), await client.sets()], [[], []]);
});
