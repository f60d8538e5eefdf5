/**
 * libzmq's C functions, called through Deno's FFI.
 *
 * `npm:zeromq` ships libzmq compiled into its Node-API addon for Linux and macOS, and that binary exports
 * libzmq's own functions. We load the package for the binary alone: zeromq.js cannot wait under Deno
 * (denoland/deno#36317), cannot tell when a closed socket's last replies have left the process (which
 * `zmq_ctx_term` does), and moves about half as many messages a second.
 *
 * Nothing here knows a message or a command. {@linkcode libzmq} loads the binary at first use, so that
 * importing memstore costs nothing and asks for no permission.
 *
 * @see https://libzmq.readthedocs.io/en/latest/
 * @module
 */

import { createRequire } from "node:module";
import { missingPermission } from "../../system/permission.ts";

const symbols = {
  zmq_ctx_new: { parameters: [], result: "pointer" },
  zmq_ctx_set: { parameters: ["pointer", "i32", "i32"], result: "i32" },
  zmq_ctx_term: { parameters: ["pointer"], result: "i32", nonblocking: true },
  zmq_socket: { parameters: ["pointer", "i32"], result: "pointer" },
  zmq_close: { parameters: ["pointer"], result: "i32" },
  zmq_bind: { parameters: ["pointer", "buffer"], result: "i32" },
  zmq_unbind: { parameters: ["pointer", "buffer"], result: "i32" },
  zmq_connect: { parameters: ["pointer", "buffer"], result: "i32" },
  zmq_socket_monitor: { parameters: ["pointer", "buffer", "i32"], result: "i32" },
  zmq_setsockopt: { parameters: ["pointer", "i32", "buffer", "usize"], result: "i32" },
  zmq_getsockopt: { parameters: ["pointer", "i32", "buffer", "buffer"], result: "i32" },
  zmq_send: { parameters: ["pointer", "buffer", "usize", "i32"], result: "i32" },
  /** Sends a frame of {@linkcode zmq_msg_init_data}, where the bytes are not copied. */
  zmq_msg_send: { parameters: ["buffer", "pointer", "i32"], result: "i32" },
  zmq_msg_init_data: { parameters: ["buffer", "pointer", "usize", "pointer", "pointer"], result: "i32" },
  zmq_msg_get: { parameters: ["buffer", "i32"], result: "i32" },
  zmq_msg_init: { parameters: ["buffer"], result: "i32" },
  zmq_msg_recv: { parameters: ["buffer", "pointer", "i32"], result: "i32" },
  zmq_msg_data: { parameters: ["buffer"], result: "pointer" },
  zmq_msg_more: { parameters: ["buffer"], result: "i32" },
  zmq_msg_close: { parameters: ["buffer"], result: "i32" },
  zmq_msg_gets: { parameters: ["buffer", "buffer"], result: "pointer" },
  zmq_curve_keypair: { parameters: ["buffer", "buffer"], result: "i32" },
  zmq_curve_public: { parameters: ["buffer", "buffer"], result: "i32" },
  zmq_z85_encode: { parameters: ["buffer", "buffer", "usize"], result: "pointer" },
  zmq_has: { parameters: ["buffer"], result: "i32" },
  zmq_errno: { parameters: [], result: "i32" },
  zmq_strerror: { parameters: ["i32"], result: "pointer" },
  /** The function itself, for libzmq to call: adds one to the number at an address. */
  zmq_atomic_counter_inc: { type: "pointer" },
  /** POSIX's, which can be called through the binary as well. */
  sched_yield: { parameters: [], result: "i32", optional: true },
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  /** glibc's: gives free memory back to the system. */
  malloc_trim: { parameters: ["usize"], result: "i32", optional: true },
  umask: { parameters: ["u32"], result: "u32" },
  srand: { parameters: ["u32"], result: "void" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  zmq_poll: { parameters: ["buffer", "i32", "isize"], result: "i32", nonblocking: true },
  /** The same functions, which block the thread. */
  poll_sync: { name: "zmq_poll", parameters: ["buffer", "i32", "isize"], result: "i32" },
  ctx_term_sync: { name: "zmq_ctx_term", parameters: ["pointer"], result: "i32" },
} as const;

/** libzmq's functions by their C names. */
export type Libzmq = Deno.DynamicLibrary<typeof symbols>["symbols"];

/** The constants of zmq.h that we use. */
export const ZMQ = {
  PAIR: 0,
  DEALER: 5,
  ROUTER: 6,
  /** An errno: a signal came. */
  EINTR: 4,
  DONTWAIT: 1,
  SNDMORE: 2,
  POLLIN: 1,
  POLLOUT: 2,
  /** Options of a context. (The last is one of libzmq's drafts, as is IN_BATCH_SIZE.) */
  IO_THREADS: 1,
  ZERO_COPY_RECV: 10,
  /** Of a message: the descriptor of the connection by which it came. */
  SRCFD: 2,
  /** Options of a socket. */
  AFFINITY: 4,
  FD: 14,
  EVENTS: 15,
  LINGER: 17,
  RECONNECT_IVL: 18,
  BACKLOG: 19,
  RECONNECT_IVL_MAX: 21,
  MAXMSGSIZE: 22,
  SNDHWM: 23,
  RCVHWM: 24,
  LAST_ENDPOINT: 32,
  TCP_KEEPALIVE: 34,
  TCP_KEEPALIVE_CNT: 35,
  TCP_KEEPALIVE_IDLE: 36,
  TCP_KEEPALIVE_INTVL: 37,
  IPV6: 42,
  CURVE_SERVER: 47,
  CURVE_PUBLICKEY: 48,
  CURVE_SECRETKEY: 49,
  CURVE_SERVERKEY: 50,
  ZAP_DOMAIN: 55,
  ROUTER_HANDOVER: 56,
  IPC_FILTER_UID: 59,
  HANDSHAKE_IVL: 66,
  HEARTBEAT_IVL: 75,
  HEARTBEAT_TTL: 76,
  HEARTBEAT_TIMEOUT: 77,
  IN_BATCH_SIZE: 101,
  /** Events of a monitor. */
  EVENT_CONNECTED: 0x0001,
  EVENT_CONNECT_RETRIED: 0x0004,
  EVENT_ACCEPTED: 0x0020,
  EVENT_DISCONNECTED: 0x0200,
  EVENT_HANDSHAKE_FAILED_NO_DETAIL: 0x0800,
  EVENT_HANDSHAKE_SUCCEEDED: 0x1000,
  EVENT_HANDSHAKE_FAILED_PROTOCOL: 0x2000,
  EVENT_HANDSHAKE_FAILED_AUTH: 0x4000,
  /** Values of HANDSHAKE_FAILED_PROTOCOL. */
  ZMTP_CRYPTOGRAPHIC: 0x11000001,
  ZMTP_MECHANISM_MISMATCH: 0x11000002,
  /** What shutdown(2) ends, reading and writing; and that recv(2) does not wait. */
  SHUT_RDWR: 2,
  MSG_DONTWAIT: Deno.build.os === "linux" ? 0x40 : 0x80,
} as const;

/** A text as C has it. */
export const cString = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(`${text}\0`);

const SIZES = Array.from({ length: 1 << 12 }, (_, n) => BigInt(n));

/** A `size_t`. (FFI calls with a bigint are fast; small ones are made once.) */
export const size = (n: number): bigint => SIZES[n] ?? BigInt(n);

/** Names the file of a libzmq to use in the place of npm:zeromq's: the system's, say. */
const LIBZMQ_ENV = "MEMSTORE_LIBZMQ";

let loaded: Libzmq | undefined;

/**
 * Loads libzmq at the first call.
 *
 * @throws {Error} that says why it cannot be loaded, or what the one that {@linkcode LIBZMQ_ENV} names lacks.
 */
export async function libzmq(): Promise<Libzmq> {
  return loaded ??= await named() ?? Deno.dlopen(await binaryPath(), symbols).symbols;
}

/** Terminates a context. Resolves when the last messages of its sockets have left, or their linger has passed. */
export async function terminate(zmq: Libzmq, context: Deno.PointerValue): Promise<void> {
  // (It fails only where a signal interrupts it. It ran in another thread, and so did its errno.)
  while (await zmq.zmq_ctx_term(context) < 0);
}

/** {@linkcode terminate}, which blocks the thread. */
export function terminateSync(zmq: Libzmq, context: Deno.PointerValue): void {
  while (zmq.ctx_term_sync(context) < 0);
}

/** The libzmq that the environment names, if it names one. */
async function named(): Promise<Libzmq | undefined> {
  // (Who may not read the variable has not set it for us.)
  const { state } = Deno.permissions.querySync({ name: "env", variable: LIBZMQ_ENV });
  const path = state === "granted" ? Deno.env.get(LIBZMQ_ENV) : undefined;
  if (!path) return undefined;
  let library;
  try {
    library = Deno.dlopen(path, symbols);
  } catch (error) {
    throw new Error(`Cannot load libzmq: ${firstLine(error)}: received ${path} (${LIBZMQ_ENV})`, {
      cause: error,
    });
  }
  const lacks = await lacksOf(library.symbols);
  if (lacks.length === 0) return library.symbols;
  library.close();
  const why = `it lacks ${lacks.join(" and ")}, which it must be built with`;
  throw new Error(`Cannot load libzmq: ${why}: received ${path} (${LIBZMQ_ENV})`);
}

/** What of that which we need can be left out when libzmq is built. */
async function lacksOf(zmq: Libzmq): Promise<string[]> {
  const lacks = ["ipc", "curve"].filter((name) => zmq.zmq_has(cString(name)) !== 1);
  const context = zmq.zmq_ctx_new();
  const socket = zmq.zmq_socket(context, ZMQ.ROUTER);
  const bytes = new Uint8Array(new Int32Array([8192]).buffer);
  const drafts = zmq.zmq_ctx_set(context, ZMQ.ZERO_COPY_RECV, 0) === 0 &&
    zmq.zmq_setsockopt(socket, ZMQ.IN_BATCH_SIZE, bytes, size(bytes.length)) === 0;
  if (!drafts) lacks.push("its draft options (--enable-drafts)");
  zmq.zmq_close(socket);
  await terminate(zmq, context);
  return lacks;
}

/**
 * Where the binary is that npm:zeromq has for this platform. Whoever opens it reaches the system's own C functions
 * too, on Linux and macOS alike.
 */
export async function binaryPath(): Promise<string> {
  // (Deno would say so too, in the midst of the many lines that the package prints.)
  if (Deno.permissions.requestSync({ name: "ffi" }).state !== "granted") {
    throw missingPermission("load libzmq", new Error("Requires ffi access"));
  }
  const instead = `install libzmq, and set ${LIBZMQ_ENV} to its file`;
  try {
    await import("npm:zeromq@6.8.0");
  } catch (error) {
    throw missingPermission("load libzmq", error) ??
      new Error(`Cannot load libzmq from npm:zeromq: ${firstLine(error)}: ${instead}`, { cause: error });
  }
  const addon = Object.keys(createRequire(import.meta.url).cache)
    .find((path) => path.endsWith(".node") && path.includes("zeromq"));
  if (addon) return addon;
  const { os, arch } = Deno.build;
  throw new Error(`Cannot load libzmq: npm:zeromq has no binary for ${os} on ${arch}: ${instead}`);
}

const firstLine = (error: unknown) =>
  String(error instanceof Error ? error.message : error).split("\n", 1)[0];

/** How many files (connections are files) this process may have open: getrlimit(2). */
export function maxOpenFiles(zmq: Libzmq): number {
  const limit = new BigUint64Array(new ArrayBuffer(16));
  const RLIMIT_NOFILE = Deno.build.os === "linux" ? 7 : 8;
  if (zmq.getrlimit(RLIMIT_NOFILE, new Uint8Array(limit.buffer)) < 0) return Infinity;
  return Number(limit[0]);
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;

/** Whether this process may open `count` more files than it has open now. */
export function canOpenFiles(zmq: Libzmq, count: number): boolean {
  const opened: number[] = [];
  try {
    while (opened.length < count) {
      const fd = zmq.socket(AF_UNIX, SOCK_STREAM, 0);
      if (fd < 0) return false;
      opened.push(fd);
    }
    return true;
  } finally {
    for (const fd of opened) zmq.close(fd);
  }
}

/** libzmq's text for the error that just happened. */
export function lastError(zmq: Libzmq): string {
  const text = zmq.zmq_strerror(zmq.zmq_errno());
  return text === null ? "unknown error" : Deno.UnsafePointerView.getCString(text);
}
