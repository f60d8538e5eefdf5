/**
 * The interface of fuzz targets.
 *
 * @module
 */

import type { Random } from "./random.ts";

/** Something that can be fuzzed. */
export interface Target extends AsyncDisposable {
  run(random: Random): void | Promise<void>;
}
