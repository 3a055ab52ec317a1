import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import type { CallOptions } from "../client/types.ts";
import { StateError, ValidationError } from "../errors.ts";
import type { Logger } from "../internal/logger.ts";
import type { ModelInput } from "../weights/source/mod.ts";
import {
  type ReceiverUpdate,
  SGLangWeightReceiver,
  type SGLangWeightSender,
  SGLangWeightSyncScheme,
  type UpdateWeightsOptions,
  type WeightSyncReport,
  type WeightSyncSettings,
} from "../weights/mod.ts";
import type { SGLangWorker } from "./workers.ts";

/** Options of {@linkcode AsyncSGLang.initWeightUpdateGroup}. */
export interface WeightUpdateGroupOptions extends CallOptions {
  /**
   * Address of another process that is rank 0 and listens already. Default: this process is rank 0
   * and listens itself.
   */
  readonly masterAddress?: string | undefined;
  /** Port of that process; given with `masterAddress`. */
  readonly masterPort?: number | undefined;
  /** Name of that process's group. Default `"weight_update_group"`. */
  readonly groupName?: string | undefined;
  /** Its backend. Default `"nccl"`. */
  readonly backend?: "nccl" | "gloo" | undefined;
  /** How weights are synced when this process is rank 0. */
  readonly scheme?: WeightSyncSettings | undefined;
}

const GROUP_NAMES = {
  masterAddress: true,
  masterPort: true,
  groupName: true,
  backend: true,
  scheme: true,
  signal: true,
  timeoutMs: true,
} as const satisfies OptionNames<WeightUpdateGroupOptions>;

const NOT_INITIALIZED = "Weight update group not initialized: call initWeightUpdateGroup() first";

/** The weight updates of an engine: by this process as rank 0, or by another. */
export class EngineWeights implements AsyncDisposable {
  readonly #engine: { readonly workers: readonly SGLangWorker[] };
  readonly #logger: Logger;
  #sender: SGLangWeightSender | undefined;
  #receiver: SGLangWeightReceiver | undefined;

  constructor(engine: { readonly workers: readonly SGLangWorker[] }, logger: Logger) {
    this.#engine = engine;
    this.#logger = logger;
  }

  async initGroup(options: WeightUpdateGroupOptions): Promise<void> {
    checkOptionNames(options, GROUP_NAMES, "initWeightUpdateGroup()");
    const { masterAddress, masterPort, groupName, backend, scheme, ...call } = options;
    if ((masterAddress === undefined) !== (masterPort === undefined)) {
      throw new ValidationError("Give masterAddress and masterPort together, or neither");
    }
    await this[Symbol.asyncDispose]();
    const engine = this.#engine;
    const settings = { logger: this.#logger, ...scheme, engine };
    if (masterAddress === undefined || masterPort === undefined) {
      this.#sender = new SGLangWeightSyncScheme(settings).createSender();
      await this.#sender.initAllWorkersGroup(undefined, call);
      return;
    }
    this.#receiver = new SGLangWeightReceiver(settings);
    await this.#receiver.initGroup({ masterAddress, masterPort, groupName, backend }, call);
  }

  async updateFromDistributed(update: ReceiverUpdate, options: CallOptions): Promise<void> {
    const receiver = this.#receiver;
    if (receiver === undefined) {
      throw new StateError(
        this.#sender === undefined
          ? NOT_INITIALIZED
          : "This process is rank 0 of the group: use updateWeights()",
      );
    }
    await receiver.begin(options);
    try {
      await receiver.update(update, options);
    } finally {
      // Without the end no further update can begin; it has a deadline of its own.
      await receiver.end({ timeoutMs: options.timeoutMs });
    }
  }

  async update(
    weights: ModelInput,
    options: UpdateWeightsOptions,
  ): Promise<WeightSyncReport | undefined> {
    if (isEmpty(weights)) {
      this.#logger.warn("updateWeights() was given no weights; nothing is sent");
      return undefined;
    }
    if (this.#sender === undefined) {
      throw new StateError(
        this.#receiver === undefined
          ? NOT_INITIALIZED
          : "Another process is rank 0 of the group: use updateWeightsFromDistributed()",
      );
    }
    return await this.#sender.updateWeights(weights, options);
  }

  /** Lets the servers leave the group. */
  async [Symbol.asyncDispose](): Promise<void> {
    const sender = this.#sender;
    const receiver = this.#receiver;
    this.#sender = undefined;
    this.#receiver = undefined;
    await sender?.close();
    await receiver?.close();
  }
}

function isEmpty(weights: ModelInput): boolean {
  if (weights instanceof Map) return weights.size === 0;
  return Object.getPrototypeOf(weights) === Object.prototype && Object.keys(weights).length === 0;
}
