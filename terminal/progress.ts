/**
 * Shows the progress of a store or restore as a line on stderr, if that is a terminal.
 *
 * The host does the work, so it is asked at intervals (`transfers`). It lists the transfers of all clients.
 *
 * @module
 */

import process from "node:process";
import type { MemStoreClient } from "../client.ts";
import type { Transfer } from "../commands/list.ts";
import { visible } from "./output.ts";

/** How often the host is asked, in milliseconds. */
const INTERVAL_MS = 100;
/** A transfer that takes less time than this shows no progress, in milliseconds. */
const QUICK_MS = 300;
const FORMAT =
  "{what} {where} {bar} {percentage} % · {entries} entries · {megabytes} MB · {rate} MB/s · {left}";

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
  // (Imported only where it is shown.)
  // @ts-types="npm:@types/cli-progress@3.11.6"
  const { default: progress } = await import("cli-progress");
  const bar = new progress.SingleBar({
    stream: process.stderr,
    format: FORMAT,
    clearOnComplete: true,
    hideCursor: true,
    barsize: 20,
    barCompleteChar: "━",
    barIncompleteChar: " ",
  });
  let shown = false;
  await pause(QUICK_MS, work);
  while (!done) {
    // (While the host is too busy to answer, nothing new is shown.)
    const transfers = await client.transfers({ timeout: 1000 }).catch(() => []);
    const transfer = transfers.findLast(({ what, where }) => what === own.what && where === own.where);
    if (transfer && !done) {
      if (!shown) bar.start(1, transfer.done, figures(transfer));
      shown = true;
      bar.update(transfer.done, figures(transfer));
    }
    await pause(INTERVAL_MS, work);
  }
  if (shown) bar.stop();
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

function figures({ what, where, entries, bytes, done, seconds }: Transfer): Record<string, string> {
  const left = done > 0 && seconds > 0 ? `${Math.ceil(seconds / done - seconds)} s left` : "";
  return {
    what,
    where: visible(where),
    entries: entries.toLocaleString("en"),
    megabytes: (bytes / 1e6).toFixed(1),
    rate: (seconds > 0 ? bytes / 1e6 / seconds : 0).toFixed(0),
    left,
  };
}
