/** The heap by itself: its blocks, its limit, its cleaner. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { LONG, SEGMENT, UNIT_BITS, UNIT_MASK } from "../blocks/block.ts";
import { type Allocator, OutOfMemory, ownMemory } from "../engine/memory/extents.ts";
import { Heap, type Owner } from "../engine/memory/heap.ts";

/** Bytes that one allocation, or the cleaning in step with it, may move: 4 MiB and one block more. */
const MAX_MOVED = 2 ** 22 + SEGMENT / 2;

/** Memory that knows what it gave. */
class Memory implements Allocator {
  readonly head = undefined;
  readonly offer = undefined;
  readonly buffers = new Set<ArrayBuffer>();
  bytes = 0;
  fails = false;

  another(): Allocator {
    return this;
  }

  retire(): void {}

  close(): void {}

  allocate(_segment: number, bytes: number): ArrayBuffer {
    if (this.fails) throw new RangeError("Array buffer allocation failed");
    const buffer = new ArrayBuffer(bytes);
    this.buffers.add(buffer);
    this.bytes += bytes;
    return buffer;
  }

  release(_segment: number, buffer: ArrayBuffer): void {
    assert.ok(this.buffers.delete(buffer), "a buffer is released that was not given");
    this.bytes -= buffer.byteLength;
    buffer.transfer(0);
  }
}

interface Block {
  address: number;
  bytes: number;
  tag: number;
}

/** Blocks of a heap, each with a tag in its first and last word, that the heap may move. */
class Blocks implements Owner {
  readonly memory = new Memory();
  readonly heap = new Heap(this.memory);
  readonly all: Block[] = [];
  /** Bytes that were moved. */
  moved = 0;
  /** No move is expected. */
  still = false;
  readonly #id = 1;
  readonly #places = new Map<number, Block>();
  #tags = 0;

  constructor(limit?: number) {
    this.heap.owner = this;
    if (limit !== undefined) this.heap.limit = limit;
  }

  /** Adds a block of so many bytes, of which the first 16 are its head. */
  add(bytes: number): Block {
    const address = this.heap.allocate(bytes);
    const block = { address, bytes, tag: ++this.#tags };
    this.#write(block);
    this.all.push(block);
    this.heap.cleanForWrite(bytes);
    return block;
  }

  /** Adds blocks of one size until there is no room; how many. */
  fill(bytes: number): number {
    for (let count = 0;; count++) {
      const moved = this.moved;
      try {
        this.add(bytes);
      } catch (error) {
        assert.ok(error instanceof OutOfMemory, String(error));
        return count;
      } finally {
        assert.ok(this.moved - moved <= 2 * MAX_MOVED, `${this.moved - moved} bytes moved for one write`);
      }
    }
  }

  remove(index: number): void {
    const block = this.all[index];
    const last = this.all.pop()!;
    if (last !== block) this.all[index] = last;
    this.#places.delete(block.address >>> 0);
    this.heap.free(block.address, block.bytes);
    this.heap.cleanForWrite(block.bytes);
  }

  removeAll(): void {
    while (this.all.length > 0) this.remove(this.all.length - 1);
  }

  /** Copies a block, as an owner does before it changes one that a snapshot reads. */
  copy(block: Block): void {
    this.#places.delete(block.address >>> 0);
    block.address = this.heap.copy(block.address, block.bytes);
    this.#places.set(block.address >>> 0, block);
  }

  move(address: number): void {
    assert.ok(!this.still, "a block was moved");
    const block = this.#places.get(address >>> 0);
    if (!block) return;
    this.moved += block.bytes;
    this.copy(block);
  }

  /** Works as an idle host does; in how many steps. */
  cleanWhenIdle(): number {
    for (let steps = 0;; steps++) {
      if (!this.heap.cleanWhenIdle()) return steps;
      assert.ok(steps < 100_000, "the heap never rests");
    }
  }

  /** Everything that must hold between two calls. */
  check(): void {
    const { heap, memory } = this;
    const all = this.all.toSorted((a, b) => (a.address >>> 0) - (b.address >>> 0));
    let end = 0, live = 0;
    for (const { address, bytes, tag } of all) {
      assert.ok(address >>> 0 >= end, "two blocks overlap");
      const units = (bytes + 7) >>> 3;
      end = (address >>> 0) + units;
      live += units * 8;
      assertTag(heap, address, bytes, tag);
    }
    assert.equal(heap.live, live);
    assert.equal(heap.size, memory.bytes);
    assert.ok(heap.dead >= 0 && heap.live + heap.dead <= heap.size, `${live} ${heap.dead} ${heap.size}`);
  }

  #write(block: Block): void {
    const { address, bytes, tag } = block;
    const words = this.heap.words[address >>> UNIT_BITS], at = (address & UNIT_MASK) << 1;
    words[at] = this.#id | LONG;
    words[at + 1] = 0;
    words[at + 2] = bytes - 16;
    words[at + 3] = words[at + ((bytes + 7) >>> 3) * 2 - 1] = tag;
    this.#places.set(address >>> 0, block);
  }
}

