/**
 * What an error of Redis, or of the connection to it, means for the command that was sent.
 *
 * @module
 */

import { type Code, MemStoreError } from "../../transport/message.ts";

/**
 * What became of a command:
 *
 *  - `refused`: it was not done, and another try would end the same way;
 *  - `later`: it was not done, but may be once a node is back, has loaded its data, or another one has taken over;
 *  - `elsewhere`: it was not done: another node has, or is about to get, what it is about;
 *  - `unknown`: the connection was lost before the reply: it may have been done.
 */
export type Outcome = "refused" | "later" | "elsewhere" | "unknown";

/** A reply of Redis by which another node is to be asked. */
export interface Redirect {
  /** Whether for this command alone (`ASK`), or for all of the slot (`MOVED`). */
  readonly once: boolean;
  /** `host:port`; the host may be missing, it is then that of the node which replied. */
  readonly address: string;
}

/** What became of a command that failed. */
export function outcomeOf(error: unknown): Outcome {
  const { name, text } = read(error);
  if (NOT_SENT.includes(name)) return "later";
  if (!REPLIES.includes(name)) return "unknown";
  // (A script found that some of its keys have moved, maybe in its middle.)
  if (text.includes("non local key")) return "unknown";
  const [word] = text.split(" ", 1);
  if (word === "MOVED" || word === "ASK" || word === "READONLY" || word === "NOSCRIPT") return "elsewhere";
  return LATER.includes(word) ? "later" : "refused";
}

/** Where Redis sends a command on to; undefined if it does not. */
export function redirectOf(error: unknown): Redirect | undefined {
  const [word, , address] = read(error).text.split(" ");
  return (word === "MOVED" || word === "ASK") && address ? { once: word === "ASK", address } : undefined;
}

/** Whether a node has not got a script (any more). */
export function lacksScript(error: unknown): boolean {
  return read(error).text.startsWith("NOSCRIPT");
}

/** Whether Redis refuses the user or the password. */
export function isRefusedUser(error: unknown): boolean {
  return /^(WRONGPASS|NOAUTH|NOPERM|ERR AUTH)\b/.test(read(error).text);
}

/** The error that a client gets for a command that was not done. */
export function refusalOf(error: unknown): MemStoreError {
  const { text } = read(error);
  const code: Code = /\bOOM\b/.test(text) ? "OUT_OF_MEMORY" : "FAILED";
  return new MemStoreError(code, `Cannot run: Redis refused it: ${text}`);
}

/** The same, if no node could do it in time. */
export function unavailable(milliseconds: number, error: unknown): MemStoreError {
  const why = `Redis could not be reached for ${milliseconds / 1000} s`;
  return new MemStoreError("UNAVAILABLE", `Cannot run: ${why}: ${read(error).text}`);
}

/** A command was done, but its node could be lost, and too few others have it. */
export class NotReplicated extends Error {}

/** The error for a command that may have been done. */
export function uncertain(error: unknown): MemStoreError {
  if (error instanceof NotReplicated) {
    return new MemStoreError(
      "UNCERTAIN",
      `Cannot tell: the command was done, but may be lost: ${error.message}`,
    );
  }
  const why = "there is no reply of Redis to it: the command may have been done";
  return new MemStoreError("UNCERTAIN", `Cannot tell: ${why}: ${read(error).text}`);
}

/** Errors of node-redis by which nothing was sent. */
const NOT_SENT = ["ClientOfflineError", "ClientClosedError"];
/** Errors of node-redis that Redis replied. */
const REPLIES = ["ErrorReply", "SimpleError", "BlobError"];
/** Redis' words for what passes: a slot is moving, a node starts, no master is known, a script runs for long. */
const LATER = ["TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY"];

/** What an error says. */
export function textOf(error: unknown): string {
  return read(error).text || "no answer";
}

/** The class of an error (node-redis gives its errors no names), and what it says. */
function read(error: unknown): { name: string; text: string } {
  if (!(error instanceof Error)) return { name: "", text: String(error) };
  return { name: error.constructor.name, text: error.message };
}
