/** Messages whose data is elsewhere: their commands leave together, in order, and no more of them than memory allows. */

import assert from "node:assert/strict";
import { Flow } from "../host/flow.ts";

Deno.test("a flow takes as many commands as fit its bounds, and more once room is given back", async () => {
  const flow = new Flow();
  for (let i = 0; i < 8; i++) assert(flow.take(256));
  assert(!flow.take(256), "what asks everywhere leaves room for others");
  for (let i = 8 * 256; i < 2 ** 14; i++) assert(flow.take(1));
  assert(!flow.take(1));
  let waited = false;
  const room = flow.room.then(() => waited = true);
  await Promise.resolve();
  assert.equal(waited, false);
  flow.give(10_000, 10_000 * 64);
  await room;
  for (let i = 0; i < 10_000; i++) assert(flow.take(1));
  assert(!flow.take(1));
});

Deno.test("the longer replies are, the fewer commands are under way; but some always", () => {
  const flow = new Flow();
  const most = () => {
    let count = 0;
    while (flow.take(1)) count++;
    flow.give(count, 0);
    return count;
  };
  const learn = (times: number, bytes: number) => {
    for (let i = 0; i < times; i++) flow.take(1), flow.give(1, bytes);
  };
  learn(100, 2 ** 20);
  const few = most();
  assert.ok(few >= 60 && few <= 70, `${few}`);
  learn(200, 2 ** 30);
  assert.equal(most(), 16);
  learn(200, 2 ** 30);
  assert(flow.take(1000), "one command may be more than all that fits");
  assert(!flow.take(1));
  flow.give(1000, 0);
  learn(200, 10);
  assert.equal(most(), 2 ** 14);
});
