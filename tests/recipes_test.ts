/** The programs in docs/recipes.md run as they are printed, and print what they say. */

import assert from "node:assert/strict";
import { TempDir } from "./host.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const text = await Deno.readTextFile(`${ROOT}docs/recipes.md`);
const blocks = Array.from(text.matchAll(/^## ([^\n]*)$|^```ts\n(.*?)^```$/gms));
assert.ok(blocks.length > 5);

let heading = "";
for (const [, title, code] of blocks) {
  if (title !== undefined) {
    heading = title;
    continue;
  }
  Deno.test(`recipe: ${heading}`, async () => {
    await using directory = new TempDir();
    await Deno.chmod(directory.path, 0o700);
    const path = `${directory.path}/recipe.ts`;
    await Deno.writeTextFile(path, code);
    const options = { env: { XDG_RUNTIME_DIR: directory.path, NO_COLOR: "1" } };
    const deno = (task: string, ...flags: string[]) => {
      const args = [task, "--quiet", `--config=${ROOT}deno.json`, ...flags, path];
      return new Deno.Command(Deno.execPath(), { args, ...options }).output();
    };
    // (With `run --check`, each worker of a program would check it again.)
    const check = await deno("check");
    assert.ok(check.success, new TextDecoder().decode(check.stderr));
    const { stdout, stderr } = await deno("run", "--no-check", "--allow-all");
    const printed = new TextDecoder().decode(stdout).split("\n");
    // What stands in a comment behind a `console.log`, or on lines of its own behind one.
    const promised = Array.from(code.matchAll(/console\.log\(.*\); \/\/ (.*)$|^\/\/ (true|false)$/gm))
      .map(([, behind, below]) => behind ?? below);
    assert.ok(promised.length > 0);
    let from = 0;
    for (const line of promised) {
      from = printed.indexOf(line, from) + 1;
      assert.ok(from > 0, `it does not print ${line}, but ${printed}${new TextDecoder().decode(stderr)}`);
    }
  });
}
