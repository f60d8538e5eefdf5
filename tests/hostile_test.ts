/** Hostile messages: the host replies as the protocol says, runs nothing, and still serves others. */

import assert from "node:assert/strict";
import { MemStoreClient } from "../mod.ts";
import { encoded, Reader } from "../msgpack/codec.ts";
import { Host, Peer } from "./host.ts";
import { concat } from "./hostiles.ts";

const HEADER = [0x4d, 1, 9, 9];
const BATCH = [0x4d, 0x81, 9, 9];
const ping = encoded(["ping"]);
const set = (key: number) => encoded(["set", "t", key, 1]);

/** Native replies: [0, value] or [1, [code, text]] each. */
function replies(payload: Uint8Array): unknown[][] {
  const found: unknown[][] = [];
  for (const reader = new Reader(payload); reader.at < payload.length;) {
    found.push([reader.value(), reader.value()]);
  }
  return found;
}

const codes = (payload: Uint8Array) =>
  replies(payload).map(([status, value]) => status === 0 ? value : (value as string[])[0]);

Deno.test("a host runs nothing of a message that it cannot read, nor of a batch that holds a bad command", async () => {
  await using host = await Host.start();
  await using peer = await Peer.connect(host.endpoint);
  await using client = new MemStoreClient(host.endpoint);
  const send = async (header: number[], payload: Uint8Array) => {
    const frames = await peer.request([[], header, payload]);
    assert.deepEqual(frames.slice(0, 2), [new Uint8Array(), new Uint8Array(header)]);
    return codes(frames[2]);
  };
  const native = (payload: Uint8Array) => send(HEADER, payload);
  const batch = (payload: Uint8Array) => send(BATCH, payload);
  assert.deepEqual(await native(ping), ["pong"]);

  const whole = set(1);
  for (let cut = 0; cut < whole.length; cut++) {
    assert.deepEqual(await native(whole.slice(0, cut)), ["BAD_REQUEST"], `cut at ${cut}`);
    assert.deepEqual(
      await native(concat(set(2), whole.slice(0, cut || 1))),
      ["BAD_REQUEST"],
      `cut at ${cut}`,
    );
  }
  const nested = new Uint8Array(10_000).fill(0x91);
  const claims = [0xc6, 0xc9, 0xdb, 0xdd, 0xdf].map((head) => [head, 0xff, 0xff, 0xff, 0xff]);
  for (const bytes of [nested, concat(nested, ping), ...claims, [0xc1], [0x92, 0xc1, 0xc1]]) {
    assert.deepEqual(await native(new Uint8Array(bytes)), ["BAD_REQUEST"]);
  }
  // Deep inside a command that is good otherwise.
  const deep = concat(new Uint8Array([0x94]), ...["set", "t", 3].map(encoded), nested.fill(0xc0, 9999));
  assert.deepEqual(await native(deep), ["BAD_REQUEST"]);

  for (const item of [1, "ping", null, {}, []]) {
    assert.deepEqual(await batch(concat(set(4), encoded(item))), ["NOT_RUN", "BAD_REQUEST"]);
  }
  assert.deepEqual(await batch(concat(set(5), encoded(["no such command"]))), [
    "NOT_RUN",
    "UNKNOWN_COMMAND",
  ]);
  assert.deepEqual(await batch(concat(set(6), encoded([1]))), ["NOT_RUN", "UNKNOWN_COMMAND"]);
  assert.deepEqual(await native(encoded(["x".repeat(100_000)])), ["UNKNOWN_COMMAND"]);
  for (
    const command of [["get", "t"], ["get", "t", 1, 2], ["ping", 1], ["store"], ["store", 1], ["restore", {}]]
  ) {
    assert.deepEqual(await batch(concat(encoded(command), set(7))), ["BAD_ARGUMENT", "NOT_RUN"]);
  }
  assert.equal(await client.size("t"), 0, "nothing ran");
  assert.deepEqual(await native(concat(set(8), ping)), [1, "pong"]);
  assert.equal(await client.size("t"), 1);

  // Without the mark, each stands on its own.
  for (const command of [["get", "t"], ["nope"], 1]) {
    const [before, refused, after] = await native(concat(set(9), encoded(command), set(10)));
    assert.deepEqual([before, after], [1, 1]);
    assert.match(String(refused), /^(BAD_ARGUMENT|UNKNOWN_COMMAND|BAD_REQUEST)$/);
  }
  assert.equal(await client.size("t"), 3);
});

