/**
 * The command line, as people run it: real processes, with exactly the permissions of the tasks in
 * deno.json (`start` for a host, `compile` for everything else), over temporary ipc paths. And, without
 * processes, how values are typed and printed.
 */

import assert from "node:assert/strict";
import { MemStoreClient } from "../client.ts";
import { MemStore } from "../server.ts";
import type { Arg } from "../commands/describe.ts";
import { commands } from "../commands/list.ts";
import { Extension } from "../msgpack/codec.ts";
import { parseArgument, parseJson, toLine, toText } from "../terminal/json.ts";
import { visible } from "../terminal/output.ts";
import { transferOf } from "../terminal/progress.ts";
import { typed } from "../terminal/words.ts";
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
function memstore(...args: string[]): Promise<Output> {
  return memstoreIn({}, ...args);
}

/** The same, in an environment. */
async function memstoreIn(env: Record<string, string>, ...args: string[]): Promise<Output> {
  const flags = ["run", "--quiet", ...permissions("compile"), `${ROOT}cli.ts`];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...flags, ...args],
    env,
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
class ServeProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #unread = "";

  /** @param endpoints What it serves; or its environment, which says what. */
  constructor(...endpoints: string[] | [env: Record<string, string>]) {
    const words = endpoints.filter((each) => typeof each === "string");
    const env = endpoints.find((each) => typeof each !== "string");
    const args = ["run", "--quiet", ...permissions("start"), `${ROOT}cli.ts`, "serve", ...words];
    const options = { args, env, stdin: "null", stdout: "piped", stderr: "null" } as const;
    this.#child = new Deno.Command(Deno.execPath(), options).spawn();
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

  get pid(): number {
    return this.#child.pid;
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
    await using host = new ServeProcess(...paths);
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
  await using host = new ServeProcess(path);
  await host.line();
  assert.deepEqual(await printed("done", "-e", path), '["ok"]\n');
  assert.deepEqual(await host.end(), 0);
  assert.ok(!await exists(path));
});

Deno.test("memstore done fails with 1 and says why where the state cannot be stored; after it the endpoint is free at once", async () => {
  await using dir = new TempDir();
  const path = `${dir.path}/a.sock`, data = `${dir.path}/data`;
  await Deno.mkdir(data);
  const line = [path, "--data-dir", data, "--state", "s.msgpack"];
  await using host = new ServeProcess(...line);
  await host.line();
  await printed("-e", path, "set", "t", "k", "1");
  await Deno.remove(data, { recursive: true });
  const { code, stdout, stderr } = await memstore("-e", path, "done");
  assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
  assert.match(stderr, /^memstore: Cannot .*s\.msgpack.*\n$/);
  assert.equal(await printed("-e", path, "get", "t", "k"), "1\n");
  await Deno.mkdir(data);
  assert.equal(await printed("-e", path, "done"), '["ok"]\n');
  await using next = new ServeProcess(...line);
  assert.equal(await next.line(), `memstore ready on ipc://${path}`);
  assert.equal(await printed("-e", path, "get", "t", "k"), "1\n");
});

Deno.test("memstore serve with an endpoint that a living host serves fails with 1, and names its process", async () => {
  await using dir = new TempDir();
  await using host = new ServeProcess(`${dir.path}/a.sock`);
  await host.line();
  const { code, stdout, stderr } = await memstore("serve", `${dir.path}/a.sock`);
  assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
  assert.equal(
    stderr,
    `memstore: Cannot serve ipc://${dir.path}/a.sock: another host serves it, process ${host.pid}\n`,
  );
});

Deno.test("MEMSTORE_ENDPOINT is the endpoint of memstore serve and of its clients", async () => {
  await using dir = new TempDir();
  const env = { MEMSTORE_ENDPOINT: `${dir.path}/a.sock` };
  await using host = new ServeProcess(env);
  assert.equal(await host.line(), `memstore ready on ipc://${dir.path}/a.sock`);
  assert.deepEqual(await memstoreIn(env, "ping"), { code: 0, stdout: '"pong"\n', stderr: "" });
  assert.equal((await memstoreIn(env, "endpoint")).stdout, `ipc://${dir.path}/a.sock\n`);
  // A flag overrides it.
  assert.equal((await memstoreIn(env, "endpoint", "-e", "tcp://x:1")).stdout, "tcp://x:1\n");
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

Deno.test({
  name: "memstore stats counts the clients that have a lane; a single command asks for none",
  ignore: Deno.build.os !== "linux",
  fn: () =>
    hosted(async (run, path) => {
      const lanes = async () => JSON.parse(await run("stats", "--raw")).lanes;
      assert.equal(await lanes(), 0);
      await using client = new MemStoreClient(path);
      await client.ping();
      assert.equal(await lanes(), 1);
      await using other = new MemStoreClient(path, { lane: false });
      assert.notEqual(await other.send(["lane"]), null);
      assert.equal(await lanes(), 1, "one that was offered, and is not used");
    }),
});

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
    const none = await memstore("-e", path, "store", "none/x");
    assert.match(none.stderr, /^memstore: Cannot store to none\/x: there is no directory \/.*\/none\n$/);
  }));

