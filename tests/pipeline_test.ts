/** Messages whose data is elsewhere: their commands leave together, in order, and no more of them than memory allows. */

import assert from "node:assert/strict";
import { Flow } from "../host/flow.ts";

Deno.test("a flow takes as many commands as fit its bounds, and more once room is given back", async () => {
  const flow = new Flow();
  assert.equal(flow.take(10_000), 10_000);
  assert.equal(flow.take(10_000), 2 ** 14 - 10_000);
  assert.equal(flow.take(1), 0);
  let waited = false;
  const room = flow.room.then(() => waited = true);
  await Promise.resolve();
  assert.equal(waited, false);
  flow.give(10_000, 10_000 * 64);
  await room;
  assert.equal(flow.take(20_000), 10_000);
});

Deno.test("the longer replies are, the fewer commands are under way; but some always", () => {
  const flow = new Flow();
  for (let i = 0; i < 100; i++) flow.give(flow.take(1), 2 ** 20);
  const most = flow.take(1000);
  assert.ok(most >= 60 && most <= 70, `${most}`);
  flow.give(most, most);
  for (let i = 0; i < 200; i++) flow.give(flow.take(1), 2 ** 30);
  assert.equal(flow.take(1000), 16);
  flow.give(16, 0);
  for (let i = 0; i < 200; i++) flow.give(flow.take(1), 10);
  assert.equal(flow.take(1000), 1000);
});
