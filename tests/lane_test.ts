/**
 * The lane, end to end: who gets one, the order of messages that take two ways, wake-ups, and what clients that are
 * killed or hostile do to others. `SOAK_SECONDS=60 deno task test tests/lane_test.ts` goes on for longer.
 */

import assert from "node:assert/strict";
import { HostSession } from "../client/session.ts";
import { replyShape } from "../commands/list.ts";
import { Random } from "../fuzz/random.ts";
import { compareWithModel, type RunCommands } from "../fuzz/targets.ts";
import { attach, MemStore, MemStoreClient } from "../mod.ts";
import { encoded, Reader } from "../msgpack/codec.ts";
import { turn } from "../system/turn.ts";
import { address } from "../transport/endpoint.ts";
import { LIMITS } from "../transport/limits.ts";
import { header, readReply } from "../transport/message.ts";
import { LaneConnector } from "../transport/shared/dealer.ts";
import { AT_WORD, Lane, LANE_BYTES, RING_BYTES } from "../transport/shared/lane.ts";
import type { MemoryOffer } from "../transport/shared/offer.ts";
import { MAX_WORDS } from "../transport/shared/futex.ts";
import { SharedMemory } from "../transport/shared/memory.ts";
import { loadSharedMemory } from "../transport/shared/system.ts";
import { Waiter } from "../transport/shared/waiter.ts";
import { Context } from "../transport/zeromq/context.ts";
import { ZeroMqConnector } from "../transport/zeromq/dealer.ts";
import { cString, libzmq, size, terminate, ZMQ } from "../transport/zeromq/libzmq.ts";
import { Socket } from "../transport/zeromq/socket.ts";
import { Host, LocalHost, Peer, TempDir } from "./host.ts";
import { concat } from "./hostiles.ts";
import { LanePeer, PARTS, REPLIES_AT, WORDS } from "./lane_peer.ts";

const SECONDS = Number(Deno.env.get("SOAK_SECONDS") ?? 5);
const NATIVE = new Uint8Array([0x4d, 1, 9, 9, 9, 9]);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const below = (n: number) => Math.floor(Math.random() * n);
const linux = Deno.build.os === "linux";

/** A test of what only Linux has. */
function test(name: string, fn: (context: Deno.TestContext) => Promise<void>): void {
  Deno.test({ name, ignore: !linux, fn });
}

/** Clients that are closed at the end of the block. */
function clientsOf(endpoint: string, count: number, options = {}): MemStoreClient[] & AsyncDisposable {
  const clients = Array.from(
    { length: count },
    () => new MemStoreClient(endpoint, { directReads: false, ...options }),
  );
  return Object.assign(clients, {
    async [Symbol.asyncDispose]() {
      await Promise.all(clients.map((client) => client.close()));
    },
  });
}

/** The native reply to a command that a peer sends: its value, or its code. */
async function ask(peer: Peer, ...command: unknown[]): Promise<unknown> {
  const reader = new Reader((await peer.request([[], NATIVE, encoded(command)]))[2]);
  const status = reader.value(), value = reader.value();
  return status === 0 ? value : (value as string[])[0];
}

/** Waits until something holds; fails after some seconds. */
async function until(what: string, holds: () => boolean | Promise<boolean>, seconds = 10): Promise<void> {
  for (const end = performance.now() + seconds * 1000; !await holds(); await sleep(50)) {
    assert.ok(performance.now() < end, `not within ${seconds} s: ${what}`);
  }
}

/** What a shell prints. */
async function shell(script: string): Promise<string> {
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  return new TextDecoder().decode(stdout).trim();
}

/** How many descriptors a process has open, how many of them are lanes, and how often it has mapped lanes. */
async function resources(pid: number): Promise<{ open: number; lanes: number; maps: number }> {
  const script = `ls -l /proc/${pid}/fd | tail -n +2 | wc -l; ` +
    `ls -l /proc/${pid}/fd | grep -c memstore.lane; grep -c memstore.lane /proc/${pid}/maps`;
  const [open, lanes, maps] = (await shell(script)).split("\n").map(Number);
  return { open, lanes, maps };
}

/** The processor time that a process has used, in milliseconds. */
async function processorTime(pid: number): Promise<number> {
  const [, fields] = (await shell(`cat /proc/${pid}/stat`)).split(") ");
  const [utime, stime] = fields.split(" ").slice(11, 13).map(Number);
  return (utime + stime) * 10;
}

/** Runs a program of the tests, which is killed at the end of the block. */
function runs(file: string, ...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", "--allow-all", new URL(file, import.meta.url).pathname, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function kill(process: Deno.ChildProcess): Promise<Deno.CommandStatus> {
  try {
    process.kill("SIGKILL");
  } catch {
    // It has ended.
  }
  await process.stdout.cancel().catch(() => {});
  await process.stderr.cancel().catch(() => {});
  return await process.status;
}

/** Does something again and again for some seconds; returns how long each took, sorted. */
async function timed(seconds: number, run: (i: number) => Promise<void>): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0, end = performance.now() + seconds * 1000; performance.now() < end; i++) {
    const start = performance.now();
    await run(i);
    times.push(performance.now() - start);
    if (i % 50 === 0) await sleep(1);
  }
  return times.sort((a, b) => a - b);
}

