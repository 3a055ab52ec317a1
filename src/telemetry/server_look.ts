import type { WatchedEngine, WatchedServer } from "./watched.ts";

/** How a server does at one moment; what it does not tell is `null`. */
export interface ServerLook {
  /** Address of the server. */
  readonly url: string;
  /** Whether it answered when it was asked last; `null` while the first answer is awaited. */
  readonly answers: boolean | null;
  /** Where the engine has it, such as `serving`. */
  readonly state: string | null;
  /** Whether this program paused it and has not resumed it. */
  readonly isPaused: boolean;
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

type Load = Awaited<ReturnType<NonNullable<WatchedServer["client"]>["load"]>>;

/** Asks every server of a fleet for its load, all at once. */
export async function lookAtServers(
  engine: WatchedEngine | undefined,
  { signal }: { readonly signal?: AbortSignal | undefined },
): Promise<ServerLook[]> {
  return await Promise.all((engine?.workers ?? []).map(async (worker) => {
    const load = await loadOf(worker, signal);
    return lookOf(worker, { load, answers: load !== null });
  }));
}

/** What the servers of a fleet told last, each asked at its own pace: none waits for another. */
export class ServerWatch implements Disposable {
  readonly #engine: WatchedEngine | undefined;
  readonly #told = new Map<string, Load | null>();
  readonly #asked = new Set<string>();
  readonly #stop = new AbortController();

  constructor(engine: WatchedEngine | undefined) {
    this.#engine = engine;
  }

  /** Asks those that do not owe an answer from before; resolves when these have answered. */
  async ask(): Promise<void> {
    const workers = this.#engine?.workers ?? [];
    const urls = new Set(workers.map(({ url }) => url));
    for (const url of this.#told.keys()) if (!urls.has(url)) this.#told.delete(url);
    await Promise.all(workers.map(async (worker) => {
      const { url } = worker;
      if (this.#asked.has(url)) return;
      this.#asked.add(url);
      const load = await loadOf(worker, this.#stop.signal);
      this.#asked.delete(url);
      this.#told.set(url, load);
    }));
  }

  /** What is known now. */
  get looks(): ServerLook[] {
    return (this.#engine?.workers ?? []).map((worker) => {
      const load = this.#told.get(worker.url);
      return lookOf(worker, { load, answers: load === undefined ? null : load !== null });
    });
  }

  /** Ends the questions that are open. */
  [Symbol.dispose](): void {
    this.#stop.abort();
  }
}

async function loadOf(
  { client }: WatchedServer,
  signal: AbortSignal | undefined,
): Promise<Load | null> {
  try {
    return await client?.load({ timeoutMs: TIMEOUT_MS, signal }) ?? null;
  } catch {
    return null;
  }
}

function lookOf(
  worker: WatchedServer,
  { load, answers }: { readonly load: Load | null | undefined; readonly answers: boolean | null },
): ServerLook {
  return {
    url: worker.url,
    answers,
    state: worker.state ?? null,
    isPaused: worker.client?.isPaused ?? false,
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
}
