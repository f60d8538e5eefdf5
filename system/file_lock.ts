/**
 * Locks between processes: the process that holds the lock keeps a file locked. The system releases the lock when the
 * process ends, however it ends.
 *
 * The file holds the text `memstore <process>`. It is removed when the lock is released; a file that exists and is not
 * locked was left by a process that crashed or was killed.
 *
 * @module
 */

/** A lock that is held. */
export interface FileLock {
  /** Whether the process that held it before did not release it: it crashed, or was killed. */
  readonly abandoned: boolean;
  /** Releases the lock and removes its file. */
  release(): void;
}

/** What a lock's file may hold. It is empty for a moment after it was made. */
const CONTENT = /^(?:memstore (\d+)\n)?$/;
const MAX_CONTENT = 64;

/**
 * Takes the lock of a file, which is created if it does not exist; undefined if another process holds it.
 *
 * @throws {Error} if the file is no lock of ours, or cannot be created.
 */
export async function takeFileLock(path: string): Promise<FileLock | undefined> {
  for (;;) {
    const file = await openLock(path);
    try {
      if (!await file.tryLock(true)) {
        file.close();
        return undefined;
      }
      // Another process may have removed the file since it was opened: a lock on that keeps nobody out.
      const [found, held] = [await Deno.lstat(path).catch(() => undefined), await file.stat()];
      if (found?.ino === held.ino && found.dev === held.dev) return await own(file, path);
    } catch (error) {
      file.close();
      throw error;
    }
    file.close();
  }
}

/** The number of the process that holds the lock of a file; undefined if the file does not tell. */
export async function fileLockHolder(path: string): Promise<number | undefined> {
  const [, holder] = CONTENT.exec(await Deno.readTextFile(path).catch(() => "")) ?? [];
  return holder === undefined ? undefined : Number(holder);
}

/** Opens the file of a lock, or creates it. A link, a FIFO or a device is not opened. */
async function openLock(path: string): Promise<Deno.FsFile> {
  for (;;) {
    try {
      return await Deno.open(path, { read: true, write: true, createNew: true, mode: 0o600 });
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
    try {
      if (!(await Deno.lstat(path)).isFile) throw notOurs(path);
      return await Deno.open(path, { read: true, write: true });
    } catch (error) {
      // (Its owner has just removed it.)
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

async function own(file: Deno.FsFile, path: string): Promise<FileLock> {
  const content = new Uint8Array(MAX_CONTENT);
  const length = await file.read(content) ?? 0;
  if (!CONTENT.test(new TextDecoder().decode(content.subarray(0, length)))) throw notOurs(path);
  try {
    await file.truncate(0);
    await file.seek(0, Deno.SeekMode.Start);
    await file.write(new TextEncoder().encode(`memstore ${Deno.pid}\n`));
  } catch {
    // (The disk may be full: it is a lock all the same.)
  }
  return {
    abandoned: length > 0,
    release() {
      try {
        removeFile(path);
      } finally {
        file.close();
      }
    },
  };
}

function notOurs(path: string): Error {
  return new Error(`a file is there that is no lock of a host's: ${path}`);
}

/** Removes a file if it exists. */
export function removeFile(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
