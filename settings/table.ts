/**
 * The settings of a host, and of the command line as its client. From this one table come the flags of
 * `memstore serve`, what a settings file may say, the environment variables, the text of `memstore config init` and the README's reference: a new
 * setting is a new entry here.
 *
 * @module
 */

import { LIMIT_RANGES, LIMITS, type Limits } from "../wire/limits.ts";
import {
  bytes,
  count,
  duration,
  endpoint,
  endpoints,
  flag,
  type Kind,
  oneOf,
  path,
  publicKey,
  text,
  url,
  within,
  type Written,
} from "./kinds.ts";

/** A setting. */
export interface Setting<Value> {
  readonly kind: Kind<Value>;
  /** One line that says what it is. */
  readonly help: string;
  /** The long flag, and the name of its value in angle brackets if it has one. */
  readonly flag?: string;
  readonly env: string;
  /** What holds where nothing is said; left out: nothing. */
  readonly default?: Written;
  /** How it could be written, where there is no default. */
  readonly example?: Written;
  /** Is never shown. It has no flag, since everybody on the machine can read a command line. */
  readonly secret?: true;
}

type Details = Omit<Setting<unknown>, "kind" | "default" | "example">;

/** A setting that has a value in any case. */
function setting<Value>(kind: Kind<Value>, details: Details & { default: Written }): Setting<Value> {
  return { kind, ...details };
}

/** A setting that may be left out. */
function optional<Value>(
  kind: Kind<Value>,
  details: Details & { example: Written },
): Setting<Value | undefined> {
  return { kind, ...details };
}

/** A bound that clients are held to: its range and its default are those of the host. */
function limit(name: keyof Limits, help: string): Setting<number> {
  const inBytes = name === "message" || name === "waiting";
  return setting(within(inBytes ? bytes : count, LIMIT_RANGES[name]), {
    default: inBytes ? `${LIMITS[name] / 2 ** 20}MB` : LIMITS[name],
    help,
    flag: `--max-${name} <${inBytes ? "size" : "number"}>`,
    env: `MEMSTORE_MAX_${name.toUpperCase()}`,
  });
}