Deno.test("memstore send reaches commands of the host's own", () =>
  hosted(async (run, path) => {
    assert.deepEqual(await run("send", '["rename","users","alice","bob"]'), '["users", "alice", "bob"]\n');
    const { code, stderr } = await memstore("-e", path, "rename", "users", "alice", "bob");
    assert.deepEqual(code, 2);
    assert.match(
      stderr,
      /^memstore: Cannot run: there is no command of this name: received rename \(.*: memstore send '\["rename"\]'\)\nusage: /,
    );
  }));

Deno.test("memstore tells an error of the host in one line on stderr, with exit 1", () =>
  hosted(async (_, path) => {
    const { code, stdout, stderr } = await memstore("-e", path, "send", '["no\\u001bne"]');
    assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
    assert.deepEqual(stderr, "memstore: Cannot find a command of this name: received no\\u001bne\n");
  }));

Deno.test("memstore says at once where no host is, and waits for one with --wait", async () => {
  await using dir = new TempDir();
  const path = `${dir.path}/a.sock`;
  const start = performance.now();
  const { code, stdout, stderr } = await memstore("get", "t", "k", "-e", path);
  // (Nearly all of it is the time that the process takes to start; the timeout is 5 s.)
  assert.ok(performance.now() - start < 4000);
  assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
  assert.ok(stderr.startsWith(`memstore: Cannot get: no host at ipc://${path}`), stderr);
  assert.ok(stderr.endsWith(`: start one with: memstore serve ${path}\n`), stderr);
  const waited = performance.now();
  assert.match((await memstore("get", "t", "k", "-w", "500ms", "-e", path)).stderr, /no host at/);
  assert.ok(performance.now() - waited > 500);
  const waiting = memstore("ping", "--wait", "1m", "-e", path);
  await using host = new ServeProcess(path);
  await host.line();
  assert.deepEqual(await waiting, { code: 0, stdout: '"pong"\n', stderr: "" });
});

Deno.test("memstore takes durations with a unit, and plain numbers as seconds", () =>
  hosted(async (_, path, store) => {
    store.command("sleep", {
      args: [],
      help: "Replies after 2 s.",
      run: () => new Promise((resolve) => setTimeout(() => resolve("late"), 2000)),
    });
    for (const [timeout, text] of [["100ms", "100 ms"], ["0.1s", "100 ms"], [".1", "100 ms"]]) {
      const { code, stderr } = await memstore("-t", timeout, "-e", path, "send", '["sleep"]');
      if (timeout === ".1") assert.equal(code, 2);
      else assert.ok(code === 1 && stderr.includes(`within ${text}`), stderr);
    }
    const { stderr } = await memstore("-t", "0.1", "-e", path, "send", '["sleep"]');
    assert.match(stderr, /within 100 ms/);
    assert.equal(await printed("-t", "1m", "-e", path, "send", '["sleep"]'), '"late"\n');
  }));

Deno.test("memstore says how to get in parts what is too large for a reply", async () => {
  await using dir = new TempDir();
  const path = `${dir.path}/a.sock`;
  await using store = new MemStore(path, { limits: { message: 2000 } });
  await store.start();
  await using client = new MemStoreClient(path);
  for (let i = 0; i < 100; i++) await client.set("t", `key ${i}`, "x".repeat(30));
  for (let i = 0; i < 100; i++) await client.push("s", `member ${i} `.padEnd(40));
  for (
    const [name, scan] of [["all", "scan"], ["list_set", "scan_set"]]
  ) {
    const { code, stderr } = await memstore("-e", path, name, name === "all" ? "t" : "s");
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`^memstore: Cannot .*: ${scan} returns it in pages\n$`));
  }
});

