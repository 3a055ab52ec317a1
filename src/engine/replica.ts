import type { StartableServer } from "../fleet/mod.ts";
import { makeSGLangServer, type ProcessExit, type SGLangServer } from "../server/mod.ts";
import type { SGLangServerOptions } from "../server/mod.ts";

/** A managed server that can be started again at the same address. */
export class Replica implements StartableServer {
  readonly #options: SGLangServerOptions;
  readonly #server: SGLangServer;
  readonly #current: CurrentServers;

  private constructor(
    server: SGLangServer,
    options: SGLangServerOptions,
    current: CurrentServers,
  ) {
    this.#server = server;
    this.#options = options;
    this.#current = current;
    current.put(server);
  }

  /** Starts it for the first time. */
  static async start(options: SGLangServerOptions, current: CurrentServers): Promise<Replica> {
    return new Replica(await makeSGLangServer(options), options, current);
  }

  get url(): string {
    return this.#server.url;
  }

  /** File with the log; further starts append to one that was named. */
  get logFile(): string {
    return this.#server.logFile;
  }

  get exited(): Promise<ProcessExit> {
    return this.#server.exited;
  }

  /** Ends what is left of it and starts it at the same address. */
  async restart({ signal }: { readonly signal: AbortSignal }): Promise<Replica> {
    // Whoever wanted its requests to end has waited for that before.
    await this.#server.stop({ graceMs: 0 });
    const server = await makeSGLangServer({ ...this.#options, port: this.#server.port, signal });
    return new Replica(server, this.#options, this.#current);
  }
}

/** The processes that run now, one for each address, so that all can be ended. */
export class CurrentServers {
  readonly #servers = new Map<string, SGLangServer>();
  #isStopped = false;

  /** The process that an address has now. */
  put(server: SGLangServer): void {
    this.#servers.set(server.url, server);
    // A start that was under way when all were ended.
    if (this.#isStopped) void server.stop({ graceMs: 0 });
  }

  /** The process that an address has now, or had last. */
  at(url: string): SGLangServer | undefined {
    return this.#servers.get(url);
  }

  /** Ends all. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all([...this.#servers.values()].map((server) => server.stop()));
  }
}
