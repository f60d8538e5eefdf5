/**
 * Hostile clients, as a program of its own: `hostiles.ts ENDPOINT KIND=COUNT…`, until it is killed. It speaks
 * ZeroMQ's protocol by hand, since libzmq would behave.
 *
 * | kind | |
 * |---|---|
 * | `deaf` | asks for a table again and again and reads no reply |
 * | `noise` | sends random bytes |
 * | `babble` | sends messages of random bytes, and reads the replies |
 * | `silent` | connects and sends nothing |
 * | `huge` | sends a message of 100 MB |
 * | `pings` | sends more messages and heartbeats than are read, and is gone |
 *
 * A client that is disconnected connects again after 100 ms, as libzmq does. Once a second, a line tells how many connections of
 * each kind were made.
 *
 * @see https://rfc.zeromq.org/spec/23/ (ZMTP 3.0)
 * @module
 */

type Connection = Deno.Conn<Deno.NetAddr | Deno.UnixAddr>;

const AGAIN_MS = 100;
const HUGE_BYTES = 100_000_000;
const CHUNK = 1 << 16;
const MORE = 1;
const LONG = 2;
const COMMAND = 4;

const text = (value: string) => new TextEncoder().encode(value);

/** Bytes one after another. */
export function concat(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}

function frame(flags: number, body: Uint8Array, claimed = body.length): Uint8Array<ArrayBuffer> {
  if (claimed < 256) return concat(new Uint8Array([flags, claimed]), body);
  const head = new Uint8Array(9);
  head[0] = flags | LONG;
  new DataView(head.buffer).setBigUint64(1, BigInt(claimed));
  return concat(head, body);
}

/** What a DEALER without keys says first, as bytes; with a routing id that it chose, or none. */
export function handshake(id = new Uint8Array(0)): Uint8Array<ArrayBuffer> {
  const greeting = new Uint8Array(64);
  greeting.set([0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0]);
  greeting.set(text("NULL"), 12);
  const ready = concat(
    text("\x05READY\x0bSocket-Type"),
    new Uint8Array([0, 0, 0, 6]),
    text("DEALER"),
    text("\x08Identity"),
    new Uint8Array([0, 0, 0, id.length]),
    id,
  );
  return concat(greeting, frame(COMMAND, ready));
}

/** A heartbeat. */
const PING = frame(COMMAND, text("\x04PING\0\0"));
const EMPTY = frame(MORE, new Uint8Array(0));
/** A native request, as bytes. */
export const message = (payload: Uint8Array, claimed?: number): Uint8Array<ArrayBuffer> =>
  concat(EMPTY, frame(MORE, new Uint8Array([0x4d, 1, 0, 0, 0, 0])), frame(0, payload, claimed));
/** `["all", "t"]` */
const ALL = message(new Uint8Array([0x92, 0xa3, 0x61, 0x6c, 0x6c, 0xa1, 0x74]));
/** `["ping"]` */
const ASK = message(new Uint8Array([0x91, 0xa4, 0x70, 0x69, 0x6e, 0x67]));
const random = (bytes: number) => crypto.getRandomValues(new Uint8Array(bytes));

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function writeAll(to: Connection, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await to.write(bytes.subarray(at));
}

/** What each kind does with a connection, until it is cut off. */
const KINDS: Record<string, (connection: Connection) => Promise<void>> = {
  async deaf(connection) {
    await writeAll(connection, handshake());
    for (const many = concat(...Array(100).fill(ALL));;) await writeAll(connection, many);
  },
  async noise(connection) {
    for (;;) await writeAll(connection, random(CHUNK));
  },
  async babble(connection) {
    await writeAll(connection, handshake());
    const read = async () => {
      for (const buffer = new Uint8Array(CHUNK); await connection.read(buffer) !== null;);
    };
    read().catch(() => {});
    for (;;) await writeAll(connection, concat(...Array.from({ length: 10 }, () => message(random(100)))));
  },
  async silent(connection) {
    for (const buffer = new Uint8Array(CHUNK); await connection.read(buffer) !== null;);
  },
  async huge(connection) {
    await writeAll(connection, handshake());
    await writeAll(connection, message(new Uint8Array(0), HUGE_BYTES));
    const chunk = random(CHUNK);
    for (let sent = 0; sent < HUGE_BYTES; sent += CHUNK) await writeAll(connection, chunk);
  },
  async pings(connection) {
    await writeAll(connection, handshake());
    // (It is closed while there are replies to read: the connection is reset.)
    const many = concat(...Array.from({ length: 300 }, () => concat(ASK, PING)));
    for (let i = 0; i < 20; i++) await writeAll(connection, many);
  },
};

function connect(endpoint: string): Promise<Connection> {
  const [, hostname, port] = /^tcp:\/\/(.*):(\d+)$/.exec(endpoint) ?? [];
  if (port !== undefined) return Deno.connect({ hostname, port: Number(port) });
  return Deno.connect({ transport: "unix", path: endpoint.replace("ipc://", "") });
}

const made: Record<string, number> = {};

async function misbehave(endpoint: string, kind: string): Promise<never> {
  for (;;) {
    try {
      using connection = await connect(endpoint);
      made[kind] = (made[kind] ?? 0) + 1;
      await KINDS[kind](connection);
    } catch {
      // It was cut off.
    }
    await sleep(AGAIN_MS);
  }
}

if (import.meta.main) {
  const [endpoint, ...kinds] = Deno.args;
  for (const [kind, count] of kinds.map((each) => each.split("="))) {
    for (let i = 0; i < Number(count); i++) misbehave(endpoint, kind);
  }
  await sleep(1500);
  console.log("ready");
  setInterval(() => console.log(JSON.stringify(made)), 1000);
}
