/**
 * The README, run as it stands: its shell session, its TypeScript and its Python do what it says, against a
 * real host and with the permissions that it names; its reference is up to date, and what it points at is
 * there.
 */

import assert from "node:assert/strict";
import manifest from "../deno.json" with { type: "json" };
import { render } from "../tools/readme.ts";
import { TempDir } from "./host.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const PYTHON = "/usr/bin/python3";
const DENO = Deno.execPath();
const readme = await Deno.readTextFile(`${ROOT}README.md`);

/** The code blocks of a language. */
function blocks(language: string): string[] {
  return Array.from(
    readme.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms")),
    ([, text]) => text,
  );
}

/** The permissions that the README names for a program. */
function permissions(of: "host" | "client"): string[] {
  const line = readme.split("\n").find((line) => line.startsWith("deno run ") && line.endsWith(` ${of}.ts`));
  assert.ok(line, `the README names no permissions for ${of}.ts`);
  return line.split(" ").filter((word) => word.startsWith("--"));
}

/** The lines that code says it prints: the comments behind its `console.log` calls. */
function promised(code: string): string[] {
  return Array.from(code.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm), ([, text]) => text);
}

/** Output as the README may show it: times and the runtime directory differ from machine to machine. */
function anywhere(text: string): string {
  return text.replace(/\["(\w+)", [\d.e-]+\]/g, '["$1", 0]').replace(/ipc:\/\/.*(?=\/memstore\/)/g, "ipc://");
}

/** A host of the name `memstore` in a runtime directory of its own, and a program `memstore` on the PATH. */
class Setting implements AsyncDisposable {
  readonly #directory = new TempDir();
  readonly path = this.#directory.path;
  /** What the host said when it was ready. */
  ready = "";
  #host: Deno.ChildProcess | undefined;

  static async start(): Promise<Setting> {
    const setting = new Setting();
    Deno.mkdirSync(`${setting.path}/bin`);
    const flags = manifest.tasks.compile.command.split(" ").filter((word) =>
      /^--(allow|no-prompt)/.test(word)
    );
    const line = [DENO, "run", "--quiet", ...flags, `${ROOT}cli.ts`].map((word) => `'${word}'`).join(" ");
    Deno.writeTextFileSync(`${setting.path}/bin/memstore`, `#!/bin/sh\nexec ${line} "$@"\n`, { mode: 0o755 });
    setting.#host = new Deno.Command(`${setting.path}/bin/memstore`, {
      args: ["serve"],
      ...setting.#options,
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = setting.#host.stdout.pipeThrough(new TextDecoderStream()).getReader();
    setting.ready = (await reader.read()).value ?? "";
    await reader.cancel();
    return setting;
  }

  get #options() {
    return {
      cwd: this.path,
      env: {
        XDG_RUNTIME_DIR: this.path,
        NO_COLOR: "1",
        PATH: `${this.path}/bin:${Deno.env.get("PATH")}`,
      },
      stdin: "null" as const,
    };
  }

  /** Runs a program to its end: what it wrote to stdout. */
  async run(program: string, ...args: string[]): Promise<string> {
    const { success, stdout, stderr } = await new Deno.Command(program, {
      args,
      ...this.#options,
      signal: AbortSignal.timeout(60_000),
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    return new TextDecoder().decode(stdout);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#host?.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.#host?.status;
    await this.#directory[Symbol.asyncDispose]();
  }
}

Deno.test("the README's command reference is up to date (deno task docs writes it)", async () => {
  assert.equal(readme, render(readme, await Deno.readTextFile(`${ROOT}commands/list.ts`)));
});

Deno.test("the README names tasks and files that there are", async () => {
  const tasks = Array.from(readme.matchAll(/\btask ([a-z]+)/g), ([, name]) => name);
  for (const task of tasks) assert.ok(task in manifest.tasks, `there is no task ${task}`);
  const links = Array.from(readme.matchAll(/\]\(([^)#:]+)\)/g), ([, path]) => path);
  assert.ok(tasks.length > 0 && links.length > 0);
  for (const path of links) await Deno.stat(ROOT + path);
});

Deno.test("the README's TypeScript prints what it says, with the permissions that it names", async (t) => {
  await using setting = await Setting.start();
  for (const [i, code] of blocks("ts").entries()) {
    const kind = /new MemStore\(/.test(code) ? "host" : "client";
    await t.step(`block ${i + 1}, as a ${kind}`, async () => {
      const path = `${setting.path}/block_${i}.ts`;
      await Deno.writeTextFile(path, code);
      const flags = ["--quiet", "--no-prompt", "--check", `--config=${ROOT}deno.json`];
      const printed = (await setting.run(DENO, "run", ...flags, ...permissions(kind), path)).split("\n");
      // It may print more than it says; what it says comes in this order.
      let from = 0;
      for (const line of promised(code)) {
        from = printed.indexOf(line, from) + 1;
        assert.ok(from > 0, `it does not print ${line}, but ${printed.join("\n")}`);
      }
    });
  }
});

Deno.test("a client needs no more than the permissions that the README names", async () => {
  await using setting = await Setting.start();
  const path = `${setting.path}/client.ts`;
  const code = 'import { MemStoreClient } from "@memstore/memstore";\n' +
    "await using client = new MemStoreClient();\nconsole.log(await client.ping());\n";
  await Deno.writeTextFile(path, code);
  const flags = ["--quiet", "--no-prompt", `--config=${ROOT}deno.json`, ...permissions("client")];
  assert.equal(await setting.run(DENO, "run", ...flags, path), "pong\n");
});

Deno.test("the README's shell session prints what it says", async (t) => {
  await using setting = await Setting.start();
  for (const turn of blocks("console").join("").split(/^\$ /m).slice(1)) {
    const [command] = turn.split("\n", 1);
    await t.step(command, async () => {
      // The host is running already.
      const serves = /^memstore serve.*&$/.test(command);
      // A terminal shows both streams.
      const printed = serves ? setting.ready : await setting.run("/bin/sh", "-c", `{ ${command}\n} 2>&1`);
      assert.equal(anywhere(printed), anywhere(turn.slice(command.length + 1)));
    });
  }
});

const python = await new Deno.Command(PYTHON, { args: ["-c", "import zmq, msgpack"], stderr: "null" })
  .output()
  .then(({ success }) => success, () => false);

Deno.test({
  name: "the README's Python sets and gets" +
    (python ? "" : " [ignored: python3-zmq or python3-msgpack is not installed]"),
  // In CI they are installed: there their absence is a failure.
  ignore: !python && Deno.env.get("CI") === undefined,
  async fn() {
    await using setting = await Setting.start();
    const [code, ...more] = blocks("python");
    assert.equal(more.length, 0);
    await Deno.writeTextFile(`${setting.path}/first.py`, code);
    assert.equal(await setting.run(PYTHON, `${setting.path}/first.py`), "{'age': 27}\n");
  },
});
