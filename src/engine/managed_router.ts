import { SGLangError } from "../errors.ts";
import { splitLastLines } from "../internal/last_lines.ts";
import { retold } from "../internal/retold.ts";
import type { StartableRouter } from "../fleet/mod.ts";
import { type ProcessExit, SGLangRouter, type SGLangRouterOptions } from "../router/mod.ts";
import type { Rotation } from "./rotation.ts";

/** Longest start of a router that replaces another; its servers run already. */
const RESTART_TIMEOUT_MS = 60_000;

/** The router; what is wrong with an option is told by the name that it has in an engine's. */
async function launched(options: SGLangRouterOptions): Promise<SGLangRouter> {
  try {
    return await SGLangRouter.launch(options);
  } catch (error) {
    if (!(error instanceof SGLangError)) throw error;
    const [told, log] = splitLastLines(error.message);
    const message = told.replaceAll(/`(?=[a-zA-Z]+`)/g, "`router.") + log;
    throw message === error.message ? error : retold(error, message, error.cause);
  }
}

/** A managed router that can be started again at the same addresses. */
export class ManagedRouter implements StartableRouter, AsyncDisposable {
  readonly #options: SGLangRouterOptions;
  #router: SGLangRouter;
  #rotation: Rotation | undefined;
  #onBack: () => void = () => {};

  private constructor(router: SGLangRouter, options: SGLangRouterOptions) {
    this.#router = router;
    this.#options = options;
  }

  /** Starts it for the first time. */
  static async launch(options: SGLangRouterOptions): Promise<ManagedRouter> {
    return new ManagedRouter(await launched(options), options);
  }

  /** Who knows which servers a new router should have, and who is told when it has them. */
  serve(rotation: Rotation, onBack: () => void): void {
    this.#rotation = rotation;
    this.#onBack = onBack;
  }

  get url(): string {
    return this.#router.url;
  }

  /** Id of its present process. */
  get pid(): number | undefined {
    return this.#router.pid;
  }

  /** File with the log; further starts append to one that was named. */
  get logFile(): string | undefined {
    return this.#router.logFile;
  }

  get metricsUrl(): string | undefined {
    return this.#router.metricsUrl;
  }

  get exited(): Promise<ProcessExit> {
    return this.#router.exited!;
  }

  async probe({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    // The deadline is that of who asks.
    await this.#router.workers({ signal, timeoutMs: 3_600_000 });
  }

  async restart({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    await this.#router.stop({ graceMs: 0 });
    const { port } = new URL(this.url);
    const metrics = new URL(this.#router.metricsUrl!);
    await this.#rotation!.whileRouterStarts(async (workers) => {
      this.#router = await launched({
        ...this.#options,
        workers,
        port: Number(port),
        prometheusPort: Number(metrics.port),
        readyTimeoutMs: Math.min(
          RESTART_TIMEOUT_MS,
          this.#options.readyTimeoutMs ?? RESTART_TIMEOUT_MS,
        ),
        signal,
      });
    }, signal);
    this.#onBack();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#router.stop();
  }
}
