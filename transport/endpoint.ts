/**
 * Endpoints: what users write, and the ZeroMQ addresses that those stand for.
 *
 * | written | address |
 * |---|---|
 * | `memstore`, a bare name | `ipc://<runtime directory>/memstore.sock` |
 * | `./run/app.sock`, with a `/` | `ipc://./run/app.sock` |
 * | `ipc://main`, `tcp://127.0.0.1:5757`, with a scheme | as it stands |
 *
 * The runtime directory is `$XDG_RUNTIME_DIR/memstore`, else `memstore-<uid>` in the temporary directory. It is created
 * with mode 0700. One that others could have prepared (not ours, a link, open to others) is refused, by clients too: the
 * owner of the directory could pose as the host.
 *
 * @module
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import { withPermission } from "../system/permission.ts";

/** What `sockaddr_un.sun_path` holds without its closing zero: 107 bytes on Linux, 103 on macOS. */
const MAX_PATH_BYTES = Deno.build.os === "linux" ? 107 : 103;

const SCHEMES = ["ipc", "tcp"];

/**
 * The ZeroMQ address that an endpoint stands for.
 *
 * @example
 * ```ts
 * import { address } from "./endpoint.ts";
 * console.assert(address("tcp://127.0.0.1:5757") === "tcp://127.0.0.1:5757");
 * console.assert(address("./app.sock") === "ipc://./app.sock");
 * ```
 *
 * @throws {TypeError} if it is empty, has an unknown scheme, or its path is too long for the system.
 */
export function address(endpoint: string): string {
  const refuse = (why: string): never => {
    throw new TypeError(`Cannot parse endpoint: ${why}: received ${JSON.stringify(endpoint)}`);
  };
  // deno-lint-ignore no-control-regex -- a socket's path is text a person can type
  if (endpoint === "" || /[\0-\x1f]/.test(endpoint)) refuse("a name, a path or an address is needed");
  const scheme = /^([a-z]+):\/\/(.*)$/s.exec(endpoint);
  if (scheme && !SCHEMES.includes(scheme[1])) refuse(`the scheme must be one of ${SCHEMES.join(", ")}`);
  if (scheme && scheme[2] === "") refuse("nothing follows the scheme");
  if (scheme?.[1] === "tcp" && !/:(\d{1,5}|\*)$/.test(endpoint)) {
    refuse(`the port is missing, as in ${endpoint}:5757`);
  }
  if (endpoint === "ipc://*") refuse("a path is needed, not a wildcard");
  if (!scheme && endpoint.includes("://")) refuse(`the scheme must be one of ${SCHEMES.join(", ")}`);

  const result = scheme
    ? endpoint
    : endpoint.includes("/")
    ? `ipc://${endpoint}`
    : `ipc://${join(withPermission("use the runtime directory", runtimeDirectory), `${endpoint}.sock`)}`;
  const path = socketPath(result);
  if (path !== undefined && new TextEncoder().encode(path).length > MAX_PATH_BYTES) {
    refuse(`the path is longer than ${MAX_PATH_BYTES} bytes`);
  }
  return result;
}

/** Whether only processes of this machine can reach an address. */
export function isLocal(address: string): boolean {
  const host = /^tcp:\/\/(.*):[^:]*$/.exec(address)?.[1];
  // (Any other address, such as the name of an interface, may be reachable from elsewhere.)
  return address.startsWith("ipc://") ||
    host !== undefined && /^(127(\.\d{1,3}){3}|\[::1\]|localhost)$/.test(host);
}

/** The file of an `ipc://` address; undefined for other addresses and for Linux's abstract names (`@…`). */
export function socketPath(address: string): string | undefined {
  const path = address.startsWith("ipc://") ? address.slice("ipc://".length) : undefined;
  return path?.startsWith("@") ? undefined : path;
}

/** The directory of the sockets of bare names. It is created if it does not exist: otherwise somebody else could. */
function runtimeDirectory(): string {
  const uid = Deno.uid();
  const given = Deno.env.get("XDG_RUNTIME_DIR");
  const directory = given ? join(given, "memstore") : join(tmpdir(), `memstore-${uid}`);
  const found = lstat(directory) ?? make(directory);
  if (!found.isDirectory || found.uid !== uid || ((found.mode ?? 0) & 0o077) !== 0) {
    throw new Error(
      `Cannot use the runtime directory: it must be a directory of user ${uid} with mode 0700: ` +
        `received ${directory}`,
    );
  }
  return directory;
}

function make(directory: string): Deno.FileInfo {
  try {
    Deno.mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
  return Deno.lstatSync(directory);
}

function lstat(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
