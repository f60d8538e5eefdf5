/**
 * Serving an address that another host has, or had until now.
 *
 * A host that stops lets nobody in any more, but keeps the address until its last reply has left. So that
 * `memstore done && memstore serve` works, the next one waits for that.
 *
 * @module
 */

import { socketPath } from "../transport/endpoint.ts";
import { answers, listen, type Listening, type ListenOptions } from "../transport/zeromq/listen.ts";
import { MemStoreError } from "../transport/message.ts";
import type { Context, Socket } from "../transport/zeromq/socket.ts";

/** How long a host that stops is waited for, in milliseconds: longer than most take for their last replies. */
const STOPPING_MS = 10_000;
/** The same for TCP, where a host that stops looks like any other. */
const STOPPING_TCP_MS = 3_000;
/** How often it is tried, in milliseconds. */
const RETRY_MS = 20;

/** Whether an error says that a host serves the endpoint already. */
export function isInUse(error: unknown): boolean {
  return error instanceof MemStoreError && error.code === "IN_USE";
}

/** {@linkcode listen}, after a host that stops has let go of the address. */
export async function listenWhenFree(
  context: Context,
  socket: Socket,
  address: string,
  options: ListenOptions,
): Promise<Listening> {
  const path = socketPath(address);
  const end = performance.now() + (path === undefined ? STOPPING_TCP_MS : STOPPING_MS);
  for (;;) {
    try {
      return await listen(context, socket, address, options);
    } catch (error) {
      // Where the lock is taken and no socket file is there, its host stops, or starts and makes one soon.
      const stopping = path === undefined || !await isThere(path);
      if (!isInUse(error) || !stopping || performance.now() >= end) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** Whether the host that has an address lets clients in. For TCP nobody is asked: its host may want keys. */
export async function isServed(context: Context, address: string): Promise<boolean> {
  const path = socketPath(address);
  return path === undefined || await isThere(path) && await answers(address, context);
}

function isThere(path: string): Promise<boolean> {
  return Deno.lstat(path).then(() => true, () => false);
}
