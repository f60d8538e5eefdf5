/**
 * Hostile connections: routing IDs that are claimed or taken, floods that end in mid-message, endless new clients, and
 * clients that open every connection.
 */

import assert from "node:assert/strict";
import { MemStoreClient } from "../mod.ts";
import { encoded } from "../msgpack/codec.ts";
import { concat, handshake, message } from "./hostiles.ts";
import { Host, hostiles, LocalHost, Peer } from "./host.ts";
import type { Connection } from "../transport/zeromq/connection.ts";
import { CLOSED_RETENTION_MS, Connections } from "../transport/zeromq/connections.ts";

const linux = Deno.build.os === "linux";
const ping = message(encoded(["ping"]));
const PONG = "pong";
const TCP = "tcp://127.0.0.1:*";
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A client that speaks ZeroMQ's protocol by hand. */
class RawClient implements Disposable {
  readonly #connection: Deno.Conn;

  private constructor(connection: Deno.Conn) {
    this.#connection = connection;
  }

  /** Connects to an address (`tcp://`) and shakes hands; with a routing id of its own, or none. */
  static async connect(address: string, id?: Uint8Array<ArrayBuffer>): Promise<RawClient> {
    const { hostname, port } = new URL(address.replace("tcp:", "http:"));
    const connection = await Deno.connect({ hostname, port: Number(port) });
    const client = new RawClient(connection);
    await client.write(handshake(id));
    return client;
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) at += await this.#connection.write(bytes.subarray(at));
  }

  /** Reads until a text has come. False if the connection ended before it. */
  async sees(text: string): Promise<boolean> {
    let seen = "";
    const timer = setTimeout(() => this[Symbol.dispose](), 5000);
    try {
      const buffer = new Uint8Array(1 << 12);
      for (let length; (length = await this.#connection.read(buffer)) !== null;) {
        seen += new TextDecoder("latin1").decode(buffer.subarray(0, length));
        if (seen.includes(text)) return true;
      }
    } catch {
      // It was closed.
    } finally {
      clearTimeout(timer);
    }
    return false;
  }

  [Symbol.dispose](): void {
    try {
      this.#connection.close();
    } catch {
      // It is closed.
    }
  }
}

/** The routing id that libzmq gives to one connection after another. */
function assignedId(number: number): Uint8Array<ArrayBuffer> {
  const id = new Uint8Array(5);
  new DataView(id.buffer).setUint32(1, number);
  return id;
}

/** Connections of which libzmq gave the first the routing id 1000. */
const connections = (max = 100) => new Connections(max, assignedId(1000));

/** Adds a connection whose first message has come. */
function speaking(all: Connections, fd: number, id: Uint8Array, owner: string, lastMessage = 1): Connection {
  all.add(fd);
  const connection = all.resolve(fd, id);
  connection.lastMessage = lastMessage;
  all.setOwner(connection, owner);
  return connection;
}

Deno.test("a message belongs to the connection whose descriptor and routing id it has", () => {
  const all = connections();
  all.add(7);
  assert.equal(all.find(7, assignedId(1001)), undefined);
  const first = all.resolve(7, assignedId(1001));
  assert.equal(all.find(7, assignedId(1001)), first);
  assert.equal(all.resolve(7, assignedId(1001)), first);
  all.close(7);
  all.add(7);
  const second = all.resolve(7, assignedId(1002));
  assert.notEqual(second, first);
  assert.equal(all.find(7, assignedId(1001)), undefined);
  // One that comes late is still the first one's.
  assert.equal(all.resolve(7, assignedId(1001)), first);
  assert.equal(all.find(7, assignedId(1002)), second);
  // Of a descriptor that is not known, too; and the next of it is the same.
  const gone = all.resolve(9, assignedId(1003));
  assert.ok(gone.closedAt > 0);
  assert.equal(all.resolve(9, assignedId(1003)), gone);
  assert.deepEqual([all.open, all.accepted], [1, 2]);
  // (That it was closed need not have been seen.)
  all.add(7);
  assert.deepEqual([all.open, all.accepted], [1, 3]);
  all.close(7);
  assert.equal(all.open, 0);
});

