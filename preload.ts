/**
 * Loads libzmq at once, and not when the first host or client connects, or the first host opens its state.
 *
 * The library stays loaded until the process ends, which `deno test --sanitize-resources` reports as a leak of the test
 * that happened to connect first. Imported at the top of a test file, it is loaded before any test begins. Nothing else
 * of a host or client that was disposed is left behind.
 *
 * ```ts ignore
 * import "@memstore/memstore/preload";
 * import { MemStore, MemStoreClient } from "@memstore/memstore";
 * ```
 *
 * @module
 */

import { loadPosix } from "./state/directory.ts";
import { libzmq } from "./transport/zeromq/libzmq.ts";

await Promise.all([libzmq(), loadPosix()]);
