import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { EmbeddedServer, makeTinyCheckpoint } from "../../src/embedded/mod.ts";
import type { SGLangRouter } from "../../src/router/mod.ts";
import type { SGLangServer } from "../../src/server/mod.ts";
import {
  modelPath,
  type SGLangVersion,
  startForks,
  startRealRouter,
  startRealServer,
} from "../../tests/_support/real.ts";
import type { KillablePair } from "./versions.ts";

const VERSIONS = ["0.5.16", "0.5.23"] as const;

/** What the pairs take. */
export interface PairOptions {
  /** The servers' versions. Default one of each. */
  readonly versions?: readonly [SGLangVersion, SGLangVersion] | undefined;
  /** Whether the real router stands in front of them. */
  readonly router: boolean;
}

/** Two embedded servers, by themselves or behind the real router. */
export class EmbeddedPair implements KillablePair {
  readonly target: string | readonly string[];
  readonly checkpoints: readonly [string, string];
  readonly #servers: EmbeddedServer[];
  readonly #folder: string;
  readonly #router: SGLangRouter | undefined;
  readonly #versions: readonly [SGLangVersion, SGLangVersion];

  private constructor(
    versions: readonly [SGLangVersion, SGLangVersion],
    folder: string,
    servers: EmbeddedServer[],
    router?: SGLangRouter,
  ) {
    this.#versions = versions;
    this.#folder = folder;
    this.#servers = servers;
    this.#router = router;
    this.target = router?.url ?? servers.map(({ url }) => url);
    this.checkpoints = [join(folder, "0"), join(folder, "1")];
  }

  /** Starts them, and with `router` the real router. */
  static async start({ versions = VERSIONS, router }: PairOptions): Promise<EmbeddedPair> {
    const folder = await Deno.makeTempDir({ prefix: "sglang-rl-soak-" });
    for (const seed of [0, 1]) {
      await makeTinyCheckpoint(join(folder, String(seed)), { seed, dtype: "float32" });
    }
    const servers = await Promise.all(
      versions.map((version) => EmbeddedServer.start({ model: join(folder, "0"), version })),
    );
    if (!router) return new EmbeddedPair(versions, folder, servers);
    return new EmbeddedPair(versions, folder, servers, await startRouter(servers));
  }

  async restart(index: number): Promise<void> {
    const server = this.#servers[index]!;
    server.crash();
    await server.close();
    this.#servers[index] = await EmbeddedServer.start({
      model: this.checkpoints[0],
      version: this.#versions[index]!,
      port: Number(new URL(server.url).port),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#router?.stop();
    await Promise.all(this.#servers.map((server) => server.close()));
    await Deno.remove(this.#folder, { recursive: true });
  }
}

/** A router that soon notices who is dead, and sends to all in turn. */
function startRouter(servers: readonly { readonly url: string }[]): Promise<SGLangRouter> {
  return startRealRouter({
    workers: servers.map(({ url }) => url),
    policy: "round_robin",
    healthCheckIntervalMs: 1_000,
  });
}

/** Two real servers, by themselves or behind the real router; each start is a fork. */
export class RealPair implements KillablePair {
  readonly target: string | readonly string[];
  readonly checkpoints = [modelPath("tiny"), modelPath("tiny1")] as const;
  readonly #start: readonly ((port?: number) => Promise<SGLangServer>)[];
  readonly #servers: SGLangServer[];
  readonly #owned: AsyncDisposableStack;

  private constructor(
    start: readonly ((port?: number) => Promise<SGLangServer>)[],
    servers: SGLangServer[],
    owned: AsyncDisposableStack,
    router: SGLangRouter | undefined,
  ) {
    this.#start = start;
    this.#servers = servers;
    this.#owned = owned;
    this.target = router?.url ?? servers.map(({ url }) => url);
  }

  /** Starts them. */
  static async start({ versions = VERSIONS, router }: PairOptions): Promise<RealPair> {
    await using stack = new AsyncDisposableStack();
    const forks = stack.use(await startForks(versions));
    const start = versions.map((version) => (port?: number) =>
      startRealServer({ version, python: forks.pythons.get(version)!, port })
    );
    const servers: SGLangServer[] = [];
    stack.defer(async () => {
      await Promise.all(servers.map((server) => server.stop()));
    });
    const launches = await Promise.allSettled(start.map(async (one, index) => {
      servers[index] = await one();
    }));
    for (const launch of launches) if (launch.status === "rejected") throw launch.reason;
    const front = router ? stack.use(await startRouter(servers)) : undefined;
    return new RealPair(start, servers, stack.move(), front);
  }

  async restart(index: number): Promise<void> {
    const server = this.#servers[index]!;
    Deno.kill(server.pid, "SIGKILL");
    await server.exited;
    await server.stop();
    const port = Number(new URL(server.url).port);
    await untilFree(port);
    this.#servers[index] = await this.#start[index]!(port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}

/** The processes of a fork end a moment after the one that was killed. */
async function untilFree(port: number): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return;
    } catch {
      await pause(50);
    }
  }
}