const figures = (times: number[]) =>
  `${times.length} calls, median ${times[times.length >> 1].toFixed(3)} ms, ` +
  `99.9 % ${times[Math.floor(times.length * 0.999)].toFixed(1)} ms, slowest ${times.at(-1)!.toFixed(1)} ms`;

test("a client of this machine has a lane by itself, and none where it or the host wants none", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { directReads: false });
  assert.equal((await client.stats()).lanes, 1);
  await using without = new MemStoreClient(host.endpoint, { directReads: false, lane: false });
  await without.ping();
  assert.equal((await without.stats()).lanes, 1);
  {
    await using other = new MemStoreClient(host.endpoint, { directReads: false });
    assert.equal((await other.stats()).lanes, 2);
    using attached = await attach(host.endpoint, { directReads: false });
    assert.equal(attached.stats().lanes, 3);
  }
  await until("lanes are closed with their clients", async () => (await client.stats()).lanes === 1);
  // (Once it is attached, nobody can open the lane any more.)
  await until("the host's descriptor is closed", async () => (await resources(host.pid)).lanes === 0);
  assert.ok((await resources(host.pid)).maps > 0);
});

test("a host gives as many lanes as it may, and other clients go on over the socket", async () => {
  const cases = [
    { options: { lane: false }, lanes: 0 },
    { options: { limits: { lanes: 0 } }, lanes: 0 },
    { options: { limits: { laneBytes: LANE_BYTES - 1 } }, lanes: 0 },
    { options: { limits: { laneBytes: 2 * LANE_BYTES } }, lanes: 2 },
    { options: { limits: { lanes: 3 } }, lanes: 3 },
  ];
  for (const { options, lanes } of cases) {
    await using host = new LocalHost(options);
    await host.store.start();
    await using clients = clientsOf(host.endpoint, 5);
    for (const [i, client] of clients.entries()) assert.equal(await client.set("t", i, i), 1);
    for (const [i, client] of clients.entries()) assert.equal(await client.get("t", i), i);
    assert.equal((await clients[0].stats()).lanes, lanes, JSON.stringify(options));
    await Promise.all(clients.splice(1).map((client) => client.close()));
    // (What those had, others may have.)
    await until("lanes are closed", () => host.store.local.stats().lanes <= 1);
    await using next = clientsOf(host.endpoint, 5);
    for (const client of next) await client.ping();
    assert.equal((await clients[0].stats()).lanes, lanes, JSON.stringify(options));
  }
});

test("a client that opens many connections has no more lanes than there may be, though it uses none", async () => {
  await using own = await LocalHost.start({ lanes: 5 });
  const peers = await Promise.all(Array.from({ length: 12 }, () => Peer.connect(own.endpoint)));
  try {
    const offers = await Promise.all(peers.map((peer) => ask(peer, "lane")));
    assert.equal(offers.filter((offer) => offer !== null).length, 5);
  } finally {
    await Promise.all(peers.map((peer) => peer[Symbol.asyncDispose]()));
  }
});

test("the bound on lanes holds for all endpoints of a host together", async () => {
  await using directory = new TempDir();
  const paths = [`${directory.path}/a.sock`, `${directory.path}/b.sock`];
  await using store = new MemStore(paths, { limits: { lanes: 2 } });
  await store.start();
  await using one = clientsOf(paths[0], 2);
  await using other = clientsOf(paths[1], 2);
  for (const client of [...one, ...other]) assert.equal(await client.ping(), "pong");
  assert.equal((await one[0].stats()).lanes, 2);
});

test("a client over TCP has no lane", async () => {
  await using host = await Host.startWith({ endpoints: ["tcp://127.0.0.1:*"] });
  await using client = new MemStoreClient(host.addresses[1], { directReads: false });
  assert.equal(await client.ping(), "pong");
  assert.equal((await client.stats()).lanes, 0);
  await using peer = await Peer.connect(host.addresses[1]);
  assert.equal(await ask(peer, "lane"), null);
});

test("a connection has one lane, and none a legacy client or one behind a proxy", async () => {
  await using own = await LocalHost.start({});
  await using peer = await Peer.connect(own.endpoint);
  assert.equal(typeof (await ask(peer, "lane") as { pid: number }).pid, "number");
  assert.equal(await ask(peer, "lane"), null);
  await using legacy = await Peer.connect(own.endpoint);
  assert.deepEqual((await legacy.request([[], encoded(["lane"])])).at(-1), new Uint8Array([0xc0]));
  await using proxied = await Peer.connect(own.endpoint);
  const [, , , reply] = await proxied.request([[1, 2, 3], [], NATIVE, encoded(["lane"])]);
  assert.deepEqual(reply, new Uint8Array([0, 0xc0]));
  assert.equal((await resources(Deno.pid)).lanes, 1);
  await using batch = await Peer.connect(own.endpoint);
  const header = new Uint8Array([0x4d, 0x81, 9]);
  const reader = new Reader((await batch.request([[], header, encoded(["lane"])]))[2]);
  assert.deepEqual([reader.value(), (reader.value() as string[])[0]], [1, "NOT_IN_BATCH"]);
});

