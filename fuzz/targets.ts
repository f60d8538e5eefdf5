/**
 * The fuzz targets. A target runs one case after another. The random numbers of a case decide everything that it does.
 * It throws what it finds.
 *
 * | target | what is random | what must hold |
 * |---|---|---|
 * | `payloads` | bytes of valid messages | as many replies as commands; a command that was refused changed nothing |
 * | `frames` | envelopes and headers | a message or a reason; the reply's envelope is the request's |
 * | `replies` | bytes of replies, at the client | a value or an error of ours |
 * | `states` | bytes of state files | what is damaged is refused, what is not comes back the same |
 * | `model` | nothing: commands in any order | the replies of Maps and Sets |
 * | `fronts` | commands of four clients, through four fronts of a Redis cluster | the replies of Maps and Sets |
 * | `connections` | bytes of a connection to a host | the host still replies |
 * | `lanes` | the memory of lanes, while the host reads it | the host still replies, and right |
 * | `reader` | the memory of a host, while clients read it | a read ends, in bounds, with a value or not |
 *
 * @module
 */

import assert from "node:assert/strict";
import { cpuUsage } from "node:process";
import { gzipSync } from "node:zlib";
import { commands, replyShape } from "../commands/list.ts";
import { hostCommands } from "../host/commands.ts";
import { Dispatcher } from "../host/dispatch.ts";
import type { Job } from "../host/execution.ts";
import { memoryHandlers, runsOn } from "../host/memory.ts";
import { OutOfMemory } from "../engine/memory/extents.ts";
import { Heap } from "../engine/memory/heap.ts";
import { Store } from "../engine/memory/store.ts";
import { decodeState, encodeState } from "../state/format.ts";
import { Persistence } from "../state/persistence.ts";
import { encoded, Reader } from "../msgpack/codec.ts";
import { LIMITS } from "../transport/limits.ts";
import { MemStoreError, readReply } from "../transport/message.ts";
import { parseReply, parseRequest } from "../transport/zeromq/frames.ts";
import { MalformedError, skip } from "../msgpack/msgpack.ts";
import { TempDir } from "../tests/host.ts";
import { concat } from "../tests/hostiles.ts";
import { contentsOf } from "../tests/stores.ts";
import { fronts } from "./fronts.ts";
import { connections, lanes, neighbours, work } from "./hosts.ts";
import { Model, Refused } from "./model.ts";
import { reader } from "./reader.ts";
import type { Target } from "./target.ts";
import { anyPayload, anyValue, mutated, type Random } from "./random.ts";

/** The targets, by name. */
export const targets: Record<string, () => Promise<Target>> = {
  payloads: () => plain(payloads),
  frames: () => plain(frames),
  replies: () => plain(replies),
  states,
  model,
  full: () => plain(full),
  connections,
  lanes,
  neighbours,
  work,
  fronts,
  reader,
};

function plain(run: (random: Random) => void): Promise<Target> {
  return Promise.resolve({ run, [Symbol.asyncDispose]: () => Promise.resolve() });
}

const LIMITED = { ...LIMITS, commands: 20, depth: 30, message: 20_000 };

/** A store and its dispatcher, without a socket. */
function hosted(store = new Store()): { store: Store; dispatcher: Dispatcher } {
  const persistence = new Persistence(store, { directory: "/nonexistent", anyPath: false }, {}, () => {});
  const dispatcher = new Dispatcher(runsOn(store), LIMITED);
  const hello = () => ({
    version: "",
    protocol: 1,
    right: "admin" as const,
    limits: { ...LIMITED, batch: 20 },
    lane: false,
  });
  const host = {
    persistence,
    commands: () => dispatcher.commands,
    hello,
    openLane: () => undefined,
    memoryFor: () => undefined,
    stats: () => ({}),
    stop: () => Promise.resolve(),
  };
  for (const command of hostCommands(host, memoryHandlers)) dispatcher.add(command);
  return { store, dispatcher };
}

/** The reply to a message; undefined if it waits for a file. */
function answer(dispatcher: Dispatcher, job: Omit<Job, "client">): Uint8Array | undefined {
  let answered: Uint8Array | undefined;
  dispatcher.run(job, (reply) => answered = reply.slice(), Infinity);
  return answered;
}

/** Milliseconds of the processor that this process has used: what else the machine does adds nothing. */
function processorTime(): number {
  const { user, system } = cpuUsage();
  return (user + system) / 1000;
}

