/** Rules of the project itself: its layout, its package, its dependencies. */

import assert from "node:assert/strict";
import { posix } from "node:path";
import manifest from "../deno.json" with { type: "json" };
import testPackages from "./imports.json" with { type: "json" };

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
  "blocks/": ["msgpack/"],
  "auth/": ["transport/"],
  "commands/": ["auth/", "transport/", "msgpack/"],
  "engine/": ["blocks/", "commands/", "auth/", "transport/", "msgpack/", "system/"],
  "state/": ["engine/", "blocks/", "commands/", "transport/", "msgpack/", "system/"],
  "host/": [
    "state/",
    "engine/",
    "blocks/",
    "commands/",
    "auth/",
    "transport/",
    "msgpack/",
    "system/",
    "deno.json",
  ],
  "client/": ["blocks/", "commands/", "transport/", "msgpack/", "system/"],
  "client.ts": ["client/", "commands/", "auth/", "transport/", "system/"],
  "server.ts": ["host/", "state/", "engine/", "commands/", "system/"],
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
    "system/",
  ],
  "preload.ts": ["state/", "transport/", "system/"],
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

/** Where the code of the program names a package, as `npm:zeromq@6.8.0`, and the packages of tests and benchmark. */
const packages = new Map<string, Set<string>>();
function name(specifier: string, where: string): void {
  const [, name] = /^npm:((?:@[\w-]+\/)?[\w.-]+)@\d+\.\d+\.\d+$/.exec(specifier) ?? [];
  assert.ok(name, `${where} names ${specifier}, which is not pinned exactly or not of npm`);
  packages.set(name, (packages.get(name) ?? new Set()).add(specifier));
}
for (const path of graph.keys()) {
  for (const [, specifier] of Deno.readTextFileSync(ROOT + path).matchAll(/"(npm:[^"]+)"/g)) {
    name(specifier, path);
  }
}
for (const target of Object.values(testPackages.imports)) {
  if (!target.startsWith("../")) name(target, "tests/imports.json");
}

Deno.test("every dependency has one exact version, and is named in the README's Built on", () => {
  const readme = Deno.readTextFileSync(`${ROOT}README.md`);
  const [, builtOn = ""] = /^## Built on\n(.*?)(?=^## |(?![\s\S]))/ms.exec(readme) ?? [];
  const listed = Array.from(
    builtOn.matchAll(/^[*-] \[([^\]]+)\]\(https:\/\/www\.npmjs/gm),
    ([, name]) => name,
  );
  assert.deepEqual(listed.sort(), Array.from(packages.keys()).sort());
  for (const [name, specifiers] of packages) {
    // The benchmark measures two major versions of node-redis.
    const versions = name === "redis" ? 2 : 1;
    assert.equal(specifiers.size, versions, Array.from(specifiers).join());
  }
});

Deno.test("deno task compile includes what is imported by a variable, and so in no module graph", () => {
  const found = Array.from(graph.keys(), (path) => Deno.readTextFileSync(ROOT + path)).flatMap((code) =>
    Array.from(code.matchAll(/^const \w+ = "(npm:[^"]+)";$/gm), ([, specifier]) => specifier)
  );
  assert.equal(found.length, 2);
  for (const specifier of found) {
    assert.ok(manifest.tasks.compile.command.includes(` --include=${specifier} `), `it lacks ${specifier}`);
  }
});

Deno.test("the program imports nothing but its own files, Deno's, and packages by their full names", () => {
  for (const [path, imports] of graph) {
    for (const imported of imports.filter((specifier) => !isOurs(specifier))) {
      assert.match(imported, /^(node|npm):/, `${path} imports ${imported}`);
    }
  }
});

/** The packages of a lock file, without their versions. */
function locked(path: string): string[] {
  const { specifiers } = JSON.parse(Deno.readTextFileSync(ROOT + path)) as { specifiers: object };
  const names = Object.keys(specifiers).map((specifier) => specifier.replace(/^npm:|@[^@]*$/g, ""));
  return Array.from(new Set(names)).sort();
}

Deno.test("what is fetched for a start is what a host needs: neither the AWS SDK nor what tests use", () => {
  // `deno task` fetches all that deno.json names, and all of the lock file that a task uses.
  assert.ok(!("imports" in manifest), "deno.json names packages, which every task would fetch");
  assert.deepEqual(locked("deno.lock"), ["@logtape/logtape", "commander", "jsonc-parser", "zeromq"]);
  assert.deepEqual(locked("tests/deno.lock"), Array.from(packages.keys()).sort());
});

/** What Deno loads, and so fetches, to run a file without any configuration: our files, and npm packages. */
async function loadedBy(path: string): Promise<{ files: string[]; packages: string[] }> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "--no-config", "--no-lock", ROOT + path],
  }).output();
  const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as {
    modules: { specifier: string; error?: string; dependencies?: { code?: { specifier: string } }[] }[];
  };
  const files = modules.filter(({ specifier }) => specifier.startsWith("file:"));
  assert.deepEqual(files.filter(({ error }) => error), []);
  const needed = files.flatMap(({ dependencies = [] }) =>
    dependencies.map(({ code }) => code?.specifier ?? "")
  );
  return {
    files: files.map(({ specifier }) => new URL(specifier).pathname.slice(ROOT.length)),
    packages: Array.from(new Set(needed.filter((specifier) => specifier.startsWith("npm:")))),
  };
}

Deno.test("a client is libzmq and its own files; no engine, no state, no S3; an app's host needs no more", async () => {
  const client = await loadedBy("client.ts");
  const rooms = new Set(client.files.map(room));
  assert.deepEqual(
    Array.from(rooms).filter((each) =>
      !["client.ts", ...BELOW["client.ts"], ...BELOW["client/"]].includes(each)
    ),
    [],
  );
  assert.deepEqual(client.packages, Array.from(packages.get("zeromq")!));
  assert.deepEqual((await loadedBy("mod.ts")).packages, client.packages);
});
