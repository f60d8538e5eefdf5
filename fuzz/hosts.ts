/**
 * Targets that are hosts in processes of their own, with several clients at once, some of them hostile.
 *
 * @module
 */

import assert from "node:assert/strict";
import { MemStoreClient } from "../mod.ts";
import { encoded } from "../msgpack/codec.ts";
import { Host, Peer } from "../tests/host.ts";
import { LanePeer, RING_AT, WORDS } from "../tests/lane_peer.ts";
import { RING_BYTES } from "../transport/shared/lane.ts";
import { concat, handshake, message } from "../tests/hostiles.ts";
import { anyCommand, anyKey, anyPayload, anyValue, mutated, type Random } from "./random.ts";
import type { Target } from "./target.ts";

const portOf = (address: string) => Number(address.slice(address.lastIndexOf(":") + 1));

/** Ends a host and its client, if the host still serves. */
async function endServing(host: Host, client: MemStoreClient): Promise<void> {
  try {
    assert.equal(await client.ping(), "pong");
  } finally {
    await client.close();
    await host[Symbol.asyncDispose]();
  }
}

/** A host in a process of its own, which is sent what goes wrong between the socket and the message. */
export async function connections(): Promise<Target> {
  const host = await Host.start("tcp://127.0.0.1:*");
  const endpoint = host.addresses[0];
  const port = portOf(endpoint);
  const client = new MemStoreClient(endpoint, { timeout: 10_000 });
  await client.set("t", "k", "still there");
  return {
    async run(random) {
      const good = Array.from({ length: 1 + random.below(4) }, () => message(encoded(anyCommand(random))));
      const hello = random.one(2) ? handshake() : mutated(handshake(), random);
      const bytes = concat(hello, ...good.map((each) => random.one(2) ? each : mutated(each, random)));
      using connection = await Deno.connect({ hostname: "127.0.0.1", port });
      for (let at = 0; at < bytes.length;) {
        at += await connection.write(bytes.subarray(at)).catch(() => Infinity);
      }
      // (What is fuzzed may have dropped the table; it cannot have stopped the host.)
      if (random.one(20)) {
        await client.set("t", "k", anyKey(random));
        assert.equal(await client.ping(), "pong");
      }
    },
    [Symbol.asyncDispose]: () => endServing(host, client),
  };
}

/**
 * A host whose lanes are written at random: records that are good, but for what they say of themselves, words of the
 * header, indices and bytes of the rings, and doorbells. A client whose lane is its own is served, and right.
 */
export async function lanes(): Promise<Target> {
  const host = await Host.start();
  const client = new MemStoreClient(host.endpoint, { timeout: 10_000 });
  let value = "";
  return {
    async run(random) {
      // (A client whose first message overtakes the news of its connection gets none: one of a thousand that come and go.)
      await using peer = await LanePeer.connect(host.endpoint) ?? await LanePeer.connect(host.endpoint);
      if (Deno.build.os !== "linux") return;
      assert.ok(peer, "a client that asks for a lane gets none");
      const { words, bytes } = peer;
      const claim = () =>
        random.one(4) ? random.pick([0, 1, 16, 17, 255, RING_BYTES, 2 ** 31, -1]) : undefined;
      const index = () => random.one(2) ? random.below(RING_BYTES) & ~15 : random.below(2 ** 32) | 0;
      const indices = [WORDS.requestTail, WORDS.requestHead, WORDS.replyTail, WORDS.replyHead];
      for (let steps = 1 + random.below(40); steps > 0; steps--) {
        const step = random.below(8);
        if (step < 4) {
          const header = new Uint8Array([0x4d, random.pick([1, 0x41, 0x81, random.below(256)]), 1, 2]);
          const good = step < 3;
          peer.write(header.subarray(0, good ? 4 : random.below(5)), hostile(random).subarray(0, 60_000), {
            length: good ? undefined : claim(),
            headerLength: good ? undefined : claim(),
            outside: good ? undefined : claim(),
          });
        } else if (step === 4) {
          Atomics.store(words, random.pick(indices), index());
        } else if (step === 5) {
          Atomics.store(words, random.pick([WORDS.hostSleeps, WORDS.sleeps, WORDS.state]), random.below(3));
        } else if (step === 6) {
          bytes.set(random.bytes(random.below(200)), RING_AT + random.below(RING_BYTES));
        } else {
          peer.send(...anyCommand(random));
        }
        if (random.one(2)) peer.ring();
      }
      const before = value;
      value = `honest ${random.below(1e9)} `.repeat(1 + random.below(9000));
      assert.ok(await client.get("honest", "k") === (before || undefined), "another value");
      await client.set("honest", "k", value);
    },
    [Symbol.asyncDispose]: () => endServing(host, client),
  };
}

/**
 * A host with clients of two kinds. Some send what they like, in envelopes and with routing ids that they like, and
 * read or do not. The others have a table each, of which they know what must be in it: whatever they are replied is
 * theirs, and right.
 */