Deno.test("a descriptor whose first message was of its last connection is given to the next", () => {
  const all = connections();
  all.add(7);
  const one = all.resolve(7, assignedId(1001));
  // libzmq counts: the later number is the one that has the descriptor now.
  assert.equal(all.resolve(7, assignedId(1002)), one);
  assert.equal(all.find(7, assignedId(1002)), one);
  const before = all.resolve(7, assignedId(1001));
  assert.ok(before !== one && before.closedAt > 0);
  assert.deepEqual([...all.all()], [one, before]);
  assert.ok(all.resolve(7, Uint8Array.of(3)).closedAt > 0);
  assert.equal(all.find(7, assignedId(1002)), one);
});

Deno.test("a connection that is disconnected is not open, and is nobody's any more", () => {
  const all = connections();
  const chosen = Uint8Array.of(1, 2);
  const [one, other] = [speaking(all, 7, chosen, "a"), speaking(all, 8, assignedId(1002), "a")];
  assert.equal(all.takeOver(one), undefined);
  assert.deepEqual(all.ownedBy("a"), [one, other]);
  assert.equal(all.find(7, chosen), one);
  assert.equal(all.find(7, Uint8Array.of(1, 2, 3)), undefined);
  assert.equal(all.disconnect(one), true);
  assert.equal(all.disconnect(one), false);
  assert.deepEqual(all.ownedBy("a"), [other]);
  assert.equal(all.open, 1);
  // Its descriptor may be another client's by now that chose the same id; libzmq gives its own id to nobody else.
  assert.equal(all.find(7, chosen), undefined);
  all.disconnect(other);
  assert.equal(all.find(8, assignedId(1002)), other);
  assert.equal(all.takeOver(one), undefined);
  all.setOwner(one, "a");
  assert.deepEqual(all.ownedBy("a"), []);
  all.close(7);
  all.close(7);
  assert.equal(all.open, 0);
  assert.equal(all.disconnect(speaking(all, 7, assignedId(1003), "b")), true);
});

Deno.test("routing ids are given, chosen or claimed, and a chosen one can be taken over", () => {
  const all = connections();
  const ids = [assignedId(1000), Uint8Array.of(1), Uint8Array.of(1, 2, 3, 4, 5), Uint8Array.of(0, 1)];
  assert.deepEqual(ids.map((id) => all.isChosen(id)), [false, true, true, true]);
  assert.deepEqual(ids.map((id) => all.isClaimed(id)), [false, false, false, true]);
  for (let fd = 1; fd <= 3; fd++) all.add(fd);
  assert.equal(all.isClaimed(assignedId(1006)), false);
  assert.equal(all.isClaimed(assignedId(1007)), true);
  assert.equal(all.isClaimed(assignedId(999)), true);
  const [one, two] = [1, 2].map((fd) => all.resolve(fd, Uint8Array.of(5)));
  assert.equal(all.takeOver(one), undefined);
  assert.equal(all.takeOver(two), one);
  all.disconnect(two);
  assert.equal(all.takeOver(two), undefined);
  const three = all.resolve(3, Uint8Array.of(5));
  assert.equal(all.takeOver(three), undefined);
});

Deno.test("where there are too many, the silent go first, then the idle ones of whoever has the most", () => {
  const all = connections(16);
  for (let fd = 0; fd < 8; fd++) {
    assert.equal(speaking(all, fd, assignedId(1000 + fd), "many", 10 - fd).fd, fd);
  }
  for (let fd = 8; fd < 13; fd++) speaking(all, fd, assignedId(1000 + fd), "few", 1);
  for (let fd = 13; fd < 16; fd++) assert.equal(all.add(fd), undefined);
  // Four of seventeen have said nothing: more than an eighth.
  const silent = all.add(16)!;
  assert.equal(silent.fd, 13);
  all.disconnect(silent);
  assert.equal(all.add(17)!.fd, 14);
  all.disconnect(all.resolve(14, assignedId(1014)));
  // Two are not.
  for (const fd of [15, 16]) all.resolve(fd, assignedId(1000 + fd));
  const idle = all.add(18)!;
  assert.deepEqual([idle.fd, idle.owner], [7, "many"]);
});

