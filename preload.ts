/**
 * Loads libzmq at once, and not when the first host or client connects, or the first host opens its state.
 *
 * The library stays loaded until the process ends. `deno test --sanitize-resources` reports that as a leak of the first
 * test that connects. If a test file imports this module, the library is loaded before any test begins. A host or client
 * that was disposed leaves nothing else behind.
 *
 * ```ts ignore
 * import "@memstore/memstore/preload";
 * import { MemStore, MemStoreClient } from "@memstore/memstore";
 * ```
 *
 * @module
 */

import "./system/deno.ts";
import { loadPosix } from "./state/directory.ts";
import { loadSharedMemory } from "./transport/shared/system.ts";
import { libzmq } from "./transport/zeromq/libzmq.ts";

loadSharedMemory();
await Promise.all([libzmq(), loadPosix()]);
