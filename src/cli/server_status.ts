/** What each server of a fleet says about itself, for `status` and `metrics`. */
import type { SGLangClient } from "../client/mod.ts";
import type { SupervisedServer } from "../fleet/mod.ts";
import { PermissionError } from "../errors.ts";

/** State of one server. */
export interface ServerStatus {
  readonly server: string;
  /** `ready`; `paused`; `not generating` when it answers but a generation does not pass; `unreachable`. */
  readonly health: "ready" | "paused" | "not generating" | "unreachable";
  /** Where it stands for the `serve` that started it, such as `stale`; `null` without one. */
  readonly state: string | null;
  /** Why it stands there. */
  readonly reason: string | null;
  /** Whether somebody took it out of rotation. */
  readonly isDrained: boolean | null;
  readonly sglang: string | null;
  /** Where the weights came from last, as the server tells it: a checkpoint, or the first model. */
  readonly checkpoint: string | null;
  readonly weightVersion: string | null;
  readonly running: number | null;
  readonly waiting: number | null;
  readonly tokensPerSecond: number | null;
  readonly kvUsagePercent: number | null;
  readonly cacheHitPercent: number | null;
}

/** A paused server lets /health wait for 20 s; a status should not. */
const healthTimeoutMs = 5000;
const infoTimeoutMs = 3000;
const pauseTimeoutMs = 4000;

/** Asks every server, all at once; one that does not answer is a result, not an error. */
export function lookAt(
  clients: readonly SGLangClient[],
  signal: AbortSignal,
  supervised: readonly SupervisedServer[] = [],
): Promise<ServerStatus[]> {
  return Promise.all(clients.map(async (client) => {
    const short = { timeoutMs: infoTimeoutMs, signal };
    const [info, model, load, isHealthy, isPaused] = await Promise.all([
      client.serverInfo(short).catch(nullUnlessDenied),
      client.modelInfo(short).catch(nullUnlessDenied),
      client.load(short).catch(nullUnlessDenied),
      client.health({ timeoutMs: healthTimeoutMs, signal }).catch(nullUnlessDenied),
      // A paused 0.5.16 goes on to call itself healthy for a while.
      client.checkPaused({ timeoutMs: pauseTimeoutMs, signal }).catch(nullUnlessDenied),
    ]);
    const told = supervised.find(({ url }) => url === client.url);
    return {
      server: client.url,
      health: healthOf({ isThere: info !== null, isPaused: isPaused === true, isHealthy }),
      state: told?.state ?? null,
      reason: told?.reason ?? null,
      isDrained: told?.isDrained ?? null,
      sglang: info?.version ?? null,
      checkpoint: model?.modelPath ?? null,
      weightVersion: model?.weightVersion ?? null,
      running: load?.running ?? null,
      waiting: load?.waiting ?? null,
      tokensPerSecond: load === null ? null : Math.round(load.tokensPerSecond ?? 0),
      kvUsagePercent: percent(load?.tokenUsage),
      cacheHitPercent: percent(load?.cacheHitRate),
    };
  }));
}

function healthOf({ isThere, isPaused, isHealthy }: {
  readonly isThere: boolean;
  readonly isPaused: boolean;
  readonly isHealthy: boolean | null;
}): ServerStatus["health"] {
  if (isPaused) return "paused";
  if (isHealthy) return "ready";
  return isThere ? "not generating" : "unreachable";
}

function percent(share: number | null | undefined): number | null {
  return share == null ? null : Math.round(share * 1000) / 10;
}

/** A server that does not answer is a result; a permission that is missing is not. */
function nullUnlessDenied(error: unknown): null {
  if (error instanceof PermissionError) throw error;
  return null;
}
