/**
 * Serving a socket file that is ours alone: libzmq would silently take it away from a living host.
 *
 * Whether a host lives is asked of the file itself: a connection that is accepted means yes, one that is
 * refused means that a crash left the file. From that question to the answer's use, a lock on
 * `<file>.lock` keeps a second host that starts at the same moment waiting; the lock's file is removed
 * again.
 *
 * @module
 */

import { socketPath } from "./endpoint.ts";
import type { Socket } from "./socket.ts";

/**
 * Binds a socket to an address; its file, if it has one, is readable and writable by its owner alone.
 *
 * @throws {Error} if a living host serves the address.
 */
export async function listen(socket: Socket, address: string): Promise<string> {
  const path = socketPath(address);
  if (path === undefined) return socket.bind(address);
  const lock = await lockBeside(path, address);
  try {
    if (await isServed(path)) throw new Error(`Cannot serve ${address}: another host serves it`);
    const bound = socket.bind(address);
    await Deno.chmod(path, 0o600);
    return bound;
  } finally {
    await Deno.remove(`${path}.lock`).catch(() => {});
    lock.close();
  }
}

/** Removes the file of an address that is served, so that no more clients find it. */
export function unlink(address: string): void {
  const path = socketPath(address);
  if (path === undefined) return;
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

async function lockBeside(path: string, address: string): Promise<Deno.FsFile> {
  const beside = `${path}.lock`;
  for (;;) {
    let lock: Deno.FsFile;
    try {
      lock = await Deno.open(beside, { write: true, create: true, mode: 0o600 });
    } catch (error) {
      throw new Error(`Cannot serve ${address}: ${error instanceof Error ? error.message : error}`);
    }
    await lock.lock(true);
    // Whoever had the lock may have removed its file: then this lock keeps nobody out.
    const mine = await lock.stat();
    const found = await Deno.stat(beside).catch(() => undefined);
    if (found?.ino === mine.ino) return lock;
    lock.close();
  }
}

async function isServed(path: string): Promise<boolean> {
  try {
    if (!(await Deno.lstat(path)).isSocket) {
      throw new Error(`Cannot serve ipc://${path}: a file is there that is no socket`);
    }
    const connection = await Deno.connect({ transport: "unix", path });
    connection.close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) return false;
    throw error;
  }
}
