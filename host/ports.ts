/**
 * The ports of a host: the one place that chooses a transport. Each endpoint is served over ZeroMQ; one of this machine
 * also through lanes, in shared memory, where the system has that.
 *
 * @module
 */

import type { AuthorizedClient } from "../auth/clients.ts";
import { ZapHandler } from "../auth/zap.ts";
import { address } from "../transport/endpoint.ts";
import type { Limits } from "../transport/limits.ts";
import type { MemoryOffer } from "../transport/shared/offer.ts";
import { loadSharedMemory } from "../transport/shared/system.ts";
import { LanePort } from "../transport/shared/port.ts";
import type { Port, Sender } from "../transport/transport.ts";
import { Context } from "../transport/zeromq/context.ts";
import { canOpenFiles, libzmq, maxOpenFiles } from "../transport/zeromq/libzmq.ts";
import { isServed, type Listening, listenWhenFree } from "../transport/zeromq/listen.ts";
import { ZeroMqPort } from "../transport/zeromq/port.ts";
import { Access, checkAccess } from "./access.ts";
import type { Warn } from "./log.ts";
import type { HostOptions } from "./options.ts";

/** Threads that move bytes for libzmq: one for ipc://, one for tcp://. */
const IO_THREADS = 2;
/** How long replies may take to leave for slow clients when the host stops, in milliseconds. */
const LINGER_MS = 2000;
/**
 * The part of the files the process may open that may be connections. (A few more are open for a moment, until they are
 * disconnected.)
 */
const CLIENT_FILES = 1 / 4;
/** The part of them that may be lanes: each is one until its client has opened it. */
const LANE_FILES = 1 / 16;
/** Files that a host has open without clients, and those of each endpoint, beside the files that come and go. */
const HOST_FILES = 32;
const PORT_FILES = 8;

/** The ports of a host, from the moment they are all open until they are closed. */
export class Ports {
  /** What the serving loop serves. */
  readonly all: readonly Port[];
  readonly #listening: readonly Listening[];
  readonly #access: Access | undefined;
  /** What is closed at the end, the last first. */
  readonly #resources: AsyncDisposableStack;

  private constructor(
    all: readonly Port[],
    listening: readonly Listening[],
    access: Access | undefined,
    resources: AsyncDisposableStack,
  ) {
    this.all = all;
    this.#listening = listening;
    this.#access = access;
    this.#resources = resources;
  }

  /**
   * Serves endpoints: all, or none.
   *
   * @throws {MemStoreError} `IN_USE` if a living host serves one of them. (One that stops is waited for.)
   * @throws {Error} if one of them cannot be served.
   */
  static async open(names: readonly string[], options: HostOptions, warn: Warn): Promise<Ports> {
    const addresses = names.map(address);
    checkAccess(names, addresses, options);
    const limits = await fitLimits(options.limits, addresses.length, warn);
    const ports: Port[] = [], listening: Listening[] = [];
    const resources = new AsyncDisposableStack();
    try {
      // (Another host may have an address only when the last reply has left.)
      const held = resources.use(new DisposableStack());
      const context = await Context.open(IO_THREADS);
      resources.defer(() => context.close());
      const access = await Access.open(options, warn, (removed) => {
        for (const port of ports) for (const publicKey of removed) port.disconnect(publicKey);
      });
      if (access) {
        resources.defer(() => access.close());
        const mayConnect = (publicKey: string, address: string) => access.mayConnect(publicKey, address);
        const handler = new ZapHandler(context, await libzmq(), mayConnect);
        resources.defer(() => handler.close());
      }
      const lanes = { ports: 0, made: 0 };
      const hasLanes = options.lane && limits.lanes > 0 && loadSharedMemory();
      for (const wanted of addresses) {
        const zeromq = new ZeroMqPort(context, wanted, {
          linger: LINGER_MS,
          curve: wanted.startsWith("tcp://") ? access?.keys : undefined,
          limits,
          onEvent: warn,
        });
        const port = hasLanes && wanted.startsWith("ipc://") ? new LanePort(zeromq, limits, lanes) : zeromq;
        resources.defer(() => port.close());
        const permissions = { mode: options.allowGroup ? 0o660 : 0o600, anyUser: options.insecure };
        const served = await listenWhenFree(context, zeromq.socket, wanted, permissions);
        held.defer(() => served.release());
        resources.defer(() => served.hide());
        ports.push(port);
        listening.push(served);
      }
      return new Ports(ports, listening, access, resources);
    } catch (error) {
      // (If something cannot be closed either, the caller is told why the start failed.)
      await resources.disposeAsync().catch(() => {});
      throw error;
    }
  }

