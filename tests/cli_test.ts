/**
 * The command line, as people run it: real processes, with exactly the permissions of the tasks in
 * deno.json (`start` for a host, `compile` for everything else), over temporary ipc paths. And, without
 * processes, how values are typed and printed.
 */

import assert from "node:assert/strict";
import { MemStoreClient } from "../client.ts";
import { MemStore } from "../server.ts";
import type { Arg } from "../commands/describe.ts";
import { commands } from "../commands/table.ts";
import { Extension } from "../wire/codec.ts";
import { parseArgument, toLine, toText } from "../terminal/json.ts";
import { TempDir } from "./host.ts";
import manifest from "../deno.json" with { type: "json" };

const ROOT = new URL("..", import.meta.url).pathname;

/** The permissions of a task. */
function permissions(task: "start" | "compile"): string[] {
  return manifest.tasks[task].command.split(" ").filter((word) => /^--(allow|no-prompt)/.test(word));
}

interface Output {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a command line to its end. */
async function memstore(...args: string[]): Promise<Output> {
  const flags = ["run", "--quiet", ...permissions("compile"), `${ROOT}cli.ts`];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...flags, ...args],
    stdin: "null",
  })
    .output();
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** What it prints, when all is well. */
async function printed(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await memstore(...args);
  assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
  return stdout;
}

