/**
 * A reader of the heap's memory may look at any moment. So it does here: after every store that the engine makes, and
 * with any of them between two of its own loads. Whatever it answers must have been true at one moment of the read: of
 * an operation, or of a whole transaction, it sees nothing or all; and never again what was there before.
 *
 * `SOAK_SECONDS=60 deno task test tests/interleaving_test.ts` goes on with other histories.
 */

import assert from "node:assert/strict";
import { BUSY, type Kind, type KnownTable, type MemoryReader, MISSING } from "../blocks/reader.ts";
import { OWNER, PAGE, SEGMENT, TABLE, UNIT_BITS, wordAt } from "../blocks/block.ts";
import { fromClient } from "../blocks/cursor.ts";
import { kindOf, ROOT, STATE, stateOf } from "../blocks/descriptor.ts";
import { copyOfKey } from "../blocks/entry.ts";
import { pageSequence, STRUCTURE, tableSequence } from "../blocks/head.ts";
import { latin1, skip, Writer } from "../msgpack/msgpack.ts";
import type { Span } from "../msgpack/key.ts";
import { OutOfMemory, ownMemory } from "../engine/memory/extents.ts";
import { Heap } from "../engine/memory/heap.ts";
import { TableRegistry } from "../engine/memory/registry.ts";
import { type Snapshot, Store } from "../engine/memory/store.ts";
import { sharedMemory } from "../engine/memory/shared.ts";
import { endReplay, LoggedMemory, Replay, StoreLog, watching } from "./store_log.ts";

const SECONDS = Number(Deno.env.get("SOAK_SECONDS") ?? 0);
/** How often stores are played while a reader reads. */
const MOVING_PASSES = 3;

/** What a history is made of. */
interface Shape {
  tables: number;
  keys: number;
  /** The lengths of values, from which each is chosen. */
  lengths: number[];
  /** How many operations there are. */
  operations: number;
  /** The limit of the heap, in bytes. */
  limit?: number;
  /** Of a thousand stores, before how many a reader looks; all if left out. */
  looks?: number;
}

const SHAPES: Record<string, Shape> = {
  "few entries": { tables: 3, keys: 12, lengths: [0, 5, 6, 60, 3000], operations: 500 },
  "pages and directories that grow and shrink": {
    tables: 1,
    keys: 1500,
    lengths: [1, 9],
    operations: 6500,
    looks: 60,
  },
  "many tables": { tables: 500, keys: 2, lengths: [2], operations: 1500, looks: 200 },
  "a full heap": {
    tables: 1,
    keys: 700,
    lengths: [20, 3000, 6000, 9000],
    operations: 3200,
    limit: 3 * SEGMENT,
    looks: 60,
  },
  "large values": {
    tables: 2,
    keys: 24,
    lengths: [20, 9000, 150_000],
    operations: 400,
    limit: 5 * SEGMENT,
    looks: 150,
  },
};

/** A source of numbers that a seed repeats. */
function random(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const text = new TextEncoder();

const encoded = new Map<string, Uint8Array>();

/** A name or a key, as MessagePack has it. */
function bytesOf(name: string): Uint8Array {
  const { length } = name;
  return encoded.getOrInsertComputed(
    name,
    () => Uint8Array.of(0xda, length >>> 8, length, ...text.encode(name)),
  );
}

function span(name: string): Span {
  const bytes = bytesOf(name);
  return { bytes, from: 0, to: bytes.length };
}

/** The text of {@linkcode bytesOf}. */
const nameOf = (bytes: Uint8Array) => latin1(bytes, 3, bytes.length);

/** The text of a key. Of every ninth the entry is LONG. */
const keyName = (i: number) => i % 9 === 8 ? `key ${i}`.padEnd(300, ".") : `key ${i}`;

/** A value of so many bytes, which tells by itself whether it is whole. */
function valueOf(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length + 5);
  bytes.set([0xc6, 0, length >>> 16, length >>> 8, length]);
  for (let i = 0; i < length; i++) bytes[i + 5] = seed * 31 + i;
  return bytes;
}

interface Item {
  value: Uint8Array;
  expiry: number;
}

