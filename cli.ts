/**
 * The command line: `memstore serve` for the host, every command by its name for people.
 *
 * The commands, their arguments and their help come from {@link ./commands/table.ts | the command table};
 * commander parses and prints the help. What a command does not need is imported only when it is needed:
 * a `memstore get` loads no host and no prompt.
 *
 * Exit codes: 0; 1 for what was tried and failed; 2 for a line that cannot be understood.
 *
 * @module
 */

import { Command, CommanderError, InvalidArgumentError } from "commander";
import { commands } from "./commands/table.ts";
import type { Command as StoreCommand } from "./commands/describe.ts";
import { address } from "./wire/endpoint.ts";
import { parseArgument, parseJson } from "./terminal/json.ts";
import { addFlags, givenFlags } from "./settings/flags.ts";
import { SettingsError } from "./settings/error.ts";
import { CONFIG_ENV, type Read, readClientSettings, readSettings } from "./settings/read.ts";
import { complain, print, write } from "./terminal/output.ts";
import { connect, isRawCommand, type RawCommand, type RemoteOptions, send } from "./terminal/remote.ts";
import manifest from "./deno.json" with { type: "json" };

const DEFAULT_ENDPOINT = "memstore";
/** Help is as wide as the terminal, or this where there is none. */
const HELP_WIDTH = 110;

const ARGUMENTS_HELP = `
Arguments are JSON where they parse as JSON, and strings where not: 31 is a number,
'"31"' and alice are strings. After -- nothing is an option.`;

const PATH_HELP = `
The path is the host's: it begins at the host's data directory and may not lead out of it.`;

const SERVE_HELP = `
An endpoint is a name, a path (with a /) or a ZeroMQ address (ipc://…, tcp://…).
Prints "memstore ready on <address>" for each when it can be reached. Ctrl-C, SIGTERM
and the command done stop it.

Each option is a setting of the file and an environment variable as well, and secrets are
only there: "memstore config init" explains all. A flag wins over the file, the file over
the environment. The log goes to stderr.`;

const CONFIG_HELP = `the settings file (default: what ${CONFIG_ENV} names, if anything)`;

/** A line that cannot be understood, and how it is written. */
class UsageError extends Error {
  readonly usage: string;

  constructor(text: string, command: Command) {
    super(text);
    this.usage = command.createHelp().commandUsage(command);
  }
}

/** Runs a command line; resolves to the exit code. */
async function main(args: string[]): Promise<number> {
  try {
    const program = makeProgram();
    let code = 0;
    addProgramCommands(program, (failed) => code = failed);
    for (const command of commands) addStoreCommand(program, command);
    await program.parseAsync(args, { from: "user" });
    return code;
  } catch (error) {
    return exitCode(error);
  }
}

function exitCode(error: unknown): number {
  // `memstore … | head`: whoever reads has enough.
  if (error instanceof Deno.errors.BrokenPipe) return 0;
  // Help or the version was printed; if that was instead of what should have been done, it is an error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof SettingsError) error.problems.forEach(complain);
  else complain(error);
  if (!(error instanceof UsageError)) return 1;
  write(Deno.stderr, `usage: ${error.usage}\n`);
  return 2;
}

function makeProgram(): Command {
  const program = new Command("memstore")
    .description("A map and sets in memory that many processes share.")
    .version(manifest.version, "-V, --version", "print the version")
    .option(
      "-e, --endpoint <endpoint>",
      `the host: a name, a path or an address (default: ${DEFAULT_ENDPOINT})`,
      endpoint,
    )
    .option(
      "-t, --timeout <seconds>",
      "how long to wait for the reply (default: 5; store, restore: 600)",
      seconds,
    )
    .option("--key <file>", "our secret key, for a host that is served with keys")
    .option("--server-key <key>", "the host's public key, or its file")
    .option("--config <file>", CONFIG_HELP)
    .option("--raw", "print the reply on one line")
    .helpOption("-h, --help", "print this help")
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => write(Deno.stdout, text),
      writeErr: (text) => write(Deno.stderr, text),
      outputError: () => {},
      getOutHelpWidth: helpWidth,
      getErrHelpWidth: helpWidth,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .addHelpText("after", ARGUMENTS_HELP);
  return withUsageErrors(program);
}