function assertTag(heap: Heap, address: number, bytes: number, tag: number): void {
  const words = heap.words[address >>> UNIT_BITS], at = (address & UNIT_MASK) << 1;
  assert.equal(words[at + 2], bytes - 16);
  assert.equal(words[at + 3], tag);
  assert.equal(words[at + ((bytes + 7) >>> 3) * 2 - 1], tag);
}

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

Deno.test("a heap is what a list of blocks is, over random histories", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1 }), fc.integer({ min: 8, max: 64 }), (seed, limit) => {
      const next = random(seed);
      const blocks = new Blocks(limit * SEGMENT);
      const { heap } = blocks;
      const sizes = [100, 4000, 40_000, 140_000, 600_000, 3_000_000].slice(next(5)).slice(0, 1 + next(5));
      let frozen: Block[] | undefined;
      for (let step = 0; step < 400; step++) {
        const grows = (step / 60 & 1) === 0;
        const what = next(100);
        if (what < (grows ? 60 : 20)) {
          try {
            blocks.add(16 + next(sizes[next(sizes.length)]));
          } catch (error) {
            assert.ok(error instanceof OutOfMemory, String(error));
          }
        } else if (what < 75) {
          if (blocks.all.length > 0) blocks.remove(next(blocks.all.length));
        } else if (what < 85) {
          if (blocks.all.length > 0) blocks.copy(blocks.all[next(blocks.all.length)]);
        } else if (what < 90) {
          heap.cleanWhenIdle();
        } else if (!frozen) {
          heap.freeze();
          frozen = blocks.all.map((block) => ({ ...block }));
        } else {
          for (const { address, bytes, tag } of frozen) assertTag(heap, address, bytes, tag);
          heap.thaw();
          frozen = undefined;
        }
        blocks.still = frozen !== undefined;
        blocks.check();
      }
      if (frozen) heap.thaw();
      blocks.still = false;
      blocks.cleanWhenIdle();
      blocks.check();
      blocks.removeAll();
      blocks.cleanWhenIdle();
      blocks.check();
      assert.ok(heap.size <= SEGMENT, `${heap.size} bytes are left`);
    }),
    { numRuns: 60 },
  );
});

for (const bytes of [4000, 10_000, 32_768, 50_000, 120_000, 140_000, 210_000, 600_000, 1_100_000]) {
  Deno.test(`a heap at its limit with blocks of ${bytes} bytes: what has no holes is not cleaned`, () => {
    for (const limit of [8, 33, 64]) {
      const blocks = new Blocks(limit * SEGMENT);
      blocks.still = true;
      blocks.fill(bytes);
      const { live } = blocks.heap, lost = blocks.heap.size - live;
      assert.ok(limit * SEGMENT - live < limit * SEGMENT / 16 + SEGMENT + bytes, `${live} of ${limit} MiB`);
      assert.ok(lost <= (bytes <= 32_768 ? limit * SEGMENT / 32 : 0) + 2 * SEGMENT, `${lost} bytes are lost`);
      assert.ok(blocks.heap.size <= limit * SEGMENT);
      assert.equal(blocks.cleanWhenIdle(), 0);
      assert.throws(() => blocks.add(bytes), OutOfMemory);
      blocks.check();
    }
  });

  Deno.test(`a heap at its limit with blocks of ${bytes} bytes: deletes make room, work is bounded`, () => {
    const next = random(bytes);
    const limit = 48 * SEGMENT;
    const blocks = new Blocks(limit);
    blocks.fill(bytes);
    const full = blocks.heap.live;
    for (let round = 0; round < 12; round++) {
      for (let i = blocks.all.length >> 2 + round % 3; i > 0; i--) blocks.remove(next(blocks.all.length));
      if (round % 4 === 3) blocks.cleanWhenIdle();
      const { moved } = blocks, { live } = blocks.heap;
      blocks.fill(bytes - 8 * next(2));
      const written = blocks.heap.live - live;
      assert.ok(
        blocks.moved - moved <= 16 * written + 2 * MAX_MOVED,
        `${blocks.moved - moved} for ${written}`,
      );
      // (The blocks of a moment may be there twice: where they were and where they go.)
      assert.ok(blocks.heap.size <= limit + 2 * SEGMENT, `${blocks.heap.size}`);
      const { size, dead } = blocks.heap, lost = size - blocks.heap.live - dead;
      assert.ok(lost <= limit / 16 + 2 * SEGMENT, `${lost} bytes are lost`);
      blocks.check();
      blocks.cleanWhenIdle();
      blocks.fill(bytes);
      assert.ok(blocks.heap.live > full * 0.9, `round ${round}: ${blocks.heap.live} of ${full}`);
    }
  });
}

