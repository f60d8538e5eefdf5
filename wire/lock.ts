/**
 * Locks between processes: a file that whoever holds the lock keeps locked. The system lets go of the lock
 * when the process ends, however it ends.
 *
 * @module
 */

/** A lock that is held. */
export interface Lock {
  /** Lets go of it and removes its file. */
  release(): void;
}

/** Takes the lock of a file, which is made if it is not there; undefined if another process holds it. */
export async function takeLock(path: string): Promise<Lock | undefined> {
  for (;;) {
    const file = await Deno.open(path, { write: true, create: true, mode: 0o600 });
    if (!await file.tryLock(true)) {
      file.close();
      return undefined;
    }
    // Whoever had the lock may have removed its file since it was opened: a lock on that keeps nobody out.
    const found = await Deno.stat(path).catch(() => undefined);
    if (found?.ino === (await file.stat()).ino) {
      return {
        release() {
          removeFile(path);
          file.close();
        },
      };
    }
    file.close();
  }
}

/** Removes a file if it is there. */
export function removeFile(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
