/** What must stay true of the project itself: its layout, its package, its dependencies. */

import assert from "node:assert/strict";
import { posix } from "node:path";
import manifest from "../deno.json" with { type: "json" };

const ROOT = new URL("..", import.meta.url).pathname;

/** The TypeScript files of the program: its top level and its rooms, without tests, tools and benchmarks. */
function sources(): string[] {
  const found: string[] = [];
  const visit = (directory: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(ROOT + directory)) {
      const path = posix.join(directory, name);
      if (isDirectory && !NOT_ROOMS.includes(name) && !name.startsWith(".")) visit(path);
      else if (name.endsWith(".ts")) found.push(path);
    }
  };
  visit("");
  return found.sort();
}

const NOT_ROOMS = ["tests", "tools", "bench", "fuzz", "node_modules", "coverage"];

/** Of each file, what it imports. */
const graph = new Map(sources().map((path) => [path, importsOf(path)]));

/** The specifiers that a file imports, dynamic imports included, comments not. Relative ones are resolved. */
function importsOf(path: string): string[] {
  const code = Deno.readTextFileSync(ROOT + path).replace(/\/\*.*?\*\//gs, "");
  const statements = code.matchAll(/^(?:import|export)\b[^;"]*?\bfrom "([^"]+)"|^import "([^"]+)"/gm);
  const calls = code.matchAll(/\bimport\("([^"]+)"\)/g);
  return [...statements, ...calls].map(([, from, bare]) => from ?? bare)
    .map((specifier) => specifier.startsWith(".") ? posix.join(posix.dirname(path), specifier) : specifier);
}

/** The room of a file: its folder, or at the top level the file itself. */
function room(path: string): string {
  return path.includes("/") ? path.slice(0, path.indexOf("/") + 1) : path;
}

/** What each room may import of ours, beside itself: only what is below it. */
const BELOW: Record<string, string[]> = {
  "system/": [],
  "msgpack/": [],
  "transport/": ["msgpack/", "system/"],
  "auth/": ["transport/"],
  "commands/": ["auth/", "transport/"],
  "engine/": ["commands/", "auth/", "transport/", "msgpack/", "system/"],
  "state/": ["engine/", "commands/", "transport/", "msgpack/", "system/"],
  "host/": ["state/", "engine/", "commands/", "auth/", "transport/", "msgpack/", "system/"],
  "client/": ["commands/", "transport/", "msgpack/"],
  "client.ts": ["client/", "commands/", "auth/", "transport/"],
  "server.ts": ["host/", "state/", "engine/", "commands/", "auth/", "transport/", "system/", "deno.json"],
  "s3.ts": ["server.ts", "state/"],
  "mod.ts": [
    "s3.ts",
    "server.ts",
    "client.ts",
    "client/",
    "state/",
    "commands/",
    "auth/",
    "transport/",
    "msgpack/",
  ],
  "preload.ts": ["state/", "transport/"],
  "settings/": ["auth/", "transport/"],
  "terminal/": ["client.ts", "settings/", "state/", "commands/", "auth/", "transport/", "msgpack/"],
  "cli.ts": [
    "terminal/",
    "settings/",
    "server.ts",
    "client.ts",
    "commands/",
    "auth/",
    "transport/",
    "deno.json",
  ],
};

const isOurs = (specifier: string) => /\.(ts|json)$/.test(specifier);

Deno.test("imports run one way: cli → terminal → client, server → host → state, engine → commands → auth → transport", () => {
  for (const [path, imports] of graph) {
    const below = BELOW[room(path)];
    assert.ok(below, `${path} is in a room that tests/project_test.ts does not know`);
    for (const imported of imports.filter(isOurs)) {
      const allowed = room(imported) === room(path) || below.includes(room(imported));
      assert.ok(
        allowed,
        `${path} imports ${imported}: ${room(path)} may import ${below.join(" ") || "nothing"}`,
      );
    }
  }
});

Deno.test("every source file opens with a module doc comment", () => {
  for (const path of graph.keys()) {
    const opening = /^\/\*\*.*?\*\//s.exec(Deno.readTextFileSync(ROOT + path))?.[0];
    assert.ok(opening?.includes("@module"), `${path} does not open with a comment that has @module`);
  }
});

Deno.test("the package holds every module that its exports need, and no tests", () => {
  const needed = new Set<string>();
  const need = (path: string) => {
    if (needed.has(path)) return;
    needed.add(path);
    graph.get(path)?.filter((imported) => imported.endsWith(".ts")).forEach(need);
  };
  for (const path of Object.values(manifest.exports)) need(posix.normalize(path));
  const included = (path: string) =>
    manifest.publish.include.some((entry) =>
      entry === path || path.startsWith(entry.replace(/\/?$/, "/")) ||
      (entry === "*.ts" && !path.includes("/"))
    );
  for (const path of needed) assert.ok(included(path), `${path} is missing`);
  for (const path of ["README.md", "LICENSE", "deno.json"]) assert.ok(included(path), `${path} is missing`);
  for (const room of NOT_ROOMS) assert.ok(!included(`${room}/file.ts`), `${room} does not belong there`);
});

Deno.test("every dependency is pinned exactly, comes from npm, and is named in the README's Built on", () => {
  const readme = Deno.readTextFileSync(`${ROOT}README.md`);
  const [, builtOn = ""] = /^## Built on\n(.*?)(?=^## |(?![\s\S]))/ms.exec(readme) ?? [];
  const names = Object.entries(manifest.imports).filter(([, target]) => !target.startsWith("./"))
    .map(([name, target]) => {
      assert.match(target, /^npm:(@[\w-]+\/)?[\w.-]+@\d+\.\d+\.\d+$/, `${name} is not pinned`);
      return name;
    });
  const listed = Array.from(
    builtOn.matchAll(/^[*-] \[([^\]]+)\]\(https:\/\/www\.npmjs/gm),
    ([, name]) => name,
  );
  assert.deepEqual(listed.sort(), names.sort());
});

Deno.test("the program imports nothing that deno.json does not name", () => {
  const named: string[] = Object.keys(manifest.imports);
  for (const [path, imports] of graph) {
    for (const imported of imports.filter((specifier) => !isOurs(specifier))) {
      assert.ok(imported.startsWith("node:") || named.includes(imported), `${path} imports ${imported}`);
    }
  }
});