/** The items of a payload; undefined if it is no list of them. */
function count(payload: Uint8Array): number | undefined {
  let items = 0;
  try {
    for (let at = 0; at < payload.length; items++) at = skip(payload, at);
  } catch {
    return undefined;
  }
  return items;
}

function payloads(random: Random): void {
  const { store, dispatcher } = hosted();
  for (let i = random.below(20); i >= 0; i--) {
    const valid = anyPayload(random);
    const payload = random.one(3) ? valid : mutated(valid, random);
    const legacy = random.one(4), right = random.pick(["read", "write", "admin"] as const);
    const batch = !legacy && random.one(3);
    const before = contentsOf(store);
    const start = processorTime();
    const reply = answer(dispatcher, { payload, legacy, batch, right });
    assert.ok(reply, "a quick command answers at once");
    assert.ok(processorTime() - start < 1000, "it takes too long");
    const items = count(reply);
    assert.ok(items !== undefined, "the reply is no MessagePack");
    const unchanged = right === "read" || !legacy && isRefused(reply);
    if (unchanged) {
      assert.deepEqual(contentsOf(store), before, "a message that was refused has changed something");
    }
    const wanted = count(payload);
    const whole = legacy ? items : items / 2;
    // (What is no message at all has one reply.)
    if (whole !== 1) assert.equal(whole, wanted, "each command has its reply");
    if (wanted === undefined || wanted === 0) assert.equal(whole, 1);
    if (random.one(4)) store.cleanWhenIdle();
  }
  checkStore(store);
}

/** Whether a native reply says that nothing of its message was done. */
function isRefused(reply: Uint8Array): boolean {
  const reader = new Reader(reply);
  let all = true, notRun = false;
  while (reader.at < reply.length) {
    const result = readReply("value", reader);
    if (!(result instanceof MemStoreError)) {
      all = false;
      continue;
    }
    assert.ok(CODES.includes(result.code), `the code is ${result.code}`);
    notRun ||= result.code === "NOT_RUN";
  }
  if (notRun) assert.ok(all, "a part of a batch was done");
  return all;
}

const CODES = ["BAD_REQUEST", "UNKNOWN_COMMAND", "BAD_ARGUMENT", "TOO_LARGE", "OUT_OF_MEMORY", "DENIED"];
CODES.push("FAILED", "NOT_RUN", "NOT_IN_BATCH");

/** All pages of a store can be read, and hold as much as it says. */
function checkStore(store: Store): void {
  const { tables, sets } = contentsOf(store);
  const entries = [...tables.values()].reduce<number>(
    (sum, table) => sum + (table as Map<string, string>).size,
    0,
  );
  const members = [...sets.values()].reduce<number>((sum, set) => sum + (set as Set<string>).size, 0);
  assert.deepEqual([store.tables.entries, store.sets.entries], [entries, members]);
}

function frames(random: Random): void {
  const header = new Uint8Array([0x4d, 1, ...random.bytes(random.below(33))]);
  const payload = encoded(["ping"]);
  const id = random.bytes(5);
  const parts = random.pick([
    [[], header, payload],
    [[], payload],
    [payload],
    [[], header],
    [[], [], payload],
    [],
  ]);
  const all = [
    id,
    ...parts.map((part) => random.one(3) ? mutated(new Uint8Array(part), random) : new Uint8Array(part)),
  ];
  const { envelope, legacy, payload: found, fault } = parseRequest(all);
  assert.deepEqual(envelope, all.slice(0, envelope.length), "the envelope is not the request's");
  assert.ok(envelope.length >= 1 && envelope.length <= all.length);
  assert.equal(found, all.at(-1));
  if (fault === undefined) assert.equal(envelope.length, all.length - 1);
  if (fault === undefined && !legacy) {
    assert.ok(envelope.at(-1)![0] === 0x4d && envelope.at(-1)!.length <= 32);
  }
  parseReply(all.slice(1));
}

function replies(random: Random): void {
  const valid = concat(new Uint8Array([0]), encoded(anyValue(random)));
  const name = random.pick(["get", "all", "scan"]);
  const bytes = mutated(valid, random);
  try {
    const reader = new Reader(bytes);
    while (reader.at < bytes.length) readReply(replyShape(name), reader);
  } catch (error) {
    assert.ok(error instanceof MalformedError, (error as Error).stack);
  }
}