test("a lane whose client does not open it is withdrawn", async () => {
  await using own = await LocalHost.start({});
  await using peer = await Peer.connect(own.endpoint);
  const offer = await ask(peer, "lane") as { pid: number; fd: number; token: Uint8Array };
  // (Each has its own time.)
  await sleep(1000);
  await using second = await Peer.connect(own.endpoint);
  await ask(second, "lane");
  const before = await resources(Deno.pid);
  assert.equal(before.lanes, 2);
  await until("the lanes are withdrawn", async () => (await resources(Deno.pid)).lanes === 0, 8);
  assert.ok((await resources(Deno.pid)).maps < before.maps);
  assert.throws(() => Lane.open(offer), /Cannot (open a lane|share memory)/);
  assert.equal(await ask(peer, "ping"), "pong");
});

test("an end that has more lanes than the system watches at once does not nap", () => {
  assert.ok(loadSharedMemory());
  for (const count of [MAX_WORDS, MAX_WORDS + 1]) {
    using lanes = new DisposableStack();
    const all = Array.from({ length: count }, () => lanes.use(Lane.create()));
    const words = new Int32Array(all[0].bytes.buffer), waiter = new Waiter();
    let naps = false;
    const isReady = () => {
      naps ||= Atomics.load(words, WORDS.hostSleeps) === AT_WORD;
      return naps;
    };
    for (let i = 0; i < 20; i++) waiter.spin(all, () => true);
    waiter.spin(all, isReady);
    assert.equal(naps, count === MAX_WORDS);
  }
  return Promise.resolve();
});

