/**
 * One command to a host, as the command line and the prompt send it.
 *
 * @module
 */

import { MemStoreClient } from "../client.ts";
import type { Arg } from "../commands/dispatch.ts";
import { commands } from "../commands/table.ts";
import { transferOf, withProgress } from "./progress.ts";
import { toLine, toText } from "./json.ts";

/** Options that people give with any command. */
export interface RemoteOptions {
  /** The host's name, path or ZeroMQ address. */
  endpoint?: string;
  /** Seconds to wait for the reply; left out: 5, or 600 where a command reads or writes the whole state. */
  timeout?: number;
  /** The file of the client's secret key. */
  key?: string;
  /** The host's public key, or its file. */
  serverKey?: string;
  /** The settings file. */
  config?: string;
  /** Print replies on one line. */
  raw?: boolean;
}

/** A raw command. */
export type RawCommand = readonly [name: string, ...args: unknown[]];

const TIMEOUT_S = 5;
const SLOW_TIMEOUT_S = 600;

/** A client for the host that the options name. */
export function connect({ endpoint, key, serverKey, timeout = TIMEOUT_S }: RemoteOptions): MemStoreClient {
  return new MemStoreClient(endpoint, { key, serverKey, timeout: timeout * 1000 });
}

/** Sends a command; resolves to the text of its reply. */
export async function send(
  client: MemStoreClient,
  command: RawCommand,
  { timeout = isSlow(command[0]) ? SLOW_TIMEOUT_S : TIMEOUT_S, raw }: RemoteOptions,
  signal?: AbortSignal,
): Promise<string> {
  const work = client.send(command, { timeout: timeout * 1000, signal });
  const transfer = transferOf(command);
  const reply = transfer ? await withProgress(client, transfer, work) : await work;
  return raw ? toLine(reply) : toText(reply);
}

function isSlow(name: string): boolean {
  return commands.find((command) => command.name === name)?.slow ?? false;
}

/** Whether a value is a command in its raw form. */
export function isRawCommand(value: unknown): value is RawCommand {
  return Array.isArray(value) && typeof value[0] === "string";
}

/** The arguments of a command that every host has; none for others. */
export function argsOf(name: string): readonly Arg[] {
  return commands.find((command) => command.name === name)?.args ?? [];
}
