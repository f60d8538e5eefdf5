/**
 * The commands of a host: those on tables and sets, whose handlers are the engine's, and those about the host itself (its
 * state, its figures, its end), whose handlers are here.
 *
 * @module
 */

import type { Command } from "../commands/describe.ts";
import { commandInfo, commands, type Hello } from "../commands/list.ts";
import type { Call, Handler, WriteReply } from "../engine/call.ts";
import type { Transfers } from "../state/persistence.ts";
import { encode } from "../msgpack/codec.ts";
import type { Right } from "../auth/clients.ts";
import type { Writer } from "../msgpack/msgpack.ts";
import type { MemoryOffer } from "../transport/shared/offer.ts";
import type { Sender } from "../transport/transport.ts";
import type { Engine } from "./engine.ts";
import type { HostCommand } from "./execution.ts";

/** What these commands need of the host. */
export interface HostServices {
  readonly persistence: Transfers;
  /** Every command that the host has. */
  commands(): readonly Command[];
  /** What `hello` tells a client with this right. */
  hello(right: Right): Hello;
  /** Makes a lane for a client; undefined if it cannot have one. */
  openLane(from: Sender): MemoryOffer | undefined;
  /** Where the memory of the data is; undefined if the client may not read it there. */
  memoryFor(from: Sender): MemoryOffer | undefined;
  /** What `stats` tells of the process and of its data. */
  stats(): Record<string, unknown> | Promise<Record<string, unknown>>;
  /**
   * Stops the host. Resolves when that is certain: the state is stored, and the pending replies will leave.
   *
   * @throws {Error} if the state cannot be stored: then the host goes on.
   */
  stop(): Promise<void>;
}

/**
 * The commands of a host, each with its handler.
 *
 * @param handlers The engine's.
 */
export function hostCommands(host: HostServices, handlers: Engine["handlers"]): HostCommand[] {
  const own: Engine["handlers"] = hostHandlers(host);
  return commands.map((command) => {
    const { name } = command, aboutHost = Object.hasOwn(own, name);
    return { ...command, aboutHost, run: aboutHost ? own[name] : handlers[name] };
  });
}

/** The handlers of commands about a host, by the commands' names. */
function hostHandlers(host: HostServices) {
  const { persistence } = host;
  const file = (call: Call) => persistence.file(call.decode(0) as string);
  const object = (call: Call) => persistence.object(call.decode(0) as string, call.decode(1) as string);
  return {
    store(call) {
      return timed("stored", persistence.store(file(call), call.count > 1 && call.decode(1) === true));
    },
    restore(call) {
      return timed("restored", persistence.restore(file(call)));
    },
    s3store(call) {
      return timed("stored", persistence.store(object(call)));
    },
    s3restore(call) {
      return timed("restored", persistence.restore(object(call)));
    },
    transfers(call) {
      tell(call, persistence.transfers);
    },
    hello(call) {
      tell(call, host.hello(call.right));
    },
    lane(call) {
      const offer = call.sender && !call.legacy ? host.openLane(call.sender) : undefined;
      tell(call, offer ?? null);
    },
    memory(call) {
      tell(call, (call.sender && host.memoryFor(call.sender)) ?? null);
    },
    ping(call) {
      call.reply.str("pong");
    },
    info(call) {
      call.visit(TELL_WORK);
      call.reply.arrayHead(2);
      call.reply.float(Deno.memoryUsage().rss / 2 ** 20);
      call.reply.str("mb");
    },
    stats(call) {
      const stats = host.stats();
      if (!(stats instanceof Promise)) return tell(call, stats);
      return stats.then((stats) => (reply) => encode(stats, reply));
    },
    commands(call) {
      tell(call, host.commands().map(commandInfo));
    },
    async done() {
      await host.stop();
      return (reply: Writer) => {
        reply.arrayHead(1);
        reply.str("ok");
      };
    },
  } satisfies Record<string, Handler>;
}

/** To gather what the host tells of itself takes as long as to visit this many entries, … */
const TELL_WORK = 32;
/** … and to encode this many bytes of it, as bits, as long as one. */
const TELL_BITS = 4;

/** Replies what the host tells of itself. */
function tell(call: Call, what: unknown): void {
  const from = call.reply.length;
  encode(what, call.reply);
  call.visit(TELL_WORK + (call.reply.length - from >>> TELL_BITS));
}

/** Replies to a store or restore: `[word, seconds]`, the seconds always as a float, as pymemstore's were. */
async function timed(word: string, work: Promise<void>): Promise<WriteReply> {
  const start = performance.now();
  await work;
  const seconds = (performance.now() - start) / 1000;
  return (reply) => {
    reply.arrayHead(2);
    reply.str(word);
    reply.float(seconds);
  };
}