/** A host of the test's own, which offers a lane that it makes up, and answers "pong" to whatever it is asked. */
async function fakeHost(
  endpoint: string,
  offer: unknown,
  asked: (payload: Uint8Array) => void,
): Promise<AsyncDisposable> {
  const context = await Context.open();
  const socket = context.socket(ZMQ.ROUTER, { linger: 0 });
  socket.bind(address(endpoint));
  let open = true;
  const serving = (async () => {
    while (open) {
      for (let frames; (frames = socket.receive());) {
        const payload = frames.at(-1)!;
        asked(payload);
        const [name] = new Reader(payload).value() as string[];
        const value = name === "hello" ? { lane: true } : name === "lane" ? offer : "pong";
        const reply = encoded(value);
        socket.send([...frames.slice(0, -1), new Uint8Array([0, ...reply])]);
      }
      await socket.wait();
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      open = false;
      socket.wake();
      await serving;
      socket.close();
      await context.close();
    },
  };
}

test("a client that cannot open the lane that it is offered goes on over the socket", async () => {
  loadSharedMemory();
  await using directory = new TempDir();
  using lane = Lane.create();
  const token = new Uint8Array(16);
  // (Its owner could shorten it while it is read.)
  const libc = Deno.dlopen("libc.so.6", {
    memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
    ftruncate: { parameters: ["i32", "i64"], result: "i32" },
    write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    close: { parameters: ["i32"], result: "i32" },
  });
  const { memfd_create, ftruncate, write, close } = libc.symbols;
  const unsealed = memfd_create(cString("unsealed"), 0);
  ftruncate(unsealed, BigInt(LANE_BYTES));
  write(unsealed, new Uint8Array(new Int32Array([0x4c4d534d, 1, RING_BYTES]).buffer), 12n);
  const offers = [
    null,
    {},
    { pid: "1", fd: 2, token },
    { pid: 2 ** 30, fd: 3, token },
    { pid: Deno.pid, fd: 9999, token },
    { pid: Deno.pid, fd: -1, token },
    { pid: Deno.pid, fd: unsealed, token },
    { pid: Deno.pid, fd: lane.fd, token },
    { pid: Deno.pid, fd: lane.fd, token: lane.offer.token.subarray(1) },
    { pid: Deno.pid, fd: lane.fd, token: new Uint8Array() },
  ];
  for (const [i, offer] of offers.entries()) {
    const endpoint = `${directory.path}/${i}.sock`;
    let messages = 0;
    await using _host = await fakeHost(endpoint, offer, () => messages++);
    await using client = new MemStoreClient(endpoint, { directReads: false, timeout: 5000 });
    assert.equal(await client.ping(), "pong", JSON.stringify(offer));
    assert.equal(messages, 3, JSON.stringify(offer));
    assert.equal(lane.attached, false);
  }
  close(unsealed);
  libc.close();
});

test("a host that writes rubbish into a lane is left, and the client's process goes on", async () => {
  loadSharedMemory();
  await using directory = new TempDir();
  const cases = [
    { tail: 17 },
    { tail: 2 ** 30 },
    { tail: -16 },
    { tail: 32, record: [1000, 6, 0, 0] },
    { tail: 32, record: [16, 17, 0, 0] },
    { tail: 32, record: [-1, -1, 0, 0] },
    { tail: 32, record: [-16, 6, 0, 0] },
    { tail: 32, record: [-32, 6, 0, 0] },
    // It waits for a message that never comes. (Timers run meanwhile.)
    { tail: 32, record: [16, 6, 1, 0] },
  ];
  for (const [i, { tail, record }] of cases.entries()) {
    const endpoint = `${directory.path}/${i}.sock`;
    using memory = SharedMemory.create("memstore lane", LANE_BYTES, PARTS);
    const words = new Int32Array(memory.buffer), token = crypto.getRandomValues(new Uint8Array(16));
    words.set([0x4c4d534d, 1, RING_BYTES]);
    new Uint8Array(memory.buffer).set(token, 16);
    words[WORDS.replyTail] = tail;
    words.set(record ?? [], REPLIES_AT >> 2);
    await using _host = await fakeHost(endpoint, { pid: Deno.pid, fd: memory.fd, token }, () => {});
    await using client = new MemStoreClient(endpoint, { directReads: false, timeout: 500 });
    if (record?.[2]) await assert.rejects(client.ping(), { code: "TIMEOUT" });
    // (It connects again, and the same lane is not offered twice.)
    else assert.equal(await client.ping(), "pong", JSON.stringify(cases[i]));
    assert.equal(Atomics.load(words, WORDS.state), 1);
  }
});

/** A value of a length between 1 byte and 300 KB, most of them short: some find no room in a ring. */
const anyLength = () => [1, 10, 100, 1000, 10_000, 300_000][below(6) - (below(3) ? 1 : 0)] ?? 1;

test("messages of all sizes run in the order in which they were made, whichever way they go", async () => {
  await using host = await Host.start();
  await using clients = clientsOf(host.endpoint, 2, { timeout: 60_000 });
  await Promise.all(clients.map(async (client, c) => {
    const values = new Map<number, string>(), calls: Promise<void>[] = [];
    for (let i = 1; i <= 1500; i++) {
      const key = below(20), value = `${c} ${i} `.padEnd(anyLength(), "x");
      const before = values.get(key);
      // (A batch is one message: others would share one.)
      const call = client.batch([["get", `t${c}`, key], ["set", `t${c}`, key, value], [
        "incr",
        `n${c}`,
        "n",
      ]]);
      calls.push(call.then(([got, , n]) => {
        assert.equal(n, i);
        assert.ok((got ?? undefined) === before, `message ${i} read ${String(got).slice(0, 20)}`);
      }));
      values.set(key, value);
      if (below(100) === 0) await Promise.all(calls.splice(0));
    }
    await Promise.all(calls);
  }));
});

test("replies in parts keep their order, from the first message on, and later messages wait for them", async () => {
  await using own = await LocalHost.start({ message: 200_000 });
  for (let round = 0; round < 10; round++) {
    await using client = new MemStoreClient(own.endpoint, { directReads: false, timeout: 30_000 });
    // (Its own first message and reply find no room in the lane.)
    const first = [client.batch([["set", "t", 0, "x".repeat(190_000)]]), client.batch([["get", "t", 0]])];
    await Promise.all(first);
    const values = Array.from({ length: 60 }, (_, i) => `${round} ${i} `.padEnd(i % 7 * 12_000 + 10, "x"));
    await Promise.all(values.map((value, i) => client.set("t", i, value)));
    for (let again = 0; again < 3; again++) {
      const gets = values.map((_, i) => client.get("t", i));
      const later = client.batch([
        ["drop", "t"],
        ...values.slice(0, 20).map((_, i) => ["set", "t", i, 1] as const),
      ]);
      const got = await Promise.all(gets);
      assert.ok(got.every((value, i) => value === values[i]), "another value, or another order");
      await later;
      await Promise.all(values.map((value, i) => client.set("t", i, value)));
    }
  }
});

test("a message, and a reply, may be as long as the limit, beside a lane", async () => {
  await using own = await LocalHost.start({ message: 2 ** 18 });
  await using client = new MemStoreClient(own.endpoint, { directReads: false });
  const room = 2 ** 18 - encoded(["set", "t", "k", ""]).length - 4;
  for (const length of [room, room - 1, room - 8, room - 20]) {
    const sent = [client.batch([["incr", "t", "n"]]), client.batch([["set", "t", "k", "x".repeat(length)]])];
    await Promise.all(sent);
    assert.equal((await client.get<string>("t", "k"))!.length, length);
  }
  assert.deepEqual(own.lines, []);
});

test("a client that blocks its thread finds all replies afterwards, and so does one with a full ring", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { directReads: false, timeout: 30_000 });
  const sizes = Array.from({ length: 250 }, (_, i) => [3000, 90_000, 200_000][i % 3]);
  await Promise.all(sizes.map((size, i) => client.batch([["set", "t", i, "x".repeat(size)]])));
  for (let round = 0; round < 3; round++) {
    const calls = sizes.map((_, i) => client.batch([["get", "t", i], ["incr", "n", "n"]]));
    await Promise.resolve();
    await (round === 0 ? undefined : sleep(round));
    for (const end = performance.now() + 400; performance.now() < end;);
    for (const [i, call] of calls.entries()) {
      const [value, n] = await call;
      assert.equal((value as string).length, sizes[i]);
      assert.equal(n, round * sizes.length + i + 1);
    }
  }
});

