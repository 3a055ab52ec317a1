import { TimeoutError } from "../../errors.ts";
import { systemClock } from "../../internal/clock.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { messageOf } from "../../internal/thrown.ts";

/** A server, by its address. */
interface Named {
  readonly url: string;
}

/** A step failed on one server; carries which. */
export class ServerFailure extends Error {
  /** The server. */
  readonly server: Named;
  /** Makes it; `cause` is what happened. */
  constructor(server: Named, cause: unknown) {
    super(`${server.url}: ${messageOf(cause)}`, { cause });
    this.server = server;
  }
}

/** A call's own deadline is set by the step around it; this one must only not come first. */
export const BEYOND_ANY_STEP_MS = 24 * 3600 * 1000;

/** What every call on several servers takes. */
export interface FleetCall {
  /** Name of the step; appears in the error. */
  readonly phase: string;
  /** Longest wait for each server. */
  readonly timeoutMs: number;
  /** The caller's cancellation. */
  readonly signal?: AbortSignal | undefined;
  /** Longest wait for a server once others are done. Default: as long as for each. */
  readonly stragglerMs?: number | undefined;
}

/** Does `work` on every server at once; the first failure cancels the others and is thrown. */
export async function onAll<S extends Named, T>(
  servers: readonly S[],
  call: FleetCall,
  work: (server: S, signal: AbortSignal) => Promise<T>,
): Promise<T[]> {
  const stop = new AbortController();
  const onAbort = () => stop.abort(call.signal?.reason);
  call.signal?.addEventListener("abort", onAbort, { once: true });
  if (call.signal?.aborted) onAbort();
  const tasks = startAll(servers, { ...call, signal: stop.signal }, work);
  try {
    return await Promise.all(tasks);
  } catch (error) {
    stop.abort(error);
    await Promise.allSettled(tasks);
    throw error;
  } finally {
    call.signal?.removeEventListener("abort", onAbort);
  }
}

/** Does `work` on every server at once and waits for all; what failed comes back as a failure. */
export async function onAllSettled<S extends Named, T>(
  servers: readonly S[],
  call: FleetCall,
  work: (server: S, signal: AbortSignal) => Promise<T>,
): Promise<(T | ServerFailure)[]> {
  const tasks = startAll(servers, call, work);
  return await Promise.all(tasks.map((task) => task.catch((error: ServerFailure) => error)));
}

/**
 * Starts `work` on every server. One that is far behind the others, as a frozen one is, fails
 * without its whole deadline, because the others are paused meanwhile.
 */
function startAll<S extends Named, T>(
  servers: readonly S[],
  call: FleetCall,
  work: (server: S, signal: AbortSignal) => Promise<T>,
): Promise<T>[] {
  const { stragglerMs = Infinity, phase } = call;
  if (stragglerMs >= call.timeoutMs || servers.length < 2) {
    return servers.map((server) => onOne(server, call, work));
  }
  const unfinished = new Set<AbortController>();
  let cancel = () => {};
  const onFinished = (stop: AbortController) => {
    unfinished.delete(stop);
    cancel();
    if (unfinished.size === 0) return;
    cancel = systemClock.schedule(stragglerMs, () => {
      for (const late of unfinished) late.abort();
    });
  };
  return servers.map(async (server) => {
    const stop = new AbortController();
    unfinished.add(stop);
    const { signal } = call;
    const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
    try {
      return await onOne(server, { ...call, signal: either }, work);
    } catch (error) {
      if (!stop.signal.aborted || signal?.aborted) throw error;
      throw new ServerFailure(server, leftBehind(phase, stragglerMs, server.url));
    } finally {
      onFinished(stop);
    }
  });
}

/** The error of a server that others waited for. */
export function leftBehind(phase: string, timeoutMs: number, peer: string): TimeoutError {
  const lastHeard = "the other servers were done; it is left behind";
  return new TimeoutError({ phase, timeoutMs, peer, lastHeard });
}

/** Does `work` on one server within the deadline; a failure carries the server. */
export async function onOne<S extends Named, T>(
  server: S,
  call: FleetCall,
  work: (server: S, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  try {
    return await withDeadline(
      { phase: call.phase, timeoutMs: call.timeoutMs, peer: server.url, signal: call.signal },
      (signal) => work(server, signal),
    );
  } catch (error) {
    if (error instanceof ServerFailure && error.server === server) throw error;
    throw new ServerFailure(server, error);
  }
}

/** The server of a failure, when it has one, and the error beneath. */
export function unwrapFailure(
  error: unknown,
): { server: Named | undefined; cause: unknown } {
  if (!(error instanceof ServerFailure)) return { server: undefined, cause: error };
  // A call on all servers that is part of a call on one: the inner failure says more.
  const inner = unwrapFailure(error.cause);
  return { server: inner.server ?? error.server, cause: inner.cause };
}