Deno.test("a connection that is closed is kept while messages or replies may be on their way, and no longer", () => {
  const all = connections();
  const closed = speaking(all, 7, assignedId(1001), "a");
  const { now } = performance;
  let time = now.call(performance);
  try {
    performance.now = () => time;
    assert.equal(all.hasClosed, false);
    all.close(7);
    assert.deepEqual([...all.all()], [closed]);
    let collected = 0;
    const evict = () => all.evictClosed(() => void collected++);
    time += CLOSED_RETENTION_MS - 1;
    evict();
    assert.deepEqual([collected, all.hasClosed], [1, true]);
    evict();
    assert.equal(collected, 1, "not at once again");
    closed.addReply(10);
    time += CLOSED_RETENTION_MS;
    evict();
    assert.equal(all.hasClosed, true);
    assert.equal(all.resolve(7, assignedId(1001)), closed);
    const other = speaking(all, 8, assignedId(1002), "a");
    other.inFlight = 1;
    all.close(8);
    time += 2 * CLOSED_RETENTION_MS;
    evict();
    other.inFlight = 0;
    assert.deepEqual([...all.all()], [closed, other]);
    time += CLOSED_RETENTION_MS;
    evict();
    assert.deepEqual([...all.all()], [closed]);
    all.keepClosed(other);
    assert.deepEqual([...all.all()], [closed, other]);
    assert.notEqual(all.resolve(8, assignedId(1002)), other);
  } finally {
    performance.now = now;
  }
});

Deno.test("a client that claims a routing id that the next will have ends nothing, and is cut off", async () => {
  await using host = await Host.start(TCP);
  // The first number that rand() returns in a process that did not seed it.
  const first = 0x6b8b4567;
  const raw: RawClient[] = [];
  const peers: Peer[] = [];
  try {
    for (let i = 0; i < 20; i++) {
      raw.push(await RawClient.connect(host.addresses[0], assignedId(first + 30 + i)));
      await raw[i].write(ping);
    }
    for (let i = 0; i < 60; i++) {
      peers.push(await Peer.connect(host.addresses[0]));
      assert.equal((await peers[i].request([[], encoded(["ping"])])).length, 2);
    }
  } finally {
    raw.forEach((each) => each[Symbol.dispose]());
    await Promise.all(peers.map((each) => each[Symbol.asyncDispose]()));
  }
  assert.equal((await host.end("SIGTERM")).code, 0);
  assert.match(await host.error(), /cut off.*claims a routing id/);
});

Deno.test("a client that is gone before its first message is rejected counts once", () => {
  const connections = new Connections(10, new Uint8Array([0, 1, 2, 3, 4]));
  const id = new TextEncoder().encode("chosen");
  connections.add(7);
  connections.close(7);
  assert.equal(connections.disconnect(connections.resolve(7, id)), false);
  assert.equal(connections.open, 0);
});

Deno.test("a client with a routing id of its own that comes again is answered each time", async () => {
  await using host = await LocalHost.start({}, TCP);
  const id = new TextEncoder().encode("worker 1");
  for (let i = 0; i < 300; i++) {
    using client = await RawClient.connect(host.endpoint, id);
    await client.write(ping);
    assert.ok(await client.sees(PONG), `the reply to connection ${i} is missing`);
  }
  // It is taken from one that lives, too, and that one is disconnected.
  using before = await RawClient.connect(host.endpoint, id);
  await before.write(ping);
  assert.ok(await before.sees(PONG));
  using after = await RawClient.connect(host.endpoint, id);
  await after.write(ping);
  assert.ok(await after.sees(PONG));
  assert.equal(await before.sees(PONG), false);
});

Deno.test({
  name: "clients that come and go without end leave a host as it was",
  ignore: !linux,
  async fn() {
    await using host = await Host.startWith({ endpoints: [TCP] });
    await using client = new MemStoreClient(host.endpoint);
    const address = host.addresses[1];
    const megabytes = async () => Number((await client.stats()).memory) / 2 ** 20;
    const taken = new TextEncoder().encode("taken");
    using first = await RawClient.connect(address, taken);
    await first.write(ping);
    const churn = async (rounds: number) => {
      for (let i = 0; i < rounds; i++) {
        await Promise.all([taken, taken, undefined].map(async (id) => {
          using raw = await RawClient.connect(address, id);
          if (!id) await raw.write(ping);
          await raw.sees(id ? "READY" : PONG);
        }));
      }
    };
    await churn(500);
    const before = await megabytes();
    await churn(2500);
    // (What is known of those that are closed is forgotten after a second.)
    await sleep(1500);
    const grown = await megabytes() - before;
    console.log(`the host has grown by ${grown.toFixed()} MB`);
    assert.ok(grown < 45, `${grown} MB`);
  },
});

