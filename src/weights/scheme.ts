import type { PauseMode } from "../client/types.ts";
import { silentLogger } from "../internal/logger.ts";
import { canonicalUrl } from "../internal/canonical_url.ts";
import { resolveWorkers } from "./fleet/fleet.ts";
import { type ResolvedOptions, resolveOptions } from "./resolved_options.ts";
import type { WeightEngine, WeightSyncOptions } from "./options.ts";
import { SGLangWeightReceiver } from "./receiver.ts";
import { SGLangWeightSender } from "./sender.ts";

/**
 * How new weights reach running SGLang servers: the settings, shared by the sender and receiver it
 * makes. Making one contacts nobody.
 *
 * @example
 * ```ts
 * import { safetensors, SGLangWeightSyncScheme } from "@sglang-rl/sglang-rl";
 *
 * async function push(url: string, folder: string): Promise<string> {
 *   const scheme = new SGLangWeightSyncScheme({ serverUrl: url });
 *   await using sender = scheme.createSender();
 *   sender.registerModel(safetensors(folder));
 *   await sender.initAllWorkersGroup();
 *   const report = await sender.updateWeights();
 *   return report.version;
 * }
 * ```
 */
export class SGLangWeightSyncScheme {
  /** Address of the first server, without trailing slashes. */
  readonly serverUrl: string;
  readonly #given: WeightSyncOptions;
  readonly #options: ResolvedOptions;

  /**
   * Checks the options.
   *
   * @throws {ValidationError} An option is wrong; the message names it.
   */
  constructor(options: WeightSyncOptions) {
    this.#given = options;
    // Warnings are for the sender, which resolves them again.
    this.#options = resolveOptions({ ...options, logger: silentLogger });
    this.serverUrl = canonicalUrl(resolveWorkers(options)()[0]!.url);
  }

  /** 1 + `numWorkers`, or 2 while the servers' ranks are neither given nor known. */
  get worldSize(): number {
    return 1 + (this.#options.numWorkers ?? 1);
  }

  /** CUDA device of rank 0. */
  get device(): number {
    return this.#options.device;
  }

  /** How generation is paused. */
  get pauseMode(): PauseMode {
    return this.#options.pauseMode;
  }

  /**
   * Whether prefix caches are emptied in every sync; `"if_idle"`: tried, and left when requests that
   * wait for the new weights hold them.
   */
  get flushCache(): boolean | "if_idle" {
    const { flushCache, pauseMode } = this.#options;
    return flushCache ?? (pauseMode === "abort" ? true : "if_idle");
  }

  /** Makes the trainer's side. */
  createSender(): SGLangWeightSender {
    return new SGLangWeightSender(this.createReceiver());
  }

  /**
   * Makes the servers' side.
   *
   * @param engine Its servers instead of the scheme's.
   */
  createReceiver(engine?: WeightEngine): SGLangWeightReceiver {
    if (engine === undefined) return new SGLangWeightReceiver(this.#given);
    const { serverUrl: _url, workers: _workers, ...rest } = this.#given;
    return new SGLangWeightReceiver({ ...rest, engine });
  }
}
