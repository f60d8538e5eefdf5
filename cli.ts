/**
 * The command line: `memstore serve` runs a host, and every command of a host is a command here.
 *
 * The commands, their arguments and their help come from {@link ./commands/list.ts | the list of commands}; commander
 * parses the command line and prints the help. Modules are imported when a command needs them: `memstore get` loads no
 * host and no prompt.
 *
 * Exit codes: 0 success; 1 the command failed; 2 the command line has an error.
 *
 * @module
 */

import { Command, CommanderError } from "npm:commander@15.1.0";
import { commands } from "./commands/list.ts";
import type { Command as StoreCommand } from "./commands/describe.ts";
import { address } from "./transport/endpoint.ts";
import { parseArgument, parseJson } from "./terminal/json.ts";
import { addFlags, givenFlags } from "./settings/flags.ts";
import { duration } from "./settings/kinds.ts";
import { nearest } from "./settings/nearest.ts";
import { SettingsError } from "./settings/error.ts";
import { CONFIG_ENV, type Read, readClientSettings, readSettings } from "./settings/read.ts";
import { complain, print, visible, write } from "./terminal/output.ts";
import { connect, isRawCommand, type RawCommand, type RemoteOptions, send } from "./terminal/remote.ts";
import manifest from "./deno.json" with { type: "json" };

const DEFAULT_ENDPOINT = "memstore";
/** The width of help where stdout is not a terminal. */
const HELP_WIDTH = 110;

const ARGUMENTS_HELP = `
Arguments that are valid JSON are read as JSON, all others as strings: 31 is a number,
'"31"' and alice are strings. Arguments after -- are never options.`;

const DURATION_HELP = `
A duration is written 500ms, 30s, 5m or 1h; after -t and -w a plain number is in seconds.`;

const PATH_HELP = `
The path is relative to the host's data directory and must not lead out of it.`;

const SERVE_HELP = `
An endpoint is a name, a path (with a /) or a ZeroMQ address (ipc://…, tcp://…).
Prints "memstore ready on <address>" for each endpoint once clients can connect to it.
Ctrl-C, SIGTERM and the command done stop the host. The log goes to stderr.

Every option can also be set in the settings file or by an environment variable; secrets
can be set only there. "memstore config init" explains all of them. A flag overrides the
file, and the file overrides the environment.

Exit codes: 0 the host was stopped; 1 it failed; 2 the command line has an error.`;

const CONFIG_HELP = `The settings file. (default: $${CONFIG_ENV})`;
/** A switch of the commands that send more than one command; all others do without a lane. */
const NO_LANE = ["--no-lane", "Shares no memory with the host: sends everything over the socket."] as const;
const ENDPOINT_DEFAULT = `default: $MEMSTORE_ENDPOINT, or ${DEFAULT_ENDPOINT}`;

/** What {@linkcode NO_LANE} sets: false if it is given. */
interface Switches {
  lane: boolean;
}

/** An error in the command line. */
class UsageError extends Error {
  /** The syntax of the command. */
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
  // (As in `memstore … | head`.)
  if (error instanceof Deno.errors.BrokenPipe) return 0;
  // Help or the version was printed. If nobody asked for it, the command line has an error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof SettingsError) error.problems.forEach(complain);
  else complain(error);
  if (!(error instanceof UsageError)) return 1;
  write(Deno.stderr, `usage: ${error.usage}\n`);
  return 2;
}

function makeProgram(): Command {
  const program = new Command("memstore");
  const endpoint = (text: string) => parseOption(text, program, checkEndpoint);
  const milliseconds = (text: string) => parseOption(text, program, parseDuration);
  program
    .description("Tables and sets in memory that many processes share.")
    .version(manifest.version, "-V, --version", "Prints the version.")
    .option(
      "-e, --endpoint <endpoint>",
      `The host: a name, a path or an address. (${ENDPOINT_DEFAULT})`,
      endpoint,
    )
    .option(
      "-t, --timeout <duration>",
      "How long to wait for a reply. (default: 5s; store, restore, done: 10m)",
      milliseconds,
    )
    .option(
      "-w, --wait <duration>",
      "How long to wait for a host to start. (default: fails at once)",
      milliseconds,
    )
    .option("--key <file>", "The file of your secret key, for a host that uses keys.")
    .option("--server-key <key>", "The host's public key, or the file that holds it.")
    .option("--config <file>", CONFIG_HELP)
    .option("--raw", "Prints replies on one line.")
    .helpOption("-h, --help", "Prints this help.")
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
    .addHelpText("after", ARGUMENTS_HELP + DURATION_HELP);
  return withUsageErrors(program);
}

