/**
 * Snapshots: several reads of one state of the data. Nothing is locked or copied for them. A function reads, and what it
 * has read is checked; if it was not one state, the function is called again.
 *
 * ```text
 * direct      each read from the host's memory; at the end: do the sequences still hold? ── yes ─► done
 *                 │ a read had to ask the host, or others are too fast
 *                 ▼
 * recorded    each read asks the host, and its reply is kept;
 *             at the end the same commands again, as one batch: the same replies? ────────── yes ─► done
 *                 │ no
 *                 ▼
 * recorded    each read finds its reply in those of the batch, which are one state; has it
 *             asked for nothing else? ───────────────────────────────────────────────────── yes ─► done
 *                 │ no: from there on it has read something else
 *                 └────► as before, with the replies of another batch
 * ```
 *
 * So a function that reads the same entries each time ends with its third call at the latest, however fast others write.
 *
 * @module
 */

import { commands } from "../commands/list.ts";
import { refusePromise } from "../commands/methods.ts";
import { SyncCommands } from "../commands/sync.ts";
import { Reader } from "../msgpack/codec.ts";
import { latin1 } from "../msgpack/msgpack.ts";
import { MemStoreError } from "../transport/message.ts";
import { type BlockingCalls, readOrError } from "./blocking.ts";
import { ASK } from "./direct.ts";
import { attempts } from "./update.ts";

/** How often the host's memory is read before the host is asked. */
const DIRECT_TRIES = 16;

/** The commands that a snapshot has: they only read, and a batch may hold them. */
const READS: ReadonlySet<string> = new Set(
  commands.filter(({ needs, batch }) => needs === "read" && batch).map(({ name }) => name),
);

/** The commands that read, within a {@linkcode SharedStore.snapshot}. Those that write throw a `TypeError`. */
export class SnapshotCommands extends SyncCommands {
  readonly #read: (name: string, args: readonly unknown[]) => unknown;

  /** Use {@linkcode SharedStore.snapshot}. */
  constructor(read: (name: string, args: readonly unknown[]) => unknown) {
    super();
    this.#read = read;
  }

  /** Reads. */
  protected override call<Reply>(name: string, args: readonly unknown[]): Reply {
    return this.#read(name, args) as Reply;
  }

  /** Throws a `TypeError`. */
  protected override write(name: string): never {
    throw new TypeError(`Cannot ${name} in a snapshot: it only reads`);
  }

  /** Runs a command that reads, by its name. Returns the raw reply. */
  override send<Reply = unknown>([name, ...args]: readonly [name: string, ...args: unknown[]]): Reply {
    return READS.has(name) ? this.call(name, args) : this.write(name);
  }

  /** Throws a `TypeError`. */
  override update(): never {
    return this.write("update");
  }
}

/** One call of the function, and the reads that it makes. */
interface Attempt {
  /** Carries out a command. Returns the raw reply. */
  read(name: string, args: readonly unknown[]): unknown;
  /** Whether all that was read is one state of the data. */
  holds(): boolean;
}

/** Reads from the host's memory, between the begin and the end of the calls. */
class DirectAttempt implements Attempt {
  readonly #calls: BlockingCalls;
  readonly #timeLeft: () => number;
  #reads = 0;
  /** Whether a read had to ask the host. */
  asked = false;

  constructor(calls: BlockingCalls, timeLeft: () => number) {
    this.#calls = calls;
    this.#timeLeft = timeLeft;
  }

  read(name: string, args: readonly unknown[]): unknown {
    this.#reads++;
    const found = this.#calls.read(name, args);
    if (found !== ASK) return found;
    this.asked = true;
    return this.#calls.call(name, args, this.#timeLeft());
  }

  holds(): boolean {
    const held = this.#calls.end();
    // (One reply is one state.)
    return this.asked ? this.#reads === 1 : held;
  }
}

/** Replies of the host, as bytes, by the bytes of their commands. */
type Replies = ReadonlyMap<string, Uint8Array>;

