/**
 * The address of Redis: `redis://user:password@host:7101,host:7102`. `rediss://` is over TLS. Several nodes are those that are
 * asked first; those of a cluster tell of the others.
 *
 * @module
 */

/** Where Redis is, and as whom to connect. */
export interface RedisAddress {
  readonly tls: boolean;
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
  readonly username: string | undefined;
  readonly password: string | undefined;
}

const PORT = 6379;

/**
 * Reads the address of Redis.
 *
 * @throws {TypeError} if it cannot be one. The text does not tell the password.
 */
export function parseRedis(text: string): RedisAddress {
  const [, scheme, auth, hosts] = /^(rediss?):\/\/(?:([^/]*)@)?([^@/?#]+)\/?$/.exec(text) ?? [];
  if (scheme === undefined) {
    throw unfit("redis://host:6379, or redis://user:password@host:7101,host:7102", text);
  }
  const nodes = hosts.split(",").map((node) => {
    const [, ip, name, port = String(PORT)] =
      /^(?:\[([\da-f:.]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/i.exec(node) ?? [];
    const host = ip ?? name;
    if (!host || Number(port) > 65535 || Number(port) === 0) {
      throw unfit(`each node must be host or host:port`, text);
    }
    return { host, port: Number(port) };
  });
  const [, user = "", password] = /^([^:]*)(?::(.*))?$/s.exec(auth ?? "") ?? [];
  return {
    tls: scheme === "rediss",
    nodes,
    username: decode(user, text) || undefined,
    password: password === undefined ? undefined : decode(password, text),
  };
}

/** The address without the password, to be shown. */
export function shownRedis(text: string): string {
  return text.replace(/^(\w+:\/\/[^/:@]*):.*@/s, "$1:…@");
}

function decode(text: string, whole: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw unfit("a % in the user or the password must be written %25", whole);
  }
}

function unfit(why: string, text: string): TypeError {
  return new TypeError(`Cannot use the engine: it must be memory or ${why}: received ${shownRedis(text)}`);
}