for (const where of ["ipc", "tcp"]) {
  Deno.test({
    name: `a client over ${where} that floods a host with heartbeats and dies does not end it`,
    ignore: !linux,
    async fn() {
      await using host = await Host.startWith({ endpoints: ["tcp://127.0.0.1:*"] });
      const address = host.addresses[where === "ipc" ? 0 : 1];
      await using client = new MemStoreClient(host.endpoint);
      await using _hostiles = hostiles(address, ["pings=8"]);
      for (const end = performance.now() + 4000; performance.now() < end;) {
        assert.equal(await client.ping(), "pong");
      }
    },
  });
}

Deno.test("frames come whole, however they are cut on their way and however long their lengths are written", async () => {
  await using host = await LocalHost.start({}, TCP);
  await using client = new MemStoreClient(host.endpoint);
  const long = (flags: number, body: Uint8Array) => {
    const head = new Uint8Array(9);
    head[0] = flags | 2;
    new DataView(head.buffer).setBigUint64(1, BigInt(body.length));
    return concat(head, body);
  };
  const header = new Uint8Array([0x4d, 1, 0, 0, 0, 0]);
  for (const step of [1, 2, 3, 5, 6, 7, 9, 13]) {
    using raw = await RawClient.connect(host.endpoint);
    for (let length = 0; length < 80; length += 7) {
      const value = "v".repeat(length);
      const bytes = concat(
        long(1, new Uint8Array(0)),
        long(1, header),
        long(0, encoded(["set", "t", "k", value])),
      );
      for (let at = 0; at < bytes.length; at += step) await raw.write(bytes.slice(at, at + step));
      await raw.write(ping);
      assert.ok(await raw.sees(PONG));
      assert.equal(await client.get("t", "k"), value);
    }
  }
});

Deno.test("clients that have said something and stay do not keep new ones out", async () => {
  await using host = await LocalHost.start({ clients: 20 }, TCP);
  const raw: RawClient[] = [];
  try {
    for (let i = 0; i < 30; i++) {
      raw.push(await RawClient.connect(host.endpoint));
      await raw[i].write(ping);
      assert.ok(await raw[i].sees(PONG));
    }
    await using client = new MemStoreClient(host.endpoint, { timeout: 2000 });
    assert.equal(await client.ping(), "pong");
    assert.equal((await client.stats()).clients, 20);
    // Those that are idle for the longest time were closed.
    assert.equal(await raw[0].sees(PONG), false);
    await raw[29].write(ping);
    assert.ok(await raw[29].sees(PONG));
  } finally {
    raw.forEach((each) => each[Symbol.dispose]());
  }
});

Deno.test({
  name: "an abstract name serves the host's user alone",
  ignore: !linux || Deno.uid() !== 0,
  async fn() {
    const name = `memstore-${crypto.randomUUID()}`;
    // Whether a host greets a process of a user.
    const greets = async (uid: number) => {
      const code =
        `import socket; s = socket.socket(socket.AF_UNIX); s.connect("\\0${name}"); print(len(s.recv(64)))`;
      const { stdout } = await new Deno.Command("/usr/bin/python3", { args: ["-c", code], uid, cwd: "/" })
        .output();
      return Number(new TextDecoder().decode(stdout)) > 0;
    };
    {
      await using _host = await LocalHost.start({}, `ipc://@${name}`);
      await using client = new MemStoreClient(`ipc://@${name}`);
      assert.equal(await client.ping(), "pong");
      assert.equal(await greets(0), true);
      assert.equal(await greets(65534), false);
      assert.equal(await client.ping(), "pong");
    }
    await using host = new LocalHost({ insecure: true }, `ipc://@${name}`);
    await host.store.start();
    assert.equal(await greets(65534), true);
  },
});

Deno.test({
  name: "a host that may open too few files says so",
  ignore: !linux,
  async fn() {
    await assert.rejects(
      Host.startWith({ maxOpenFiles: 40 }),
      /Cannot start the host: it needs \d+ open files more .* the system allows 40: raise the limit \(ulimit -n\)/,
    );
  },
});
