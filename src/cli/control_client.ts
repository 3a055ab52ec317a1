/** Calls to the control endpoint of a `serve` on this machine. */
import type { ControlledServer, SyncedFleet } from "../fleet/mod.ts";
import { HttpError, PermissionError, TimeoutError, UnreachableError } from "../errors.ts";
import { HttpPool, type HttpRequest } from "../http/mod.ts";
import { systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { type FleetOptions, keysOf } from "./fleet_options.ts";
import type { CliIo } from "./io.ts";

/** Where `serve` listens for the other commands, unless it is taken. */
export const defaultControlPort = 30_900;

/** Longest answer of a control endpoint. */
const ANSWER_BYTES = 8 * 2 ** 20;

/** Which endpoint to call, and how. */
export interface ControlCall {
  /** Address that `serve` printed. */
  readonly url: string;
  readonly key: string | undefined;
  readonly signal: AbortSignal;
  readonly timeoutMs?: number;
}

/** How a command calls the endpoint that its options name. */
export function callOf(
  options: Pick<FleetOptions, "apiKeyEnv" | "adminKeyEnv"> & { readonly control: string },
  io: CliIo,
): ControlCall {
  const { apiKey, adminApiKey } = keysOf(options, io);
  return { url: options.control, key: adminApiKey ?? apiKey, signal: io.signal };
}

/** The servers of a fleet, its router, and where they stand. */
export interface ControlledFleet {
  readonly servers: readonly ControlledServer[];
  /** `null` without a router. */
  readonly router: ControlledServer | null;
}

/** The fleet that a `serve` of this machine started. */
export async function controlledFleet(call: ControlCall): Promise<ControlledFleet> {
  return await ask(call, "GET", "/fleet");
}

/** Longest wait for a fleet that nobody may be asked for. */
const LOOK_TIMEOUT_MS = 2_000;

/** The same, where nobody there, or nobody who may be asked, is no error: `undefined`. */
export async function fleetIfThere(call: ControlCall): Promise<ControlledFleet | undefined> {
  if (!mayCall(call.url)) return undefined;
  try {
    return await controlledFleet({ timeoutMs: LOOK_TIMEOUT_MS, ...call });
  } catch (error) {
    if (isNobody(error)) return undefined;
    throw error;
  }
}

/** Without the permission Deno would ask in the terminal, for what most do not need. */
export function mayCall(url: string): boolean {
  const { host } = new URL(url);
  return Deno.permissions.querySync({ name: "net", host }).state === "granted";
}

function isNobody(error: unknown): boolean {
  return error instanceof UnreachableError || error instanceof PermissionError ||
    error instanceof HttpError || error instanceof TimeoutError;
}

/** All that has a process: the servers, and the router where there is one. */
export function membersOf({ servers, router }: ControlledFleet): readonly ControlledServer[] {
  return router === null ? servers : [...servers, router];
}

/** Orders something of one server or of the router; resolves when it is done. */
export async function order(
  call: ControlCall,
  what: "restart" | "drain" | "undrain" | "retire",
  body: Readonly<Record<string, unknown>>,
): Promise<ControlledFleet> {
  return await ask({ timeoutMs: 900_000, ...call }, "POST", `/${what}`, body);
}

/**
 * Tells the fleet on this machine which checkpoint its servers have, so that it can refit one that
 * comes back, and who was left out. Nobody there, or a fleet of other servers, is no error.
 *
 * @returns The servers of that fleet that were not synced, as they stand now.
 */
export async function tellSynced(
  call: ControlCall,
  sync: SyncedFleet,
): Promise<readonly ControlledServer[]> {
  const isSynced = ({ url }: ControlledServer) => sync.servers.includes(url);
  const fleet = await fleetIfThere(call);
  if (fleet === undefined || !fleet.servers.some(isSynced)) return [];
  try {
    const told = await ask({ ...call, timeoutMs: 10_000 }, "POST", "/synced", { ...sync });
    return told.servers.filter((server) => !isSynced(server));
  } catch (error) {
    if (isNobody(error)) return [];
    throw error;
  }
}

async function ask(
  { url, key, signal, timeoutMs = 30_000 }: ControlCall,
  method: "GET" | "POST",
  path: string,
  body?: unknown,
): Promise<ControlledFleet> {
  const endpoint = `${method} ${path}`;
  return await withDeadline({ phase: endpoint, timeoutMs, peer: url, signal }, async (inner) => {
    const { status, text } = await send(url, {
      method,
      path,
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
      body: body === undefined ? undefined : JSON.stringify(body),
    }, inner);
    const answer = parsed(text);
    if (status === 200 && answer?.servers !== undefined) {
      return { servers: answer.servers, router: answer.router ?? null };
    }
    const said = answer?.error ?? text.slice(0, 200);
    // 409: it was understood and cannot be done now, which the answer tells in full.
    const message = status === 409 ? said : `${url} answered ${endpoint} with ${status}: ${said}`;
    throw new HttpError(message, {
      status,
      endpoint,
      serverMessage: said,
    });
  });
}

async function send(
  url: string,
  request: HttpRequest,
  signal: AbortSignal,
): Promise<{ status: number; text: string }> {
  using pool = new HttpPool({ url, clock: systemClock, maxIdle: 0 });
  try {
    using answer = await pool.send(request, signal);
    return { status: answer.head.status, text: await answer.text("answerBytes", ANSWER_BYTES) };
  } catch (error) {
    if (signal.aborted || !(error instanceof UnreachableError)) throw error;
    throw new UnreachableError(
      `Nobody answers at ${pool.address.origin}: does "sglang-rl serve" run on this machine? It ` +
        "prints the address of its control endpoint; give it with --control",
      { url: pool.address.origin, reason: error.reason, cause: error },
    );
  }
}

function parsed(text: string): Partial<ControlledFleet> & { error?: string } | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
