/**
 * Serving an address that nobody else serves: libzmq would silently take a socket file away from the host
 * that lives behind it.
 *
 * While a host serves `<file>`, it holds a lock on `<file>.lock`. The system lets go of the lock when the
 * process ends, however it ends: a lock that can be had means that a socket file found there is a crashed
 * host's, to be taken over. Others than our hosts (pymemstore's) hold no lock: they are asked.
 *
 * @module
 */

import { socketPath } from "../endpoint.ts";
import { ZMQ } from "./libzmq.ts";
import { lockHolder, removeFile, takeLock } from "../../system/lock.ts";
import { MemStoreError } from "../message.ts";
import type { Context, Socket } from "./socket.ts";

/** How long whoever lives behind a socket file may take to answer, in milliseconds. */
const PROBE_MS = 250;
/** What the system says of an address that another socket has. */
const ADDRESS_IN_USE = "Address already in use";

/** An address that is served. */
export interface Listening {
  /** The address bound, which differs from the one asked for where that has a wildcard. */
  readonly address: string;
  /** Whether the host that served it before did not stop: it crashed, or was killed. */
  readonly abandoned: boolean;
  /** Removes the socket file, so that no more clients find it. */
  hide(): void;
  /** Lets others serve the address, once the socket is closed. */
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
  const lock = await takeLock(`${path}.lock`).catch((error) => {
    throw new Error(`Cannot serve ${address}: ${error.message}`);
  });
  if (!lock) {
    const holder = await lockHolder(`${path}.lock`);
    const who = holder === undefined ? "" : `, process ${holder}`;
    throw new MemStoreError("IN_USE", `Cannot serve ${address}: another host serves it${who}`);
  }
  try {
    const found = await Deno.lstat(path).catch(() => undefined);
    if (found && !found.isSocket) {
      throw new Error(`Cannot serve ${address}: a file is there that is no socket`);
    }
    // libzmq would take the file from whoever listens there, a program that knows no locks, say.
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

/** Whether a ZeroMQ socket of a living process is behind a socket file, which a crash may have left. */
export async function answers(address: string, context: Context): Promise<boolean> {
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
