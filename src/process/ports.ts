import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { StateError, ValidationError } from "../errors.ts";
import { sleep } from "../internal/deadline.ts";
import { asPermissionError } from "../internal/permission.ts";

/** SGLang derives further ports from the HTTP port, up to 10,000 above it. */
const highestPort = 55_535;

/**
 * Below the range from which Linux takes ports for outgoing connections (from 32,768) and SGLang's
 * own random NCCL ports (22,000 to 29,999), so that a port stays free between our check and the
 * moment, up to a minute later, at which the server binds it.
 */
const defaultRange = { from: 12_000, to: 21_999 } as const;

/** What to reserve. */
export interface PortLeaseOptions {
  /** How many ports. */
  readonly count: number;
  /** Address to try the ports on. Default `"127.0.0.1"`. */
  readonly hostname?: string | undefined;
  /** Ports to choose from, both ends included. Default 12,000 to 21,999. */
  readonly range?: { readonly from: number; readonly to: number } | undefined;
  /** How many ports the server may use from the first one on. Default `count`. */
  readonly span?: number | undefined;
}

const NAMES = {
  count: true,
  hostname: true,
  range: true,
  span: true,
} as const satisfies OptionNames<PortLeaseOptions>;

/** A block starts at a multiple of this, so that blocks of all sizes fit beside each other. */
const blockSize = 16;

/**
 * Ports that no other lease has, in this or any other process that leases with the same `range`,
 * until the lease is disposed. Other programs are kept off them until {@linkcode PortLease.release}.
 */
export class PortLease implements Disposable {
  /** The reserved ports, ascending. */
  readonly ports: readonly number[];
  #guards: Deno.Listener[];
  #held: Deno.Listener[];

  /** Made by {@linkcode reservePorts}. */
  constructor(guards: Deno.Listener[], held: Deno.Listener[], ports: readonly number[]) {
    this.#guards = guards;
    this.#held = held;
    this.ports = ports;
  }

  /** Lets the ports be bound by the program that they are for; the lease goes on. */
  release(): void {
    for (const listener of this.#held.splice(0)) listener.close();
  }

  /** Gives the ports back. */
  [Symbol.dispose](): void {
    this.release();
    for (const listener of this.#guards.splice(0)) listener.close();
  }
}

/**
 * Reserves free ports, at most 55,535, for servers that bind them later. The ports are held by
 * listeners until they are released; one guard listener beside them stays, as the sign to other
 * processes that the block is taken.
 *
 * Needs `--allow-net=<hostname>`.
 *
 * @throws {ValidationError} When the numbers make no sense.
 * @throws {StateError} When no block of the range is free.
 * @throws {PermissionError} When Deno may not listen there.
 */
export function reservePorts(options: PortLeaseOptions): PortLease {
  checkOptionNames(options, NAMES, "reservePorts()");
  const { count, hostname = "127.0.0.1", range = defaultRange } = options;
  const span = Math.max(options.span ?? count, count);
  checkRange(range, count);
  const blocks = Math.ceil((span + 1) / blockSize);
  const first = Math.ceil(range.from / blockSize);
  const starts = Math.floor((range.to + 1) / blockSize) - blocks - first + 1;
  if (starts < 1) {
    throw new ValidationError(
      `The port range ${range.from} to ${range.to} is too small for ${blocks * blockSize} ports`,
    );
  }
  // Starting anywhere keeps processes that start together from trying the same blocks in step.
  const offset = Math.floor(Math.random() * starts);
  for (let i = 0; i < starts; i++) {
    const start = (first + (offset + i) % starts) * blockSize;
    const lease = tryBlock({ start, blocks, count, hostname });
    if (lease !== undefined) return lease;
  }
  throw new StateError(
    `No ${count} neighbouring ports from ${range.from} to ${range.to} are free on ${hostname}; ` +
      "stop what uses them or choose the ports yourself",
  );
}

/** A port that is free now, from 1 to 55,535. It is not held: prefer {@linkcode reservePorts}. */
export function getOpenPort(options: { hostname?: string | undefined } = {}): number {
  using lease = reservePorts({ count: 1, hostname: options.hostname });
  return lease.ports[0]!;
}

/**
 * Whether nobody listens on a port of this host.
 *
 * @throws {PermissionError} When Deno may not listen there.
 */
export function isPortFree(port: number, hostname = "127.0.0.1"): boolean {
  const listener = tryListen(hostname, port);
  listener?.close();
  return listener !== undefined;
}

/** Pause between two looks at a port. */
const LOOK_MS = 50;

/**
 * Waits until nobody listens on a port, or for `timeoutMs` (default 10 s): what was killed may hold
 * its port for a moment. Whether it is free then is for who binds it to say.
 */
export async function untilPortFree(
  port: number,
  options: { readonly hostname?: string | undefined; readonly timeoutMs?: number | undefined } = {},
): Promise<void> {
  const { hostname, timeoutMs = 10_000 } = options;
  for (let waitedMs = 0; !isPortFree(port, hostname) && waitedMs < timeoutMs; waitedMs += LOOK_MS) {
    await sleep(LOOK_MS);
  }
}

interface Block {
  readonly start: number;
  readonly blocks: number;
  readonly count: number;
  readonly hostname: string;
}

function tryBlock({ start, blocks, count, hostname }: Block): PortLease | undefined {
  const guards: Deno.Listener[] = [];
  const held: Deno.Listener[] = [];
  const ports = Array.from({ length: count }, (_, i) => start + i);
  // The last port of each block is its guard, so leases of several blocks meet those of one.
  const guardPorts = Array.from({ length: blocks }, (_, i) => start + (i + 1) * blockSize - 1);
  try {
    const complete = listenAll(hostname, guardPorts, guards) && listenAll(hostname, ports, held);
    if (complete) return new PortLease(guards.splice(0), held.splice(0), ports);
    return undefined;
  } finally {
    for (const listener of [...guards, ...held]) listener.close();
  }
}

function listenAll(hostname: string, ports: readonly number[], into: Deno.Listener[]): boolean {
  for (const port of ports) {
    const listener = tryListen(hostname, port);
    if (listener === undefined) return false;
    into.push(listener);
  }
  return true;
}

function tryListen(hostname: string, port: number): Deno.Listener | undefined {
  try {
    const listener = Deno.listen({ hostname, port });
    listener.unref();
    return listener;
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) return undefined;
    if (error instanceof Deno.errors.PermissionDenied) return undefined;
    if (error instanceof Deno.errors.AddrNotAvailable) {
      throw new ValidationError(`${hostname} is not an address of this machine`, { cause: error });
    }
    throw asPermissionError(error, `--allow-net=${hostname}`, `listen on ${hostname}`);
  }
}

function checkRange(range: { from: number; to: number }, count: number): void {
  if (!Number.isInteger(count) || count < 1) {
    throw new ValidationError(`\`count\` must be a whole number from 1, not ${count}`);
  }
  for (const port of [range.from, range.to]) {
    if (Number.isInteger(port) && port >= 1 && port <= highestPort) continue;
    throw new ValidationError(`A port to reserve must be from 1 to ${highestPort}, not ${port}`);
  }
}