Deno.test("a write into a full heap with thin holes moves little, and idle time makes the room", () => {
  const blocks = new Blocks(256 * SEGMENT);
  blocks.fill(2000);
  // Every twelfth is a hole, and none was cleaned.
  blocks.heap.freeze();
  for (let i = blocks.all.length - 1; i >= 0; i -= 12) blocks.remove(i);
  blocks.heap.thaw();
  const { live } = blocks.heap;
  for (const bytes of [2000, 3000, 300_000, 5_000_000]) {
    for (let i = 0; i < 20; i++) {
      const { moved } = blocks;
      try {
        blocks.add(bytes);
      } catch (error) {
        assert.ok(error instanceof OutOfMemory);
      }
      assert.ok(blocks.moved - moved <= 2 * MAX_MOVED, `${blocks.moved - moved} bytes moved`);
    }
  }
  assert.throws(() => {
    for (let i = 0; i < 4; i++) blocks.add(8_000_000);
  }, OutOfMemory);
  assert.ok(blocks.cleanWhenIdle() > 0);
  blocks.add(8_000_000);
  blocks.check();
  assert.ok(blocks.heap.live > live);
});

Deno.test("an idle heap rests: nothing is moved where nothing can be won", () => {
  for (const bytes of [300, 9000, 210_000, 300_000, 530_000]) {
    const blocks = new Blocks();
    for (let i = 0; i * bytes < 60e6; i++) blocks.add(bytes);
    blocks.still = true;
    assert.equal(blocks.cleanWhenIdle(), 0, `${bytes}`);
    blocks.still = false;
    for (let i = blocks.all.length - 1; i >= 0; i -= 3) blocks.remove(i);
    blocks.cleanWhenIdle();
    blocks.still = true;
    assert.equal(blocks.heap.cleanWhenIdle(), false);
    blocks.check();
    assert.ok(blocks.heap.size < blocks.heap.live * 1.25 + 4 * SEGMENT, `${blocks.heap.size}`);
  }
});

Deno.test("an idle heap rests also where nobody moves what lives", () => {
  const heap = new Heap();
  const live: number[] = [];
  for (let i = 0; i < 60_000; i++) {
    const address = heap.allocate(1000);
    const words = heap.words[address >>> UNIT_BITS], at = (address & UNIT_MASK) << 1;
    words[at] = 0;
    words[at + 1] = 992 << 8;
    if (i % 2) heap.free(address, 1000);
    else live.push(address);
  }
  let steps = 0;
  while (heap.cleanWhenIdle()) assert.ok(steps++ < 10_000);
  assert.ok(heap.live === 30_000_000 && heap.dead >= 0);
  for (const address of live) heap.free(address, 1000);
  while (heap.cleanWhenIdle());
  assert.deepEqual([heap.live, heap.dead], [0, 0]);
  assert.ok(heap.size <= SEGMENT);
});

