/** The system memory that a store uses and gives back. */

import assert from "node:assert/strict";
import { SEGMENT } from "../blocks/block.ts";
import type { Span } from "../msgpack/key.ts";
import { type Allocator, OutOfMemory } from "../engine/memory/extents.ts";
import { Heap } from "../engine/memory/heap.ts";
import { Store } from "../engine/memory/store.ts";
import { Persistence } from "../state/persistence.ts";
import { turn } from "../system/turn.ts";

/** Counts the bytes of all heaps that it gives memory to. */
class Memory implements Allocator {
  readonly head = undefined;
  readonly offer = undefined;
  bytes = 0;
  /** The most buffers that were released within one turn of the event loop. */
  mostReleased = 0;
  #released = 0;

  another(): Allocator {
    return this;
  }

  retire(): void {}

  close(): void {}

  allocate(_segment: number, bytes: number): ArrayBuffer {
    this.bytes += bytes;
    return new ArrayBuffer(bytes);
  }

  release(_segment: number, buffer: ArrayBuffer): void {
    this.bytes -= buffer.byteLength;
    buffer.transfer(0);
    if (this.#released++ === 0) void turn().then(() => this.#released = 0);
    this.mostReleased = Math.max(this.mostReleased, this.#released);
  }
}

const memory = new Memory();

function storeOf(limit: number): Store {
  memory.bytes = 0;
  const heap = new Heap(memory);
  heap.limit = limit;
  return new Store(heap);
}

/** A text of less than 256 bytes, as MessagePack has it. */
function span(text: string): Span {
  const bytes = Uint8Array.of(0xd9, text.length, ...new TextEncoder().encode(text));
  return { bytes, from: 0, to: bytes.length };
}

/** A value of so many bytes, as MessagePack has it. */
function valueOf(bytes: number): Uint8Array {
  const value = new Uint8Array(bytes + 5);
  value[0] = 0xc6;
  new DataView(value.buffer).setUint32(1, bytes);
  return value;
}

/** Sets values of so many bytes until there is no room; how many. */
function fill(store: Store, bytes: number, most = Infinity): number {
  const value = valueOf(bytes);
  for (let i = 0;; i++) {
    if (i === most) return i;
    try {
      store.tables.set(span("t"), span(`key ${i}`), value, 0, value.length);
    } catch (error) {
      assert.ok(error instanceof OutOfMemory, String(error));
      return i;
    }
  }
}

function assertEmpty(store: Store): void {
  while (store.cleanWhenIdle());
  assert.ok(memory.bytes <= 2 * SEGMENT && store.heap.size <= 2 * SEGMENT, `${memory.bytes} bytes are left`);
}

Deno.test("a full store goes on: reads, deletes, and writes when it was idle; empty, it gives all back", async () => {
  for (const bytes of [1500, 10_000, 50_000, 210_000, 1_000_000]) {
    const store = storeOf(32 * SEGMENT);
    const most = fill(store, bytes);
    const table = store.tables.get(span("t"))!;
    assert.ok(most * bytes > 0.85 * 32 * SEGMENT, `${most} of ${bytes} bytes`);
    for (let i = 0; i < most; i++) assert.notEqual(table.find(span(`key ${i}`)), 0);
    for (let round = 0; round < 3; round++) {
      for (let i = round; i < most; i += 3) assert.ok(table.delete(span(`key ${i}`)));
      while (store.cleanWhenIdle());
      fill(store, bytes - round);
      while (store.cleanWhenIdle());
      assert.ok(fill(store, bytes - round) >= most * 0.95, `${bytes} bytes, round ${round}`);
    }
    while (store.cleanWhenIdle());
    for (let i = 0; i < most; i++) table.delete(span(`key ${i}`));
    assertEmpty(store);
    fill(store, bytes);
    store.tables.drop(span("t"));
    assertEmpty(store);
    assert.ok(fill(store, bytes) >= most * 0.95);
    await store.close();
    assert.equal(memory.bytes, 0);
  }
});

Deno.test("a store that was stored is thawed, also where that failed; what failed to be restored is gone", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const store = storeOf(32 * SEGMENT);
    const persistence = new Persistence(store, { directory, anyPath: true }, {}, () => {});
    const kept = persistence.own(`${directory}/state`);
    fill(store, 3000, 5000);
    await persistence.store(kept);
    assert.equal(store.heap.frozen, false);
    await assert.rejects(persistence.store(persistence.own(`${directory}/missing/state`)), /Cannot store/);
    assert.equal(store.heap.frozen, false);

    const before = memory.bytes;
    await (await persistence.load(kept))!.state.close();
    assert.equal(memory.bytes, before);
    await Deno.truncate(`${directory}/state`, 10_000_000);
    await assert.rejects(persistence.load(kept), /Cannot restore/);
    assert.equal(memory.bytes, before);
    store.heap.limit = 8 * SEGMENT;
    await assert.rejects(persistence.load(kept), /Cannot restore/);
    assert.equal(memory.bytes, before);
    await store.close();
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("what a restore replaces, and what a failed one has read, is given back in steps", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const store = storeOf(128 * SEGMENT);
    const persistence = new Persistence(store, { directory, anyPath: true }, {}, () => {});
    const kept = persistence.own(`${directory}/state`);
    fill(store, 3000, 20_000);
    await persistence.store(kept);
    const { bytes } = memory;
    assert.ok(bytes > 50 * SEGMENT);

    memory.mostReleased = 0;
    await persistence.restore(kept);
    assert.equal(store.tables.entries, 20_000);
    assert.ok(memory.bytes <= bytes + 4 * SEGMENT, `${memory.bytes - bytes} bytes are left`);
    await Deno.truncate(`${directory}/state`, 50_000_000);
    await assert.rejects(persistence.restore(kept), /Cannot restore/);
    assert.equal(store.tables.entries, 20_000);
    assert.ok(memory.bytes <= bytes + 4 * SEGMENT, `${memory.bytes - bytes} bytes are left`);
    assert.ok(memory.mostReleased > 0 && memory.mostReleased <= 8, `${memory.mostReleased} at once`);
    await store.close();
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
