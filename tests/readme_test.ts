/**
 * README.md and docs/: every block of code runs as it is printed, against a real host, and prints what it says; the
 * references are up to date; and what is linked exists. (docs/recipes.md and docs/cluster.md have tests of their own.)
 *
 * Blocks run in a sandbox that stands in for the reader's machine. What it replaces: the runtime directory, addresses of
 * the network, and where software comes from: `jsr:@memstore/memstore`, `npx deno`, and a release are this checkout.
 */

import assert from "node:assert/strict";
import manifest from "../deno.json" with { type: "json" };
import { render } from "../tools/docs.ts";
import { TempDir } from "./host.ts";
import { freePorts, testWithRedis } from "./redis.ts";
import { CREDENTIALS, S3Server } from "./s3_server.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const PYTHON = "/usr/bin/python3";
const DENO = Deno.execPath();
const readme = await Deno.readTextFile(`${ROOT}README.md`);

/** A block of code of a page. */
interface Block {
  page: string;
  line: number;
  language: string;
  code: string;
}

const blocks: Block[] = ["README.md", "docs/commands.md", "docs/settings.md"].flatMap((page) => {
  const text = Deno.readTextFileSync(ROOT + page);
  return Array.from(text.matchAll(/^```(\w+)\n(.*?)^```$/gms), ({ index, 1: language, 2: code }) => {
    return { page, line: text.slice(0, index).split("\n").length, language, code };
  });
});

const inLanguage = (...languages: string[]) => blocks.filter(({ language }) => languages.includes(language));
const titleOf = ({ page, line }: Block) => `${page}, line ${line}`;

/** The permissions that the README names for a program. */
function permissions(of: "host" | "client"): string[] {
  const line = readme.split("\n").find((line) => line.startsWith("deno run ") && line.endsWith(` ${of}.ts`));
  assert.ok(line, `the README names no permissions for ${of}.ts`);
  return line.split(" ").filter((word) => word.startsWith("--"));
}

