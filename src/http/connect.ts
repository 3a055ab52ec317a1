import { lookup } from "node:dns/promises";
import type { Clock } from "../internal/clock.ts";
import { inBrackets } from "../internal/hostname.ts";
import type { Address } from "./address.ts";
import { isSystemError, runtime, type TcpConnection } from "../runtime/mod.ts";

/** How long the first address of a name is tried alone before another may be tried instead. */
const PATIENCE_MS = 3_000;

/** What opens connections; tests have their own. */
export interface Connector {
  /** Connects to a host, of a name to its first address. */
  readonly open: (hostname: string, port: number, signal: AbortSignal) => Promise<TcpConnection>;
  /** All addresses of a name, as far as Deno may ask for them and connect to them. */
  readonly addressesOf: (hostname: string, port: number) => Promise<readonly string[]>;
  readonly clock: Clock;
}

/** The connector of the system. */
export function systemConnector(clock: Clock): Connector {
  return {
    open: (hostname, port, signal) => runtime().connect({ hostname, port, signal }),
    addressesOf: knownAddresses,
    clock,
  };
}

/**
 * Connects to the first address of a host that takes the connection. Deno tries only one address of
 * a name: where that refuses, cannot be reached or does not answer, the others have their turn. The
 * error is that of the first.
 */
export async function connectToAny(
  { hostname, port }: Pick<Address, "hostname" | "port">,
  connector: Connector,
  signal: AbortSignal,
): Promise<TcpConnection> {
  if (isLiteral(hostname)) return await connector.open(hostname, port, signal);
  let others: readonly string[] = [];
  const impatient = new AbortController();
  const cancel = connector.clock.schedule(PATIENCE_MS, async () => {
    others = await connector.addressesOf(hostname, port);
    if (others.length > 1) impatient.abort(noAnswer(hostname));
  });
  let first: unknown;
  try {
    const either = AbortSignal.any([signal, impatient.signal]);
    return await connector.open(hostname, port, either);
  } catch (error) {
    signal.throwIfAborted();
    first = impatient.signal.aborted ? impatient.signal.reason : error;
    if (!mayHelp(error, impatient.signal)) throw first;
  } finally {
    cancel();
  }
  if (others.length === 0) others = await connector.addressesOf(hostname, port);
  for (const [i, address] of others.entries()) {
    try {
      return await openWithin(address, port, {
        connector,
        signal,
        isLast: i === others.length - 1,
      });
    } catch {
      signal.throwIfAborted();
    }
  }
  throw first;
}

/** The last address may take all the time that the call has. */
async function openWithin(
  address: string,
  port: number,
  { connector, signal, isLast }: { connector: Connector; signal: AbortSignal; isLast: boolean },
): Promise<TcpConnection> {
  if (isLast) return await connector.open(address, port, signal);
  const impatient = new AbortController();
  const cancel = connector.clock.schedule(PATIENCE_MS, () => impatient.abort(noAnswer(address)));
  try {
    return await connector.open(address, port, AbortSignal.any([signal, impatient.signal]));
  } finally {
    cancel();
  }
}

function noAnswer(host: string): Error {
  return Object.assign(new Error(`${host} does not answer`), { name: "TimedOut" });
}

/** Whether another address of the name may be better. */
function mayHelp(error: unknown, impatient: AbortSignal): boolean {
  if (impatient.aborted) return true;
  const code = (error as { code?: unknown }).code;
  return isSystemError(error, "ConnectionRefused", "TimedOut", "NetworkUnreachable") ||
    ["EHOSTUNREACH", "ENETUNREACH", "EADDRNOTAVAIL", "ETIMEDOUT"].includes(String(code));
}

/** Whether it is an address and no name. */
function isLiteral(hostname: string): boolean {
  return hostname.includes(":") || /^\d+(\.\d+){3}$/.test(hostname);
}

async function knownAddresses(hostname: string, port: number): Promise<readonly string[]> {
  const found = hostname === "localhost" ? ["127.0.0.1", "::1"] : await lookUp(hostname);
  return found.filter((address) => mayConnect(`${inBrackets(address)}:${port}`));
}

async function lookUp(hostname: string): Promise<string[]> {
  // Asking for addresses takes the permission for the host with all its ports.
  if (!mayConnect(hostname)) return [];
  try {
    return (await lookup(hostname, { all: true })).map(({ address }) => address);
  } catch {
    return [];
  }
}

/** Without the permission Deno would ask in the terminal. */
function mayConnect(host: string): boolean {
  return runtime().isGranted({ name: "net", host });
}
