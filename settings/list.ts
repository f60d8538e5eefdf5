/**
 * The settings of a host, and of the command line as its client.
 *
 * To add one, add an entry here. The flags of `memstore serve`, the keys of the settings file, the environment
 * variables, the text of `memstore config init` and docs/settings.md all come from this table.
 *
 * @module
 */

import { LIMIT_RANGES, LIMITS, type Limits } from "../transport/limits.ts";
import {
  bytes,
  count,
  duration,
  endpoint,
  endpoints,
  engine,
  flag,
  hasPassword,
  type Kind,
  oneOf,
  path,
  prefix,
  publicKey,
  text,
  url,
  within,
  type Written,
} from "./kinds.ts";

/** A setting. */
export interface Setting<Value> {
  readonly kind: Kind<Value>;
  /** One line that says what it does. */
  readonly help: string;
  /**
   * The long flag, with the name of its value in angle brackets if it takes one; `--no-…` where the setting is on unless
   * it is switched off.
   */
  readonly flag?: string;
  readonly env: string;
  /** The value of a setting that is not set; left out: none. */
  readonly default?: Written;
  /** A possible value, where there is no default. */
  readonly example?: Written;
  /** It is never shown. It has no flag, since other users of the machine can see command lines. */
  readonly secret?: true;
  /** Whether a value has a secret in it, where not every value does. It should not be a flag then, but may be. */
  hasSecret?(value: unknown): boolean;
}

type Details = Omit<Setting<unknown>, "kind" | "default" | "example">;

/** A setting that has a default. */
function setting<Value>(kind: Kind<Value>, details: Details & { default: Written }): Setting<Value> {
  return { kind, ...details };
}

/** A setting that has no default. */
function optional<Value>(
  kind: Kind<Value>,
  details: Details & { example: Written },
): Setting<Value | undefined> {
  return { kind, ...details };
}

