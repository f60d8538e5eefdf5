/** Endpoints: names, paths and addresses, and directories that are not trusted. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { address, socketPath } from "../transport/endpoint.ts";

const VARIABLES = ["XDG_RUNTIME_DIR", "TMPDIR"] as const;

/** Runs with a new directory as `$XDG_RUNTIME_DIR` (or as another variable's value, the rest unset). */
function within(run: (directory: string) => void, variable: typeof VARIABLES[number] = "XDG_RUNTIME_DIR") {
  const directory = Deno.makeTempDirSync();
  const before = VARIABLES.map((name) => [name, Deno.env.get(name)] as const);
  try {
    for (const name of VARIABLES) Deno.env.delete(name);
    Deno.env.set(variable, directory);
    run(directory);
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
    Deno.removeSync(directory, { recursive: true });
  }
}

const mode = (path: string) => Deno.lstatSync(path).mode! & 0o7777;
const unusable = (directory: string) => ({
  name: "Error",
  message: `Cannot use the runtime directory: it must be a directory of user ${Deno.uid()} with mode 0700: ` +
    `received ${directory}`,
});

Deno.test("a bare name is a socket in the runtime directory, which is made with mode 0700", () => {
  within((directory) => {
    assert.equal(address("memstore"), `ipc://${directory}/memstore/memstore.sock`);
    assert.equal(mode(`${directory}/memstore`), 0o700);
    assert.equal(address("my app.2"), `ipc://${directory}/memstore/my app.2.sock`);
    assert.deepEqual([...Deno.readDirSync(`${directory}/memstore`)], []);
  });
});

Deno.test("without XDG_RUNTIME_DIR the runtime directory is the user's own in the temporary directory", () => {
  within((directory) => {
    const own = join(directory, `memstore-${Deno.uid()}`);
    assert.equal(address("memstore"), `ipc://${own}/memstore.sock`);
    assert.equal(mode(own), 0o700);
    Deno.env.set("XDG_RUNTIME_DIR", "");
    assert.equal(address("memstore"), `ipc://${own}/memstore.sock`);
  }, "TMPDIR");
});

Deno.test("a runtime directory that is there is used as it is", () => {
  within((directory) => {
    Deno.mkdirSync(`${directory}/memstore`, { mode: 0o700 });
    Deno.writeTextFileSync(`${directory}/memstore/memstore.sock`, "left by a crash");
    assert.equal(address("memstore"), `ipc://${directory}/memstore/memstore.sock`);
    assert.equal(Deno.readTextFileSync(`${directory}/memstore/memstore.sock`), "left by a crash");
  });
});

for (const open of [0o755, 0o701, 0o710, 0o770, 0o777, 0o1777]) {
  Deno.test(`a runtime directory of mode 0${open.toString(8)} is refused, and left as it is`, () => {
    within((directory) => {
      Deno.mkdirSync(`${directory}/memstore`);
      Deno.chmodSync(`${directory}/memstore`, open);
      assert.throws(() => address("memstore"), unusable(`${directory}/memstore`));
      assert.equal(mode(`${directory}/memstore`), open);
    });
  });
}

Deno.test("a runtime directory that is a link is refused, wherever it leads", () => {
  within((directory) => {
    Deno.mkdirSync(`${directory}/elsewhere`, { mode: 0o700 });
    for (const target of ["elsewhere", "nowhere"]) {
      Deno.symlinkSync(`${directory}/${target}`, `${directory}/memstore`);
      assert.throws(() => address("memstore"), unusable(`${directory}/memstore`));
      Deno.removeSync(`${directory}/memstore`);
    }
    assert.throws(() => Deno.lstatSync(`${directory}/nowhere`), Deno.errors.NotFound);
  });
});

Deno.test("a runtime directory that is a file is refused", () => {
  within((directory) => {
    Deno.writeTextFileSync(`${directory}/memstore`, "", { mode: 0o600 });
    assert.throws(() => address("memstore"), unusable(`${directory}/memstore`));
  });
});