/** A `memstore serve` of its own process. */
class Host implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #unread = "";

  constructor(...endpoints: string[]) {
    const args = ["run", "--quiet", ...permissions("start"), `${ROOT}cli.ts`, "serve", ...endpoints];
    this.#child = new Deno.Command(Deno.execPath(), { args, stdin: "null", stdout: "piped", stderr: "null" })
      .spawn();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** The next line of its stdout. */
  async line(): Promise<string> {
    while (!this.#unread.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error(`The host ended: ${this.#unread}`);
      this.#unread += value;
    }
    const end = this.#unread.indexOf("\n");
    const line = this.#unread.slice(0, end);
    this.#unread = this.#unread.slice(end + 1);
    return line;
  }

  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Its exit code. */
  async end(): Promise<number> {
    return (await this.#child.status).code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#lines.cancel();
    await this.#child.status;
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`memstore serve says where it is ready, and ${signal} ends it with 0 and removes its files`, async () => {
    await using dir = new TempDir();
    const paths = [`${dir.path}/a.sock`, `${dir.path}/b.sock`];
    await using host = new Host(...paths);
    assert.deepEqual(await host.line(), `memstore ready on ipc://${paths[0]}`);
    assert.deepEqual(await host.line(), `memstore ready on ipc://${paths[1]}`);
    assert.deepEqual(await printed("-e", paths[0], "set", "t", "k", "1"), "1\n");
    assert.deepEqual(await printed("-e", paths[1], "get", "t", "k"), "1\n");
    host.kill(signal);
    assert.deepEqual(await host.end(), 0);
    assert.deepEqual([...Deno.readDirSync(dir.path)], []);
  });
}

Deno.test("memstore done ends the host with 0", async () => {
  await using dir = new TempDir();
  const path = `${dir.path}/a.sock`;
  await using host = new Host(path);
  await host.line();
  assert.deepEqual(await printed("done", "-e", path), '["ok"]\n');
  assert.deepEqual(await host.end(), 0);
  assert.ok(!await exists(path));
});

Deno.test("memstore serve with an endpoint that a living host serves fails with one line", async () => {
  await using dir = new TempDir();
  await using host = new Host(`${dir.path}/a.sock`);
  await host.line();
  const { code, stdout, stderr } = await memstore("serve", `${dir.path}/a.sock`);
  assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
  assert.match(stderr, /^memstore: Cannot serve ipc:\S+: another host serves it\n$/);
});

Deno.test("memstore serve with what is no endpoint is a usage error", async () => {
  for (const line of [["serve", "smtp://x"], ["-e", "smtp://x", "ping"]]) {
    const { code, stderr } = await memstore(...line);
    assert.deepEqual(code, 2);
    assert.match(stderr, /^memstore: .*Cannot parse endpoint: .* received "smtp:\/\/x".*\nusage: memstore/);
  }
});

/** A host in this process, and a command line that reaches it. */
async function hosted(
  body: (run: (...args: string[]) => Promise<string>, path: string, store: MemStore) => Promise<void>,
): Promise<void> {
  await using dir = new TempDir();
  const path = `${dir.path}/a.sock`;
  await using store = new MemStore(path, { dataDirectory: dir.path });
  store.command("rename", { args: ["table", "from", "to"], help: "Renames.", run: (_, ...args) => args });
  await store.start();
  await body((...args) => printed("-e", path, ...args), path, store);
}

Deno.test("memstore get prints the value as JSON, on one line with --raw", () =>
  hosted(async (run) => {
    assert.deepEqual(await run("set", "users", "alice", '{"age":31,"tags":["a"]}'), "1\n");
    assert.deepEqual(await run("get", "users", "alice"), '{"age": 31, "tags": ["a"]}\n');
    assert.deepEqual(await run("get", "--raw", "users", "alice"), '{"age":31,"tags":["a"]}\n');
    assert.deepEqual(await run("get", "users", "bob"), "null\n");
    assert.deepEqual(await run("send", '["all","users"]'), '{"alice": {"age": 31, "tags": ["a"]}}\n');
  }));

Deno.test("memstore takes the endpoint before and after the command's name", () =>
  hosted(async (_, path) => {
    assert.deepEqual(await printed("-e", path, "ping"), '"pong"\n');
    assert.deepEqual(await printed("ping", "-e", path), '"pong"\n');
    assert.deepEqual(await printed(`--endpoint=${path}`, "ping"), '"pong"\n');
  }));

Deno.test("memstore takes negative numbers, and after -- strings that begin with a dash", () =>
  hosted(async (run) => {
    await run("set", "t", "k", "-5");
    assert.deepEqual(await run("get", "t", "k"), "-5\n");
    await run("set", "t", "-1.5e3", "--", "-x");
    assert.deepEqual(await run("get", "t", "-1500"), '"-x"\n');
  }));

Deno.test("memstore takes arguments that may be left out, and arrays and maps as JSON", () =>
  hosted(async (run) => {
    assert.deepEqual(await run("incr", "t", "n"), "1\n");
    assert.deepEqual(await run("incr", "t", "n", "-5"), "-4\n");
    assert.deepEqual(await run("set_many", "t", '{"a": [1], "n": 2}'), "1\n");
    assert.deepEqual(await run("get_many", "t", '["n", "a", "b"]'), "[2, [1], null]\n");
    assert.deepEqual(await run("ttl", "t", "n"), '"Infinity"\n');
    assert.match(await run("help", "incr"), /memstore incr \[options\] <table> <key> \[by\]/);
  }));

Deno.test("memstore keeps every digit of an integer", () =>
  hosted(async (run) => {
    await run("set", "t", "k", "[18446744073709551615,-9223372036854775808]");
    assert.deepEqual(await run("--raw", "get", "t", "k"), "[18446744073709551615,-9223372036854775808]\n");
  }));

Deno.test("memstore store takes its path as a string, whatever it looks like", () =>
  hosted(async (run, path) => {
    const file = `${path}.5`;
    assert.match(await run("store", file), /^\["stored", [\d.e-]+\]\n$/);
    assert.match(await run("restore", file), /^\["restored", [\d.e-]+\]\n$/);
    // A number would be refused: a path must be a string. This one fails later, at the host's files.
    const { code, stderr } = await memstore("-e", path, "restore", "5.5");
    assert.deepEqual(code, 1);
    assert.match(stderr, /^memstore: Cannot restore .*5\.5/);
  }));

Deno.test("memstore send reaches commands of the host's own", () =>
  hosted(async (run, path) => {
    assert.deepEqual(await run("send", '["rename","users","alice","bob"]'), '["users", "alice", "bob"]\n');
    const { code, stderr } = await memstore("-e", path, "rename", "users", "alice", "bob");
    assert.deepEqual(code, 2);
    assert.match(
      stderr,
      /^memstore: Cannot run: unknown command 'rename'.* memstore send '\["rename"\]'\nusage: memstore .*\n$/,
    );
  }));

Deno.test("memstore tells an error of the host in one line on stderr, with exit 1", () =>
  hosted(async (_, path) => {
    const { code, stdout, stderr } = await memstore("-e", path, "send", '["no\\u001bne"]');
    assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
    assert.deepEqual(stderr, "memstore: Cannot find a command of this name: received no ne\n");
  }));

Deno.test("memstore gives up after --timeout where no host is", async () => {
  await using dir = new TempDir();
  const { code, stdout, stderr } = await memstore("get", "t", "k", "-t", "0.2", "-e", `${dir.path}/none`);
  assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
  assert.deepEqual(stderr, `memstore: Cannot get: no host at ipc://${dir.path}/none within 200 ms\n`);
});

const USAGE_ERRORS: [why: RegExp, usage: string, args: string[]][] = [
  [/^Cannot get: missing required argument 'key'$/, "memstore get [options] <table> <key>", ["get", "t"]],
  [/^Cannot get: too many arguments/, "memstore get [options] <table> <key>", ["get", "t", "k", "v"]],
  [/^Cannot get: unknown option '--jso'/, "memstore get [options] <table> <key>", ["get", "t", "k", "--jso"]],
  [/^Cannot send: .* a JSON array.* received \{$/, "memstore send [options] <command>", ["send", "{"]],
  [/^Cannot send: .* a JSON array.* received \[1\]$/, "memstore send [options] <command>", ["send", "[1]"]],
  [/^Cannot run: .*'0' is invalid/, "memstore [options] [command]", ["-t", "0", "ping"]],
  [/^Cannot help: .* received nope$/, "memstore help [options] [command]", ["help", "nope"]],
];

for (const [why, usage, args] of USAGE_ERRORS) {
  Deno.test(`memstore ${args.join(" ")} is a usage error: exit 2, why, and how it is written`, async () => {
    const { code, stdout, stderr } = await memstore(...args);
    assert.deepEqual({ code, stdout }, { code: 2, stdout: "" });
    const [first, second, ...rest] = stderr.split("\n");
    assert.match(first.replace("memstore: ", ""), why);
    assert.deepEqual([second, ...rest], [`usage: ${usage}`, ""]);
  });
}

Deno.test("memstore without a command prints its help on stderr, with exit 2", async () => {
  const { code, stdout, stderr } = await memstore();
  assert.deepEqual({ code, stdout }, { code: 2, stdout: "" });
  assert.match(stderr, /^Usage: memstore /);
});

Deno.test("memstore --help lists every command of the table, memstore help tells of one", async () => {
  const help = await printed("--help");
  assert.deepEqual(await printed("help"), help);
  for (const { name, args, help: line } of commands) {
    const operands = args.filter(({ type }) => type !== "bool");
    const options = operands.length < args.length ? ["[options]"] : [];
    const operand = (arg: Arg) => arg.optional ? `[${arg.name}]` : `<${arg.name}>`;
    const usage = [name, ...options, ...operands.map(operand)].join(" ");
    assert.ok(help.split("\n").some((each) => each.startsWith(`  ${usage} `) && each.endsWith(line)), usage);
  }
  assert.match(
    await printed("help", "get"),
    /^Usage: memstore get \[options\] <table> <key>\n\nThe value of a key/,
  );
  assert.match(await printed("help", "store"), /The path is the host's/);
});

Deno.test("memstore --version prints the version of deno.json", async () => {
  assert.deepEqual(await printed("--version"), `${manifest.version}\n`);
});

Deno.test("memstore endpoint prints the address that a name stands for", async () => {
  assert.match(await printed("endpoint", "app"), /^ipc:\/\/\/.*\/app\.sock\n$/);
  assert.deepEqual(await printed("endpoint", "tcp://127.0.0.1:5757"), "tcp://127.0.0.1:5757\n");
});

Deno.test("memstore ends without a word when nobody reads its stdout any more", () =>
  hosted(async (_, path) => {
    await using client = new MemStoreClient(path);
    await client.set("t", "k", "x".repeat(1_000_000));
    const args = ["run", "--quiet", ...permissions("compile"), `${ROOT}cli.ts`, "-e", path, "get", "t", "k"];
    const child = new Deno.Command(Deno.execPath(), { args, stdin: "null", stdout: "piped", stderr: "piped" })
      .spawn();
    const reader = child.stdout.getReader();
    await reader.read();
    await reader.cancel();
    assert.deepEqual({ stderr: await child.stderr.text(), code: (await child.status).code }, {
      stderr: "",
      code: 0,
    });
  }));

Deno.test("an argument is JSON where it parses as JSON, else a string", () => {
  const cases: [string, unknown][] = [
    ["31", 31],
    ["-5", -5],
    ["1e3", 1000],
    ["null", null],
    ["true", true],
    ["alice", "alice"],
    ['"31"', "31"],
    ["007", "007"],
    ["", ""],
    ["{age:31}", "{age:31}"],
    ['{"a":[1,{"b":2}]}', { a: [1, { b: 2 }] }],
    ["9007199254740991", 9007199254740991],
    ["9007199254740993", 9007199254740993n],
    ['{"n":[-18446744073709551615]}', { n: [-18446744073709551615n] }],
    ["1" + "0".repeat(400), 10n ** 400n],
    ["9007199254740993.5", 9007199254740994],
    ['{"$bytes":"AQI="}', new Uint8Array([1, 2])],
    ['{"$ext":[7,"AQI="]}', new Extension(7, new Uint8Array([1, 2]))],
  ];
  for (const [argument, value] of cases) assert.deepEqual(parseArgument(argument), value, argument);
  assert.deepEqual(Object.hasOwn(parseArgument('{"__proto__":1}') as object, "__proto__"), true);
});

Deno.test("what only looks like bytes or an extension stays an object", () => {
  for (
    const text of [
      '{"$bytes":"?"}',
      '{"$bytes":1}',
      '{"$bytes":"","x":1}',
      '{"$ext":[200,""]}',
      '{"$ext":[1]}',
    ]
  ) {
    assert.deepEqual(parseArgument(text), JSON.parse(text), text);
  }
});

Deno.test("values are printed as JSON, what JSON lacks in a form of our own", () => {
  const cases: [unknown, string][] = [
    [null, "null"],
    ["é\n\x7f\u202e", '"é\\n\\u007f\\u202e"'],
    [2n ** 64n - 1n, "18446744073709551615"],
    [-0, "-0"],
    [1.5, "1.5"],
    [[NaN, Infinity, -Infinity], '["NaN","Infinity","-Infinity"]'],
    [new Uint8Array([1, 2]), '{"$bytes":"AQI="}'],
    [new Extension(-7, new Uint8Array([1, 2])), '{"$ext":[-7,"AQI="]}'],
    [new Date(0), '"1970-01-01T00:00:00.000Z"'],
    [new Map([["a", 1], ["__proto__", 2]]), '{"a":1,"__proto__":2}'],
    [new Map<unknown, unknown>([["a", 1], [2, {}]]), '[["a",1],[2,{}]]'],
    [new Map(), "{}"],
  ];
  for (const [value, text] of cases) assert.deepEqual(toLine(value), text);
});

Deno.test("a reply stays on one line while that is short, and is broken where it is not", () => {
  const fits = { a: "x".repeat(71) };
  assert.deepEqual(toText(fits), JSON.stringify(fits).replace(":", ": "));
  const long = { a: "x".repeat(72), b: [1, 2], c: {} };
  assert.deepEqual(toText(long), `{\n  "a": "${long.a}",\n  "b": [1, 2],\n  "c": {}\n}`);
  assert.deepEqual(toText([fits, [fits.a]]), `[\n  {\n    "a": "${fits.a}"\n  },\n  ["${fits.a}"]\n]`);
  assert.deepEqual(toText("x".repeat(100)), `"${"x".repeat(100)}"`);
});