const USAGE_ERRORS: [why: RegExp, usage: string, args: string[]][] = [
  [/^Cannot get: missing required argument 'key'$/, "memstore get [options] <table> <key>", ["get", "t"]],
  [/^Cannot get: too many arguments/, "memstore get [options] <table> <key>", ["get", "t", "k", "v"]],
  [/^Cannot get: unknown option '--jso'/, "memstore get [options] <table> <key>", ["get", "t", "k", "--jso"]],
  [/^Cannot send: a JSON array.* received \{$/, "memstore send [options] <command>", ["send", "{"]],
  [/^Cannot send: a JSON array.* received \[1\]$/, "memstore send [options] <command>", ["send", "[1]"]],
  [/^Cannot wait: it must be at least 1ms: received 0$/, "memstore [options] [command]", ["-t", "0", "ping"]],
  [/^Cannot wait: a duration such as .* is needed: received soon$/, "memstore [options] [command]", [
    "-t",
    "soon",
    "ping",
  ]],
  [/^Cannot wait: a duration such as .* is needed: received 3x$/, "memstore [options] [command]", [
    "-w",
    "3x",
    "ping",
  ]],
  [/^Cannot parse endpoint: the port is missing/, "memstore [options] [command]", [
    "-e",
    "tcp://foo",
    "ping",
  ]],
  [
    /^Cannot run: there is no command of this name: received version \(/,
    "memstore [options] [command]",
    ["version"],
  ],
  [/^Cannot run: .* received gett, did you mean get\? \(/, "memstore [options] [command]", [
    "gett",
    "t",
    "k",
  ]],
  [/^Cannot read a number: .*received 1e400$/, "memstore set [options] <table> <key> <value> [seconds]", [
    "set",
    "t",
    "k",
    "[1e400]",
  ]],
  [/^Cannot read a number: .*received -1e400$/, "memstore send [options] <command>", [
    "send",
    '["set", "t", "k", -1e400]',
  ]],
  [/^Cannot show help: .* received nope$/, "memstore help [options] [command]", ["help", "nope"]],
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
  const heading = (name: string) =>
    help.slice(0, help.search(new RegExp(`^  ${name}\\b`, "m"))).match(/^\w+:$/gm)?.at(-1);
  assert.deepEqual(
    ["get", "tables", "push", "union", "sets", "ping", "store"].map(heading),
    ["Tables:", "Tables:", "Sets:", "Sets:", "Sets:", "Host:", "State:"],
  );
  assert.match(
    await printed("help", "get"),
    /^Usage: memstore get \[options\] <table> <key>\n\nReturns the value of a key/,
  );
  assert.match(await printed("help", "store"), /relative to the host's data directory/);
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

Deno.test("a number that does not fit is refused, and is not taken for infinity, 0 or a string", () => {
  for (const text of ["1e400", "-1e400", "1e-400", "0.001e-400", '{"a":[1E+400]}', "9".repeat(400) + ".5"]) {
    assert.throws(() => parseArgument(text), /^RangeError: Cannot read a number: .*received/, text);
    assert.throws(() => parseJson(text), RangeError);
  }
  const fits: [string, unknown][] = [["0e999", 0], ["-0.000", -0], ["5e-324", 5e-324], ['"1e400"', "1e400"]];
  for (const [text, value] of fits) assert.ok(Object.is(parseArgument(text), value), text);
});

Deno.test("an integer of more than 64 bits is refused where it is sent, with all its digits kept until then", () =>
  hosted(async (_, path) => {
    const { code, stderr } = await memstore("-e", path, "set", "t", "k", "1" + "0".repeat(30));
    assert.equal(code, 1);
    assert.match(stderr, /^memstore: Cannot encode .*10{30}.*\n$/);
  }));

Deno.test("text of others is visible on a terminal: C0, C1 and bidirectional controls", () => {
  const orders = [
    "\0",
    "\x1b",
    "\x7f",
    "\x80",
    "\x9b",
    "\x9f",
    "\u061c",
    "\u200e",
    "\u202e",
    "\u2066",
    "\u2069",
  ];
  for (const order of orders) {
    const code = `\\u${order.charCodeAt(0).toString(16).padStart(4, "0")}`;
    assert.equal(visible(`a${order}b`), `a${code}b`);
    assert.equal(toLine({ [order]: [order] }), `{"${code}":["${code}"]}`);
    assert.equal(toText(order), `"${code}"`);
    assert.equal(typed(order, ""), `"${code}"`);
    assert.equal(typed(`a${order}`, "a"), `"a${code}"`);
  }
  assert.equal(visible("a\r\n\tb é 😀"), "a\\r\\n\\tb é 😀");
});

Deno.test("a command's progress is that of its own transfer", () => {
  assert.deepEqual(transferOf(["store", "a.msgpack", true]), { what: "store", where: "a.msgpack" });
  assert.deepEqual(transferOf(["restore", "a.msgpack"]), { what: "restore", where: "a.msgpack" });
  assert.deepEqual(transferOf(["s3store", "b", "k/l"]), { what: "store", where: "s3://b/k/l" });
  assert.deepEqual(transferOf(["s3restore", "b", "k"]), { what: "restore", where: "s3://b/k" });
  assert.equal(transferOf(["get", "t", "k"]), undefined);
});

Deno.test("what only looks like bytes or an extension stays an object", () => {
  for (
    const text of [
      '{"$bytes":"?"}',
      '{"$bytes":1}',
      '{"$bytes":"","x":1}',
      '{"name":"AAAA"}',
      '{"name":[1,"AAAA"]}',
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
  // With its indent and its comma, an item fills the line or is one too long.
  const item = "x".repeat(73);
  assert.deepEqual(toText([[item], 1]), `[\n  ["${item}"],\n  1\n]`);
  assert.deepEqual(toText([[`${item}x`], 1]), `[\n  [\n    "${item}x"\n  ],\n  1\n]`);
});
