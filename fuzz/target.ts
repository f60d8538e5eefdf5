/**
 * What can be fuzzed.
 *
 * @module
 */

import type { Random } from "./random.ts";

/** Something that is fuzzed, until it is disposed of. */
export interface Target extends AsyncDisposable {
  run(random: Random): void | Promise<void>;
}