test("a reply that arrived beside the lane is used, however late the client's process reads it", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { directReads: false });
  await client.setMany("large", new Map(Array.from({ length: 60_000 }, (_, i) => [i, i])));
  for (let i = 0; i < 5; i++) {
    const call = client.keys("large", { timeout: 200 });
    // (Timers look for replies while the client waits.)
    const other = client.ping({ timeout: 1 }).catch(() => {});
    await sleep(1);
    for (const end = performance.now() + 400; performance.now() < end;);
    assert.equal((await call).length, 60_000);
    await other;
  }
});

test("messages behind one that takes long wait for it, also while both rings are full", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { directReads: false, timeout: 60_000 });
  for (let i = 0; i < 10; i++) {
    await client.setMany("large", new Map(Array.from({ length: 10_000 }, (_, j) => [i * 10_000 + j, 1])));
  }
  for (let round = 0; round < 3; round++) {
    const keys = client.keys("large");
    // (A message that pauses, and whose last command runs before the next message.)
    const some = Array.from({ length: 2000 }, (_, i) => i);
    const many = Array.from({ length: 60 }, () => client.getMany("large", some));
    const order = [client.incr("n", "n"), client.batch([["incr", "n", "n"]]).then(([n]) => n)];
    const later = Array.from({ length: 200 }, (_, i) => {
      return client.batch([["set", "large", `new ${i}`, "x".repeat(i % 10 === 9 ? 150_000 : 2000)], [
        "ping",
      ]]);
    });
    const gone = client.batch(Array.from({ length: 200 }, (_, i) => ["del", "large", `new ${i}`] as const));
    assert.equal((await keys).length, 100_000);
    assert.deepEqual(await Promise.all(order), [2 * round + 1, 2 * round + 2]);
    await Promise.all(many);
    for (const [set, pong] of await Promise.all(later)) assert.deepEqual([set, pong], [1, "pong"]);
    assert.ok((await gone).every((deleted) => deleted === 1));
    assert.equal(await client.size("large"), 100_000);
  }
});

test("no wake-up is lost, whoever sleeps", async () => {
  await using host = await Host.start();
  await using clients = clientsOf(host.endpoint, 4, { timeout: 2000 });
  await clients[0].setMany("large", new Map(Array.from({ length: 20_000 }, (_, i) => [i, i])));
  // One client alone: both sleep between its calls.
  for (let i = 0; i < 300; i++) {
    assert.equal(await clients[0].incr("alone", "n"), i + 1);
    await sleep(Math.random() * 5);
  }
  // Several. A reply that takes long finds its client asleep.
  await Promise.all(clients.map(async (client, c) => {
    for (let i = 0; i < 150; i++) {
      if (i % 10 === c) assert.equal((await client.keys("large")).length, 20_000);
      assert.equal(await client.incr("n", c), i + 1);
      if (below(2)) await sleep(Math.random() * 5);
    }
  }));
  // One after another whose host sleeps in between, of clients that block their thread.
  using attached = await attach(host.endpoint, { directReads: false, timeout: 2000 });
  for (let i = 0; i < 200; i++) {
    assert.equal(attached.incr("attached", "n"), i + 1);
    if (i % 20 === 0) assert.equal(attached.keys("large").length, 20_000);
    await sleep(Math.random() * 5);
  }
});

test("no wake-up is lost where a host serves two endpoints", async () => {
  await using directory = new TempDir();
  const paths = [`${directory.path}/a.sock`, `${directory.path}/b.sock`];
  await using host = await Host.start(...paths);
  for (let i = 0; i < 50; i++) {
    await using clients = clientsOf(paths[0], 2, { timeout: 2000 });
    await using others = clientsOf(paths[1], 2, { timeout: 2000 });
    for (let j = 0; j < 3; j++) {
      await Promise.all([...clients, ...others].map((client) => client.incr("t", "n")));
      await sleep(Math.random() * 2);
    }
  }
  // A lane that one loop makes while the other, whose lane it is, sleeps.
  await using busy = new MemStoreClient(paths[1], { directReads: false });
  let over = false;
  const calling = (async () => {
    while (!over) await busy.incr("t", "busy");
  })();
  for (let i = 0; i < 60; i++) {
    await using client = new MemStoreClient(paths[0], { directReads: false, timeout: 2000 });
    for (let j = 0; j < 4; j++) {
      await client.ping();
      await sleep(1);
    }
  }
  over = true;
  await calling;
  assert.ok(host.pid > 0);
});

test("no wake-up is lost at the moment when an end falls asleep", async () => {
  await using host = await Host.start();
  using attached = await attach(host.endpoint, { directReads: false, timeout: 2000 });
  const pause = (ms: number) => {
    for (const end = performance.now() + ms; performance.now() < end;);
  };
  // The host sleeps a tenth of a millisecond after the last message; …
  for (let i = 0; i < 15_000; i++) {
    assert.equal(attached.incr("t", "n"), i + 1);
    pause(0.07 + Math.random() * 0.06);
  }
  // … the client when its reply has not come for as long.
  for (let i = 1; i <= 40; i++) {
    attached.setMany(`t${i}`, new Map(Array.from({ length: i * 40 }, (_, j) => [j, j])));
  }
  for (let i = 0; i < 6000; i++) {
    const size = 1 + below(40);
    assert.equal(attached.keys(`t${size}`).length, size * 40);
  }
});

