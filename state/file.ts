/**
 * State files: where clients' paths may lead, and how a file is replaced without ever being half there.
 *
 * A state is written to a new file beside its target, synced, and renamed over it: a crash leaves the old
 * file whole. `<target>.<8 hex digits>.tmp` is that new file; while it is written it is locked, so that what
 * a crashed process left is known and removed by the next store to the same target.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "node:path";
import { type Lock, takeLock } from "../wire/lock.ts";
import { alone, type Place, type Stored } from "./place.ts";

/** A new file that nobody has a lock on is left over, unless it is as young as this, in milliseconds. */
const NEW_MS = 10_000;

/** A file in the host's file system. */
export class StateFile implements Place {
  readonly name: string;
  readonly #path: () => string;

  /**
   * @param name How people know it.
   * @param path Finds its path, when it is asked for.
   */
  constructor(name: string, path: () => string) {
    this.name = name;
    this.#path = path;
  }

  async write(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
    const path = this.#path();
    await alone(path, () => replaceFile(path, pieces));
  }

  async read(): Promise<Stored | undefined> {
    const file = await Deno.open(this.#path()).catch((error) => {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    });
    return file && { pieces: file.readable, size: (await file.stat()).size };
  }

  /** Locks `<path>.lock`. */
  async lock(): Promise<Lock> {
    const lock = await takeLock(`${this.#path()}.lock`).catch((error) => {
      throw new Error(`Cannot keep the state in ${this.name}: ${error.message}`);
    });
    if (!lock) throw new Error(`Cannot keep the state in ${this.name}: another host does`);
    return lock;
  }
}

/** Which paths may be stored to and restored from. */
export interface Bounds {
  /** Where relative paths begin. */
  directory: string;
  /** Whether paths may lead out of it. */
  anyPath: boolean;
}

/**
 * Where a path leads if links are followed. What is there may only be a regular file: a device is read for
 * ever, and one that is written would be replaced by a file.
 *
 * @throws {Error} if it leads out of the directory, to what is no regular file, or nowhere.
 */
export function resolvePath(path: string, { directory, anyPath }: Bounds): string {
  if (path === "" || path.includes("\0")) throw new Error("it is no path");
  if (path.endsWith("/")) throw new Error("it is the path of a directory");
  const whole = resolve(directory, path);
  const realDirectory = Deno.realPathSync(directory);
  if (!anyPath && !within(whole, directory) && !within(whole, realDirectory)) {
    throw new Error("it leads out of the host's data directory");
  }
  let real = join(Deno.realPathSync(dirname(whole)), basename(whole));
  const found = ifThere(() => Deno.lstatSync(real));
  if (found?.isSymlink) {
    const target = ifThere(() => Deno.realPathSync(real));
    if (target === undefined) throw new Error("it is a link that leads nowhere");
    real = target;
  }
  if (!anyPath && !within(real, realDirectory)) {
    throw new Error("it leads out of the host's data directory through a link");
  }
  if (found && !Deno.statSync(real).isFile) throw new Error("it is no regular file");
  return real;
}

/** What is found, or undefined where nothing is. */
function ifThere<Found>(find: () => Found): Found | undefined {
  try {
    return find();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function within(path: string, directory: string): boolean {
  return path.startsWith(directory.endsWith("/") ? directory : `${directory}/`);
}

/** Replaces a file: it is the old one or the new one, whatever happens. */
async function replaceFile(
  path: string,
  pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<void> {
  await removeLeftovers(path);
  const beside = `${path}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    using file = await Deno.open(beside, { write: true, createNew: true, mode: 0o600 });
    await file.lock(true);
    for await (const piece of pieces) await writeAll(file, piece);
    await file.sync();
    await Deno.rename(beside, path);
  } catch (error) {
    await Deno.remove(beside).catch(() => {});
    throw error;
  }
  await syncDirectory(dirname(path));
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}

/** A rename is kept through a power failure once its directory is synced. */
async function syncDirectory(path: string): Promise<void> {
  using directory = await Deno.open(path);
  await directory.sync();
}

/** Removes new files beside a target that a crashed process did not finish. */
async function removeLeftovers(path: string): Promise<void> {
  const directory = dirname(path), name = basename(path);
  for await (const { name: found } of Deno.readDir(directory)) {
    if (!found.startsWith(`${name}.`) || !/^[0-9a-f]{8}\.tmp$/.test(found.slice(name.length + 1))) continue;
    const left = `${directory}/${found}`;
    try {
      using file = await Deno.open(left);
      const { mtime } = await file.stat();
      if (Date.now() - Number(mtime) > NEW_MS && await file.tryLock(true)) await Deno.remove(left);
    } catch {
      // Its owner was quicker, or it is none of ours.
    }
  }
}
