/**
 * Serving an address that nobody else serves: libzmq would silently take a socket file away from the host that serves it.
 *
 * While a host serves `<file>`, it holds a lock on `<file>.lock`. The system releases the lock when the process ends,
 * however it ends: if the lock is free, a socket file found there was left by a host that crashed, and is replaced. Hosts
 * other than ours (pymemstore's) hold no lock: an attempt to connect shows whether they live.
 *
 * A host that stops lets no more clients in, but keeps the address until its last reply has left. So that
 * `memstore done && memstore serve` works, the next host waits for that.
 *
 * @module
 */

import { socketPath } from "../endpoint.ts";
import { ZMQ } from "./libzmq.ts";
import { fileLockHolder, removeFile, takeFileLock } from "../../system/file_lock.ts";
import { MemStoreError } from "../message.ts";
import type { Context } from "./context.ts";
import type { Socket } from "./socket.ts";

/** How long a process that serves a socket file may take to answer, in milliseconds. */
const PROBE_MS = 250;
/** How long to wait for a host that stops, in milliseconds: longer than most take for their last replies. */
const STOPPING_MS = 10_000;
/** The same for TCP, where a host that stops looks like any other. */
const STOPPING_TCP_MS = 3_000;
/** How often to try again meanwhile, in milliseconds. */
const RETRY_MS = 20;
/** The system's error for an address that another socket has. */
const ADDRESS_IN_USE = "Address already in use";

/** An address that is served. */
export interface Listening {
  /** The address bound, which differs from the one asked for where that has a wildcard. */
  readonly address: string;
  /** Whether the last host at the address did not stop: it crashed, or was killed. */
  readonly abandoned: boolean;
  /** Removes the socket file, so that no more clients find it. */
  hide(): void;
  /** Lets other hosts serve the address, once the socket is closed. */
  release(): void;
}

/** Who may connect to an address of this machine. */
export interface ListenOptions {
  /**
   * The permissions of the socket file.
   * @default {0o600}
   */
  mode?: number;
  /**
   * Whether other users may connect to an abstract name (`ipc://@name`), which has no file that keeps them out.
   * @default {false}
   */
  anyUser?: boolean;
}

/**
 * Binds a socket to an address.
 *
 * @throws {MemStoreError} `IN_USE` if a living host serves the address.
 * @throws {Error} if it cannot be served.
 */
export async function listen(
  context: Context,
  socket: Socket,
  address: string,
  { mode = 0o600, anyUser = false }: ListenOptions = {},
): Promise<Listening> {
  const path = socketPath(address);
  if (address.startsWith("ipc://@") && !anyUser) socket.allowUser(Deno.uid()!);
  if (path === undefined) {
    return { address: bindUnlessInUse(socket, address), abandoned: false, hide() {}, release() {} };
  }
  const lock = await takeFileLock(`${path}.lock`).catch((error) => {
    throw new Error(`Cannot serve ${address}: ${error.message}`);
  });
  if (!lock) {
    const holder = await fileLockHolder(`${path}.lock`);
    const who = holder === undefined ? "" : `, process ${holder}`;
    throw new MemStoreError("IN_USE", `Cannot serve ${address}: another host serves it${who}`);
  }
  try {
    const found = await Deno.lstat(path).catch(() => undefined);
    if (found && !found.isSocket) {
      throw new Error(`Cannot serve ${address}: a file is there that is no socket`);
    }
    // (A program that knows nothing of the locks may listen there.)
    if (found && await answers(address, context)) {
      throw new MemStoreError("IN_USE", `Cannot serve ${address}: another process serves it`);
    }
    socket.bind(address, mode);
  } catch (error) {
    lock.release();
    throw error;
  }
  return { address, abandoned: lock.abandoned, hide: () => removeFile(path), release: lock.release };
}

/** Binds a socket to an address that has no file. */
function bindUnlessInUse(socket: Socket, address: string): string {
  try {
    return socket.bind(address);
  } catch (error) {
    if (!(error instanceof Error) || !error.message.endsWith(ADDRESS_IN_USE)) throw error;
    throw new MemStoreError("IN_USE", error.message);
  }
}

/** {@linkcode listen}, but waits for a host that stops and still has the address. */
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
      const isInUse = error instanceof MemStoreError && error.code === "IN_USE";
      // (A lock without a socket file: its host stops, or is about to make one.)
      const isStopping = path === undefined || !await exists(path);
      if (!isInUse || !isStopping || performance.now() >= end) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** Whether the host at an address that is in use lets clients in. Over TCP this is not checked: it may want keys. */
export async function isServed(context: Context, address: string): Promise<boolean> {
  const path = socketPath(address);
  return path === undefined || await exists(path) && await answers(address, context);
}

function exists(path: string): Promise<boolean> {
  return Deno.lstat(path).then(() => true, () => false);
}

/** Whether a living process serves a socket file with ZeroMQ. */
async function answers(address: string, context: Context): Promise<boolean> {
  const probe = context.socket(ZMQ.DEALER, { linger: 0, watchPeer: true });
  const end = performance.now() + PROBE_MS;
  const timer = setTimeout(() => probe.wake(), PROBE_MS);
  try {
    probe.connect(address);
    while (probe.peer === "none" && performance.now() < end) await probe.wait();
    return probe.peer !== "none";
  } finally {
    clearTimeout(timer);
    probe.close();
  }
}