Deno.test("a full heap that is frozen refuses at once and moves nothing; thawed, it goes on", () => {
  const blocks = new Blocks(32 * SEGMENT);
  blocks.fill(1000);
  const before = blocks.all.map((block) => ({ ...block }));
  blocks.heap.freeze();
  blocks.still = true;
  for (let i = 0; i < 20_000; i++) blocks.remove(0);
  assert.equal(blocks.fill(1000), 0);
  assert.equal(blocks.heap.cleanWhenIdle(), false);
  for (const { address, bytes, tag } of before) assertTag(blocks.heap, address, bytes, tag);
  blocks.still = false;
  blocks.heap.thaw();
  blocks.cleanWhenIdle();
  assert.ok(blocks.fill(1000) > 15_000);
  blocks.check();
});

Deno.test("what died while the heap was frozen is given back in steps", () => {
  const blocks = new Blocks();
  for (let i = 0; i < 400; i++) blocks.add(900_000);
  blocks.heap.freeze();
  blocks.removeAll();
  const { buffers } = blocks.memory;
  let before = buffers.size;
  assert.ok(before >= 400);
  blocks.heap.thaw();
  while (blocks.heap.cleanWhenIdle()) {
    assert.ok(before - buffers.size <= 8, `${before - buffers.size} at once`);
    before = buffers.size;
  }
  assert.ok(blocks.heap.size <= SEGMENT);
  blocks.check();
});

Deno.test("what died while the heap was frozen makes room at once, and goes also if the heap never rests", () => {
  const blocks = new Blocks(64 * SEGMENT);
  const die = () => {
    blocks.heap.freeze();
    blocks.removeAll();
    blocks.heap.thaw();
  };
  blocks.fill(900_000);
  die();
  blocks.add(50_000_000);
  blocks.removeAll();
  for (let i = 0; i < 60; i++) blocks.add(900_000);
  const { size } = blocks.memory.buffers;
  die();
  for (let i = 0; i < 20; i++) blocks.add(900_000);
  assert.ok(blocks.memory.buffers.size < size - 15, `${blocks.memory.buffers.size} of ${size}`);
  blocks.check();
});

Deno.test("the cleaner goes in step with what is written", () => {
  const blocks = new Blocks();
  for (let i = 0; i < 100_000; i++) blocks.add(1000);
  blocks.heap.freeze();
  for (let i = blocks.all.length - 1; i >= 0; i -= 2) blocks.remove(i);
  blocks.heap.thaw();
  assert.equal(blocks.moved, 0);
  for (let i = 1; i <= 5000; i++) {
    blocks.add(1000);
    assert.ok(blocks.moved <= 4 * i * (1000 + 1024) + 2 ** 15, `${blocks.moved} bytes moved for ${i} blocks`);
  }
  assert.ok(blocks.moved > 5000 * 1000, `only ${blocks.moved} bytes were moved`);
  blocks.check();
});

Deno.test("thin holes are left alone until they are worth it", () => {
  const blocks = new Blocks(64 * SEGMENT);
  blocks.fill(2000);
  blocks.still = true;
  for (let i = blocks.all.length - 1; i >= 0; i -= 50) blocks.remove(i);
  assert.equal(blocks.heap.cleanWhenIdle(), false);
  blocks.still = false;
  for (let i = blocks.all.length - 1; i >= 0; i -= 10) blocks.remove(i);
  blocks.cleanWhenIdle();
  assert.ok(blocks.heap.size < 62 * SEGMENT, `${blocks.heap.size}`);
  blocks.check();
});

Deno.test("a full heap has its owners free what they need no more, for a bounded time", () => {
  const blocks = new Blocks(32 * SEGMENT);
  const most = blocks.fill(1000);
  let calls = 0;
  blocks.heap.onMemoryPressure = () => {
    if (blocks.all.length === 0) return false;
    calls++;
    for (let i = 0; i < 200 && blocks.all.length > 0; i++) blocks.remove(blocks.all.length - 1);
    return true;
  };
  blocks.add(1000);
  blocks.add(20_000_000);
  assert.ok(calls > 90 && calls < most / 200, `${calls} calls`);
  const freed = blocks.heap.live;
  blocks.heap.onMemoryPressure = () => ++calls > 0;
  calls = 0;
  assert.throws(() => blocks.add(20_000_000), OutOfMemory);
  assert.ok(calls > 0 && calls < 10_000, `${calls} calls`);
  assert.equal(blocks.heap.live, freed);
  blocks.check();
});

