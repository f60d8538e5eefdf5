/** Cursors reveal nothing to clients, and each leads back to its position. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { fromClient, toClient } from "../blocks/cursor.ts";
import { halfSipHash, hash } from "../blocks/hash.ts";

const cursor = fc.integer({ min: 0, max: 2 ** 32 - 1 });

Deno.test("a client's cursor leads back to where it came from, and 0 is 0", () => {
  fc.assert(fc.property(cursor, (cursor) => {
    const given = toClient(cursor);
    assert.equal(given === 0, cursor === 0);
    assert.equal(given >>> 0, given);
    assert.equal(fromClient(given), cursor);
    assert.equal(toClient(fromClient(cursor)), cursor);
  }));
  assert.deepEqual([toClient(0), fromClient(0)], [0, 0]);
});

Deno.test("cursors that are near to each other look random to a client", () => {
  let bits = 0;
  const ROUNDS = 2000;
  for (let i = 1; i <= ROUNDS; i++) {
    let changed = toClient(i * 65536) ^ toClient(i * 65536 + 1);
    for (; changed !== 0; changed &= changed - 1) bits++;
  }
  // Half of 32 bits change; 17 standard deviations to either side.
  assert.ok(Math.abs(bits / ROUNDS - 16) < 1.1, `${bits / ROUNDS} bits change`);
});

/** What another process answers. */
async function inAnotherProcess(script: string): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", script],
    stderr: "inherit",
  }).output();
  return new TextDecoder().decode(stdout).trim();
}

Deno.test("another process has other hashes and other cursors", async () => {
  const of = (file: string) => JSON.stringify(new URL(`../blocks/${file}`, import.meta.url).href);
  const bytes = new Uint8Array(8);
  const script = `
    import { toClient } from ${of("cursor.ts")};
    import { hash, halfSipHash } from ${of("hash.ts")};
    const bytes = new Uint8Array(8);
    console.log(JSON.stringify([hash(bytes, 0, 8), toClient(5), toClient(6), halfSipHash(bytes, 0, 8, 1, 2)]));`;
  const [theirHash, five, six, keyed] = JSON.parse(await inAnotherProcess(script));
  assert.notEqual(theirHash, hash(bytes, 0, 8));
  assert.notDeepEqual([five, six], [toClient(5), toClient(6)]);
  assert.equal(keyed, halfSipHash(bytes, 0, 8, 1, 2));
});
