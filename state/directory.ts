/**
 * A directory that is held open, so that what is done in it is safe from changes of its path.
 *
 * Deno opens files by their paths and follows symbolic links. Between the check of a path and its use, another user who
 * can write to one of its directories could put a link there. So a directory is opened once, component by component,
 * without following links (`openat`, `O_NOFOLLOW`), and files are opened, created, renamed and removed by names relative
 * to its descriptor.
 *
 * The files are read and written with `node:fs`, which accepts only descriptors that it has opened itself. So it opens
 * one, which `dup2` then makes refer to the file.
 *
 * @module
 */

import fs from "node:fs";
import { binaryPath, cString } from "../transport/zeromq/libzmq.ts";

const symbols = {
  openat: { parameters: ["i32", "buffer", "i32", "u32"], result: "i32" },
  renameat: { parameters: ["i32", "buffer", "i32", "buffer"], result: "i32" },
  unlinkat: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  flock: { parameters: ["i32", "i32"], result: "i32" },
  dup2: { parameters: ["i32", "i32"], result: "i32" },
  ioctl: { parameters: ["i32", "u64"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  umask: { parameters: ["u32"], result: "u32" },
  zmq_errno: { parameters: [], result: "i32" },
  zmq_strerror: { parameters: ["i32"], result: "pointer" },
} as const;

type Posix = Deno.DynamicLibrary<typeof symbols>["symbols"];

const LINUX = Deno.build.os === "linux";
const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = fs.constants;
const O_CLOEXEC = LINUX ? 0o2000000 : 0x1000000;
/** Opens a directory to pass through it, which needs no right to read it: `O_PATH`, on macOS `O_SEARCH`. */
const O_SEARCH = LINUX ? 0o10000000 : 0x40000000;
const AT_FDCWD = LINUX ? -100 : -2;
/** Closes a descriptor in children. (`fcntl` would take a variadic argument, which FFI cannot pass on macOS.) */
const FIOCLEX = LINUX ? 0x5451n : 0x20006601n;
const LOCK_EX_NB = 2 | 4;
const ENOENT = 2;

let posix: Posix | undefined;

/** The system's text for a call that failed. */
class SystemError extends Error {
  readonly errno: number;

  constructor(posix: Posix) {
    const errno = posix.zmq_errno();
    const text = posix.zmq_strerror(errno);
    super(text === null ? `error ${errno}` : Deno.UnsafePointerView.getCString(text));
    this.errno = errno;
  }
}

/** The calls of the system, loaded at the first use. */
export async function loadPosix(): Promise<Posix> {
  return posix ??= Deno.dlopen(await binaryPath(), symbols).symbols;
}

/** A directory that is held open, until it is disposed of. */
export class Directory implements Disposable {
  /** Its path when it was opened. */
  readonly path: string;
  readonly #posix: Posix;
  readonly #fd: number;

  private constructor(path: string, posix: Posix, fd: number) {
    this.path = path;
    this.#posix = posix;
    this.#fd = fd;
  }

  /**
   * Opens a directory.
   *
   * @param root A path whose links are followed.
   * @param names Leads on from there, through directories alone.
   * @throws {Error} if one of them is none, or a link.
   */
  static async open(root: string, names: readonly string[] = []): Promise<Directory> {
    const posix = await loadPosix();
    let found = Directory.#openAt(posix, AT_FDCWD, root, root, 0);
    for (const name of names) {
      using parent = found;
      const path = `${parent.path === "/" ? "" : parent.path}/${name}`;
      found = Directory.#openAt(posix, parent.#fd, name, path, O_NOFOLLOW);
    }
    return found;
  }

  static #openAt(posix: Posix, at: number, name: string, path: string, flags: number): Directory {
    const fd = posix.openat(at, cString(name), O_SEARCH | O_DIRECTORY | O_CLOEXEC | flags, 0);
    if (fd < 0) throw new SystemError(posix);
    return new Directory(path, posix, fd);
  }

  [Symbol.dispose](): void {
    this.#posix.close(this.#fd);
  }

  /** Creates a file that only its owner can use, to write it. Fails if the name exists, even as a link. */
  create(name: string): OpenFile {
    // (The mode is a variadic argument: where FFI cannot pass it, the two others make it right.)
    const umask = this.#posix.umask(0o077);
    const fd = this.#posix.openat(this.#fd, cString(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600);
    const error = fd < 0 ? new SystemError(this.#posix) : undefined;
    this.#posix.umask(umask);
    if (error) throw error;
    const file = this.#adopt(fd);
    fs.fchmodSync(file.fd, 0o600);
    return file;
  }

  /** Opens a file to read it; undefined if there is none. It may be something else than a regular file. */
  open(name: string): OpenFile | undefined {
    // (Otherwise opening a FIFO would wait for a writer.)
    const flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    const fd = this.#posix.openat(this.#fd, cString(name), flags, 0);
    if (fd >= 0) return this.#adopt(fd);
    const error = new SystemError(this.#posix);
    if (error.errno === ENOENT) return undefined;
    throw error;
  }

  /** Renames a file, and replaces one that has the new name. */
  rename(from: string, to: string): void {
    if (this.#posix.renameat(this.#fd, cString(from), this.#fd, cString(to)) < 0) {
      throw new SystemError(this.#posix);
    }
  }

  /** Removes a file. */
  remove(name: string): void {
    if (this.#posix.unlinkat(this.#fd, cString(name), 0) < 0) throw new SystemError(this.#posix);
  }

  /** Syncs the directory, so that renames survive a power failure. */
  async sync(): Promise<void> {
    const fd = this.#posix.openat(this.#fd, cString("."), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) throw new SystemError(this.#posix);
    using directory = this.#adopt(fd);
    await directory.sync();
  }

  /** Hands a descriptor over to `node:fs`. */
  #adopt(fd: number): OpenFile {
    const posix = this.#posix;
    try {
      const known = fs.openSync(this.path, O_RDONLY | O_NONBLOCK);
      if (posix.dup2(fd, known) < 0) throw new SystemError(posix);
      posix.ioctl(known, FIOCLEX);
      return new OpenFile(posix, known);
    } finally {
      posix.close(fd);
    }
  }
}

/** A file that is open, until it is disposed of. */
export class OpenFile implements Disposable {
  /** Its descriptor, for `node:fs`. */
  readonly fd: number;
  readonly #posix: Posix;
  #closed = false;

  constructor(posix: Posix, fd: number) {
    this.#posix = posix;
    this.fd = fd;
  }

  [Symbol.dispose](): void {
    if (!this.#closed) fs.closeSync(this.fd);
    this.#closed = true;
  }

  /** Its status. */
  stat(): fs.Stats {
    return fs.fstatSync(this.fd);
  }

  /** Locks it exclusively; false if another process holds the lock. */
  tryLock(): boolean {
    return this.#posix.flock(this.fd, LOCK_EX_NB) === 0;
  }

  /** Writes all of these bytes. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const from = at;
      at += await done<number>((end) => fs.write(this.fd, bytes, from, bytes.length - from, null, end));
    }
  }

  /** Reads the next bytes: as many as fit, or fewer; 0 at the end. */
  read(to: Uint8Array): Promise<number> {
    return done<number>((end) => fs.read(this.fd, to, 0, to.length, null, end));
  }

  /** Waits until everything that was written is on the disk. */
  sync(): Promise<void> {
    return done<void>((end) => fs.fsync(this.fd, (error) => end(error)));
  }
}

/** The callback of a `node:fs` call. */
function done<Result>(
  call: (end: (error: Error | null, result?: Result) => void) => void,
): Promise<Result> {
  return new Promise((resolve, reject) =>
    call((error, result) =>
      error ? reject(new Error(error.message.split("\n")[0])) : resolve(result as Result)
    )
  );
}
