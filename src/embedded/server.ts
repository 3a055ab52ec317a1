/** The embedded server. */
import { StateError, ValidationError } from "../errors.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import { pathOf } from "../internal/path_of.ts";
import { asListenError } from "../internal/listen_error.ts";
import type { EmbeddedLoraOptions } from "./adapters/store.ts";
import { type EmulatedVersion, emulatedVersions } from "./emulated.ts";
import type { Faults } from "./faults.ts";
import { route } from "./http/routes.ts";
import { joinGloo } from "./weight_group.ts";
import { loadModel } from "./load.ts";
import { EmbeddedState } from "./state.ts";
import { ServerTokenizer } from "./tokenizer.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { type HttpServer, runtime } from "../runtime/mod.ts";

/** Options of {@linkcode EmbeddedServer.start}. */
export interface EmbeddedServerOptions {
  /** Folder of a safetensors checkpoint of Qwen2 or Llama, with its tokenizer. */
  readonly model: string;
  /** Port to listen on; default 0, which takes a free one. */
  readonly port?: number | undefined;
  /** Address to listen on. Default `127.0.0.1`. */
  readonly hostname?: string | undefined;
  /** SGLang version to behave like. Default `0.5.16`. */
  readonly version?: EmulatedVersion | undefined;
  /** How to misbehave. Default not at all. */
  readonly faults?: Faults | undefined;
  /** Most requests in one batch. Default 64. */
  readonly maxRunningRequests?: number | undefined;
  /** Tokens that the prefix cache keeps, and the size of the pool that is reported. Default 65536. */
  readonly maxTotalTokens?: number | undefined;
  /** Seed of the server, by which it samples. Default a random one. */
  readonly seed?: number | undefined;
  /**
   * As SGLang with `--enable-deterministic-inference`: a request's `sampling_seed` counts, and those
   * that bring none all get 42, so that samples of one prompt are alike. Default false: seeds of
   * requests are ignored.
   */
  readonly enableDeterministicInference?: boolean | undefined;
  /** As SGLang with `--enable-lora`: the server takes adapters and computes them. Default none. */
  readonly lora?: EmbeddedLoraOptions | undefined;
  /**
   * How long a paused or stalled server lets `/health` wait before it answers 503. Default 20000,
   * as in SGLang.
   */
  readonly healthTimeoutMs?: number | undefined;
  /**
   * How long to wait for the other ranks of a weight-update group, in milliseconds. Default 60000,
   * where SGLang waits for 30 minutes.
   */
  readonly groupTimeoutMs?: number | undefined;
  /** Where to report. Default nowhere. */
  readonly logger?: Logger | undefined;
}

const OPTION_NAMES = {
  model: true,
  port: true,
  hostname: true,
  version: true,
  faults: true,
  maxRunningRequests: true,
  maxTotalTokens: true,
  seed: true,
  enableDeterministicInference: true,
  lora: true,
  healthTimeoutMs: true,
  groupTimeoutMs: true,
  logger: true,
} as const satisfies OptionNames<EmbeddedServerOptions>;

/**
 * A small SGLang-compatible server in this process: **a test double**, for tests and trials without
 * a GPU or Python. It computes a real Qwen2 or Llama forward pass on one CPU core, answers the
 * endpoints that this library uses in the real server's form, takes weight updates, and can be told
 * to misbehave.
 *
 * Permissions: `--allow-read` of the checkpoint, `--allow-net=127.0.0.1`.
 *
 * @example
 * ```ts
 * import { EmbeddedServer, makeTinyCheckpoint } from "@sglang-rl/sglang-rl/testing";
 *
 * await makeTinyCheckpoint("/tmp/tiny", { seed: 0 });
 * await using server = await EmbeddedServer.start({ model: "/tmp/tiny" });
 * const answer = await fetch(`${server.url}/generate`, {
 *   method: "POST",
 *   body: JSON.stringify({ text: "Hello", sampling_params: { max_new_tokens: 8 } }),
 * });
 * await answer.json();
 * ```
 */
export class EmbeddedServer implements AsyncDisposable {
  readonly #state: EmbeddedState;
  readonly #http: HttpServer;
  #closing: Promise<void> | undefined;