export async function neighbours(): Promise<Target> {
  const host = await Host.startWith({ endpoints: ["tcp://127.0.0.1:*"] });
  const path = host.endpoint, port = portOf(host.addresses[1]);
  const honest = Array.from({ length: 3 }, (_, i) => ({
    client: new MemStoreClient(path, { timeout: 30_000 }),
    table: `honest ${i}`,
    values: new Map<number, string>(),
  }));
  return {
    async run(random) {
      await using peers = new AsyncDisposableStack();
      for (let i = 1 + random.below(3); i > 0; i--) {
        if (random.one(3)) {
          const connection = await Deno.connect({ hostname: "127.0.0.1", port });
          peers.defer(() => connection.close());
          const id = random.bytes(random.below(20));
          if (random.one(2)) id[0] = 0;
          const bytes = concat(handshake(id), message(hostile(random)), message(hostile(random)));
          await connection.write(random.one(2) ? bytes : mutated(bytes, random)).catch(() => {});
          continue;
        }
        const peer = peers.use(await Peer.connect(path));
        for (let messages = random.below(20); messages > 0; messages--) {
          const envelope = Array.from({ length: random.below(4) }, () => random.bytes(random.below(300)));
          const header = new Uint8Array([0x4d, random.pick([1, 0x81, 0x41, 0xc1, random.below(256)]), 1, 2]);
          peer.send([...envelope, [], ...random.one(4) ? [] : [header], hostile(random)]);
        }
        if (random.one(2)) await peer.request([[], encoded(["ping"])]).catch(() => {});
      }
      await Promise.all(honest.map(async ({ client, table, values }) => {
        const calls: Promise<void>[] = [];
        for (let i = random.below(30); i > 0; i--) {
          const key = random.below(50);
          if (random.one(2)) {
            const value = `${table} ${key} ${random.below(1e9)} `.repeat(1 + random.below(20));
            values.set(key, value);
            calls.push(client.set(table, key, value).then(() => {}));
          } else {
            const expected = values.get(key);
            calls.push(client.get(table, key).then((value) => assert.equal(value, expected)));
          }
        }
        await Promise.all(calls);
        assert.equal(await client.size(table), values.size);
      }));
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(honest.map(({ client }) => client.close()));
      await host[Symbol.asyncDispose]();
    },
  };
}

/** A payload of any commands, but for those that change what the honest have, or all of the data. */
function hostile(random: Random): Uint8Array {
  for (;;) {
    const payload = random.one(3) ? anyPayload(random) : encoded(anyCommand(random));
    const text = String.fromCharCode(...payload.subarray(0, 60_000));
    if (!/honest|restore|store|done/.test(text)) return payload;
  }
}

/** A host with a large set, whose clients ask for much work at once: others are served meanwhile. */
export async function work(): Promise<Target> {
  const host = await Host.start();
  const client = new MemStoreClient(host.endpoint, { timeout: 60_000 });
  const members = 200_000;
  for (let i = 0; i < members; i += 10_000) {
    const some = Array.from({ length: 10_000 }, (_, j) => i + j);
    await Promise.all([
      client.pushMany("large", some),
      client.setMany("large", new Map(some.map((key) => [key, "value"]))),
    ]);
  }
  const heavy = (random: Random): unknown[] =>
    random.pick([
      ["diff", ["large", random.pick(["large", "small"])]],
      ["union", ["large", "small", anyKey(random)]],
      ["inter", ["large", "large", "large"]],
      ["list_set", "large"],
      ["keys", "large"],
      ["all", "large"],
      ["scan", "large", random.below(2 ** 32), 2 ** 32 - 1],
      ["scan_set", "large", random.below(2 ** 32), random.below(10_000)],
      ["get_many", "large", Array.from({ length: random.below(20_000) }, (_, i) => i)],
      ["get_many", "large", Array.from({ length: random.below(2000) }, (_, i) => ({ a: [i], b: { c: i } }))],
      ["tables"],
      ["stats"],
      ["set", "small", anyKey(random), anyValue(random)],
    ]);
  return {
    async run(random) {
      await using peers = new AsyncDisposableStack();
      for (let i = 1 + random.below(4); i > 0; i--) {
        const peer = peers.use(await Peer.connect(host.endpoint));
        const commands = Array.from({ length: 1 + random.below(500) }, () => encoded(heavy(random)));
        peer.send([[], [0x4d, random.pick([1, 1, 1, 0x81]), 1], concat(...commands)]);
      }
      for (let i = 0; i < 20; i++) {
        const start = performance.now();
        assert.equal(await client.get("large", i), "value");
        // (In one go, a message of these takes seconds.)
        assert.ok(performance.now() - start < 2000, `a get took ${performance.now() - start} ms`);
      }
    },
    async [Symbol.asyncDispose]() {
      try {
        assert.equal(await client.setSize("large"), members);
      } finally {
        await client.close();
        await host[Symbol.asyncDispose]();
      }
    },
  };
}
