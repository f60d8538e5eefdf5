/** The heap alone: its blocks, its limit, its cleaner. */

import assert from "node:assert/strict";
import { Heap, OutOfMemory, SEGMENT } from "../engine/heap.ts";

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