/** Fails unless a program printed what its comments behind `console.log` or `print` say, in this order. */
function assertPrinted({ code }: Block, output: string): void {
  const promised = Array.from(
    code.matchAll(/^ *(?:console\.log|print|.* console\.log)\(.*\);? +(?:\/\/|#) (.*)$/gm),
  );
  assert.ok(promised.length > 0, "the block says nothing of what it prints");
  const printed = output.split("\n");
  let from = 0;
  for (const [, line] of promised) {
    from = printed.indexOf(line, from) + 1;
    assert.ok(from > 0, `it does not print ${line}, but ${output}`);
  }
}

/** Output as a page may show it: times and the runtime directory differ from machine to machine. */
function anywhere(text: string): string {
  return text.replace(/\["(\w+)", [\d.e-]+\]/g, '["$1", 0]').replace(/ipc:\/\/.*(?=\/memstore\/)/g, "ipc://");
}

/** The flags with which the executable is compiled. */
const EXECUTABLE = manifest.tasks.compile.command.split(" ").filter((word) =>
  /^--(allow|no-prompt|ignore-env)/.test(word)
);

/** `deno`, for which `jsr:@memstore/memstore` is this checkout. `deno add` only checks the name of the package. */
const DENO_SHIM = `
if [ "$1" = add ]; then test "$2" = "jsr:${manifest.name}"; exit; fi
for word; do
  shift
  case "$word" in
    jsr:${manifest.name}/cli) set -- "$@" --no-lock "--config=${ROOT}deno.json" "${ROOT}cli.ts" ;;
    *.ts) set -- "$@" --no-lock "--config=${ROOT}deno.json" "$word" ;;
    *) set -- "$@" "$word" ;;
  esac
done
exec "${DENO}" "$@"`;

/** `npx`, which has the Deno that runs these tests. */
const NPX_SHIM = `
test "$1 $2" = "-y deno@2.9.6" || exit 1
shift 2
exec "${DENO}" "$@"`;

/** The reader's machine. Its directory and all that runs in it end with the block. */
class Sandbox implements AsyncDisposable {
  readonly #directory = new TempDir();
  readonly path = this.#directory.path;
  readonly #running: Deno.ChildProcess[] = [];
  /** Variables of everything that runs. */
  readonly env: Record<string, string> = {
    XDG_RUNTIME_DIR: `${this.path}/run`,
    NO_COLOR: "1",
    DENO_INSTALL_ROOT: `${this.path}/installed`,
    PATH: `${this.path}/installed/bin:${this.path}/bin:${Deno.env.get("PATH")}`,
  };

  constructor() {
    Deno.mkdirSync(`${this.path}/bin`);
    Deno.mkdirSync(this.env.XDG_RUNTIME_DIR, { mode: 0o700 });
    const flags = EXECUTABLE.map((word) => `'${word}'`).join(" ");
    this.#write("memstore", `exec '${DENO}' run --quiet ${flags} '${ROOT}cli.ts' "$@"`);
    this.#write("deno", DENO_SHIM);
    this.#write("npx", NPX_SHIM);
  }

  #write(program: string, script: string): void {
    Deno.writeTextFileSync(`${this.path}/bin/${program}`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }

  /** Runs a line of shell to its end; resolves to what it wrote to stdout. */
  async run(line: string, cwd: string = this.path): Promise<string> {
    const { success, stdout, stderr } = await new Deno.Command("/bin/sh", {
      args: ["-c", line],
      cwd,
      env: this.env,
      stdin: "null",
      signal: AbortSignal.timeout(60_000),
    }).output();
    const printed = new TextDecoder().decode(stdout);
    assert.ok(success, `${line}: ${printed}${new TextDecoder().decode(stderr)}`);
    return printed;
  }

  /** Runs a line that starts a host; resolves to what the host prints when it is ready. */
  async serve(line = "memstore serve", cwd: string = this.path): Promise<string> {
    const host = new Deno.Command("/bin/sh", {
      args: ["-c", `exec ${line}`],
      cwd,
      env: this.env,
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#running.push(host);
    const reader = host.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const { value = "" } = await reader.read();
    await reader.cancel();
    assert.match(value, /^memstore ready on /, line);
    return value;
  }

  /** Stops the hosts, as Ctrl-C does. */
  async stop(): Promise<void> {
    for (const host of this.#running.splice(0)) {
      try {
        host.kill("SIGINT");
      } catch {
        // It has ended.
      }
      await host.status;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#directory[Symbol.asyncDispose]();
  }
}

Deno.test("the references in docs/ are up to date (deno task docs writes them)", async () => {
  for (const [path, { now, upToDate }] of await render()) assert.equal(now, upToDate, path);
});

Deno.test("the pages name tasks and files that exist", async () => {
  const paths = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"];
  for (const { name } of Deno.readDirSync(`${ROOT}docs`)) paths.push(`docs/${name}`);
  for (const path of paths) {
    const page = await Deno.readTextFile(ROOT + path);
    for (const [, task] of page.matchAll(/\bdeno(?:@[\d.]+)? task (?:--quiet )?([a-z]+)/g)) {
      assert.ok(task in manifest.tasks, `${path}: there is no task ${task}`);
    }
    for (const [, target, anchor] of page.matchAll(/\]\(([^)#:]*)(?:#([^)]*))?\)/g)) {
      const file = target === "" ? ROOT + path : new URL(target, `file://${ROOT}${path}`).pathname;
      await Deno.stat(file);
      if (anchor === undefined) continue;
      const headings = Array.from(
        (await Deno.readTextFile(file)).matchAll(/^#+ (.*)$/gm),
        ([, text]) => slug(text),
      );
      assert.ok(headings.includes(anchor), `${path}: ${target} has no heading #${anchor}`);
    }
  }
});

Deno.test("the files on the path of a command, which the README draws, exist", async () => {
  const [drawn] = blocks.filter(({ page, language }) => page === "README.md" && language === "text");
  const paths = Array.from(drawn.code.matchAll(/[\w/]+\/\w+\.ts/g), ([path]) => path);
  assert.ok(paths.length > 5);
  for (const path of paths) await Deno.stat(ROOT + path);
});

/** The anchor of a heading. */
function slug(heading: string): string {
  return heading.toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-");
}

Deno.test("every block of the pages is of a language that is run here", () => {
  const languages = new Set(blocks.map(({ language }) => language));
  assert.deepEqual([...languages].sort(), ["console", "js", "python", "sh", "text", "ts"]);
});

Deno.test("TypeScript in the pages prints what it says, with the permissions that the README names", async (t) => {
  {
    await using sandbox = new Sandbox();
    const paths = inLanguage("ts").map(({ code }, i) => {
      Deno.writeTextFileSync(`${sandbox.path}/block_${i}.ts`, code);
      return `block_${i}.ts`;
    });
    await sandbox.run(`'${DENO}' check --quiet --no-lock --config=${ROOT}deno.json ${paths.join(" ")}`);
  }
  for (const block of inLanguage("ts")) {
    const kind = /new MemStore\(/.test(block.code) ? "host" : "client";
    await t.step(`${titleOf(block)}, as a ${kind}`, async () => {
      await using sandbox = new Sandbox();
      await sandbox.serve();
      await Deno.writeTextFile(`${sandbox.path}/block.ts`, block.code);
      const flags = ["--quiet", "--no-prompt", ...permissions(kind)];
      assertPrinted(block, await sandbox.run(`deno run ${flags.join(" ")} block.ts`));
    });
  }
});

Deno.test("shell sessions in the pages print what they say", async (t) => {
  for (const page of new Set(inLanguage("console").map(({ page }) => page))) {
    await using sandbox = new Sandbox();
    const session = inLanguage("console").filter((block) => block.page === page).map(({ code }) => code).join(
      "",
    );
    if (!session.includes("memstore serve")) await sandbox.serve();
    for (const turn of session.split(/^\$ /m).slice(1)) {
      const [command] = turn.split("\n", 1);
      await t.step(`${page}: ${command}`, async () => {
        const [, served] = /^(memstore serve.*) &$/.exec(command) ?? [];
        // (A terminal shows both streams.)
        const printed = await (served ? sandbox.serve(served) : sandbox.run(`{ ${command}\n} 2>&1`));
        assert.equal(anywhere(printed), anywhere(turn.slice(command.length + 1)));
      });
    }
  }
});

Deno.test("shell commands in the pages succeed", async (t) => {
  for (const block of inLanguage("sh")) {
    await t.step(titleOf(block), async () => {
      // (It outlives the hosts, which store their state when they stop.)
      await using s3 = block.code.includes("s3") ? new S3Server() : null;
      await using sandbox = new Sandbox();
      if (s3) {
        Object.assign(sandbox.env, {
          MEMSTORE_S3_ENDPOINT: s3.endpoint,
          MEMSTORE_S3_REGION: "us-east-1",
          MEMSTORE_S3_FORCE_PATH_STYLE: "true",
          AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId,
          AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey,
        });
      }
      await prepare(sandbox, block.code);
      const lines = onThisMachine(block.code).split("\n").filter((line) => /^[^#]/.test(line));
      assert.ok(lines.length > 0);
      const serves = (line: string) => /^memstore serve|task start/.test(line);
      if (!lines.some(serves)) await sandbox.serve();
      for (const line of lines) {
        const cwd = line.includes(" task ") ? ROOT : sandbox.path;
        if (serves(line)) {
          await sandbox.stop();
          await sandbox.serve(line, cwd);
        } else {
          await sandbox.run(line, cwd);
        }
      }
    });
  }
});

testWithRedis("docs/cluster.md brings a newcomer to a running cluster, to its data, and back", async () => {
  let text = await Deno.readTextFile(`${ROOT}docs/cluster.md`);
  const ports = freePorts(6);
  for (const [i, port] of ["7101", "7102", "7103"].entries()) {
    text = text.replaceAll(`--port ${port}`, `--port ${port} --cluster-port ${ports[i + 3]}`);
    text = text.replaceAll(port, `${ports[i]}`);
  }
  const found = Array.from(
    text.matchAll(/^```(sh|console)\n(.*?)^```$/gms),
    ([, language, code]) => ({ language, code }),
  );
  const isLast = ({ code }: { code: string }) => code.includes("shutdown");
  await using sandbox = new Sandbox();
  await sandbox.serve();
  try {
    for (const { language, code } of [...found.filter((block) => !isLast(block)), ...found.filter(isLast)]) {
      const turns = language === "sh"
        ? code.trim().split("\n").map((command) => [command, ""])
        : code.split(/^\$ /m).slice(1).map((
          turn,
        ) => [turn.split("\n", 1)[0], turn.slice(turn.indexOf("\n") + 1)]);
      for (const [command, expected] of turns) {
        const [, served] = /^(memstore serve.*) &$/.exec(command) ?? [];
        const printed = await (served ? sandbox.serve(served) : sandbox.run(`{ ${command}\n} 2>&1`));
        if (language === "console") assert.equal(anywhere(printed), anywhere(expected), command);
      }
    }
  } finally {
    // (Also if it failed before: they are daemons.)
    for (const port of ports.slice(0, 3)) {
      await sandbox.run(`redis-cli -p ${port} shutdown nosave 2>&1 || true`);
    }
  }
});

/** Makes the files that a block begins with. */
async function prepare(sandbox: Sandbox, code: string): Promise<void> {
  if (code.includes("tar -xzf")) {
    const name = `memstore-v${manifest.version}-x86_64-linux.tar.gz`;
    await sandbox.run(`tar -czf ${name} -C bin memstore && sha256sum ${name} > ${name}.sha256`);
  }
  if (code.includes(" host.ts")) {
    const imports = `import { MemStore, MemStoreClient } from "${manifest.name}";\n`;
    const host = `await using store = new MemStore("other");\nawait store.start();\n`;
    const client = `await using client = new MemStoreClient();\nawait client.ping();\n`;
    await Deno.writeTextFile(`${sandbox.path}/host.ts`, imports + host);
    await Deno.writeTextFile(`${sandbox.path}/client.ts`, imports + client);
  }
}

/** Code whose addresses of the network are one of this machine, with a port that is free. */
function onThisMachine(code: string): string {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return code.replaceAll(/(0\.0\.0\.0|host\.example\.com):5757/g, `127.0.0.1:${listener.addr.port}`);
}

Deno.test("the README's Node program prints what it says", async () => {
  const [block, ...more] = inLanguage("js");
  assert.equal(more.length, 0);
  await using sandbox = new Sandbox();
  await sandbox.serve();
  // (The versions that this project uses, which Deno has in its cache.)
  const dependencies = Object.fromEntries(
    ["zeromq", "@msgpack/msgpack"].map((name) => [name, versionOf(name)]),
  );
  await Deno.writeTextFile(`${sandbox.path}/package.json`, JSON.stringify({ type: "module", dependencies }));
  await Deno.writeTextFile(`${sandbox.path}/block.js`, block.code);
  await sandbox.run(`deno install --quiet --node-modules-dir=auto`);
  assertPrinted(block, await sandbox.run("node block.js"));
});

function versionOf(name: string): string {
  const lock = JSON.parse(Deno.readTextFileSync(`${ROOT}tests/deno.lock`)) as {
    specifiers: Record<string, string>;
  };
  const found = Object.entries(lock.specifiers).find(([specifier]) => specifier.startsWith(`npm:${name}@`));
  assert.ok(found, `the lock file has no ${name}`);
  return found[1];
}

const hasPython = await new Deno.Command(PYTHON, { args: ["-c", "import zmq, msgpack"], stderr: "null" })
  .output()
  .then(({ success }) => success, () => false);

Deno.test({
  name: "the README's Python programs print what they say" +
    (hasPython ? "" : " [ignored: python3-zmq or python3-msgpack is not installed]"),
  // In CI they are installed: there their absence is a failure.
  ignore: !hasPython && Deno.env.get("CI") === undefined,
  async fn(t) {
    for (const block of inLanguage("python")) {
      await t.step(titleOf(block), async () => {
        await using sandbox = new Sandbox();
        await sandbox.serve();
        await Deno.writeTextFile(`${sandbox.path}/block.py`, block.code);
        assertPrinted(block, await sandbox.run(`${PYTHON} block.py`));
      });
    }
  },
});

Deno.test("the README's native Python client gives up on a host that does not answer, and goes on", async () => {
  const block = inLanguage("python").find(({ code }) => code.includes("DEALER"));
  assert.ok(block);
  await using sandbox = new Sandbox();
  await sandbox.serve();
  const rest = `
client = Client(timeout=0.0)
try:
    client.send("ping")
except MemStoreError as error:
    print(error.code)
client.timeout = 5.0
print(client.send("set", "users", 1, {2: 3}), client.send("get", "users", 1), client.send("get", "users", 2))
`;
  const [classes] = block.code.split("\nclient = ");
  await Deno.writeTextFile(`${sandbox.path}/timeout.py`, classes + rest);
  assert.equal(await sandbox.run(`${PYTHON} timeout.py`), "TIMEOUT\n1 {2: 3} None\n");
});
