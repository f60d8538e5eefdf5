/** Cases of maps and of sets that are the same for both. */

import assert from "node:assert/strict";

/** Values that are no functions. */
export const NOT_CALLABLE = [{}, [], 1, "", null, undefined, true, Symbol("no function")];

/** What has a method `forEach`. */
interface Iterated {
  forEach(fn: () => void): void;
}

/** `forEach` needs a function, and ends when that throws. */
export function assertForEachNeedsFunction(filled: Iterated, empty: () => Iterated): void {
  for (const fn of NOT_CALLABLE) {
    assert.throws(() => filled.forEach(fn as () => void), TypeError);
    assert.throws(() => empty().forEach(fn as () => void), TypeError);
  }
  let calls = 0;
  const failing = () => {
    calls++;
    throw new RangeError("from the function");
  };
  assert.throws(() => filled.forEach(failing), RangeError);
  assert.equal(calls, 1);
}