function seconds(text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError("It must be a number above 0.");
  return value;
}

/** An endpoint as it was written, if it can be one. */
function endpoint(text: string): string {
  try {
    address(text);
  } catch (error) {
    if (error instanceof TypeError) throw new InvalidArgumentError(`${error.message}.`);
    throw error;
  }
  return text;
}

function helpWidth(): number {
  return Deno.stdout.isTerminal() ? Deno.consoleSize().columns : HELP_WIDTH;
}

/** Turns commander's errors about a command into ours; that it printed help or the version stays as it is. */
function withUsageErrors(command: Command): Command {
  return command.exitOverride((error) => {
    if (["commander.help", "commander.helpDisplayed", "commander.version"].includes(error.code)) throw error;
    const why = error.message.replace(/^error: /, "");
    const hint = error.code === "commander.unknownCommand"
      ? `: send a command of the host's own with: memstore send '["${command.args[0]}"]'`
      : "";
    throw new UsageError(`Cannot ${command.parent ? command.name() : "run"}: ${why}${hint}`, command);
  });
}

/** What is not a command of the host. */
function addProgramCommands(program: Command, fails: (code: number) => void): void {
  const add = (name: string, help: string) => withUsageErrors(program.command(name).description(help));
  program.commandsGroup("Program:");
  const host = add("serve", "Serves one or several endpoints until it is stopped.")
    .configureHelp({ showGlobalOptions: false })
    .option("--config <file>", CONFIG_HELP)
    .addHelpText("after", SERVE_HELP)
    .action(async () => {
      const flags = givenFlags(host);
      // (Options of every command: commander gives them to the program.)
      const { endpoint, key, config } = program.opts<RemoteOptions>();
      if (endpoint !== undefined && !flags.has("endpoints")) flags.set("endpoints", [endpoint]);
      if (key !== undefined) flags.set("key", key);
      await serve(await readSettings(flags, config));
    });
  addFlags(host);
  const config = withUsageErrors(program.command("config").description("Checks and writes settings files."))
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: false });
  withUsageErrors(config.command("check").description("Tells all that is wrong with a settings file."))
    .argument("<file>")
    .action(async (file: string) => (await import("./terminal/config.ts")).check(file));
  withUsageErrors(config.command("init").description("Prints an example of all settings, or writes it."))
    .argument("[file]", "a new file")
    .action(async (file?: string) => (await import("./terminal/config.ts")).init(file));
  add("repl", "Opens a prompt; reads commands line by line where stdin is no terminal.")
    .action(async () => {
      const { repl } = await import("./terminal/repl.ts");
      fails(await repl(await remoteOptions(program)));
    });
  add("bench", "Measures how fast the host answers, in some seconds.")
    .action(async () => {
      const { bench } = await import("./terminal/bench.ts");
      await bench(await remoteOptions(program));
    });
  add("keygen", "Makes a pair of keys: the secret one in a new file, the public one in <file>.pub.")
    .argument("<file>")
    .configureHelp({ showGlobalOptions: false })
    .action(async (file: string) => {
      const { writeKeys } = await import("./wire/curve.ts");
      print((await writeKeys(file)).publicKey);
    });
  const raw = add("send", "Sends a command in its raw form: one of the host's own, for example.")
    .argument("<command>", `a JSON array: '["get","users","alice"]'`)
    .action((text: string) => run(parseRawCommand(text, raw), program));
  add("endpoint", "Prints the address that a name stands for.")
    .argument("[name]", `a name, a path or an address (default: ${DEFAULT_ENDPOINT})`, endpoint)
    .configureHelp({ showGlobalOptions: false })
    .action(async (name?: string) => {
      print(address(name ?? (await remoteOptions(program)).endpoint ?? DEFAULT_ENDPOINT));
    });
  const help = add("help", "Prints the help of a command.")
    .argument("[command]")
    .configureHelp({ showGlobalOptions: false })
    .action((name?: string) => {
      const found = name === undefined ? program : program.commands.find((each) => each.name() === name);
      if (!found) {
        throw new UsageError(`Cannot help: there is no command of this name: received ${name}`, help);
      }
      found.help();
    });
}

