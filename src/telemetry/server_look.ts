import type { WatchedEngine } from "./watched.ts";

/** How a server does at one moment; what it does not tell is `null`. */
export interface ServerLook {
  /** Address of the server. */
  readonly url: string;
  /** Whether it answered. */
  readonly answers: boolean;
  /** Where the engine has it, such as `serving`. */
  readonly state: string | null;
  /** Why it stands there. */
  readonly reason: string | null;
  /** Weight version that it last told, or was given. */
  readonly weightVersion: string | null;
  /** SGLang version. */
  readonly sglang: string | null;
  /** Path or name of the model. */
  readonly model: string | null;
  /** Requests that run. */
  readonly running: number | null;
  /** Requests that wait. */
  readonly waiting: number | null;
  /** Tokens made a second. */
  readonly tokensPerSecond: number | null;
  /** Share of the KV pool in use. */
  readonly kvUsage: number | null;
  /** Share of prompt tokens found in the prefix cache. */
  readonly cacheHits: number | null;
}

const TIMEOUT_MS = 3000;

/** Asks every server of a fleet for its load, all at once. */
export async function lookAtServers(
  engine: WatchedEngine | undefined,
  { signal }: { readonly signal?: AbortSignal | undefined },
): Promise<ServerLook[]> {
  return await Promise.all((engine?.workers ?? []).map(async (worker): Promise<ServerLook> => {
    const load = await worker.client?.load({ timeoutMs: TIMEOUT_MS, signal }).catch(() => null);
    return {
      url: worker.url,
      answers: load != null,
      state: worker.state ?? null,
      reason: worker.reason ?? null,
      weightVersion: worker.weightVersion ?? null,
      sglang: worker.version ?? null,
      model: worker.modelPath ?? null,
      running: load?.running ?? null,
      waiting: load?.waiting ?? null,
      tokensPerSecond: load?.tokensPerSecond ?? null,
      kvUsage: load?.tokenUsage ?? null,
      cacheHits: load?.cacheHitRate ?? null,
    };
  }));
}
