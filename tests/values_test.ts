/**
 * Values are bytes: every encoding of the public MessagePack test suite, set as a value, comes back as it
 * was sent, to legacy and native clients, and through a state file.
 */

import assert from "node:assert/strict";
import { Exam } from "msgpack-test-js";
import { MemStoreClient } from "../mod.ts";
import { encoded, Reader } from "../msgpack/codec.ts";
import { engines } from "./engines.ts";
import { Peer } from "./host.ts";

const test = engines();

const encodings = Exam.getExams().flatMap((exam) => exam.getMsgpacks().map((bytes) => new Uint8Array(bytes)));

const command = (...items: Uint8Array[]) =>
  new Uint8Array([0x90 | items.length, ...items.flatMap((each) => [...each])]);
const [SET, GET, TABLE] = ["set", "get", "t"].map(encoded);
const HEADER = new Uint8Array([0x4d, 1]);

test(`each of the suite's ${encodings.length} encodings comes back with the same bytes`, async (engine) => {
  assert.ok(encodings.length > 200);
  await using host = await engine.host();
  await using peer = await Peer.connect(host.endpoint);
  await using client = new MemStoreClient(host.endpoint);
  for (const [i, value] of encodings.entries()) {
    const [, , set] = await peer.request([[], HEADER, command(SET, TABLE, encoded(i), value)]);
    assert.deepEqual(set, new Uint8Array([0, 1]));
  }
  const check = async () => {
    for (const [i, value] of encodings.entries()) {
      const get = command(GET, TABLE, encoded(i));
      assert.deepEqual((await peer.request([[], get]))[1], value);
      assert.deepEqual((await peer.request([[], HEADER, get]))[2], new Uint8Array([0, ...value]));
    }
  };
  await check();
  await client.store("state");
  await client.drop("t");
  await client.restore("state");
  await check();
});

Deno.test("a value of many containers side by side is not a deep one", () => {
  const arrays = Array.from({ length: 3000 }, () => []);
  assert.deepEqual(new Reader(encoded(arrays), 0).value(), arrays);
  const maps = Array.from({ length: 3000 }, (_, i) => new Map([[i, 0]]));
  assert.deepEqual(new Reader(encoded(maps), 0).value(), maps);
});