test("a client that makes one call after another without end lets timers of its process run", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { directReads: false });
  await client.ping();
  let over = false, sinceTurn = 0, most = 0;
  const turning = (async () => {
    for (; !over; sinceTurn = 0) await turn();
  })();
  for (let i = 0; i < 20_000; i++) {
    await client.ping();
    most = Math.max(most, ++sinceTurn);
  }
  over = true;
  await turning;
  assert.ok(most < 300, `${most} calls in one turn of the event loop`);
});

test("a timer that reads what has arrived leaves no other call waiting", async () => {
  await using host = await Host.start();
  for (let round = 0; round < 10; round++) {
    await using stack = new AsyncDisposableStack();
    // (A client looks for late calls when its first one has waited for a connection this long.)
    const connectTimeout = 300 + 10 * round;
    const clients = Array.from(
      { length: 4 },
      () =>
        stack.use(new MemStoreClient(host.endpoint, { directReads: false, timeout: 3000, connectTimeout })),
    );
    const end = performance.now() + 500;
    const slowest = await Promise.all(clients.map(async (client, id) => {
      let slowest = 0;
      while (performance.now() < end) {
        const start = performance.now();
        await Promise.all([client.set("t", id, 1), client.get("t", id), client.ping()]);
        slowest = Math.max(slowest, performance.now() - start);
      }
      return slowest;
    }));
    assert.ok(Math.max(...slowest) < 2500, `${slowest}`);
  }
});

test("an idle host and an idle client use no processor time", async () => {
  await using host = await Host.start();
  const process = runs("lane_victim.ts", host.endpoint, "idle");
  try {
    await process.stdout.getReader().read();
    assert.equal((await resources(host.pid)).maps > 0, true);
    await sleep(500);
    const before = [await processorTime(host.pid), await processorTime(process.pid)];
    await sleep(2000);
    const after = [await processorTime(host.pid), await processorTime(process.pid)];
    for (const i of [0, 1]) assert.ok(after[i] - before[i] < 400, `${after[i] - before[i]} ms of 2000`);
  } finally {
    process.kill("SIGKILL");
    await process.status;
    await process.stdout.cancel().catch(() => {});
    await process.stderr.cancel();
  }
});

test("a host does not spin while a client leaves its replies unread", async () => {
  await using host = await Host.startWith({ flags: ["--max-output-buffer", "100000"] });
  await using peer = await LanePeer.connect(host.endpoint);
  peer!.ask("set", "t", "k", "x".repeat(60_000));
  for (let i = 0; i < 30; i++) peer!.ask("get", "t", "k");
  await sleep(500);
  const before = await processorTime(host.pid);
  await sleep(2000);
  const used = await processorTime(host.pid) - before;
  assert.ok(used < 700, `${used} ms of 2000`);
});