  /** The addresses that are served. */
  get addresses(): readonly string[] {
    return this.#listening.map(({ address }) => address);
  }

  /** Whether the last host at one of the addresses crashed or was killed. */
  get abandoned(): boolean {
    return this.#listening.some(({ abandoned }) => abandoned);
  }

  /** How many clients are connected. */
  get clients(): number {
    return this.all.reduce((sum, { clients }) => sum + clients, 0);
  }

  /** How many of them send through a lane. */
  get lanes(): number {
    return this.all.reduce((sum, { lanes }) => sum + lanes, 0);
  }

  /** Whether a client is on this machine. */
  isNeighbour(from: Sender): boolean {
    return this.all.some((port, i) => this.addresses[i].startsWith("ipc://") && port.has(from));
  }

  /** Sums of what clients have counted themselves. */
  get figures(): readonly number[] {
    const sums: number[] = [];
    for (const { figures } of this.all) figures.forEach((each, i) => sums[i] = (sums[i] ?? 0) + each);
    return sums;
  }

  /** Makes a lane for a client; undefined if it cannot have one. */
  openLane(from: Sender): MemoryOffer | undefined {
    for (const port of this.all) {
      const offer = port.openLane(from);
      if (offer) return offer;
    }
  }

  /** The client of a public key; undefined if it is not authorized (any more). */
  findClient(publicKey: string): AuthorizedClient | undefined {
    return this.#access?.find(publicKey);
  }

  /**
   * Lets no more clients find the host. (Unbinding would end the connections that there are: libzmq has them belong to
   * the listener.)
   */
  hide(): void {
    for (const each of this.#listening) each.hide();
  }

  /** Closes the ports. Resolves when the last replies have left, and other hosts can serve the addresses. */
  close(): Promise<void> {
    return this.#resources.disposeAsync();
  }
}

/** Whether clients can reach another host at one of some endpoints. */
export async function isServedElsewhere(names: readonly string[]): Promise<boolean> {
  const context = await Context.open();
  try {
    for (const name of names) if (await isServed(context, address(name))) return true;
    return false;
  } finally {
    await context.close();
  }
}

/**
 * Lowers the limit of clients so that connections leave files to open for others: libzmq ends the process where there is
 * none.
 *
 * @throws {Error} if there are too few for a host.
 */
async function fitLimits(limits: Limits, ports: number, warn: Warn): Promise<Limits> {
  const zmq = await libzmq();
  const files = maxOpenFiles(zmq);
  const clients = Math.min(limits.clients, Math.max(1, Math.floor(files * CLIENT_FILES / ports)));
  const lanes = Math.min(limits.lanes, Math.floor(files * LANE_FILES));
  const needed = HOST_FILES + ports * (PORT_FILES + clients) + lanes;
  if (!canOpenFiles(zmq, needed)) {
    const why = `it needs ${needed} open files more than the process has, and the system allows ${files}`;
    throw new Error(`Cannot start the host: ${why}: raise the limit (ulimit -n)`);
  }
  if (clients < limits.clients) {
    warn("limits", { clients, why: `the system allows ${files} open files (ulimit -n)` });
  }
  return { ...limits, clients, lanes };
}