/** Parses an option or an argument. If that fails, it is a usage error. */
function parseOption<Value>(text: string, command: Command, parse: (text: string) => Value): Value {
  try {
    return parse(text);
  } catch (error) {
    throw error instanceof TypeError || error instanceof RangeError
      ? new UsageError(error.message, command)
      : error;
  }
}

/** The milliseconds of a duration; a plain number is in seconds. */
function parseDuration(text: string): number {
  try {
    return duration.parse(/^\d+(\.\d+)?$/.test(text) ? `${text}s` : text, "");
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new TypeError(`Cannot wait: ${error.message}: received ${text}`);
  }
}

/** Checks an endpoint, and returns it unchanged. */
function checkEndpoint(text: string): string {
  address(text);
  return text;
}

function helpWidth(): number {
  return Deno.stdout.isTerminal() ? Deno.consoleSize().columns : HELP_WIDTH;
}

/** Turns commander's errors into usage errors. (It also throws after it has printed help or the version.) */
function withUsageErrors(command: Command): Command {
  return command.exitOverride((error) => {
    if (["commander.help", "commander.helpDisplayed", "commander.version"].includes(error.code)) throw error;
    const doing = command.parent ? command.name() : "run";
    const why = error.code === "commander.unknownCommand"
      ? unknownCommand(command)
      : error.message.replace(/^error: /, "");
    throw new UsageError(`Cannot ${doing}: ${why}`, command);
  });
}

function unknownCommand(program: Command): string {
  const [name] = program.args;
  const near = nearest(name, program.commands.map((each) => each.name()));
  const meant = near === undefined ? "" : `, did you mean ${near}?`;
  const send = "A custom command of the host is sent with: memstore send";
  return `there is no command of this name: received ${name}${meant} (${send} '["${name}"]')`;
}

/** The commands of the program itself. */
function addProgramCommands(program: Command, fails: (code: number) => void): void {
  const add = (name: string, help: string) => withUsageErrors(program.command(name).description(help));
  program.commandsGroup("Program:");
  const host = add("serve", "Runs a host that serves one or more endpoints, until it is stopped.")
    .configureHelp({ showGlobalOptions: false })
    .option("--config <file>", CONFIG_HELP)
    .addHelpText("after", SERVE_HELP)
    .action(async () => {
      const flags = givenFlags(host);
      // (Options that all commands have: commander gives them to the program.)
      const { endpoint, key, config } = program.opts<RemoteOptions>();
      if (endpoint !== undefined && !flags.has("endpoints")) flags.set("endpoints", [endpoint]);
      if (key !== undefined) flags.set("key", key);
      await serve(await readSettings(flags, config));
    });
  addFlags(host, (why) => new UsageError(why, host));
  const config = withUsageErrors(program.command("config").description("Checks or writes a settings file."))
    .helpCommand(false)
    .configureHelp({ showGlobalOptions: false });
  withUsageErrors(config.command("check").description("Lists all errors in a settings file."))
    .argument("<file>")
    .action(async (file: string) => (await import("./terminal/config.ts")).check(file));
  withUsageErrors(
    config.command("init").description("Prints a settings file that explains all settings, or writes it."),
  )
    .argument("[file]", "A new file.")
    .action(async (file?: string) => (await import("./terminal/config.ts")).init(file));
  add("repl", "Opens a prompt. Reads commands from stdin, one a line, if that is not a terminal.")
    .option(...NO_LANE)
    .action(async ({ lane }: Switches) => {
      const { repl } = await import("./terminal/repl.ts");
      fails(await repl(await remoteOptions(program, lane)));
    });
  add("bench", "Measures how fast a host answers, in some seconds.")
    .option(...NO_LANE)
    .action(async ({ lane }: Switches) => {
      const { bench } = await import("./terminal/bench.ts");
      await bench(await remoteOptions(program, lane));
    });
  add("keygen", "Makes a key pair: the secret key in a new file, the public key in <file>.pub.")
    .argument("<file>")
    .configureHelp({ showGlobalOptions: false })
    .action(async (file: string) => {
      const { writeKeys } = await import("./auth/curve.ts");
      print((await writeKeys(file)).publicKey);
    });
  const raw = add("send", "Sends a command as JSON, for example a custom command of the host.")
    .argument("<command>", `A JSON array: '["get","users","alice"]'`)
    .action((text: string) => run(parseRawCommand(text, raw), program));
  add("endpoint", "Prints the ZeroMQ address of an endpoint.")
    .argument("[name]", `A name, a path or an address. (${ENDPOINT_DEFAULT})`)
    .configureHelp({ showGlobalOptions: false })
    .action(async (name?: string) => {
      const given = name ?? (await remoteOptions(program)).endpoint ?? DEFAULT_ENDPOINT;
      print(visible(parseOption(given, program, address)));
    });
  const help = add("help", "Prints the help of a command.")
    .argument("[command]")
    .configureHelp({ showGlobalOptions: false })
    .action((name?: string) => {
      const found = name === undefined ? program : program.commands.find((each) => each.name() === name);
      if (!found) {
        throw new UsageError(`Cannot show help: there is no command of this name: received ${name}`, help);
      }
      found.help();
    });
}