test("the calls of a client whose host is killed fail at once, and it goes on with the next host, with a lane", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/host.sock`;
  await using client = new MemStoreClient(path, {
    directReads: false,
    timeout: 20_000,
    connectTimeout: 10_000,
  });
  for (const idle of [false, true]) {
    await using host = await Host.start(path);
    assert.equal((await client.stats()).lanes, 1);
    await client.setMany("large", new Map(Array.from({ length: 50_000 }, (_, i) => [i, i])));
    const calls = idle
      ? []
      : Array.from({ length: 50 }, () => client.keys("large").then(() => "", ({ code }) => code));
    const codes = Promise.all(calls);
    await sleep(5);
    const start = performance.now();
    await host.end("SIGKILL");
    if (!idle) assert.ok((await codes).includes("DISCONNECTED"), (await codes).join());
    assert.ok(performance.now() - start < 5000);
    // (Nothing tells a client that does nothing.)
    await using _next = await Host.start(path);
    assert.equal(await client.set("t", "k", idle), 1);
    assert.equal((await client.stats()).lanes, 1);
  }
});

test("a host that stops sends the replies that are pending, beside the lane and in it", async () => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { directReads: false, timeout: 20_000 });
  const value = "x".repeat(200_000);
  await client.set("t", "k", value);
  const calls = Array.from({ length: 200 }, (_, i) => {
    return client.batch([["incr", "n", "n"], i % 10 ? ["ping"] : ["get", "t", "k"]]);
  });
  const stopped = client.done();
  for (const [i, [n, reply]] of (await Promise.all(calls)).entries()) {
    assert.equal(n, i + 1);
    assert.ok(reply === (i % 10 ? "pong" : value));
  }
  await stopped;
  assert.equal((await host.status).code, 0);
});

test("a client that is busy through its lane is not the idle one that makes room", async () => {
  await using own = await LocalHost.start({ clients: 8 });
  await using busy = new MemStoreClient(own.endpoint, { directReads: false });
  await busy.set("t", "k", 1);
  await using idle = clientsOf(own.endpoint, 7);
  for (const client of idle) await client.ping();
  for (let i = 0; i < 10; i++) await busy.ping();
  await using _newcomer = await Peer.connect(own.endpoint);
  await own.cutOff(/8 connections/);
  const before = own.store.local.stats().lanes;
  // (A client that was disconnected connects again.)
  assert.equal(await busy.get("t", "k"), 1);
  assert.ok(own.store.local.stats().lanes <= before, "the busy one has its lane still");
});

test("who takes over a routing id gets its own replies, and the lane of the other is closed", async () => {
  await using own = await LocalHost.start({});
  const zmq = await libzmq(), context = zmq.zmq_ctx_new();
  const ROUTING_ID = 5, id = new TextEncoder().encode("chosen");
  const connect = () => {
    const pointer = zmq.zmq_socket(context, ZMQ.DEALER);
    zmq.zmq_setsockopt(pointer, ROUTING_ID, id, size(id.length));
    const socket = new Socket(zmq, pointer, { linger: 0, reconnectInterval: -1 });
    socket.connect(own.endpoint);
    return socket;
  };
  const ask = async (socket: Socket, name: string) => {
    socket.send([new Uint8Array(), NATIVE, encoded([name])]);
    let payload: Uint8Array | undefined;
    await until("a reply", () => (payload = socket.receive()?.[2]) !== undefined);
    const reader = new Reader(payload!);
    return [reader.value(), reader.value()];
  };
  const before = connect();
  const [, offer] = await ask(before, "lane");
  using lane = Lane.open(offer as MemoryOffer);
  lane.write(NATIVE, encoded(["set", "t", "k", 1]));
  before.send([new Uint8Array()]);
  await until("it has run", () => own.store.local.exists("t", "k"));
  const after = connect();
  assert.deepEqual(await ask(after, "ping"), [0, "pong"]);
  lane.write(NATIVE, encoded(["set", "t", "k", 2]));
  before.send([new Uint8Array()]);
  await until("the lane is closed", () => own.store.local.stats().lanes === 0);
  assert.equal((await ask(after, "lane"))[0], 0);
  assert.deepEqual(await ask(after, "ping"), [0, "pong"]);
  assert.equal(own.store.local.get("t", "k"), 1);
  for (const socket of [before, after]) socket.close();
  await terminate(zmq, context);
});

/** Checks that a host has what it had before, once its clients are gone. */
async function assertAsBefore(
  host: Host,
  client: MemStoreClient,
  before: Awaited<ReturnType<typeof resources>>,
): Promise<void> {
  let last: unknown;
  await until("lanes, descriptors and memory are back", async () => {
    const { lanes } = await client.stats(), now = last = await resources(host.pid);
    return now.open <= before.open && now.lanes === before.lanes && now.maps === before.maps && lanes === 1;
  }).catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify(last)} instead of ${JSON.stringify(before)}`);
  });
}

/** Has a client write and read for some seconds. Returns how long its calls took. */
function useAll(client: MemStoreClient, seconds: number): Promise<number[]> {
  let value = "";
  return timed(seconds, async (i) => {
    if (i % 3 === 0) {
      await client.set("honest", "k", value = `honest ${i} `.padEnd(i % 300 ? 20 : 150_000, "x"));
    } else assert.ok(await client.get("honest", "k") === value, "another value");
  });
}

test(`clients that are killed at any moment for ${SECONDS} s leave others, and the host, as they were`, async (context) => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { directReads: false, timeout: 10_000 });
  await client.ping();
  await sleep(200);
  const before = await resources(host.pid);
  let over = false, killed = 0;
  const killing = Array.from({ length: 2 }, async () => {
    while (!over) {
      const victim = runs("lane_victim.ts", host.endpoint);
      const ended = victim.status.then(({ code }) => code);
      const out = victim.stdout.getReader();
      await out.read();
      out.releaseLock();
      await sleep(Math.random() * 400);
      const status = await kill(victim);
      assert.equal(await ended, status.code);
      assert.equal(status.signal, "SIGKILL", "it read what another wrote");
      killed++;
    }
  });
  const times = await useAll(client, SECONDS).finally(() => over = true);
  await Promise.all(killing);
  await context.step(`${figures(times)}, ${killed} processes killed`, () => {
    assert.ok(killed > SECONDS / 3);
    assert.ok(times.at(-1)! < 2000);
    assert.ok(times[Math.floor(times.length * 0.99)] < 200);
  });
  await assertAsBefore(host, client, before);
  assert.doesNotMatch(await host.end("SIGTERM").then(() => host.error()), /error/i);
});

test(`hostile clients with lanes harm nobody else for ${SECONDS} s`, async (context) => {
  await using host = await Host.start();
  await using client = new MemStoreClient(host.endpoint, { directReads: false, timeout: 10_000 });
  await client.ping();
  await sleep(200);
  const before = await resources(host.pid);
  const { memory } = await client.stats();
  const process = runs("lane_peer.ts", host.endpoint);
  let times: number[];
  try {
    times = await useAll(client, SECONDS);
  } finally {
    await kill(process);
  }
  const grown = ((await client.stats()).memory - memory) / 2 ** 20;
  await context.step(`${figures(times)}, the host has grown by ${grown.toFixed(0)} MB`, () => {
    assert.ok(times.at(-1)! < 2000);
    assert.ok(times[Math.floor(times.length * 0.99)] < 200);
    assert.ok(grown < 300);
  });
  await assertAsBefore(host, client, before);
  assert.equal((await host.end("SIGTERM")).code, 0);
});

