/**
 * The calls of the system for shared memory, and files that exist in memory alone (`memfd_create(2)`): sealed so that
 * nobody can change their size, and opened by those who know where they are.
 *
 * ```text
 * one process                                    another
 *   createFile ─► descriptor n                     openFile(pid, n) ─► a descriptor of its own
 *                 /proc/<pid>/fd/<n>  ◄──────────── opens
 * ```
 *
 * The system lets a process open another one's descriptor if both belong to the same user, and are in the same PID
 * namespace. Sealed memory cannot shrink, so reading it never ends a process (`SIGBUS`). Linux only.
 *
 * @see https://man7.org/linux/man-pages/man2/memfd_create.2.html
 * @module
 */

import { cString, size } from "../zeromq/libzmq.ts";

const symbols = {
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  lseek: { parameters: ["i32", "i64", "i32"], result: "i64" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  madvise: { parameters: ["pointer", "usize", "i32"], result: "i32" },
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  fchmod: { parameters: ["i32", "u32"], result: "i32" },
  pthread_mutexattr_init: { parameters: ["buffer"], result: "i32" },
  pthread_mutexattr_setpshared: { parameters: ["buffer", "i32"], result: "i32" },
  pthread_mutexattr_setrobust: { parameters: ["buffer", "i32"], result: "i32" },
  pthread_mutex_init: { parameters: ["pointer", "buffer"], result: "i32" },
  pthread_mutex_lock: { parameters: ["pointer"], result: "i32" },
  pthread_mutex_unlock: { parameters: ["pointer"], result: "i32" },
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  sched_yield: { parameters: [], result: "i32" },
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  // (The C library has no functions for these two, and `syscall` takes other parameters for each.)
  futex: {
    name: "syscall",
    parameters: ["usize", "pointer", "i32", "u32", "buffer", "usize", "usize"],
    result: "isize",
  },
  futex_waitv: {
    name: "syscall",
    parameters: ["usize", "buffer", "u32", "u32", "buffer", "i32"],
    result: "isize",
  },
} as const;

/** The calls of the system. */
type System = Deno.DynamicLibrary<typeof symbols>["symbols"];

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
/** No other seals, no shrinking, no growing. */
const SEALS = 1 | 2 | 4;
export const O_RDONLY = 0;
export const O_RDWR = 2;
/** So that to open something else (a pipe, which another process named) does not wait for anybody. */
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const SEEK_END = 2;
export const PROT_READ_WRITE = 1 | 2;
export const MAP_SHARED = 1;
const MAP_FAILED = 2n ** 64n - 1n;

const RLIMIT_FSIZE = 1;

const LIBRARY = "libc.so.6";
/** The calls, once they are loaded. */
export let system: System | undefined;

/**
 * Loads the calls of the system, like {@linkcode loadSharedMemory}, but has Deno ask nobody for the permission: if there is
 * none, there is no shared memory.
 */
export function loadSharedMemoryIfGranted(): boolean {
  if (Deno.build.os !== "linux") return false;
  const granted = () => Deno.permissions.querySync({ name: "ffi", path: LIBRARY }).state === "granted";
  return (system !== undefined || granted()) && loadSharedMemory();
}

/**
 * Loads the calls of the system. Call it before anything else of this folder.
 *
 * @returns Whether there is shared memory here.
 */
export function loadSharedMemory(): boolean {
  if (Deno.build.os !== "linux") return false;
  try {
    system ??= Deno.dlopen(LIBRARY, symbols).symbols;
    return true;
  } catch {
    // (A libc that is not GNU's, or `--allow-ffi` for libzmq's file alone: messages go over the socket.)
    return false;
  }
}

/**
 * Makes a file in memory, with holes alone. Returns its descriptor.
 *
 * @throws {Error} if the system refuses.
 */
export function createFile(name: string, bytes: number): number {
  // (To go beyond it would end the process: SIGXFSZ.)
  const limit = new BigUint64Array(new ArrayBuffer(16));
  if (system!.getrlimit(RLIMIT_FSIZE, new Uint8Array(limit.buffer)) === 0 && limit[0] < BigInt(bytes)) {
    throw new Error(`Cannot share memory: the system allows no files of ${bytes} bytes (ulimit -f)`);
  }
  const fd = system!.memfd_create(cString(name), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw new Error("Cannot share memory: the system has no descriptor for it");
  if (system!.ftruncate(fd, size(bytes)) === 0 && system!.fcntl(fd, F_ADD_SEALS, SEALS) === 0) return fd;
  system!.close(fd);
  throw new Error("Cannot share memory: the system does not seal it");
}

/**
 * Opens a file in the memory of another process. Returns an own descriptor.
 *
 * @throws {Error} if it cannot be opened, or is not sealed memory of this size.
 */
export function openFile(pid: number, fd: number, bytes: number, how: number): number {
  const own = system!.open(cString(`/proc/${pid}/fd/${fd}`), how | O_CLOEXEC | O_NONBLOCK);
  if (own < 0) throw new Error(`Cannot share memory: descriptor ${fd} of process ${pid} cannot be opened`);
  const seals = system!.fcntl(own, F_GET_SEALS, 0);
  if (seals >= 0 && (seals & SEALS) === SEALS && Number(system!.lseek(own, 0n, SEEK_END)) === bytes) {
    return own;
  }
  system!.close(own);
  throw new Error(
    `Cannot share memory: descriptor ${fd} of process ${pid} is no sealed memory of ${bytes} bytes`,
  );
}

/** Whether `mmap(2)` has failed. */
export function failed(address: Deno.PointerValue): boolean {
  return Deno.UnsafePointer.value(address) === MAP_FAILED;
}
