/**
 * State files: which paths clients may use, and how a file is replaced atomically.
 *
 * A state is written to a new file beside its target, synced, and renamed over the target, so a crash leaves the old
 * file whole. The new file is `<target>.<8 hex digits>.memstore-tmp`. It is locked while it is written: one that is
 * not locked was left by a crashed process, and the next store to the same target removes it.
 *
 * A path is resolved first, with its symbolic links. Then its directory is opened without following links
 * ({@link ./directory.ts}), so a link that is created in between has no effect, or makes the store fail.
 *
 * @module
 */

import { basename, dirname, join, relative, resolve } from "node:path";
import { type FileLock, fileLockHolder, takeFileLock } from "../system/file_lock.ts";
import { Directory, type OpenFile } from "./directory.ts";
import { type StateLocation, type Stored, type WhenBusy, writeAlone } from "./location.ts";

/** An unlocked new file is a leftover if it is older than this, in milliseconds. */
const NEW_MS = 10_000;
/** How many bytes are read at once. */
const CHUNK = 1 << 17;
/** The end of a new file's name, after the name of its target. */
const NEW_FILE = /^\.[0-9a-f]{8}\.memstore-tmp$/;
/** The names of the host's own files: locks, and states that are being written. */
const RESERVED = /\.(lock|memstore-tmp)$/i;

type Pieces = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** A file in the host's file system. */
export class StateFile implements StateLocation {
  readonly name: string;
  readonly #path: string;
  readonly #bounds: PathBounds;

  /**
   * @param name How people know it.
   * @param path Where it is, as somebody wrote it.
   */
  constructor(name: string, path: string, bounds: PathBounds) {
    this.name = name;
    this.#path = path;
    this.#bounds = bounds;
  }

  async write(pieces: Pieces, whenBusy: WhenBusy = "refuse"): Promise<void> {
    await writeAlone(resolvePath(this.#path, this.#bounds).path, whenBusy, async () => {
      // (It may be another one since the last write has ended.)
      const { directory, name } = await openDirectory(resolvePath(this.#path, this.#bounds));
      using _ = directory;
      await replaceFile(directory, name, pieces);
    });
  }

  async read(): Promise<Stored | undefined> {
    const { directory, name } = await openDirectory(resolvePath(this.#path, this.#bounds));
    using _ = directory;
    const file = directory.open(name);
    if (!file) return undefined;
    const stat = file.stat();
    if (stat.isFile()) return { pieces: piecesOf(file), size: stat.size, time: stat.mtime };
    file[Symbol.dispose]();
    throw new Error("it is no regular file");
  }

  /** Locks `<path>.lock`. */
  async lock(): Promise<FileLock> {
    try {
      const path = `${resolvePath(this.#path, this.#bounds).path}.lock`;
      const lock = await takeFileLock(path);
      if (lock) return lock;
      const holder = await fileLockHolder(path);
      throw new Error(`another host does${holder === undefined ? "" : `, process ${holder}`}`);
    } catch (error) {
      throw new Error(`Cannot keep the state in ${this.name}: ${(error as Error).message}`);
    }
  }
}

/** The paths that clients may store to and restore from. */
export interface PathBounds {
  /** The directory that relative paths start at. */
  directory: string;
  /** Whether paths may leave it. */
  anyPath: boolean;
}

/** Where a path leads. */
interface Resolved {
  /** Without links. */
  path: string;
  /** The directory that it may not leave, without links. */
  root: string;
}

/**
 * Resolves a path and its symbolic links. It must name a regular file, or none: a device could be read for ever, and
 * a store would replace it by a file.
 *
 * @throws {Error} if the path leaves the directory, names something else than a regular file, or has no directory.
 */
function resolvePath(path: string, { directory, anyPath }: PathBounds): Resolved {
  if (path === "" || path.includes("\0")) throw new Error("it is no path");
  if (path.endsWith("/")) throw new Error("it is the path of a directory");
  const whole = resolve(directory, path);
  const realDirectory = realPathOf(directory);
  if (!anyPath && !within(whole, directory) && !within(whole, realDirectory)) {
    throw new Error("it leads out of the host's data directory");
  }
  let real = join(realPathOf(dirname(whole)), basename(whole));
  const found = ifThere(() => Deno.lstatSync(real));
  if (found?.isSymlink) {
    const target = ifThere(() => Deno.realPathSync(real));
    if (target === undefined) throw new Error("it is a link that leads nowhere");
    real = target;
  }
  if (!anyPath && !within(real, realDirectory)) {
    throw new Error("it leads out of the host's data directory through a link");
  }
  if (RESERVED.test(real)) {
    throw new Error("hosts give such names (.lock, .memstore-tmp) to files of their own");
  }
  if (found && !Deno.statSync(real).isFile) throw new Error("it is no regular file");
  return { path: real, root: anyPath ? "/" : realDirectory };
}

/** Returns the path of a directory with its links resolved. */
function realPathOf(directory: string): string {
  const real = ifThere(() => Deno.realPathSync(directory));
  if (real === undefined) throw new Error(`there is no directory ${directory}`);
  return real;
}

/** Returns what a function finds, or undefined if there is nothing. */
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

/** Opens the directory of a path. A link that was created since the path was resolved is an error. */
async function openDirectory({ path, root }: Resolved): Promise<{ directory: Directory; name: string }> {
  const names = relative(root, dirname(path)).split("/").filter((name) => name !== "");
  return { directory: await Directory.open(root, names), name: basename(path) };
}

/** Returns the bytes of a file, which is closed at the end. */
function piecesOf(file: OpenFile): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const bytes = new Uint8Array(CHUNK);
        const length = await file.read(bytes);
        if (length > 0) return controller.enqueue(bytes.subarray(0, length));
        file[Symbol.dispose]();
        controller.close();
      } catch (error) {
        file[Symbol.dispose]();
        throw error;
      }
    },
    cancel: () => file[Symbol.dispose](),
  }, { highWaterMark: 0 });
}

/** Replaces a file atomically. */
async function replaceFile(directory: Directory, name: string, pieces: Pieces): Promise<void> {
  removeLeftovers(directory, name);
  const beside = `${name}.${crypto.randomUUID().slice(0, 8)}.memstore-tmp`;
  using file = directory.create(beside);
  try {
    file.tryLock();
    for await (const piece of pieces) await file.write(piece);
    await file.sync();
    directory.rename(beside, name);
  } catch (error) {
    try {
      directory.remove(beside);
    } catch {
      // (The first error is the one to report.)
    }
    throw error;
  }
  await directory.sync();
}

/** Removes the new files that crashed processes left beside a target. */
function removeLeftovers(directory: Directory, name: string): void {
  for (const { name: found, isFile } of Deno.readDirSync(directory.path)) {
    if (!isFile || !found.startsWith(name) || !NEW_FILE.test(found.slice(name.length))) continue;
    try {
      using file = directory.open(found);
      if (!file) continue;
      const stat = file.stat();
      if (stat.isFile() && stat.uid === Deno.uid() && Date.now() - stat.mtimeMs > NEW_MS && file.tryLock()) {
        directory.remove(found);
      }
    } catch {
      // (Its owner has renamed it, or it is not ours.)
    }
  }
}