Deno.test({
  name: "a runtime directory of another user is refused (root alone can make one, else ignored)",
  ignore: Deno.uid() !== 0,
  fn() {
    within((directory) => {
      Deno.mkdirSync(`${directory}/memstore`, { mode: 0o700 });
      Deno.chownSync(`${directory}/memstore`, 12345, null);
      assert.throws(() => address("memstore"), unusable(`${directory}/memstore`));
    });
  },
});

Deno.test("a runtime directory that cannot be made is an error", () => {
  within((directory) => {
    Deno.env.set("XDG_RUNTIME_DIR", `${directory}/missing`);
    assert.throws(() => address("memstore"), Deno.errors.NotFound);
  });
});

Deno.test("what has a slash is a path, and touches no runtime directory", () => {
  within((directory) => {
    assert.equal(address("./app.sock"), "ipc://./app.sock");
    assert.equal(address("run/app"), "ipc://run/app");
    assert.equal(address("/tmp/ä b.sock"), "ipc:///tmp/ä b.sock");
    assert.deepEqual([...Deno.readDirSync(directory)], []);
  });
});

Deno.test("what has a scheme is taken as it stands", () => {
  within((directory) => {
    const addresses = ["ipc://main", "ipc:///tmp/a.sock", "ipc://@abstract", "tcp://127.0.0.1:5757"];
    for (const given of [...addresses, "tcp://*:*", "tcp://[::1]:1"]) {
      assert.equal(address(given), given);
    }
    assert.deepEqual([...Deno.readDirSync(directory)], []);
  });
});

const scheme = "the scheme must be one of ipc, tcp";
for (
  const [given, why] of [
    ["", "a name, a path or an address is needed"],
    ["a\nb", "a name, a path or an address is needed"],
    ["a\0", "a name, a path or an address is needed"],
    ["./a\x1f", "a name, a path or an address is needed"],
    ["ipc://a\tb", "a name, a path or an address is needed"],
    ["ipc://", "nothing follows the scheme"],
    ["tcp://", "nothing follows the scheme"],
    ["tcp://foo", "the port is missing, as in tcp://foo:5757"],
    ["tcp://[::1]", "the port is missing, as in tcp://[::1]:5757"],
    ["ipc://*", "a path is needed, not a wildcard"],
    ["http://localhost", scheme],
    ["udp://127.0.0.1:1", scheme],
    ["inproc://a", scheme],
    ["IPC://a", scheme],
    ["://a", scheme],
    ["my-scheme://a", scheme],
  ]
) {
  Deno.test(`the endpoint ${JSON.stringify(given)} is refused: ${why}`, () => {
    assert.throws(() => address(given), {
      name: "TypeError",
      message: `Cannot parse endpoint: ${why}: received ${JSON.stringify(given)}`,
    });
  });
}

const most = Deno.build.os === "linux" ? 107 : 103;

Deno.test(`a path of ${most} bytes is taken, one of ${most + 1} is refused`, () => {
  const message = new RegExp(`^Cannot parse endpoint: the path is longer than ${most} bytes: received "`);
  const refused = { name: "TypeError", message };
  const path = "./".padEnd(most, "a");
  assert.equal(address(path), `ipc://${path}`);
  assert.equal(address(`ipc://${path}`), `ipc://${path}`);
  assert.throws(() => address(`${path}a`), refused);
  assert.throws(() => address(`ipc://${path}a`), refused);
  // Bytes, not characters.
  assert.throws(() => address("./".padEnd(most, "é")), refused);
  // What is no path has no such bound.
  assert.equal(address(`tcp://${path}a:1`), `tcp://${path}a:1`);
});

Deno.test("a bare name is as long as its path can be", () => {
  within((directory) => {
    const name = "n".repeat(most - `${directory}/memstore/.sock`.length);
    assert.equal(address(name), `ipc://${directory}/memstore/${name}.sock`);
    assert.throws(() => address(`${name}n`), /the path is longer than/);
  });
});

Deno.test("socketPath() is the file of an ipc address, and nothing for those that have none", () => {
  assert.equal(socketPath("ipc:///tmp/a.sock"), "/tmp/a.sock");
  assert.equal(socketPath("ipc://main"), "main");
  assert.equal(socketPath("ipc://@abstract"), undefined);
  assert.equal(socketPath("tcp://127.0.0.1:5757"), undefined);
});
