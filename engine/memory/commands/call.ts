/**
 * What the handlers of this engine get: a call whose data is a {@linkcode Store}.
 *
 * @module
 */

import type { Call as AnyCall, Handler as AnyHandler } from "../../call.ts";
import type { Store } from "../store.ts";

export type { Steps } from "../../call.ts";
/** One command of a message. */
export type Call = AnyCall<Store>;
/** Carries out a command on the data in memory. */
export type Handler = AnyHandler<Store>;
