/**
 * What a host tells of itself: its limits, to every client that connects (`hello`), and its figures (`stats`).
 *
 * @module
 */

import type { Right } from "../auth/clients.ts";
import type { Hello, StateStatus } from "../commands/list.ts";
import { VERSION } from "../transport/message.ts";
import { MAX_BATCH_COMMANDS } from "./execution.ts";
import type { HostOptions } from "./options.ts";
import manifest from "../deno.json" with { type: "json" };

/** What `hello` tells a client that has a right. */
export function helloOf({ limits, lane }: HostOptions, right: Right): Hello {
  const { message, commands, depth, requests, lanes } = limits;
  const batch = Math.min(commands, MAX_BATCH_COMMANDS);
  return {
    version: manifest.version,
    protocol: VERSION,
    right,
    limits: { message, commands, depth, requests, batch },
    lane: lane && lanes > 0,
  };
}

/** What `stats` tells that the engine does not know. */
export interface Figures {
  /** When the host was started, in the time of `performance.now()`. */
  readonly startedAt: number;
  readonly endpoints: readonly string[];
  readonly clients: number;
  readonly lanes: number;
  /** Reads of clients in the memory of the data, retries, and those that were left to the host. */
  readonly directReads: readonly number[];
  readonly messages: number;
  readonly maxMemory: number | undefined;
  readonly state: StateStatus | undefined;
}

/**
 * What `stats` tells.
 *
 * @param data What the engine tells of the data.
 */
export function statsOf(data: Record<string, unknown>, figures: Figures): Record<string, unknown> {
  const { startedAt, endpoints, clients, lanes, directReads, messages, maxMemory, state } = figures;
  return {
    version: manifest.version,
    pid: Deno.pid,
    uptime: (performance.now() - startedAt) / 1000,
    endpoints,
    ...data,
    clients,
    lanes,
    direct_reads: directReads[0] ?? 0,
    direct_retries: directReads[1] ?? 0,
    direct_fallbacks: directReads[2] ?? 0,
    messages,
    memory: Deno.memoryUsage().rss,
    max_memory: maxMemory ?? null,
    state: state ?? null,
  };
}