/** Asks the host for what is not known, and keeps what it replies. */
class RecordedAttempt implements Attempt {
  readonly #calls: BlockingCalls;
  readonly #timeLeft: () => number;
  readonly #commands: Uint8Array[] = [];
  readonly #replies = new Map<string, Uint8Array>();
  #asked = false;
  /** Replies of one state. */
  known: Replies;

  constructor(calls: BlockingCalls, timeLeft: () => number, known: Replies) {
    this.#calls = calls;
    this.#timeLeft = timeLeft;
    this.known = known;
  }

  read(name: string, args: readonly unknown[]): unknown {
    const command = this.#calls.encode(name, args), key = latin1(command, 0, command.length);
    const kept = this.#replies.get(key) ?? this.known.get(key);
    const reply = kept ?? this.#calls.ask(name, [command], this.#timeLeft())[0];
    const value = readOrError(name, new Reader(reply));
    if (value instanceof MemStoreError) throw value;
    if (!this.#replies.has(key)) {
      this.#replies.set(key, reply);
      this.#commands.push(command);
    }
    if (!kept) this.#asked = true;
    return value;
  }

  holds(): boolean {
    const replies = this.#replies;
    if (!this.#asked || replies.size <= 1) return true;
    const now = this.#readAgain(), keys = [...replies.keys()];
    this.known = new Map(keys.map((key, i) => [key, now[i]]));
    return keys.every((key, i) => equalBytes(replies.get(key)!, now[i]));
  }

  /** The replies of one state. */
  #readAgain(): Uint8Array[] {
    try {
      const replies = this.#calls.ask("read a snapshot", this.#commands, this.#timeLeft());
      const errors = replies.filter(([status]) => status !== 0)
        .map((reply) => readOrError("read a snapshot", new Reader(reply)) as MemStoreError);
      if (errors.length === 0) return replies;
      throw errors.find(({ code }) => code !== "NOT_RUN") ?? errors[0];
    } catch (error) {
      if (!(error instanceof MemStoreError) || error.code !== "TOO_LARGE") throw error;
      const why = "the host must read all of it at once, and it is too much for that";
      throw new MemStoreError("TOO_LARGE", `Cannot read a snapshot: ${why}: ${error.message}`);
    }
  }
}

/**
 * Runs a function that reads one state of the data, and again if that has changed meanwhile.
 *
 * @param timeout How long all attempts may take together, in milliseconds.
 * @returns What the function returns.
 */
export function readSnapshot<Result>(
  calls: BlockingCalls,
  fn: (snapshot: SnapshotCommands) => Result,
  timeout: number,
): Result {
  const timeLeft = attempts(timeout, "read a snapshot: others changed what it reads");
  let known: Replies = new Map();
  try {
    for (let direct = DIRECT_TRIES;; timeLeft()) {
      const attempt = direct-- > 0 && calls.begin(timeLeft())
        ? new DirectAttempt(calls, timeLeft)
        : new RecordedAttempt(calls, timeLeft, known);
      const outcome = run(attempt, fn);
      if (attempt.holds()) return outcome();
      if (attempt instanceof RecordedAttempt) known = attempt.known;
      else if (attempt.asked) direct = 0;
    }
  } finally {
    calls.end();
  }
}

/**
 * Calls the function.
 *
 * @returns A function that returns what the function returned, or throws what it threw.
 * @throws What one of the reads threw, if the function throws it on.
 */
function run<Result>(attempt: Attempt, fn: (snapshot: SnapshotCommands) => Result): () => Result {
  let open = true, failure: unknown;
  const snapshot = new SnapshotCommands((name, args) => {
    if (!open) throw new TypeError(`Cannot ${name}: the function of its snapshot has returned`);
    try {
      return attempt.read(name, args);
    } catch (error) {
      failure = error;
      throw error;
    }
  });
  let result: Result;
  try {
    result = fn(snapshot);
  } catch (error) {
    if (failure !== undefined && error === failure) throw error;
    return () => {
      throw error;
    };
  } finally {
    open = false;
  }
  refusePromise(result, "read a snapshot");
  return () => result;
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