/** A command of the command table. */
function addStoreCommand(program: Command, { name, args, help }: StoreCommand): void {
  const command = withUsageErrors(
    program.command(name).description(help).helpGroup(group(name, args[0]?.name)),
  );
  const operands = args.filter(({ type }) => type !== "bool");
  const switches = args.filter(({ type }) => type === "bool");
  for (const { name, optional } of operands) command.argument(optional ? `[${name}]` : `<${name}>`);
  for (const { name, help } of switches) command.option(`--${name}`, help);
  if (args[0]?.name === "path") command.addHelpText("after", PATH_HELP);
  else if (args.length > 0) command.addHelpText("after", ARGUMENTS_HELP);
  command.action(() => {
    const values = command.args.map((text, i) => operands[i].type === "string" ? text : parseArgument(text));
    const chosen = switches.filter(({ name }) => command.opts()[name]).map(() => true);
    return run([name, ...values, ...chosen], program);
  });
}

/** The heading under which help lists a command: by what it is about. */
function group(name: string, firstArgument: string | undefined): string {
  if (name === "tables" || firstArgument === "table") return "Tables:";
  if (name === "sets" || firstArgument === "set" || firstArgument === "sets") return "Sets:";
  return firstArgument === undefined ? "Host:" : "State:";
}

function parseRawCommand(text: string, command: Command): RawCommand {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch {
    // Told below.
  }
  if (isRawCommand(value)) return value;
  throw new UsageError(`Cannot send: it must be a JSON array, ["name", …]: received ${text}`, command);
}

/** What was given with the command, and what the settings say of the rest. */
async function remoteOptions(program: Command): Promise<RemoteOptions> {
  const given = program.opts<RemoteOptions>();
  const { endpoint, key, serverKey } = await readClientSettings(given.config);
  const options = { endpoint, ...given };
  // (The keys of a network host are none for one on this machine.)
  return options.endpoint?.startsWith("tcp://") ? { key, serverKey, ...options } : options;
}

async function run(command: RawCommand, program: Command): Promise<void> {
  const options = await remoteOptions(program);
  await using client = connect(options);
  print(await send(client, command, options));
}

/** Serves until it is told to stop. */
async function serve({ settings, warnings }: Read): Promise<void> {
  const [{ MemStore }, { makeLog }] = await Promise.all([import("./server.ts"), import("./terminal/log.ts")]);
  const { endpoints, dataDir: dataDirectory, logLevel, client: _, ...options } = settings;
  const log = makeLog(logLevel);
  for (const why of warnings) log("warning", "settings", { why });
  await using store = new MemStore(endpoints, { ...options, dataDirectory, log });
  let stopping = false;
  const stop = () => {
    if (stopping) {
      // Whoever says so twice does not want to wait.
      const lost = store.state?.changed
        ? "what was changed since the state was stored is lost"
        : "no data is lost";
      log("error", "stop", { result: `given up at a second signal: ${lost}` });
      Deno.exit(1);
    }
    stopping = true;
    // Why it does not stop, if it does not, is in the log.
    store.stop().catch(() => stopping = false);
  };
  Deno.addSignalListener("SIGINT", stop);
  Deno.addSignalListener("SIGTERM", stop);
  await store.start();
  for (const endpoint of store.endpoints) print(`memstore ready on ${endpoint}`);
  await store.finished;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
