/**
 * `memstore repl`: a prompt for a host's commands, with history and completion.
 *
 * ```text
 * line ─► words ─► [name, ...values] ─► host ─► reply or error, printed ─► prompt
 * ```
 *
 * Where stdin is not a terminal, lines are read without a prompt. If one fails, the others still run, and the
 * exit code is 1.
 *
 * @module
 */

import { createInterface, type Interface } from "node:readline";
import process from "node:process";
import type { MemStoreClient } from "../client.ts";
import { type CommandInfo, commandInfo, commands as ownCommands } from "../commands/list.ts";
import { complete } from "./complete.ts";
import { appendHistory, historyPath, loadHistory, MAX_LINES } from "./history.ts";
import { parseJson } from "./json.ts";
import { complain, print, visible } from "./output.ts";
import {
  argsOf,
  connect,
  isRawCommand,
  type RawCommand,
  type RemoteOptions,
  send,
  withAdvice,
} from "./remote.ts";
import { textOf, valueOf, words } from "./words.ts";

/** How long the prompt and Tab may wait for a busy host, in milliseconds. (That no host is there is known at once.) */
const PATIENCE_MS = 2000;

/** The commands of the prompt itself. */
const LOCAL_COMMANDS: readonly CommandInfo[] = [
  { name: "help", args: ["command"], optional: 1, help: "Lists the commands, or explains one." },
  { name: "exit", args: [], help: "Leaves the prompt, as Ctrl-D does." },
];

/** Reads and runs lines until there are no more; resolves to the exit code. */
export async function repl(options: RemoteOptions): Promise<number> {
  const interactive = Deno.stdin.isTerminal() && Deno.stdout.isTerminal();
  // (To people the socket is as fast.)
  await using client = connect({ ...options, lane: options.lane && !interactive });
  const session = new Session(client, options);
  if (interactive) await session.greet();
  const lines = interactive ? openPrompt(session) : createInterface({ input: process.stdin });
  try {
    return await readLines(lines, session, interactive);
  } finally {
    lines.close();
  }
}

async function readLines(lines: Interface, session: Session, interactive: boolean): Promise<number> {
  const path = interactive ? historyPath() : undefined;
  let code = 0;
  if (interactive) lines.prompt();
  for await (const line of lines) {
    if (line.trim() === "exit") return code;
    if (line.trim() !== "" && !await session.run(line) && !interactive) code = 1;
    if (path && line.trim() !== "") appendHistory(path, line);
    if (interactive) lines.prompt();
  }
  if (interactive) print("");
  return code;
}

/** A prompt on the terminal. */
function openPrompt(session: Session): Interface {
  const path = historyPath();
  const prompt = createInterface({
    input: process.stdin,
    output: process.stdout,
    prompt: "memstore> ",
    history: path ? loadHistory(path).reverse() : [],
    historySize: MAX_LINES,
    removeHistoryDuplicates: true,
    completer: (line: string, done: (error: null, found: [string[], string]) => void) => {
      complete(line, session).then((found) => done(null, found), () => done(null, [[], line]));
    },
  });
  // Ctrl-C stops waiting for the command that runs, or else clears the line.
  prompt.on("SIGINT", () => {
    print("");
    if (session.giveUp()) return;
    prompt.write(null, { ctrl: true, name: "e" });
    prompt.write(null, { ctrl: true, name: "u" });
    prompt.prompt();
  });
  return prompt;
}

/** The host that a prompt talks to, and the command that runs. */
class Session {
  readonly #client: MemStoreClient;
  readonly #options: RemoteOptions;
  #running: AbortController | undefined;

  constructor(client: MemStoreClient, options: RemoteOptions) {
    this.#client = client;
    this.#options = options;
  }

  /** Says where the host is, or that there is none: one may still be started. */
  async greet(): Promise<void> {
    print(`${visible(this.#client.endpoint)}: help lists the commands, exit leaves.`);
    await this.send(["ping"]).catch((error) => complain(withAdvice(error, "ping", this.#options)));
  }

  /** Runs a line and prints its reply or its error. False if it failed. */
  async run(line: string): Promise<boolean> {
    this.#running = new AbortController();
    try {
      const command = parseLine(line);
      const text = command[0] === "help"
        ? helpText(await this.commands(), command[1])
        : await send(this.#client, command, this.#options, this.#running.signal);
      print(text);
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.BrokenPipe) throw error;
      complain(error);
      return false;
    } finally {
      this.#running = undefined;
    }
  }

  /** Stops waiting for the command that runs. False if none does. */
  giveUp(): boolean {
    this.#running?.abort(new Error("Stopped waiting: the command may still be done"));
    return this.#running !== undefined;
  }

  /** The commands of the host (if it does not answer, those that every host has), and the prompt's own. */
  async commands(): Promise<readonly CommandInfo[]> {
    const remote = await this.#client.commands({ timeout: PATIENCE_MS }).catch(() =>
      ownCommands.map(commandInfo)
    );
    return [...remote, ...LOCAL_COMMANDS];
  }

  /** Sends a command that is not worth a long wait. */
  send(command: RawCommand): Promise<unknown> {
    return this.#client.send(command, { timeout: PATIENCE_MS });
  }
}

/**
 * The command of a line: `name arg arg`, or a raw JSON array.
 *
 * @throws {SyntaxError} if it is neither.
 */
function parseLine(line: string): RawCommand {
  if (line.trimStart().startsWith("[")) return parseRawLine(line);
  const [first, ...rest] = words(line);
  const name = textOf(first);
  const args = argsOf(name);
  return [name, ...rest.map((word, i) => args[i]?.type === "string" ? textOf(word) : valueOf(word))];
}

function parseRawLine(line: string): RawCommand {
  try {
    const command = parseJson(line);
    if (isRawCommand(command)) return command;
  } catch (error) {
    if (error instanceof RangeError) throw error;
    // (What is not JSON is not a raw command either.)
  }
  throw new SyntaxError(`Cannot read the line: a JSON array ["name", …] is needed: received ${line}`);
}

function helpText(commands: readonly CommandInfo[], name: unknown): string {
  const found = name === undefined ? commands : commands.filter((command) => command.name === name);
  if (found.length === 0) {
    throw new Error(`Cannot show help: there is no command of this name: received ${name}`);
  }
  const usages = found.map(({ name, args, optional = 0 }) =>
    [name, ...args.map((arg, i) => i < args.length - optional ? `<${arg}>` : `[${arg}]`)].join(" ")
  );
  const width = Math.max(...usages.map((usage) => usage.length));
  // (A host's own commands may have any name and help.)
  return found.map(({ help }, i) => visible(`${usages[i].padEnd(width)}  ${help}`)).join("\n");
}
