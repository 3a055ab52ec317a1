import { join } from "node:path";
import { EmbeddedServer, makeTinyCheckpoint } from "../../src/embedded/mod.ts";
import type { SGLangRouter } from "../../src/router/mod.ts";
import type { SGLangServer } from "../../src/server/mod.ts";
import { modelPath, startRealRouter, startRealServer } from "../../tests/_support/real.ts";
import type { KillablePair } from "./versions.ts";

const VERSIONS = ["0.5.16", "0.5.23"] as const;

/** Two embedded servers, one of each version, by themselves or behind the real router. */
export class EmbeddedPair implements KillablePair {
  readonly target: string | readonly string[];
  readonly checkpoints: readonly [string, string];
  readonly #servers: EmbeddedServer[];
  readonly #folder: string;
  readonly #router: SGLangRouter | undefined;

  private constructor(folder: string, servers: EmbeddedServer[], router?: SGLangRouter) {
    this.#folder = folder;
    this.#servers = servers;
    this.#router = router;
    this.target = router?.url ?? servers.map(({ url }) => url);
    this.checkpoints = [join(folder, "0"), join(folder, "1")];
  }

  /** Starts them, and with `router` the real router. */
  static async start({ router = false } = {}): Promise<EmbeddedPair> {
    const folder = await Deno.makeTempDir({ prefix: "sglang-rl-soak-" });
    for (const seed of [0, 1]) {
      await makeTinyCheckpoint(join(folder, String(seed)), { seed, dtype: "float32" });
    }
    const servers = await Promise.all(
      VERSIONS.map((version) => EmbeddedServer.start({ model: join(folder, "0"), version })),
    );
    if (!router) return new EmbeddedPair(folder, servers);
    return new EmbeddedPair(folder, servers, await startRouter(servers));
  }

  async restart(index: number): Promise<void> {
    const server = this.#servers[index]!;
    server.crash();
    await server.close();
    this.#servers[index] = await EmbeddedServer.start({
      model: this.checkpoints[0],
      version: VERSIONS[index]!,
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

/** Two real servers, one of each version, behind the real router. */
export class RealPair implements KillablePair {
  readonly target: string;
  readonly checkpoints = [modelPath("tiny"), modelPath("tiny1")] as const;
  readonly #servers: SGLangServer[];
  readonly #router: SGLangRouter;

  private constructor(servers: SGLangServer[], router: SGLangRouter) {
    this.#servers = servers;
    this.#router = router;
    this.target = router.url;
  }

  /** Starts them. */
  static async start(): Promise<RealPair> {
    await using stack = new AsyncDisposableStack();
    const launches = await Promise.allSettled(
      VERSIONS.map((version) => startRealServer({ version })),
    );
    const servers = launches.filter((one) => one.status === "fulfilled").map(({ value }) => value);
    for (const server of servers) stack.use(server);
    for (const launch of launches) if (launch.status === "rejected") throw launch.reason;
    const router = await startRouter(servers);
    stack.move();
    return new RealPair(servers, router);
  }

  async restart(index: number): Promise<void> {
    const server = this.#servers[index]!;
    Deno.kill(server.pid, "SIGKILL");
    await server.exited;
    await server.stop();
    this.#servers[index] = await startRealServer({
      version: VERSIONS[index]!,
      port: Number(new URL(server.url).port),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#router.stop();
    await Promise.all(this.#servers.map((server) => server.stop()));
  }
}