function states(): Promise<Target> {
  const directory = new TempDir();
  const path = `${directory.path}/state`;
  const persistence = new Persistence(
    new Store(),
    { directory: directory.path, anyPath: false },
    {},
    () => {},
  );
  const load = async () => (await persistence.load(persistence.file("state")))?.state;
  return Promise.resolve({
    async run(random) {
      const { store, dispatcher } = hosted();
      for (let i = random.below(30); i >= 0; i--) {
        answer(dispatcher, {
          payload: anyPayload(random),
          legacy: false,
          batch: random.one(3),
          right: "write",
        });
      }
      using snapshot = store.snapshot();
      const whole = concat(...Array.from(encodeState(snapshot), (piece) => piece.slice()));
      const expected = contentsOf(store);
      // Without a checksum, as pymemstore wrote it, it can only be said that it is read or refused.
      const plain = random.one(3);
      const original = plain ? withoutChecksum(whole) : whole;
      const bytes = random.one(4) ? original : mutated(original, random);
      const same = bytes.length === original.length && bytes.every((byte, i) => byte === original[i]);
      const gzip = random.one(3);
      if (gzip) {
        await Deno.writeFile(path, random.one(2) ? gzipSync(bytes) : mutated(gzipSync(bytes), random));
      }
      const loaded = await (gzip ? load() : decodeState(pieces(bytes, random)))
        .catch((error: unknown) => {
          assert.ok(error instanceof Error && /\S/.test(error.message), String(error));
          assert.ok(!/is not a function|undefined|stack/i.test(error.message), error.stack);
        });
      if (!loaded) return assert.ok(gzip || !same, "a state that is whole is refused");
      try {
        if (!plain) assert.deepEqual(contentsOf(loaded), expected, "a state that is damaged is taken");
        checkStore(loaded);
      } finally {
        await loaded.close();
        await store.close();
      }
    },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  });
}

/** The same state without its last field. */
function withoutChecksum(state: Uint8Array): Uint8Array<ArrayBuffer> {
  // "crc32" is 6 bytes, its value 5 (a uint 32) or less.
  const at = state.findLastIndex((byte, i) =>
    byte === 0xa5 && state[i + 1] === 0x63 && state[i + 5] === 0x32
  );
  const bytes = state.slice(0, at);
  bytes[0]--;
  return bytes;
}

async function* pieces(
  bytes: Uint8Array<ArrayBuffer>,
  random: Random,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for (let at = 0; at < bytes.length;) {
    const to = Math.min(bytes.length, at + 1 + random.below(random.one(2) ? 9 : 900));
    yield bytes.slice(at, to);
    at = to;
  }
}

/** Commands that the model knows. */
const KNOWN = (
  "set set_new cas get pop del exists incr get_many set_many keys size all drop tables " +
  "push push_many pull in_set list_set set_size clear_set drop_set sets union inter diff"
).split(" ");
const MODELLED = commands.filter(({ name }) => KNOWN.includes(name));
/** Keys and values that encode one way only. */
const ITEMS = ["a", "b", "c", 1, 2, 300, -5, true, null, "k".repeat(40), new Uint8Array([1, 2])];