Deno.test("blocks of every size can have half of the addresses", () => {
  for (const bytes of [33_000, 200_000, 263_000, 525_000, 1_048_584, 2_097_160, 70_000_000]) {
    // Memory that nobody reads: the same for all.
    const buffers = new Map<number, ArrayBuffer>();
    const heap = new Heap({
      ...ownMemory,
      allocate: (_segment, length) => buffers.getOrInsertComputed(length, () => new ArrayBuffer(length)),
      release: () => {},
    });
    let count = 0;
    assert.throws(() => {
      for (;; count++) heap.allocate(bytes);
    }, /Cannot store more: no \d+ MiB in a row are left of the 32 GiB/);
    assert.ok(count * bytes >= 0.49 * 2 ** 35, `${count} blocks of ${bytes} bytes`);
  }
});

Deno.test("a heap is empty after everything was deleted, also after it was full", () => {
  for (const bytes of [100, 20_000, 100_000, 2_000_000]) {
    const blocks = new Blocks(24 * SEGMENT);
    for (let round = 0; round < 3; round++) {
      assert.ok(blocks.fill(bytes) * bytes > 20 * SEGMENT);
      blocks.removeAll();
      blocks.cleanWhenIdle();
      assert.deepEqual([blocks.heap.live, blocks.heap.dead], [0, 0]);
      assert.ok(blocks.memory.buffers.size <= 1 && blocks.heap.size <= SEGMENT, `${blocks.heap.size}`);
      blocks.check();
    }
    blocks.fill(bytes);
    blocks.heap.close();
    assert.equal(blocks.memory.bytes, 0);
  }
});

Deno.test("where the system has no memory a block is refused, and no address is lost", () => {
  const blocks = new Blocks();
  for (const bytes of [100, 100_000, 3_000_000]) {
    blocks.memory.fails = true;
    assert.throws(() => {
      for (;;) blocks.add(bytes);
    }, /Cannot store more: the system has no more memory/);
    blocks.check();
    blocks.memory.fails = false;
    for (let i = 0; i < 10; i++) blocks.add(bytes);
    blocks.check();
  }
  assert.ok(blocks.all.every(({ address }) => address >>> UNIT_BITS < 64));
});

Deno.test("a write succeeds also where the system has no memory for the cleaner", () => {
  const blocks = new Blocks();
  for (let i = 0; i < 40_000; i++) blocks.add(1000);
  blocks.memory.fails = true;
  while (blocks.all.length > 500) blocks.remove(blocks.all.length >> 1);
  blocks.cleanWhenIdle();
  blocks.check();
  blocks.memory.fails = false;
  blocks.removeAll();
  blocks.cleanWhenIdle();
  assert.ok(blocks.heap.size <= SEGMENT, `${blocks.heap.size} bytes are left`);
});

Deno.test("a heap that nobody uses any more is given back in steps", () => {
  const blocks = new Blocks();
  for (let i = 0; i < 50; i++) {
    blocks.add(900_000), blocks.add(100_000), blocks.add(1000), blocks.add(3_000_000);
  }
  const { buffers } = blocks.memory;
  let before = buffers.size;
  while (blocks.heap.closeNext()) {
    assert.ok(before - buffers.size <= 8 && before > buffers.size, `${before - buffers.size} at once`);
    before = buffers.size;
  }
  assert.equal(buffers.size, 0);
});

Deno.test("memory that is charged counts toward the limit until it is discharged", () => {
  const heap = new Heap();
  heap.limit = 8 * SEGMENT;
  heap.charge(3 * SEGMENT + 5);
  assert.equal(heap.size, 3 * SEGMENT + 5);
  assert.throws(() => heap.charge(5 * SEGMENT), OutOfMemory);
  assert.equal(heap.size, 3 * SEGMENT + 5);
  heap.beyondLimit(() => heap.charge(5 * SEGMENT));
  assert.throws(() => heap.allocate(8), OutOfMemory);
  heap.discharge(5 * SEGMENT);
  heap.discharge(3 * SEGMENT + 5);
  assert.equal(heap.size, 0);
});

Deno.test("what is charged makes the cleaner work as blocks do", () => {
  const blocks = new Blocks(32 * SEGMENT);
  blocks.fill(1000);
  for (let i = blocks.all.length - 1; i >= 0; i -= 2) blocks.remove(i);
  for (let charged = 0; charged < 10 * SEGMENT; charged += 10_000) blocks.heap.charge(10_000);
  blocks.heap.discharge(blocks.heap.size - blocks.memory.bytes);
  blocks.check();
});
