/**
 * Shows the progress of a store or restore as a line on stderr, if that is a terminal.
 *
 * The host does the work, so it is asked at intervals (`transfers`). It lists the transfers of all clients.
 *
 * @module
 */

import type { MemStoreClient } from "../client.ts";
import type { Transfer } from "../commands/list.ts";
import { visible, write } from "./output.ts";

/** How often the host is asked, in milliseconds. */
const INTERVAL_MS = 100;
/** A transfer that takes less time than this shows no progress, in milliseconds. */
const QUICK_MS = 300;
/** Goes to the begin of the line and clears it. */
const CLEAR = "\r\x1b[2K";
/** Characters of the bar. */
const BAR = 20;

/** Which transfer a command makes. */
export type Own = Pick<Transfer, "what" | "where">;

/** The transfer that a command makes, as the host lists it; undefined for other commands. */
export function transferOf([name, ...args]: readonly [name: string, ...args: unknown[]]): Own | undefined {
  switch (name) {
    case "store":
    case "restore":
      return { what: name, where: String(args[0]) };
    case "s3store":
    case "s3restore":
      return { what: name === "s3store" ? "store" : "restore", where: `s3://${args[0]}/${args[1]}` };
  }
}

/** Shows the progress of a command's own transfer until its reply has come. */
export async function withProgress<Reply>(
  client: MemStoreClient,
  own: Own,
  work: Promise<Reply>,
): Promise<Reply> {
  if (!Deno.stderr.isTerminal()) return await work;
  let done = false;
  const end = () => void (done = true);
  work.then(end, end);
  let shown = false;
  await pause(QUICK_MS, work);
  while (!done) {
    // (While the host is too busy to answer, nothing new is shown.)
    const transfers = await client.transfers({ timeout: 1000 }).catch(() => []);
    const transfer = transfers.findLast(({ what, where }) => what === own.what && where === own.where);
    if (transfer && !done) {
      shown = true;
      write(Deno.stderr, CLEAR + lineOf(transfer).slice(0, columns() - 1));
    }
    await pause(INTERVAL_MS, work);
  }
  if (shown) write(Deno.stderr, CLEAR);
  return await work;
}

/** Waits for some time, or until the work is done. */
async function pause(milliseconds: number, work: Promise<unknown>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  work.then(() => resolve(), () => resolve());
  await promise;
  clearTimeout(timer);
}

/** What is shown of a transfer. */
export function lineOf({ what, where, entries, bytes, done, seconds }: Transfer): string {
  const bar = "━".repeat(Math.floor(done * BAR)).padEnd(BAR);
  const megabytes = (bytes / 1e6).toFixed(1);
  const rate = (seconds > 0 ? bytes / 1e6 / seconds : 0).toFixed(0);
  const left = done > 0 && seconds > 0 ? ` · ${Math.ceil(seconds / done - seconds)} s left` : "";
  const figures = `${entries.toLocaleString("en")} entries · ${megabytes} MB · ${rate} MB/s${left}`;
  return `${what} ${visible(where)} ${bar} ${Math.floor(done * 100)} % · ${figures}`;
}

/** How wide the terminal is. */
function columns(): number {
  try {
    return Deno.consoleSize().columns;
  } catch {
    return 80;
  }
}
