/**
 * What CURVE costs, beside the same over TCP without keys.
 *
 * @module
 */

import { ask, measureClient, statsOf } from "../load.ts";
import type { Measure } from "../measure.ts";
import { startHost } from "../processes.ts";

/** Measures calls over TCP with and without keys. */
export async function* encrypted(directory: string, stack: AsyncDisposableStack): AsyncGenerator<Measure> {
  const at = (name: string) => `${directory}/${name}`;
  await ask("cli.ts", "keygen", at("host.key"));
  await Deno.writeTextFile(
    at("clients"),
    `${await ask("cli.ts", "keygen", at("client.key"))} admin client\n`,
  );
  const start = async (name: string, ...flags: string[]) => {
    const host = stack.use(await startHost(directory, name, "tcp://127.0.0.1:*", ...flags));
    return (await statsOf(host)).endpoints[1];
  };
  const keys = ["--key", at("host.key"), "--authorized-clients", at("clients")];
  const addresses = {
    "memstore with keys": [await start("curve", ...keys), at("client.key"), at("host.key.pub")].join(","),
    "memstore without": await start("plain"),
  };
  for (
    const [name, unit, better, what] of [
      ["one get after another over TCP", "µs", "less", "get"],
      ["256 gets at once over TCP", "gets/s", "more", "many"],
      ["sets of 1 MiB over TCP, one after another", "sets/s", "more", "large"],
    ] as const
  ) {
    yield {
      name: `${name}, with keys`,
      unit,
      better,
      contestants: Object.entries(addresses).map(([name, address]) => ({
        name,
        async once(seconds) {
          return { value: await measureClient("memstore", address, what, seconds) };
        },
      })),
    };
  }
}