/** Adds a command of the list of commands. */
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
    const values = command.args.map((text, i) =>
      operands[i].type === "string" ? text : parseOption(text, command, parseArgument)
    );
    const chosen = switches.filter(({ name }) => command.opts()[name]).map(() => true);
    return run([name, ...values, ...chosen], program);
  });
}

/** The heading under which help lists a command. */
function group(name: string, firstArgument: string | undefined): string {
  if (name === "tables" || firstArgument === "table") return "Tables:";
  if (name === "sets" || firstArgument === "set" || firstArgument === "sets") return "Sets:";
  return firstArgument === undefined ? "Host:" : "State:";
}

function parseRawCommand(text: string, command: Command): RawCommand {
  let value: unknown;
  try {
    value = parseOption(text, command, parseJson);
  } catch (error) {
    // (The error below says it.)
    if (!(error instanceof SyntaxError)) throw error;
  }
  if (isRawCommand(value)) return value;
  throw new UsageError(`Cannot send: a JSON array ["name", …] is needed: received ${text}`, command);
}

/**
 * The options of the command line, completed with the settings.
 *
 * @param lane Whether the settings may ask for a lane. (For one command it does not pay.)
 */
async function remoteOptions(program: Command, lane = false): Promise<RemoteOptions> {
  const given = program.opts<Omit<RemoteOptions, "lane">>();
  const { endpoint, key, serverKey, lane: wanted = true } = await readClientSettings(given.config);
  const options = { endpoint, lane: lane && wanted, ...given };
  // (Sockets of this machine are served without keys.)
  return options.endpoint?.startsWith("tcp://") ? { key, serverKey, ...options } : options;
}

async function run(command: RawCommand, program: Command): Promise<void> {
  const options = await remoteOptions(program);
  await using client = connect(options);
  print(await send(client, command, options));
}

/** Runs a host until it is stopped. */
async function serve({ settings, warnings }: Read): Promise<void> {
  const [{ MemStore }, { makeLog }] = await Promise.all([import("./server.ts"), import("./terminal/log.ts")]);
  const { endpoints, dataDir: dataDirectory, logLevel, client: _, ...options } = settings;
  const log = makeLog(logLevel);
  for (const why of warnings) log("warning", "settings", { why });
  await using store = new MemStore(endpoints, { ...options, dataDirectory, log });
  let stopping = false, failed = false;
  const giveUp = () => {
    const lost = store.state?.changed
      ? "what was changed since the state was stored is lost"
      : "no data is lost";
    log("error", "stop", { result: `given up at a second signal: ${lost}` });
    Deno.exit(1);
  };
  const stop = () => {
    // (A second signal means: do not wait.)
    if (stopping) giveUp();
    stopping = true;
    store.stop().catch(() => {
      // (If it cannot stop, the log says why. The second time it may be able to.)
      if (failed) giveUp();
      stopping = false;
      failed = true;
    });
  };
  Deno.addSignalListener("SIGINT", stop);
  Deno.addSignalListener("SIGTERM", stop);
  await store.start();
  for (const endpoint of store.endpoints) print(`memstore ready on ${visible(endpoint)}`);
  await store.finished;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
