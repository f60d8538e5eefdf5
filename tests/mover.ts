/**
 * Changes data without pause until it is killed: `mover.ts ENDPOINT KIND`. What it does keeps a rule that snapshots check.
 *
 * @module
 */

import { attach } from "../mod.ts";

const [endpoint, kind] = Deno.args;
using shared = await attach(endpoint, { directReads: false });
const amounts = Array.from({ length: 8 }, () => 100);

const kinds: Record<string, (i: number) => void> = {
  /** The sum over the table is 800. */
  batches(i) {
    const amount = i % 100;
    shared.batch([["incr", "amounts", i % 8, -amount], ["incr", "amounts", (i * 5 + 1) % 8, amount]]);
  },
  /** The same with entries that expire some time. */
  expiring(i) {
    const from = i % 8, to = (i * 5 + 1) % 8, amount = i % 100;
    amounts[from] -= amount;
    amounts[to] += amount;
    shared.batch([["set", "amounts", from, amounts[from], 1000], ["set", "amounts", to, amounts[to], 1000]]);
  },
  /** The second is the first, or was a moment ago. */
  order(i) {
    shared.set("first", "n", i);
    shared.set("second", "n", i);
  },
  /** While there is a mark, there is the table that it tells of. */
  tables(i) {
    shared.set(`made ${i % 50}`, "n", i);
    shared.set("mark", "n", i);
    shared.set("mark", "n", -i);
    shared.drop(`made ${i % 50}`);
  },
};

shared.setMany("amounts", new Map(amounts.entries()));
kinds[kind](1);
console.log("ready");
for (let i = 2;; i++) kinds[kind](i);
