import type { WatchedCall, WatchedEngine, WatchedServer } from "./watched.ts";

/** How a server does at one moment; what it does not tell is `null`. */
export interface ServerLook {
  /** Address of the server. */
  readonly url: string;
  /** Whether it answered when it was asked last; `null` while the first answer is awaited, or unasked. */
  readonly answers: boolean | null;
  /** Where the engine has it, such as `serving`. */
  readonly state: string | null;
  /** Whether this program paused it and has not resumed it. */
  readonly isPaused: boolean;
  /** Whether it takes requests; one that another program paused does not. `null` while not known. */
  readonly isReady: boolean | null;
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
/** A server that cannot tell whether it takes requests is let make a token, every so many looks. */
const LOOKS_PER_TOKEN = 10;
const TOKEN_TIMEOUT_MS = 5000;

type Client = NonNullable<WatchedServer["client"]>;
type Load = Awaited<ReturnType<Client["load"]>>;

/** What a server told last; `undefined` while the first answer is awaited, `null` for none. */
interface Told {
  readonly load: Load | null | undefined;
  readonly isReady: boolean | null;
}

/** Asks every server of a fleet for its load, all at once. */
export async function lookAtServers(
  engine: WatchedEngine | undefined,
  { signal }: { readonly signal?: AbortSignal | undefined },
): Promise<ServerLook[]> {
  await engine?.lookAround?.({ timeoutMs: TIMEOUT_MS, signal }).catch(() => {});
  return await Promise.all(
    serversOf(engine).map(async (server) => {
      const call = { timeoutMs: TIMEOUT_MS, signal };
      const [load, isReady = null] = await Promise.all([
        loadOf(server, call),
        readinessOf(server, call),
      ]);
      return lookOf(server, { load, isReady });
    }),
  );
}

/** What the servers of a fleet told last, each asked at its own pace: none waits for another. */
export class ServerWatch implements Disposable {
  readonly #engine: WatchedEngine | undefined;
  readonly #loads = new Answers<Load | null>();
  readonly #ready = new Answers<boolean | null>();
  readonly #stop = new AbortController();
  #looks = 0;

  constructor(engine: WatchedEngine | undefined) {
    this.#engine = engine;
  }

  /** Asks those that do not owe an answer from before; resolves when these have answered. */
  async ask(): Promise<void> {
    // Who it finds is asked the next time.
    this.#engine?.lookAround?.({ timeoutMs: TIMEOUT_MS, signal: this.#stop.signal })
      .catch(() => {});
    const servers = serversOf(this.#engine);
    const urls = new Set(servers.map(({ url }) => url));
    this.#loads.keepOnly(urls);
    this.#ready.keepOnly(urls);
    const mayMakeToken = this.#looks++ % LOOKS_PER_TOKEN === 0;
    const call = { timeoutMs: TIMEOUT_MS, signal: this.#stop.signal };
    await Promise.all(servers.flatMap((server) => [
      this.#loads.ask(server.url, () => loadOf(server, call)),
      this.#ready.ask(server.url, () => readinessOf(server, call, mayMakeToken)),
    ]));
  }

  /** What is known now. */
  get looks(): ServerLook[] {
    return serversOf(this.#engine).map((server) =>
      lookOf(server, {
        load: this.#loads.of(server.url),
        isReady: this.#ready.of(server.url) ?? null,
      })
    );
  }

  /** Ends the questions that are open. */
  [Symbol.dispose](): void {
    this.#stop.abort();
  }
}

/** What servers answered last to one question, by address. */
class Answers<T> {
  readonly #told = new Map<string, T>();
  /** Those that owe an answer. */
  readonly #asked = new Set<string>();

  of(url: string): T | undefined {
    return this.#told.get(url);
  }

  /** Forgets what others told. */
  keepOnly(urls: ReadonlySet<string>): void {
    for (const url of this.#told.keys()) if (!urls.has(url)) this.#told.delete(url);
  }

  /** Asks one that owes no answer; `undefined` leaves what it told before. */
  async ask(url: string, question: () => Promise<T | undefined>): Promise<void> {
    if (this.#asked.has(url)) return;
    this.#asked.add(url);
    const answer = await question();
    this.#asked.delete(url);
    if (answer !== undefined) this.#told.set(url, answer);
  }
}

/** The servers of an engine, and those that its supervisor keeps out of it. */
function serversOf(engine: WatchedEngine | undefined): WatchedServer[] {
  const { workers = [], supervisor } = engine ?? {};
  const known = new Set(workers.map(({ url }) => url));
  const others = supervisor?.servers.filter(({ url }) => !known.has(url)) ?? [];
  return [
    ...workers,
    ...others.map(({ url, state, isDrained, reason, weightVersion }) => ({
      url,
      state: isDrained ? "drained" : state,
      reason,
      weightVersion,
    })),
  ];
}

async function loadOf({ client }: WatchedServer, call: WatchedCall): Promise<Load | null> {
  try {
    return await client?.load(call) ?? null;
  } catch {
    return null;
  }
}

/** Whether a server takes requests; `undefined` where it is not asked now. */
async function readinessOf(
  { client }: WatchedServer,
  call: WatchedCall,
  mayMakeToken = false,
): Promise<boolean | null | undefined> {
  try {
    const capabilities = await client?.capabilities?.(call);
    if (capabilities === undefined) return null;
    if (capabilities.hasReady) return await client?.ready?.(call) ?? null;
    if (!mayMakeToken) return undefined;
    return await client?.generates?.({ ...call, timeoutMs: TOKEN_TIMEOUT_MS }) ?? null;
  } catch {
    return null;
  }
}

function lookOf(server: WatchedServer, { load, isReady }: Told): ServerLook {
  const answers = load === undefined || server.client === undefined ? null : load !== null;
  return {
    url: server.url,
    answers,
    state: server.state ?? null,
    isPaused: server.client?.isPaused ?? false,
    isReady: answers === true ? isReady : null,
    reason: server.reason ?? null,
    weightVersion: server.weightVersion ?? null,
    sglang: server.version ?? null,
    model: server.modelPath ?? null,
    running: load?.running ?? null,
    waiting: load?.waiting ?? null,
    tokensPerSecond: load?.tokensPerSecond ?? null,
    kvUsage: load?.tokenUsage ?? null,
    cacheHits: load?.cacheHitRate ?? null,
  };
}
