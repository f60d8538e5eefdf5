/**
 * Sends one command to a host, for the command line and for the prompt.
 *
 * @module
 */

import { MemStoreClient } from "../client.ts";
import type { Arg } from "../commands/describe.ts";
import { commands } from "../commands/list.ts";
import { MemStoreError } from "../transport/message.ts";
import { transferOf, withProgress } from "./progress.ts";
import { toLine, toText } from "./json.ts";

/** Options that every command takes. */
export interface RemoteOptions {
  /** The host's name, path or ZeroMQ address. */
  endpoint?: string;
  /** Milliseconds to wait for a reply; left out: 5 s, or 10 min where a command reads or writes the whole state. */
  timeout?: number;
  /** Milliseconds to wait for a host to start; left out: a command fails at once where none is. */
  wait?: number;
  /** The file of the client's secret key. */
  key?: string;
  /** The host's public key, or its file. */
  serverKey?: string;
  /** Whether to ask the host for a lane. */
  lane: boolean;
  /** Whether to read the host's memory; left out: where there may be a lane. */
  directReads?: boolean;
  /** The settings file. */
  config?: string;
  /** Print replies on one line. */
  raw?: boolean;
}

/** A raw command. */
export type RawCommand = readonly [name: string, ...args: unknown[]];

const TIMEOUT_MS = 5_000;
const SLOW_TIMEOUT_MS = 600_000;

/** Commands whose reply can be too large, and those that return the same in pages. */
const IN_PAGES: Readonly<Record<string, string>> = { all: "scan", keys: "scan", list_set: "scan_set" };

/** A client for the host that the options name. */
export function connect(options: RemoteOptions): MemStoreClient {
  const { endpoint, key, serverKey, lane, directReads, timeout = TIMEOUT_MS, wait = 0 } = options;
  return new MemStoreClient(endpoint, {
    key,
    serverKey,
    lane,
    directReads,
    timeout: wait + timeout,
    connectTimeout: wait,
  });
}

/** Sends a command; resolves to the text of its reply. */
export async function send(
  client: MemStoreClient,
  command: RawCommand,
  options: RemoteOptions,
  signal?: AbortSignal,
): Promise<string> {
  const [name] = command;
  const { timeout = isSlow(name) ? SLOW_TIMEOUT_MS : TIMEOUT_MS, wait = 0, raw } = options;
  try {
    const work = client.send(command, { timeout: wait + timeout, signal });
    const transfer = transferOf(command);
    const reply = transfer ? await withProgress(client, transfer, work) : await work;
    return raw ? toLine(reply) : toText(reply);
  } catch (error) {
    throw withAdvice(error, name, options);
  }
}

/** Adds to an error what to do about it, if that is known. */
export function withAdvice(error: unknown, name: string, { endpoint }: RemoteOptions): unknown {
  if (!(error instanceof MemStoreError)) return error;
  const { code, message } = error;
  if (code === "UNAVAILABLE" && !endpoint?.startsWith("tcp://")) {
    const start = ["memstore serve", ...endpoint === undefined ? [] : [endpoint]].join(" ");
    return new MemStoreError(code, `${message}: start one with: ${start}`);
  }
  if (["TOO_LARGE", "REPLY_TOO_LARGE"].includes(code) && Object.hasOwn(IN_PAGES, name)) {
    return new MemStoreError(code, `${message}: ${IN_PAGES[name]} returns it in pages`);
  }
  return error;
}

function isSlow(name: string): boolean {
  // (A host that stops stores its state first.)
  return name === "done" || (commands.find((command) => command.name === name)?.slow ?? false);
}

/** Whether a value is a raw command. */
export function isRawCommand(value: unknown): value is RawCommand {
  return Array.isArray(value) && typeof value[0] === "string";
}

/** The arguments of a command that every host has; none for other names. */
export function argsOf(name: string): readonly Arg[] {
  return commands.find((command) => command.name === name)?.args ?? [];
}
