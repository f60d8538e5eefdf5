/**
 * State files: where clients' paths may lead, and how a file is replaced without ever being half there.
 *
 * A state is written to a new file beside its target, synced, and renamed over it: a crash leaves the old
 * file whole. `<target>.<8 hex digits>.memstore-tmp` is that new file; while it is written it is locked, so that
 * what a crashed process left is known and removed by the next store to the same target.
 *
 * A path is looked at first, links included, and then its directory is opened without following any
 * ({@link ../directory.ts}): what is put there meanwhile changes nothing, or fails.
 *
 * @module
 */

import { basename, dirname, join, relative, resolve } from "node:path";
import { type FileLock, fileLockHolder, takeFileLock } from "../system/file_lock.ts";
import { Directory, type OpenFile } from "./directory.ts";
import { type StateLocation, type Stored, type WhenBusy, writeAlone } from "./location.ts";

/** A new file that nobody has a lock on is left over, unless it is as young as this, in milliseconds. */
const NEW_MS = 10_000;
/** Bytes that are read at once. */
const CHUNK = 1 << 17;
/** What a new file's name ends with, after its target's name. */
const NEW_FILE = /^\.[0-9a-f]{8}\.memstore-tmp$/;
/** Names that hosts give to files of their own: locks, and states that are being written. */
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

/** Which paths may be stored to and restored from. */
export interface PathBounds {
  /** Where relative paths begin. */
  directory: string;
  /** Whether paths may lead out of it. */
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
 * Where a path leads if links are followed. What is there may only be a regular file: a device is read for
 * ever, and one that is written would be replaced by a file.
 *
 * @throws {Error} if it leads out of the directory, to what is no regular file, or nowhere.
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

/** The path of a directory without links. */
function realPathOf(directory: string): string {
  const real = ifThere(() => Deno.realPathSync(directory));
  if (real === undefined) throw new Error(`there is no directory ${directory}`);
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

/** Opens the directory of a path. A link that is there since the path was looked at is an error. */
async function openDirectory({ path, root }: Resolved): Promise<{ directory: Directory; name: string }> {
  const names = relative(root, dirname(path)).split("/").filter((name) => name !== "");
  return { directory: await Directory.open(root, names), name: basename(path) };
}

/** The bytes of a file, which is closed at their end. */
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

/** Replaces a file: it is the old one or the new one, whatever happens. */
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
      // The first error is the one to tell.
    }
    throw error;
  }
  await directory.sync();
}

/** Removes new files beside a target that a crashed process did not finish. */
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
      // Its owner was quicker, or it is none of ours.
    }
  }
}
