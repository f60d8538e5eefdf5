/**
 * The prompt: how a line is read, what Tab proposes, and the whole of it, as a process that reads lines
 * and as a process on a terminal (which `script` of util-linux makes).
 */

import assert from "node:assert/strict";
import { MemStoreClient } from "../client.ts";
import { MemStore } from "../server.ts";
import { complete } from "../terminal/complete.ts";
import { appendHistory, loadHistory, MAX_LINES } from "../terminal/history.ts";
import { textOf, typed, valueOf, words } from "../terminal/words.ts";
import manifest from "../deno.json" with { type: "json" };
import { TempDir } from "./host.ts";

const CLI = new URL("../cli.ts", import.meta.url).pathname;
/** Runs the command line with the permissions of the compiled program. */
const DENO_RUN = [
  "run",
  "--quiet",
  ...manifest.tasks.compile.command.split(" ").filter((word) => /^--(allow|no-prompt)/.test(word)),
  CLI,
];

/** A host in this process. */
class Hosted implements AsyncDisposable {
  readonly directory = new TempDir();
  readonly path = `${this.directory.path}/a.sock`;
  readonly store = new MemStore(this.path);
  readonly client = new MemStoreClient(this.path);

  static async start(): Promise<Hosted> {
    const hosted = new Hosted();
    hosted.store.command("evil", { args: ["a\x9bb"], help: "Clears\x1b[2J it.", run: () => null });
    hosted.store.command("grow", { args: ["table", "key"], help: "Grows it.", run: () => "grown" });
    await hosted.store.start();
    return hosted;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
    await this.store.stop();
    await this.directory[Symbol.asyncDispose]();
  }
}

/** Gives lines to `memstore repl`, whose stdin is no terminal. */
async function piped(
  path: string,
  lines: string,
  ...flags: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...DENO_RUN, "repl", "-e", path, ...flags],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(lines));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test("memstore repl reads lines quietly where stdin is no terminal", async () => {
  await using hosted = await Hosted.start();
  const lines = 'set users "alice b" {"age": 31}\n\nget users "alice b"\n["grow", "t", "k"]\nkeys users';
  assert.deepEqual(await piped(hosted.path, lines), {
    code: 0,
    stdout: '1\n{"age": 31}\n"grown"\n["alice b"]\n',
    stderr: "",
  });
});

Deno.test("memstore repl goes on after errors, and its exit code tells of them", async () => {
  await using hosted = await Hosted.start();
  const { code, stdout, stderr } = await piped(
    hosted.path,
    'nope\nset t k {"a\n[1]\nhelp nope\nping\nexit\nnope',
  );
  assert.deepEqual({ code, stdout }, { code: 1, stdout: '"pong"\n' });
  assert.deepEqual(stderr.split("\n"), [
    "memstore: Cannot find a command of this name: received nope",
    'memstore: Cannot read the line: a word is not closed: received {"a',
    'memstore: Cannot read the line: a JSON array ["name", …] is needed: received [1]',
    "memstore: Cannot show help: there is no command of this name: received nope",
    "",
  ]);
});

Deno.test("memstore repl takes many lines in their order", async () => {
  await using hosted = await Hosted.start();
  const lines = Array.from({ length: 2000 }, (_, i) => `set t k ${i}\n`).join("");
  const { code, stdout } = await piped(hosted.path, `${lines}get t k\nsize t\n`);
  assert.deepEqual({ code, stdout }, { code: 0, stdout: "1\n".repeat(2000) + "1999\n1\n" });
});

Deno.test({
  name: "memstore repl sends many lines through a lane, unless a flag or the settings say no",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await using hosted = await Hosted.start();
    const lanes = async (...flags: string[]) =>
      JSON.parse((await piped(hosted.path, "stats\n", ...flags)).stdout).lanes;
    assert.equal(await lanes(), 1);
    assert.equal(await lanes("--no-lane"), 0);
    const path = `${hosted.directory.path}/m.json`;
    await Deno.writeTextFile(path, '{"client": {"lane": false}}');
    assert.equal(await lanes("--config", path), 0);
  },
});

Deno.test("help at the prompt lists the commands, those of the host's own too, or tells of one", async () => {
  await using hosted = await Hosted.start();
  const { stdout } = await piped(hosted.path, "help");
  for (
    const line of [
      /^get <table> <key> +Returns the value of a key/m,
      /^grow <table> <key> +Grows it\.$/m,
      /^exit +Leaves/m,
    ]
  ) {
    assert.match(stdout, line);
  }
  assert.equal((await piped(hosted.path, "help grow")).stdout, "grow <table> <key>  Grows it.\n");
  // What the host says of its own commands gives no orders to the terminal.
  const evil = (await piped(hosted.path, "help evil")).stdout;
  assert.equal(evil, "evil <a\\u009bb>  Clears\\u001b[2J it.\n");
});