/** The settings, by their keys in a settings file. */
export const table = {
  endpoints: setting(endpoints, {
    default: "memstore",
    help: "What to serve: a name, a path, a ZeroMQ address, or an array of them.",
    flag: "[endpoints...]",
    env: "MEMSTORE_ENDPOINT",
  }),
  dataDir: optional(path, {
    example: "data",
    help: "The directory where the paths of store and restore begin; left out: the working directory.",
    flag: "--data-dir <directory>",
    env: "MEMSTORE_DATA_DIR",
  }),
  allowAnyPath: setting(flag, {
    default: false,
    help: "Whether the paths of store and restore may lead out of the data directory.",
    flag: "--allow-any-path",
    env: "MEMSTORE_ALLOW_ANY_PATH",
  }),
  key: optional(path, {
    example: "host.key",
    help: "The file of the host's secret key (memstore keygen): tcp:// is then served with CURVE.",
    flag: "--key <file>",
    env: "MEMSTORE_KEY",
  }),
  authorizedClients: optional(path, {
    example: "clients",
    help: "The file that lists the clients, one a line: public key, right (read, write or admin), name.",
    flag: "--authorized-clients <file>",
    env: "MEMSTORE_AUTHORIZED_CLIENTS",
  }),
  insecure: setting(flag, {
    default: false,
    help: "Whether to serve tcp:// to other machines without keys, where anybody may do everything.",
    flag: "--insecure",
    env: "MEMSTORE_INSECURE",
  }),
  allowGroup: setting(flag, {
    default: false,
    help: "Whether the socket files are for their group too, and not for their owner alone.",
    flag: "--allow-group",
    env: "MEMSTORE_ALLOW_GROUP",
  }),
  state: optional(text, {
    example: "state.msgpack",
    help:
      "Where the state is kept from stop to start: a path that begins at the data directory, or s3://bucket/key.",
    flag: "--state <place>",
    env: "MEMSTORE_STATE",
  }),
  storeEvery: optional(duration, {
    example: "30s",
    help: "How often a changed state is stored (500ms, 30s, 5m, 1h), besides at a clean stop.",
    flag: "--store-every <duration>",
    env: "MEMSTORE_STORE_EVERY",
  }),
  maxMemory: optional(bytes, {
    example: "512MB",
    help: "How much memory the data may take: bytes, or a size such as 512MB (1 KB is 1024 bytes).",
    flag: "--max-memory <size>",
    env: "MEMSTORE_MAX_MEMORY",
  }),
  limits: {
    message: limit(
      "message",
      "The size of a message and of its reply: a client that sends a longer one is cut off.",
    ),
    commands: limit("commands", "How many commands a message may hold."),
    depth: limit("depth", "How deep values may be nested, 512 at most."),
    waiting: limit(
      "waiting",
      "Replies that may wait for a client: its requests then wait too; in 10 s it is cut off.",
    ),
    requests: limit(
      "requests",
      "Requests of a client that may wait or be under way: if it sends more it is cut off.",
    ),
    clients: limit(
      "clients",
      "Connections to each endpoint: beyond, those are cut off that have not said anything.",
    ),
  },
  logLevel: setting(oneOf("debug", "info", "warning", "error"), {
    default: "info",
    help: "What is logged: debug, info, warning or error, and what matters more.",
    flag: "--log-level <level>",
    env: "MEMSTORE_LOG_LEVEL",
  }),
  s3: {
    endpoint: optional(url, {
      example: "https://s3.example.com",
      help: "The address of the S3 server; left out: Amazon's.",
      flag: "--s3-endpoint <url>",
      env: "MEMSTORE_S3_ENDPOINT",
    }),
    region: optional(text, {
      example: "eu-central-1",
      help: "The region of the bucket.",
      flag: "--s3-region <region>",
      env: "MEMSTORE_S3_REGION",
    }),
    forcePathStyle: optional(flag, {
      example: true,
      help: "Whether the bucket is named in the path and not in the host's name, as many S3 servers need.",
      flag: "--s3-force-path-style",
      env: "MEMSTORE_S3_FORCE_PATH_STYLE",
    }),
    profile: optional(text, {
      example: "default",
      help: "The profile of the AWS settings files that has the credentials.",
      flag: "--s3-profile <name>",
      env: "MEMSTORE_S3_PROFILE",
    }),
    accessKeyId: optional(text, {
      example: "AKIAEXAMPLE",
      help: "The name of the access key.",
      flag: "--s3-access-key-id <id>",
      env: "MEMSTORE_S3_ACCESS_KEY_ID",
    }),
    secretAccessKey: optional(text, {
      example: "the secret of the access key",
      help: "The secret of the access key. It has no flag: everybody on the machine can read a command line.",
      env: "MEMSTORE_S3_SECRET_ACCESS_KEY",
      secret: true,
    }),
    sessionToken: optional(text, {
      example: "the token of temporary credentials",
      help: "The token of temporary credentials. It has no flag either.",
      env: "MEMSTORE_S3_SESSION_TOKEN",
      secret: true,
    }),
  },
  client: {
    endpoint: optional(endpoint, {
      example: "tcp://host.example.com:5757",
      help: "The host that the command line asks, where -e says nothing; left out: memstore.",
      env: "MEMSTORE_CLIENT_ENDPOINT",
    }),
    key: optional(path, {
      example: "worker.key",
      help: "The file of its secret key, where --key says nothing.",
      env: "MEMSTORE_CLIENT_KEY",
    }),
    serverKey: optional(publicKey, {
      example: "host.key.pub",
      help: "The host's public key or its file, where --server-key says nothing.",
      env: "MEMSTORE_CLIENT_SERVER_KEY",
    }),
  },
} as const;

type ValuesOf<Table> = {
  [Key in keyof Table]: Table[Key] extends Setting<infer Value> ? Value : ValuesOf<Table[Key]>;
};

/** The values of all settings, as the table nests them. */
export type Settings = ValuesOf<typeof table>;

/** Some settings, or some names of them, that stand under one key. */
export interface Group {
  readonly [key: string]: Setting<unknown> | Group;
}

/** Whether an entry of the table is a setting, and not a group of them. */
export function isSetting(entry: Setting<unknown> | Group): entry is Setting<unknown> {
  return "kind" in entry;
}

/** The settings with their whole keys: `s3.region`. */
export const settings: ReadonlyMap<string, Setting<unknown>> = new Map(flatten(table, ""));

function* flatten(group: Group, prefix: string): Generator<[string, Setting<unknown>]> {
  for (const [key, entry] of Object.entries(group)) {
    if (isSetting(entry)) yield [prefix + key, entry];
    else yield* flatten(entry, `${prefix}${key}.`);
  }
}