/** Where something is. */
interface Place {
  kind: Kind;
  name: string;
  key: string;
}

/** What a store holds at one moment: by kind and name, by key. */
interface Version {
  tables: ReadonlyMap<string, ReadonlyMap<string, Item>>;
  clock: number;
}

const idOf = ({ kind, name }: { kind: Kind; name: string }) => `${kind} ${name}`;

/** A store and its model, to which random things are done. */
class History {
  readonly log = new StoreLog();
  /** What there was after so many operations. */
  readonly versions: Version[];
  /** What the operations of these numbers were, and what they touched. */
  readonly what: string[] = [""];
  readonly touched: Place[][] = [[]];
  /** Whether they changed where pages, directories or descriptors are. */
  readonly structural: boolean[] = [false];
  /** The memory that readers use after so many operations. */
  readonly memory: number[] = [0];
  readonly store: Store;
  readonly #shape: Shape;
  readonly #next: (below: number) => number;
  #tables: Version["tables"] = new Map();
  #clock = 1e12;
  #places: Place[] = [];
  /** What is deleted next, before anything else is done. */
  #doomed: Place[] = [];
  readonly #where = new Map<string, string>();
  #snapshots: { end: number; snapshot: Snapshot }[] = [];

  constructor(shape: Shape, seed: number) {
    this.#shape = shape;
    this.#next = random(seed);
    this.log.time(this.#clock);
    const heap = new Heap(new LoggedMemory(this.log));
    if (shape.limit !== undefined) heap.limit = shape.limit;
    this.store = new Store(heap);
    this.#noteMoves(heap);
    this.versions = [{ tables: this.#tables, clock: this.#clock }];
    for (let i = 0; i <= shape.operations; i++) this.#operation(i);
  }

  #operation(i: number): void {
    const next = this.#next, { store } = this;
    this.log.begin();
    this.#places = [];
    const what = this.#change(i);
    if (what !== "close") this.#assertBalanced(what);
    this.log.end();
    this.what.push(what);
    this.touched.push(this.#places);
    this.structural.push(this.#isMoved());
    this.versions.push({ tables: this.#tables, clock: this.#clock });
    this.memory.push(this.log.memories.findIndex(({ head }) => head === store.heap.head));
    if (i < this.#shape.operations && next(40) === 0) {
      this.#snapshots.push({ end: i + next(60), snapshot: store.snapshot() });
    }
    this.#snapshots = this.#snapshots.filter(({ end, snapshot }) =>
      end > i || void snapshot[Symbol.dispose]()
    );
  }

  /** Notes which entry is about to be moved. */
  #noteMoves(heap: Heap): void {
    const registry = TableRegistry.of(heap), move = registry.move.bind(registry);
    registry.move = (address) => {
      const words = heap.words[address >>> UNIT_BITS], word = words[wordAt(address)], id = word & OWNER;
      if (!(word & (PAGE | TABLE)) && registry.descriptors[id] !== 0) {
        const name = nameOf(registry.table(id).name), key = nameOf(copyOfKey(heap, address));
        const kind = kindOf(heap, registry.descriptors[id]) === 1 ? "tables" : "sets";
        this.log.hint({ kind, name, key });
      }
      move(address);
    };
  }

  /** Whether a table that was touched is elsewhere than when it was touched before. */
  #isMoved(): boolean {
    if (this.store.heap.bytes.length === 0) return true;
    const { store } = this, registry = TableRegistry.of(store.heap);
    let moved = false;
    for (const place of this.#places.slice(0, 20)) {
      const table = store[place.kind].get(span(place.name));
      const at = table ? registry.descriptors[table.id] : 0;
      const where = at === 0
        ? ""
        : `${at} ${stateOf(store.heap, at, ROOT)} ${stateOf(store.heap, at, STATE)}`;
      if (this.#where.get(idOf(place)) !== where) moved = true;
      this.#where.set(idOf(place), where);
    }
    return moved;
  }

  /** Nothing is left open: each sequence is even, and a change of all begins when one begins. */
  #assertBalanced(what: string): void {
    const { head, changes } = this.store.heap;
    const sequences = head!.slice();
    let odd = sequences[STRUCTURE] & 1;
    for (let i = 0; i < 4096; i++) odd |= sequences[pageSequence(i)] & 1;
    for (let i = 0; i < 1024; i++) odd |= sequences[tableSequence(i)] & 1;
    assert.equal(odd, 0, `${what}: a sequence is odd`);
    changes.beginAll();
    assert.equal(head![STRUCTURE] & 1, 1, `${what}: more changes ended than began`);
    changes.endAll();
    assert.equal(head![STRUCTURE] & 1, 0, `${what}: a change has not ended`);
  }

  #change(i: number): string {
    const next = this.#next, { store } = this;
    if (i === Math.floor(this.#shape.operations * 0.8)) return this.#swap();
    if (i === this.#shape.operations) {
      store.closeNow();
      return "close";
    }
    const doomed = this.#doomed.pop();
    if (doomed) {
      this.#delete(doomed);
      return "delete all";
    }
    switch (next(24)) {
      case 0:
        return this.#transact(0);
      case 1:
        return this.#setMany();
      case 2:
        store.cleanWhenIdle();
        return "clean";
      case 3:
        store.expiryQueue.sweep(this.#clock);
        return "sweep";
      case 4:
        this.#clock += next(100);
        this.log.time(this.#clock);
        return "time";
      default:
        return this.#changeOne(i);
    }
  }

  /** Changes one entry, or one table. */
  #changeOne(i: number): string {
    const next = this.#next, { store } = this, { tables, keys, lengths, operations } = this.#shape;
    const kind = next(keys > 100 ? 12 : 4) === 0 ? "sets" : "tables";
    // (First of all, many different keys.)
    const name = `name ${next(tables)}`, key = keyName(i < keys * 0.7 ? i : next(keys));
    const place = { kind, name, key } as const;
    const catalog = store[kind], there = this.#tables.get(idOf(place))?.get(key);
    this.#places.push(place);
    // Times of growth and of shrinking.
    const grows = (i / (operations / 4) & 1) === 0;
    switch (next(40)) {
      case 0:
        if (keys > 100 && next(30) > 0) return "nothing";
        catalog.drop(span(name));
        this.#setTable(place, undefined);
        return "drop";
      case 1:
        if (keys > 100 && next(30) > 0) return "nothing";
        catalog.clear(span(name));
        this.#setTable(place, new Map());
        return "clear";
      case 2:
      case 3:
      case 4:
      case 5:
      case 6: {
        const table = catalog.get(span(name));
        const expiry = next(4) === 0 ? 0 : this.#clock + 1 + next(200);
        const done = table && this.#try(() => store.expire(table, span(key), expiry));
        if (done) this.#set(place, { value: there!.value, expiry });
        return "expire";
      }
      default: {
        if (next(100) < (grows ? 15 : 95)) {
          this.#delete(place);
          if (!grows && next(300) === 0) {
            const there = this.#tables.get(idOf(place))?.keys() ?? [];
            this.#doomed = Array.from(there, (key) => ({ ...place, key }));
          }
          return "delete";
        }
        const value = kind === "sets" ? new Uint8Array() : valueOf(i, lengths[next(lengths.length)]);
        const table = next(3) === 0 ? catalog.get(span(name)) : undefined;
        const expiry = table && next(2) === 0 ? this.#clock + 1 + next(50) : 0;
        const done = this.#try(() => {
          if (table) table.set(span(key), value, 0, value.length, expiry);
          else catalog.set(span(name), span(key), value, 0, value.length);
          return true;
        });
        if (done && table && expiry > 0) store.expiryQueue.add(expiry, table, 0);
        if (done) this.#set(place, { value, expiry });
        return "set";
      }
    }
  }

  #delete(place: Place): void {
    this.#places.push(place);
    this.store[place.kind].get(span(place.name))?.delete(span(place.key));
    this.#set(place, undefined);
  }

  /** Changes much at once, or nothing. */
  #transact(depth: number): string {
    const next = this.#next, { store } = this, before = this.#tables;
    store.begin();
    for (let i = next(next(8) === 0 ? 80 : 8); i >= 0; i--) {
      if (depth < 2 && next(6) === 0) this.#transact(depth + 1);
      else this.#changeOne(next(this.#shape.operations));
    }
    if (next(2) === 0) {
      store.commit();
      return "commit";
    }
    store.rollback();
    this.#tables = before;
    return "rollback";
  }

  #setMany(): string {
    const next = this.#next, { store } = this, before = this.#tables;
    const name = `name ${next(this.#shape.tables)}`, { lengths } = this.#shape;
    try {
      store.transaction(() => {
        const table = store.tables.make(span(name));
        for (let i = next(12); i >= 0; i--) {
          const place = { kind: "tables", name, key: keyName(next(this.#shape.keys)) } as const;
          const value = valueOf(next(1000), lengths[next(lengths.length)]);
          this.#places.push(place);
          table.set(span(place.key), value, 0, value.length);
          this.#set(place, { value, expiry: 0 });
        }
        if (next(6) === 0) throw new OutOfMemory();
      });
    } catch (error) {
      assert.ok(error instanceof OutOfMemory);
      this.#tables = before;
    }
    return "set many";
  }

  /** Puts another store in place of this one, as a restore does. */
  #swap(): string {
    const other = this.store.sibling();
    this.#tables = new Map();
    for (let i = 0; i < 20; i++) {
      const place = { kind: "tables", name: "name 0", key: keyName(i) } as const, value = valueOf(i, 50);
      other.tables.set(span(place.name), span(place.key), value, 0, value.length);
      this.#set(place, { value, expiry: 0 });
    }
    this.store.swap(other);
    other.closeNow();
    this.#noteMoves(this.store.heap);
    for (const { snapshot } of this.#snapshots.splice(0)) snapshot[Symbol.dispose]();
    return "swap";
  }

  #try(run: () => boolean): boolean {
    try {
      return run();
    } catch (error) {
      if (error instanceof OutOfMemory) return false;
      throw error;
    }
  }

  #set(place: Place, item: Item | undefined): void {
    const table = new Map(this.#tables.get(idOf(place)));
    if (item) table.set(place.key, item);
    else table.delete(place.key);
    this.#setTable(place, table);
  }

  #setTable(place: Place, table: ReadonlyMap<string, Item> | undefined): void {
    const tables = new Map(this.#tables);
    if (table) tables.set(idOf(place), table);
    else tables.delete(idOf(place));
    this.#tables = tables;
  }
}

/** Something that a reader looks up. */
interface Query extends Place {
  what: "get" | "size" | "scan";
  /** The entries of a page of a scan. */
  most: number;
}
/** What it found: a value, a number of entries, or the entries of a page and where the next begins. */
type Answer = Uint8Array | number | { entries: Map<string, Uint8Array>; next: number };

/** The tables that a reader knows. */
class Looks {
  readonly reader: MemoryReader;
  readonly #known = new Map<string, KnownTable>();
  readonly #scanned = new Writer(1 << 12);

  constructor(reader: MemoryReader) {
    this.reader = reader;
  }

  /** Looks something up. Returns undefined if it could not. */
  look(query: Query): Answer | undefined {
    const { reader } = this, id = idOf(query);
    let table = this.#known.get(id);
    if (!table) this.#known.set(id, table = reader.table(query.kind, bytesOf(query.name)));
    if (query.what === "size") {
      const size = reader.size(table);
      return size === BUSY ? undefined : size;
    }
    if (query.what === "get") {
      const key = span(query.key);
      key.hash = reader.hash(key);
      const length = reader.get(table, key);
      if (length === MISSING) return MISSING;
      return length === BUSY ? undefined : reader.value.slice(0, length);
    }
    const scanned = this.#scanned, values = query.kind === "tables";
    scanned.reset();
    const found = reader.scan(table, 0, values, { entries: query.most, bytes: 1e9 }, scanned);
    if (!found) return undefined;
    const entries = new Map<string, Uint8Array>();
    for (let i = 0, at = 0; i < found.entries; i++) {
      const from = skip(scanned.bytes, at), to = values ? skip(scanned.bytes, from) : from;
      entries.set(latin1(scanned.bytes, at + 3, from), scanned.bytes.slice(from, to));
      at = to;
    }
    assert.equal(entries.size, found.entries, "an entry was found twice");
    return { entries, next: fromClient(found.next) };
  }
}

/** Whether an answer was true at one moment. */
function isTrue(
  reader: MemoryReader,
  query: Query,
  answer: Answer,
  { tables, clock }: Version,
  later: number,
): boolean {
  const table = tables.get(idOf(query));
  const isThere = (item: Item | undefined): item is Item =>
    item !== undefined && (item.expiry === 0 || item.expiry > clock + later);
  if (answer instanceof Uint8Array || query.what === "get") {
    const item = table?.get(query.key);
    if (!isThere(item)) return answer === MISSING;
    return answer instanceof Uint8Array && equal(answer, item.value);
  }
  const there = [...table ?? []].filter(([, item]) => isThere(item));
  if (typeof answer === "number") return answer === there.length;
  const { entries, next } = answer;
  const expected = there.filter(([key]) => next === 0 || reader.hash(span(key)) >>> 0 < next);
  return expected.length === entries.size &&
    expected.every(([key, { value }]) => entries.has(key) && equal(entries.get(key)!, value));
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Lets a reader look at a history, and checks what it answers. */
class Audit {
  readonly counts = { answers: 0, gaveUp: 0 };
  readonly #history: History;
  readonly #shape: Shape;
  readonly #next: (below: number) => number;
  readonly #replay: Replay;
  readonly #moving: boolean;
  #looks!: Looks;
  #memory = -1;
  /** A read has seen what this operation did: no later read may see less. */
  #seen = 0;

  /** @param moving Whether the engine's stores go on between a reader's loads. */
  constructor(history: History, shape: Shape, seed: number, moving: boolean) {
    this.#moving = moving;
    this.#history = history;
    this.#shape = shape;
    const next = this.#next = random(seed);
    let pace = 0, burst = 1;
    const goOn = () => next(1000) < pace ? 1 + next(burst) : 0;
    this.#replay = new Replay(history.log, moving ? goOn : undefined);
    while (!this.#replay.done) {
      const done = this.#replay.step();
      // (The memory is made before the first operation.)
      if (this.#replay.begun === 0) continue;
      if (done === "zeros" && !moving) this.#readMany();
      // (Where much was moved, most looks.)
      const often = moving || history.structural[this.#replay.begun];
      if (done !== "store" || next(1000) >= (often ? 800 : shape.looks ?? 1000)) continue;
      if (this.#replay.isChanging(history.memory[this.#replay.ended]) && next(8) > 0) continue;
      pace = [1, 5, 20, 100][next(4)];
      burst = next(10) === 0 ? 200 : [1, 3, 10][next(3)];
      this.#read();
      if (next(4) === 0) this.#read();
    }
    history.log.memories.forEach((memory, i) => {
      if (memory.offer) assert.equal(this.#replay.difference(i), -1, "a store was not written down");
    });
  }

  #query(): Query {
    const next = this.#next, { touched } = this.#history, { tables, keys, lengths } = this.#shape;
    const near = touched[this.#replay.begun];
    const hint = this.#replay.hint as Place | undefined;
    const place: Place = hint && next(2) === 0
      ? hint
      : near?.length > 0 && next(4) > 0
      ? near[next(near.length)]
      : { kind: next(4) === 0 ? "sets" : "tables", name: `name ${next(tables)}`, key: keyName(next(keys)) };
    // (A scan makes many loads.)
    const what = next(this.#moving ? 2 : 6) === 0 ? "scan" : next(5) === 0 ? "size" : "get";
    // (Where much would be read, a few are enough.)
    const few = lengths.at(-1)! > 5000 || this.#moving && keys > 100 && next(8) > 0;
    return { ...place, what, most: few || next(3) === 0 ? 1 + next(30) : 1e6 };
  }

  /** Looks up a part of all that is there: memory was given back. */
  #readMany(): void {
    const { versions, memory } = this.#history, { ended } = this.#replay, next = this.#next;
    if (memory[ended] !== this.#memory) return;
    const places: Place[] = [];
    for (const [id, table] of versions[ended].tables) {
      const kind = id.slice(0, id.indexOf(" ")) as Kind, name = id.slice(id.indexOf(" ") + 1);
      for (const key of table.keys()) places.push({ kind, name, key });
    }
    // (What was being moved, first of all.)
    let place = this.#replay.hint as Place | undefined;
    for (let i = 0; i < 60 && places.length > 0; i++, place = undefined) {
      this.#check([{ what: "get", most: 0, ...place ?? places[next(places.length)] }], "alone");
    }
  }

  #read(): void {
    const next = this.#next, replay = this.#replay, history = this.#history;
    const memory = history.memory[replay.ended];
    if (memory !== this.#memory) {
      const before = this.#looks;
      this.#memory = memory;
      this.#looks = new Looks(replay.reader(memory));
      // (Where another memory has taken its place, nothing is found.)
      for (let i = 0; before && i < 20; i++) {
        assert.equal(replay.read(0, () => before.look(this.#query())), undefined);
      }
    }
    const queries = Array.from({ length: next(3) === 0 ? 2 + next(4) : 1 }, () => this.#query());
    // (The same twice, for a good part.)
    if (queries.length > 1 && next(2) === 0) queries[1] = queries[0];
    this.#check(queries, queries.length === 1 ? "alone" : next(2) === 0 ? "together" : "begin");
  }

  /** Looks up something, and checks that it is true at one moment. */
  #check(queries: readonly Query[], how: "alone" | "together" | "begin"): void {
    const replay = this.#replay, history = this.#history;
    const looks = this.#looks, { reader } = looks;
    const from = Math.max(replay.ended, this.#seen);
    // (The reader may be so much later that all that expires has.)
    const later = this.#next(8) === 0 ? 1000 : 0;
    const answers = replay.read(later, () => {
      const all = () => {
        const found = queries.map((query) => looks.look(query));
        return found.includes(undefined) ? undefined : found as Answer[];
      };
      if (how === "alone") return all();
      if (how === "together") return reader.together(3, all);
      reader.begin();
      const found = all();
      return reader.end() ? found : undefined;
    });
    // (What was begun, it may have been given up in between.)
    if (!answers) {
      reader.end();
      this.counts.gaveUp++;
      return;
    }
    this.counts.answers++;
    for (let i = from; i <= replay.begun; i++) {
      const version = history.versions[i];
      if (!queries.every((query, k) => isTrue(reader, query, answers[k], version, later))) continue;
      this.#seen = i;
      return;
    }
    const told = queries.map((query, k) => `${Deno.inspect(query)}: ${Deno.inspect(answers[k])}`);
    const operations = history.what.slice(replay.ended, replay.begun + 1);
    assert.fail(
      `operations ${replay.ended} to ${replay.begun} (${operations}), seen ${this.#seen}:\n${
        told.join("\n")
      }`,
    );
  }
}

function run(shape: Shape, seed: number): void {
  watching(() => {
    const history = new History(shape, seed);
    try {
      for (let i = 0; i <= MOVING_PASSES; i++) {
        const { answers, gaveUp } = new Audit(history, shape, seed + i, i > 0).counts;
        assert.ok(answers > 20, `${answers} answers, ${gaveUp} reads were given up`);
      }
    } finally {
      endReplay();
      for (const memory of history.log.memories) memory.close();
    }
  });
}

const canShare = (() => {
  const memory = sharedMemory();
  memory.close();
  return memory !== ownMemory;
})();

for (const [name, shape] of Object.entries(SHAPES)) {
  Deno.test({
    name: `a reader looks at any moment: ${name}`,
    ignore: !canShare,
    fn: () => {
      const end = performance.now() + SECONDS * 1000 / Object.keys(SHAPES).length;
      do {
        const seed = crypto.getRandomValues(new Int32Array(1))[0];
        try {
          run(shape, seed);
        } catch (error) {
          throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
        }
      } while (performance.now() < end);
    },
  });
}