const hasScript = Deno.build.os === "linux" &&
  await new Deno.Command("script", { args: ["--version"], stdout: "null" }).output().then(
    () => true,
    () => false,
  );

/** `memstore repl` on a terminal. */
class Terminal implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #screen = "";

  constructor(path: string, env: Record<string, string>) {
    const command = [Deno.execPath(), ...DENO_RUN, "repl", "-t", "1", "-e", path].join(" ");
    this.#child = new Deno.Command("script", {
      args: ["--quiet", "--return", "--command", command, "/dev/null"],
      env: { ...env, TERM: "xterm" },
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#reader = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  async type(keys: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(keys));
  }

  /** Waits until a text is on the screen, after what was waited for before. Fails after a minute. */
  async shows(text: string): Promise<void> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#reader.cancel();
    }, 60_000);
    try {
      while (!this.#screen.includes(text)) {
        const { value, done } = await this.#reader.read();
        if (done) {
          const what = late ? "The screen does not show" : "The prompt ended before";
          throw new Error(`${what} ${JSON.stringify(text)}: ${JSON.stringify(this.#screen)}`);
        }
        this.#screen += value;
      }
    } finally {
      clearTimeout(timer);
    }
    this.#screen = this.#screen.slice(this.#screen.indexOf(text) + text.length);
  }

  /** Its exit code. */
  async end(): Promise<number> {
    while (!(await this.#reader.read()).done);
    return (await this.#child.status).code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#writer.abort().catch(() => {});
    await this.#reader.cancel();
    await this.#child.status;
  }
}

Deno.test({
  name: "memstore store on a terminal shows the progress of its own store, not that of another client" +
    (hasScript ? "" : " (NOT RUN: it needs util-linux's script)"),
  ignore: !hasScript,
  fn: async () => {
    await using directory = new TempDir();
    const path = `${directory.path}/a.sock`;
    await using store = new MemStore(path, { dataDirectory: directory.path });
    await store.start();
    await using client = new MemStoreClient(path);
    // Takes a while: gzip does not see what repeats after 64 KB.
    const block = crypto.getRandomValues(new Uint8Array(1 << 16));
    const value = new Uint8Array(1 << 23);
    for (let at = 0; at < value.length; at += block.length) value.set(block, at);
    for (let i = 0; i < 5; i++) await client.set("t", i, value);
    const command = [Deno.execPath(), ...DENO_RUN, "store", "mine.gz", "-e", path].join(" ");
    const child = new Deno.Command("script", {
      args: ["--quiet", "--return", "--command", command, "/dev/null"],
      env: { TERM: "xterm" },
      stdin: "null",
      stdout: "piped",
    }).spawn();
    const output = child.stdout.text();
    let ended = false;
    const status = child.status.finally(() => ended = true);
    while (!ended && (await client.transfers()).length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await client.store("other\x1b[2J.gz", { timeout: 60_000 });
    assert.equal((await status).code, 0);
    const screen = await output;
    assert.match(screen, /store mine\.gz .* %/);
    assert.doesNotMatch(screen, /other/);
  },
});

const [UP, CTRL_C, CTRL_D] = ["\x1b[A", "\x03", "\x04"];

Deno.test({
  name:
    "memstore repl on a terminal completes with Tab, clears with Ctrl-C, recalls with Up, leaves with Ctrl-D" +
    (hasScript ? "" : " (NOT RUN: it needs util-linux's script)"),
  ignore: !hasScript,
  fn: async () => {
    await using hosted = await Hosted.start();
    await hosted.client.set("users", "alice", 31);
    await using terminal = new Terminal(hosted.path, { XDG_STATE_HOME: hosted.directory.path });
    await terminal.shows("memstore> ");
    await terminal.type("get us");
    await terminal.shows("get us");
    await terminal.type("\t");
    // (The host, which is in this process, is busy: the prompt waits for it.)
    for (const end = performance.now() + 800; performance.now() < end;);
    await terminal.shows("ers ");
    await terminal.type("\t");
    await terminal.shows("alice ");
    await terminal.type("\r");
    await terminal.shows("31\r\n");
    await terminal.shows("memstore> ");
    await terminal.type("nonsense");
    await terminal.shows("nonsense");
    await terminal.type(CTRL_C);
    await terminal.shows("memstore> ");
    await terminal.type("size users\r");
    await terminal.shows("1\r\n");
    await terminal.shows("memstore> ");
    await terminal.type(UP);
    await terminal.shows("size users");
    await terminal.type(UP);
    await terminal.shows("get users alice");
    await hosted.store.stop();
    await terminal.type("\r");
    // (Whether it is known already that the host has gone, or is found out now.)
    await terminal.shows("memstore: Cannot get: ");
    await terminal.shows("memstore> ");
    await terminal.type(CTRL_D);
    assert.equal(await terminal.end(), 0);

    const path = `${hosted.directory.path}/memstore/history`;
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    assert.deepEqual(loadHistory(path).map((line) => line.trim()), [
      "get users alice",
      "size users",
      "get users alice",
    ]);
  },
});

Deno.test("Tab proposes commands, tables, sets, keys and members where they belong", async () => {
  await using hosted = await Hosted.start();
  const { client } = hosted;
  await client.batch([["set", "users", "alice", 1], ["set", "users", "bob b", 1], ["set", "users", 7, 1]]);
  await client.batch([["set", "ulcers", 1, 1], ["push", "online", "alice"]]);
  await client.batch([["set", "evil\x1b[2J", "k\x9b", 1], ["set", "evil\u202e", "k", 1]]);
  const source = { commands: () => client.commands(), send: (command: [string]) => client.send(command) };
  const cases: [line: string, candidates: string[], begun: string][] = [
    ["gr", ["grow "], "gr"],
    ["set_s", ["set_size "], "set_s"],
    ["get u", ["ulcers", "users"], "u"],
    ["get us", ["users "], "us"],
    ['get "us', ['"users" '], '"us'],
    ['get "ev', ['"evil\\u001b[2J"', '"evil\\u202e"'], '"ev'],
    ['get "evil\\u001b[2J" ', ['"k\\u009b" '], ""],
    ["get ev", [], "ev"],
    ["grow users ", ['"bob b"', "7", "alice"], ""],
    ["get users al", ["alice "], "al"],
    ["get  'users' al", ["alice "], "al"],
    ["get users alice ", [], ""],
    ["set users alice ", [], ""],
    ["pull ", ["online "], ""],
    ["pull online ", ["alice "], ""],
    ["push online ", ["alice "], ""],
    ["help grow", ["grow "], "grow"],
    ["nope ", [], ""],
    ['get {"a ', [], '{"a '],
  ];
  for (const [line, ...expected] of cases) assert.deepEqual(await complete(line, source), expected, line);
});

Deno.test("Tab proposes nothing where the host does not answer, nor the keys of a large table", async () => {
  const commands = () => Promise.resolve([{ name: "get", args: ["table", "key"], help: "" }]);
  const away = { commands, send: () => Promise.reject(new Error("away")) };
  assert.deepEqual(await complete("get ", away), [[], ""]);
  const large = {
    commands,
    send: ([name]: readonly unknown[]) => Promise.resolve(name === "size" ? 1001 : ["k"]),
  };
  assert.deepEqual(await complete("get t ", large), [[], ""]);
});

Deno.test("a line falls into words by spaces, quotes and brackets", () => {
  const cases: [line: string, values: unknown[]][] = [
    ["", []],
    ["  get  users\talice ", ["get", "users", "alice"]],
    ['set t "a \\" b" "31"', ["set", "t", 'a " b', "31"]],
    [`set t '{"a": 1}' 'it is' '31'`, ["set", "t", { a: 1 }, "it is", 31]],
    ['x {"a": ["]", {"b": "}"}]} [1, [2]]', ["x", { a: ["]", { b: "}" }] }, [1, [2]]]],
    ["x -5 it's a\"b 18446744073709551615", ["x", -5, "it's", 'a"b', 18446744073709551615n]],
  ];
  for (const [line, values] of cases) assert.deepEqual(words(line).map(valueOf), values, line);
  assert.deepEqual(words(`5 "5" '5'`).map(textOf), ["5", "5", "5"]);
  for (const line of ['"a', "'a", "{", '[1, "]', "{a}", "[1}"]) {
    assert.throws(() => words(line).map(valueOf), /^SyntaxError: Cannot read the line: .*received/, line);
  }
});

Deno.test("what Tab types reads back as the same value", () => {
  for (
    const value of ["users", "a b", "31", "null", "'x", "{", "", 31, -5n, { a: [1] }, "é", 2n ** 64n - 1n]
  ) {
    for (const begun of ["", '"']) {
      const [word, ...rest] = words(typed(value, begun));
      assert.deepEqual([valueOf(word), rest.length], [
        typeof value === "bigint" && value < 9 ? Number(value) : value,
        0,
      ]);
    }
  }
});

Deno.test("history keeps the last lines, for its owner alone", async () => {
  await using directory = new TempDir();
  const path = `${directory.path}/new/history`;
  assert.deepEqual(loadHistory(path), []);
  for (let i = 0; i < MAX_LINES + 5; i++) appendHistory(path, `get t ${i}`);
  assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
  const lines = loadHistory(path);
  assert.deepEqual([lines.length, lines[0], lines.at(-1)], [MAX_LINES, "get t 5", `get t ${MAX_LINES + 4}`]);
  assert.equal((await Deno.readTextFile(path)).split("\n").length, MAX_LINES + 1);
  // A line that would give orders to the terminal is not recalled.
  Deno.writeTextFileSync(path, "get t 1\nget t \x1b[2J\nget t \x9b\nget t é\n");
  assert.deepEqual(loadHistory(path), ["get t 1", "get t é"]);
});