  private constructor(state: EmbeddedState, http: HttpServer) {
    this.#state = state;
    this.#http = http;
  }

  /**
   * Loads the checkpoint and listens.
   *
   * Throws `CheckpointError` for a folder that it cannot run and `PermissionError` where Deno
   * refuses to read or listen.
   */
  static async start(options: EmbeddedServerOptions): Promise<EmbeddedServer> {
    checkOptionNames(options, OPTION_NAMES, "EmbeddedServer.start()");
    const { version = "0.5.16", port = 0, hostname = "127.0.0.1" } = options;
    if (!Number.isInteger(port) || port < 0 || port > 65_535) {
      throw new ValidationError(`port must be a whole number from 0 to 65535, but is ${port}`);
    }
    const emulated = emulatedVersions[version];
    if (emulated === undefined) {
      const known = Object.keys(emulatedVersions).join(", ");
      throw new ValidationError(`version must be one of ${known}, but is ${version}`);
    }
    const folder = pathOf(options.model, "a model");
    const [model, tokenizer] = await Promise.all([
      loadModel(folder),
      ServerTokenizer.open(folder),
    ]);
    const logger = options.logger ?? silentLogger;
    const connections = new AbortController();
    const state = new EmbeddedState({
      modelPath: folder,
      model,
      tokenizer,
      emulated,
      maxRunningRequests: options.maxRunningRequests ?? 64,
      maxTotalTokens: options.maxTotalTokens ?? 65536,
      healthTimeoutMs: options.healthTimeoutMs ?? 20_000,
      groupTimeoutMs: options.groupTimeoutMs ?? 60_000,
      join: joinGloo,
      seed: options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!,
      isDeterministic: options.enableDeterministicInference ?? false,
      lora: options.lora,
      faults: options.faults ?? {},
      onCrash: (reason) => {
        logger.warn(`Embedded server crashes: ${reason}`);
        connections.abort();
      },
    });
    try {
      const http = await runtime().serve({
        port,
        hostname,
        signal: connections.signal,
        onError: (error) => {
          logger.error(`Embedded server: ${error}`);
          return new Response("Internal Server Error", { status: 500 });
        },
        handler: (request) => route(request, state),
      });
      logger.info(`Embedded server listens on ${hostname}:${http.addr.port}`);
      return new EmbeddedServer(state, http);
    } catch (error) {
      await state.close();
      throw asListenError(error, { hostname, port });
    }
  }

  /** Address, for example `http://127.0.0.1:34567`. */
  get url(): string {
    const { hostname, port } = this.#http.addr;
    return `http://${hostname}:${port}`;
  }

  /** What the server counted. */
  get stats(): EmbeddedServerStats {
    const { scheduler } = this.#state;
    return {
      generatedTokens: scheduler.generatedTokens,
      running: scheduler.running,
      waiting: scheduler.waiting,
      weightVersion: scheduler.weightVersion,
      paused: scheduler.paused,
      crashed: this.#state.isCrashed,
    };
  }

  /** Faults that are set; counted ones tell what is left. */
  get faults(): Faults {
    return this.#state.faults.current;
  }

  /** Changes how the server misbehaves; fields that are not given stay as they are. */
  setFaults(faults: Faults): void {
    if (this.#closing !== undefined) throw new StateError("The embedded server is closed");
    this.#state.faults.set(faults);
  }

  /** Dies at once: connections break in the middle, and the port refuses new ones. */
  crash(): void {
    this.#state.crash("crash() was called");
  }

  /** Ends the server; requests in work end as aborted. Safe to call twice. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** The same as {@linkcode EmbeddedServer.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await this.#state.close();
    await this.#http.shutdown();
  }
}

/** What an embedded server counted. */
export interface EmbeddedServerStats {
  /** Tokens made since the start. */
  readonly generatedTokens: number;
  /** Requests in the batch. */
  readonly running: number;
  /** Requests in the queue. */
  readonly waiting: number;
  /** The current weight version. */
  readonly weightVersion: string;
  /** Whether generation is paused. */
  readonly paused: boolean;
  /** Whether the server has crashed. */
  readonly crashed: boolean;
}