/** A limit on what clients may do. Its range and its default are the host's. */
function limit(name: keyof Limits, help: string): Setting<number> {
  const inBytes = ["message", "outputBuffer", "laneBytes"].includes(name);
  const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`).split(" ");
  return setting(within(inBytes ? bytes : count, LIMIT_RANGES[name]), {
    default: inBytes ? `${LIMITS[name] / 2 ** 20}MB` : LIMITS[name],
    help,
    flag: `--max-${words.join("-")} <${inBytes ? "size" : "number"}>`,
    env: `MEMSTORE_MAX_${words.join("_").toUpperCase()}`,
  });
}

/** The settings, by their keys in a settings file. */
export const table = {
  endpoints: setting(endpoints, {
    default: "memstore",
    help: "The endpoints to serve: a name, a path or a ZeroMQ address, or an array of several.",
    flag: "[endpoints...]",
    env: "MEMSTORE_ENDPOINT",
  }),
  engine: setting(engine, {
    default: "memory",
    help:
      "What holds the data: memory (this process), or the nodes of Redis or Valkey: redis://host:7101,host:7102.",
    flag: "--engine <url>",
    env: "MEMSTORE_ENGINE",
    hasSecret: (value) => hasPassword(String(value)),
  }),
  redis: {
    prefix: setting(prefix, {
      default: "memstore",
      help: "What the keys in Redis begin with. Hosts with the same prefix share their data.",
      flag: "--redis-prefix <text>",
      env: "MEMSTORE_REDIS_PREFIX",
    }),
    partitions: optional(within(count, [1, 4096]), {
      example: 256,
      help:
        "Over how many partitions new tables and sets are divided. Default: 256, or what the data in Redis has.",
      flag: "--redis-partitions <number>",
      env: "MEMSTORE_REDIS_PARTITIONS",
    }),
    replicas: setting(within(count, [0, 100]), {
      default: 0,
      help: "How many replicas must have a write before it is acknowledged (WAIT).",
      flag: "--redis-replicas <number>",
      env: "MEMSTORE_REDIS_REPLICAS",
    }),
  },
  dataDir: optional(path, {
    example: "data",
    help:
      "The directory that the paths of store and restore are relative to. Default: the working directory.",
    flag: "--data-dir <directory>",
    env: "MEMSTORE_DATA_DIR",
  }),
  allowAnyPath: setting(flag, {
    default: false,
    help: "Allows store and restore to use paths outside of the data directory.",
    flag: "--allow-any-path",
    env: "MEMSTORE_ALLOW_ANY_PATH",
  }),
  key: optional(path, {
    example: "host.key",
    help:
      "The file of the host's secret key (see memstore keygen). With it, tcp:// is encrypted and clients need keys.",
    flag: "--key <file>",
    env: "MEMSTORE_KEY",
  }),
  authorizedClients: optional(path, {
    example: "clients",
    help:
      "The file that lists who may connect with a key, one client a line: public key, read, write or admin, name.",
    flag: "--authorized-clients <file>",
    env: "MEMSTORE_AUTHORIZED_CLIENTS",
  }),
  insecure: setting(flag, {
    default: false,
    help: "Serves tcp:// to other machines without keys: everyone who can connect can do everything.",
    flag: "--insecure",
    env: "MEMSTORE_INSECURE",
  }),
  allowGroup: setting(flag, {
    default: false,
    help: "Opens the socket files to their group (mode 0660): every member of it can do everything.",
    flag: "--allow-group",
    env: "MEMSTORE_ALLOW_GROUP",
  }),
  lane: setting(flag, {
    default: true,
    help:
      "Shares memory with clients of this machine (Linux), which is faster than the socket; --no-lane turns it off.",
    flag: "--no-lane",
    env: "MEMSTORE_LANE",
  }),
  privateMemory: setting(flag, {
    default: false,
    help:
      "Keeps the data in memory that no other process can map: each read then asks the host (Linux on x86-64).",
    flag: "--private-memory",
    env: "MEMSTORE_PRIVATE_MEMORY",
  }),
  state: optional(text, {
    example: "state.msgpack",
    help:
      "Where the state is kept from one run to the next: a path (relative to the data directory) or s3://bucket/key.",
    flag: "--state <place>",
    env: "MEMSTORE_STATE",
  }),
  storeEvery: optional(duration, {
    example: "30s",
    help:
      "How often the state is stored if it has changed: 500ms, 30s, 5m or 1h. A clean stop always stores it.",
    flag: "--store-every <duration>",
    env: "MEMSTORE_STORE_EVERY",
  }),
  maxMemory: optional(bytes, {
    example: "512MB",
    help:
      "The most memory for the data, such as 512MB (1 KB is 1024 bytes). A restore may take as much again.",
    flag: "--max-memory <size>",
    env: "MEMSTORE_MAX_MEMORY",
  }),
  limits: {
    message: limit(
      "message",
      "The largest message, and the largest reply. A client that sends a larger message is disconnected.",
    ),
    commands: limit("commands", "The most commands in one message."),
    depth: limit("depth", "How deeply values may be nested, at most 512."),
    outputBuffer: limit(
      "outputBuffer",
      "The most unread replies that are kept for a client. Beyond it, its requests wait; after 10 s it is disconnected.",
    ),
    requests: limit(
      "requests",
      "The most pending requests of one client. A client that sends more is disconnected.",
    ),
    clients: limit(
      "clients",
      "The most connections to one endpoint. Beyond it, silent and idle connections are closed.",
    ),
    lanes: limit(
      "lanes",
      "The most clients that share memory with the host, on all endpoints together; 0: none. Others use the socket.",
    ),
    laneBytes: limit(
      "laneBytes",
      "The most memory that the host shares with its clients, on all endpoints together; each takes 320 KB.",
    ),
  },
  logLevel: setting(oneOf("debug", "info", "warning", "error"), {
    default: "info",
    help: "The least severe events that are logged: debug, info, warning or error.",
    flag: "--log-level <level>",
    env: "MEMSTORE_LOG_LEVEL",
  }),
  s3: {
    endpoint: optional(url, {
      example: "https://s3.example.com",
      help: "The URL of the S3 server. Default: Amazon's.",
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
      help: "Puts the bucket into the path of URLs and not into the host name, as many S3 servers require.",
      flag: "--s3-force-path-style",
      env: "MEMSTORE_S3_FORCE_PATH_STYLE",
    }),
    profile: optional(text, {
      example: "default",
      help: "The profile of the AWS configuration files whose credentials are used.",
      flag: "--s3-profile <name>",
      env: "MEMSTORE_S3_PROFILE",
    }),
    accessKeyId: optional(text, {
      example: "AKIAEXAMPLE",
      help: "The ID of the access key.",
      flag: "--s3-access-key-id <id>",
      env: "MEMSTORE_S3_ACCESS_KEY_ID",
    }),
    secretAccessKey: optional(text, {
      example: "the secret of the access key",
      help: "The secret of the access key. It has no flag: other users of the machine can see command lines.",
      env: "MEMSTORE_S3_SECRET_ACCESS_KEY",
      secret: true,
    }),
    sessionToken: optional(text, {
      example: "the token of temporary credentials",
      help: "The session token of temporary credentials. It has no flag either.",
      env: "MEMSTORE_S3_SESSION_TOKEN",
      secret: true,
    }),
  },
  client: {
    endpoint: optional(endpoint, {
      example: "tcp://host.example.com:5757",
      help: "The host that the command line sends commands to, unless -e names one. Default: memstore.",
      env: "MEMSTORE_ENDPOINT",
    }),
    key: optional(path, {
      example: "worker.key",
      help: "The file of the secret key of the command line, unless --key names one.",
      env: "MEMSTORE_CLIENT_KEY",
    }),
    serverKey: optional(publicKey, {
      example: "host.key.pub",
      help: "The host's public key, or the file that holds it, unless --server-key names one.",
      env: "MEMSTORE_CLIENT_SERVER_KEY",
    }),
    lane: optional(flag, {
      example: false,
      help:
        "Whether bench and repl share memory with a host of this machine, unless --no-lane is given. Default: true.",
      env: "MEMSTORE_CLIENT_LANE",
    }),
  },
} as const;

type ValuesOf<Table> = {
  [Key in keyof Table]: Table[Key] extends Setting<infer Value> ? Value : ValuesOf<Table[Key]>;
};

/** The values of all settings, as the table nests them. */
export type Settings = ValuesOf<typeof table>;

/** Settings that are grouped under one key. */
export interface Group {
  readonly [key: string]: Setting<unknown> | Group;
}

/** Whether an entry of the table is a setting, not a group. */
export function isSetting(entry: Setting<unknown> | Group): entry is Setting<unknown> {
  return "kind" in entry;
}

/** The settings by their full keys: `s3.region`. */
export const settings: ReadonlyMap<string, Setting<unknown>> = new Map(flatten(table, ""));

function* flatten(group: Group, prefix: string): Generator<[string, Setting<unknown>]> {
  for (const [key, entry] of Object.entries(group)) {
    if (isSetting(entry)) yield [prefix + key, entry];
    else yield* flatten(entry, `${prefix}${key}.`);
  }
}