test("a lane keeps to the limits", async () => {
  await using own = await LocalHost.start({
    message: 10_000,
    commands: 10,
    requests: 10,
    outputBuffer: 100_000,
  });
  await using client = new MemStoreClient(own.endpoint, { directReads: false });
  await client.ping();
  const connect = async () => (await LanePeer.connect(own.endpoint))!;
  {
    await using peer = await connect();
    peer.ask("set", "t", "long", "x".repeat(10_001));
    peer.ask("set", "t", "short", 1);
    await until("the short one has run", () => own.store.local.exists("t", "short"));
    assert.equal(own.store.local.exists("t", "long"), false);
  }
  {
    await using peer = await connect();
    for (let i = 0; i < 60; i++) peer.write(new Uint8Array(6), new Uint8Array([1]));
    peer.ring();
    await own.cutOff(/it sends what is no message/);
  }
  {
    await using peer = await connect();
    peer.ask("set", "t", "k", "x".repeat(9000));
    for (let i = 0; i < 1000; i++) {
      peer.ask("get", "t", "k");
      if (i % 20 === 0) await sleep(1);
    }
    // (It reads nothing: its requests wait, and are not run.)
    await until("replies are pending", () => own.store.local.stats().messages > 20);
  }
  {
    // Of two messages whose order nobody can tell, neither is run; too many of them are refused.
    await using peer = await connect();
    peer.write(new Uint8Array([0x4d, 1]), encoded(["ping"]), { length: 2 ** 30 });
    peer.ring();
    await own.cutOff(/no message into its lane/);
  }
  await until("the lanes are closed", () => own.store.local.stats().lanes === 1);
  assert.equal(await client.ping(), "pong");
});

/** A session with a host, which is ready. */
async function openSession(endpoint: string, lane: boolean): Promise<HostSession> {
  const zeromq = new ZeroMqConnector(address(endpoint), undefined);
  const session = new HostSession(lane ? new LaneConnector(zeromq) : zeromq, LIMITS.message);
  await session.open();
  session.connect();
  for (;;) {
    session.look();
    session.receive();
    session.greet();
    if (session.ready) return session;
    await session.wait();
  }
}

for (const lane of [true, false]) {
  test(`the rest of a message that waited runs at once, ${lane ? "through a lane" : "over the socket"}`, async () => {
    await using own = new LocalHost({ limits: { message: 200_000 } });
    own.store.command("slow", { args: [], help: "Waits.", run: () => sleep(20).then(() => 1) });
    await own.store.start();
    own.store.local.set("t", "k", "x".repeat(90_000));
    const session = await openSession(own.endpoint, lane);
    let replies = 0, late = false;
    const timer = setTimeout(() => {
      late = true;
      session.wake();
    }, 5000);
    try {
      const get = encoded(["get", "t", "k"]);
      session.send(
        header(1, false, true),
        concat(encoded(["slow"]), ...Array.from({ length: 9 }, () => get)),
      );
      while (replies < 10 && !late) {
        session.look();
        const reply = session.receive();
        if (!reply) await session.wait();
        else {for (const reader = new Reader(reply.payload); reader.at < reply.payload.length; replies++) {
            assert.equal(reader.value(), 0);
            reader.value();
          }}
      }
      assert.equal(replies, 10);
    } finally {
      clearTimeout(timer);
      await session.close();
    }
  });
}

/** Runs commands over a session. Returns their replies. */
function runner(session: HostSession): RunCommands {
  let number = 0;
  return async (commands, batch) => {
    session.send(header(++number, batch), concat(...commands.map(encoded)));
    for (;;) {
      session.look();
      const reply = session.receive();
      if (!reply) {
        await session.wait();
        continue;
      }
      assert.equal(reply.request, number);
      const reader = new Reader(reply.payload);
      return commands.map(([name]) => readReply(replyShape(name as string), reader));
    }
  };
}

for (const lane of [true, false]) {
  test(`a host does what the model does, ${lane ? "through a lane" : "over the socket"}`, async () => {
    await using host = await Host.start();
    await using client = new MemStoreClient(host.endpoint, { directReads: false, lane: false });
    const session = await openSession(host.endpoint, lane);
    try {
      assert.equal((await client.stats()).lanes, lane ? 1 : 0);
      const seed = below(2 ** 31), run = runner(session);
      for (let i = 0, end = performance.now() + 1500; performance.now() < end; i++) {
        for (const table of await client.tables()) await client.drop(table);
        for (const set of await client.sets()) await client.dropSet(set);
        try {
          await compareWithModel(new Random(seed + i), run);
        } catch (error) {
          throw new Error(`seed ${seed + i}`, { cause: error });
        }
      }
    } finally {
      await session.close();
    }
  });
}