Deno.test("a host answers envelopes that it cannot read, and serves on", async () => {
  await using host = await Host.start();
  await using peer = await Peer.connect(host.endpoint);
  const legacy = (frames: Uint8Array[]) => assert.deepEqual(frames.at(-1), new Uint8Array([0xff]));
  const refused = (frames: Uint8Array[]) => assert.deepEqual(codes(frames.at(-1)!), ["BAD_REQUEST"]);
  legacy(await peer.request([ping]));
  legacy(await peer.request([[]]));
  legacy(await peer.request([[], []]));
  legacy(await peer.request([[], [], []]));
  legacy(await peer.request([[], [0x58, 1], ping]));
  legacy(await peer.request([[], ...Array.from({ length: 1000 }, () => [1])]));
  legacy(await peer.request(Array.from({ length: 1000 }, () => [])));
  refused(await peer.request([[], [0x4d], ping]));
  refused(await peer.request([[], [0x4d, 2], ping]));
  refused(await peer.request([[], [0x4d, 1, ...Array(31).fill(0)], ping]));
  refused(await peer.request([[], HEADER, ping, ping]));
  assert.deepEqual(codes((await peer.request([[], [0x4d, 1, ...Array(30).fill(0)], ping])).at(-1)!), [
    "pong",
  ]);
});

Deno.test("a host survives a million random bytes", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  let sent = 0;
  while (sent < 1_000_000) {
    // (After 50 messages that are none a client is disconnected.)
    await using peer = await Peer.connect(host.endpoint);
    for (let i = 0; i < 40; i++) {
      const frames = Array.from({ length: 1 + i % 4 }, () => {
        return crypto.getRandomValues(new Uint8Array(Math.floor(Math.random() * 2000)));
      });
      sent += frames.reduce((sum, { length }) => sum + length, 0);
      // Each has its reply: all was read.
      await peer.request(i % 2 ? [[], HEADER, ...frames] : [[], ...frames]);
    }
    assert.equal(await client.ping(), "pong");
  }
});

Deno.test("a client that vanishes in the middle of its requests disturbs nobody", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint);
  for (let i = 0; i < 20; i++) {
    const peer = await Peer.connect(host.endpoint);
    assert.deepEqual(codes((await peer.request([[], HEADER, ping]))[2]), ["pong"]);
    for (let n = 0; n < 50; n++) peer.send([[], HEADER, concat(set(n), encoded(["all", "t"]))]);
    await peer[Symbol.asyncDispose]();
    assert.equal(await client.ping(), "pong");
  }
});

Deno.test("a message of too many commands, or with a key nested too deep, is refused", async () => {
  await using host = await Host.start();
  await using peer = await Peer.connect(host.endpoint);
  const native = async (payload: Uint8Array) => codes((await peer.request([[], HEADER, payload]))[2]);
  assert.deepEqual(await native(new Uint8Array(1_000_000).fill(0x90)), ["TOO_LARGE"]);
  const nest = (depth: number): unknown => depth === 0 ? 1 : { a: nest(depth - 1) };
  assert.deepEqual(await native(encoded(["set", "t", nest(17), 1])), ["BAD_ARGUMENT"]);
  assert.deepEqual(await native(encoded(["push", nest(17), 1])), ["BAD_ARGUMENT"]);
  assert.deepEqual(await native(encoded(["push", "s", nest(17)])), ["BAD_ARGUMENT"]);
  assert.deepEqual(await native(encoded(["set", "t", nest(16), nest(400)])), [1]);
});