function model(): Promise<Target> {
  return Promise.resolve({
    async run(random) {
      const { store, dispatcher } = hosted();
      await compareWithModel(random, (sent, batch) => {
        const payload = concat(...sent.map(encoded));
        const reader = new Reader(answer(dispatcher, { payload, legacy: false, batch, right: "admin" })!);
        if (random.one(5)) store.cleanWhenIdle();
        return sent.map(([name]) => readReply(replyShape(name as string), reader));
      });
      checkStore(store);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
}

/** Runs commands in one message. Returns the reply to each: its value, or a {@linkcode MemStoreError}. */
export type RunCommands = (commands: unknown[][], batch: boolean) => unknown[] | Promise<unknown[]>;

/** Compares what an empty host replies with what the model does: commands in any order. */
export async function compareWithModel(random: Random, run: RunCommands): Promise<void> {
  let model = new Model();
  for (let steps = 1 + random.below(60); steps > 0; steps--) {
    const sent = Array.from({ length: 1 + random.below(6) }, () => modelled(random));
    if (random.one(5)) sent.splice(random.below(sent.length), 0, random.pick(REFUSED));
    const batch = random.one(2);
    const actual = await run(sent, batch);
    const before = model.copy();
    const expected = sent.map((command) => attempt(model, command));
    const failed = expected.findIndex((each) => each instanceof Refused);
    if (batch && failed >= 0) {
      model = before;
      // (Those that are refused are found before any runs.)
      const refused = sent.findIndex((command) => REFUSED.includes(command));
      const blamed = refused >= 0 ? refused : failed;
      for (const [i, each] of actual.entries()) {
        assert.ok(each instanceof MemStoreError, inspect(sent));
        assert.equal(each.code === "NOT_RUN", i !== blamed, inspect(sent));
      }
    } else {
      for (const [i, each] of expected.entries()) {
        if (each instanceof Refused) assert.ok(actual[i] instanceof MemStoreError, inspect(sent[i]));
        else assert.deepEqual(sorted(actual[i]), sorted(each), inspect(sent[i]));
      }
    }
  }
}

/** Commands that are refused. */
const REFUSED: unknown[][] = [["nope"], ["get", "a"], ["expire", 1, 2, "x"]];

/** What the model replies, or why it does not. */
function attempt(model: Model, command: readonly unknown[]): unknown {
  if (REFUSED.includes(command as unknown[])) return new Refused();
  try {
    return model.run(command);
  } catch (error) {
    if (error instanceof Refused) return error;
    throw error;
  }
}

function modelled(random: Random): unknown[] {
  const { name, args } = random.pick(MODELLED);
  const item = () => random.pick(ITEMS);
  const some = () => Array.from({ length: random.below(5) }, item);
  return [
    name,
    ...args.map(({ type, optional }) =>
      type === "keys"
        ? some()
        : type === "entries"
        ? new Map(some().map((key) => [key, item()]))
        : type === "seconds"
        // (The model knows no time: nothing may expire while a case runs.)
        ? 100_000
        : optional
        ? 1
        : item()
    ),
  ];
}

/** A list in an order. */
function sorted(value: unknown): unknown {
  const text = (each: unknown) => String(encoded(each));
  if (Array.isArray(value)) return value.map(text).sort();
  if (value instanceof Map) return [...value].map(([key, value]) => `${text(key)}:${text(value)}`).sort();
  return value;
}

const inspect = (value: unknown) => Deno.inspect(value, { depth: 4 });

/** A store at its limit, with values of one size: it refuses in time, and goes on. */
function full(random: Random): void {
  const heap = new Heap();
  const limit = heap.limit = 2 ** 23 * (1 + random.below(4));
  const store = new Store(heap);
  // (From small ones to those that have memory of their own, each order of magnitude as likely.)
  const size = Math.floor(50 * 2 ** (random.below(1300) / 100));
  const vary = random.one(3);
  const value = new Uint8Array(size * 2);
  const name = encoded("t"), there = new Map<number, number>();
  const span = (bytes: Uint8Array) => ({ bytes, from: 0, to: bytes.length });
  const mark = (length: number) => value.fill(length & 255, 0, Math.min(8, length));
  let refused = 0, slowest = 0;
  for (let i = 0, steps = Math.min(20_000, Math.ceil(limit / size * 3)); i < steps; i++) {
    const key = random.below(Math.ceil(limit / size * 1.2)), at = span(encoded(key));
    const start = processorTime();
    if (random.one(3)) {
      assert.equal(store.tables.get(span(name))?.delete(at) ?? false, there.delete(key));
    } else {
      const length = vary ? Math.ceil(size / 2) + random.below(size) : size;
      mark(length);
      try {
        store.tables.set(span(name), at, value, 0, length);
        there.set(key, length);
      } catch (error) {
        if (!(error instanceof OutOfMemory)) throw error;
        refused++;
        assert.ok(heap.live > limit / 2, `refused while ${heap.live} of ${limit} bytes live`);
      }
    }
    slowest = Math.max(slowest, processorTime() - start);
    if (random.one(50)) store.cleanWhenIdle();
  }
  // (What takes a second here took for ever.)
  assert.ok(slowest < 1000, `a step took ${slowest} ms`);
  assert.ok(heap.size < limit * 1.1 + 2 ** 21, `${heap.size} bytes are taken`);
  const table = store.tables.get(span(name));
  assert.equal(table?.size ?? 0, there.size);
  for (const [key, length] of there) {
    const entry = store.entry.read(table!.find(span(encoded(key))));
    assert.equal(entry.valueTo - entry.keyTo, length);
    assert.equal(entry.bytes[entry.keyTo], length & 255);
  }
  for (const key of there.keys()) table!.delete(span(encoded(key)));
  for (let i = 0; store.cleanWhenIdle(); i++) assert.ok(i < 1e6, "the host does not rest");
  assert.ok(refused === 0 || heap.size < 2 ** 22, `${heap.size} bytes are left of nothing`);
  store.close();
}
