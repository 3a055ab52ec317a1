import type { Capabilities } from "../client/capabilities.ts";
import { SGLangClient } from "../client/client.ts";
import type { ServerInfo } from "../client/types.ts";
import type { WeightsGroupOptions } from "../client/weight_control.ts";
import { HttpError, UnsupportedError, ValidationError } from "../errors.ts";
import type { ResolvedOptions, WeightWorker } from "./options.ts";

/**
 * What a server's weights are.
 *
 * - `"untouched"`: as before the sync.
 * - `"updating"`: an update was asked for and has not been confirmed.
 * - `"partial"`: some of the new weights, or it cannot be known.
 * - `"taken"`: every update was confirmed, the end of the sync was not.
 * - `"complete"`: all of the new weights.
 */
export type WeightCondition = "untouched" | "updating" | "partial" | "taken" | "complete";

/** What a sync knows about one server. */
export interface WeightServerState {
  /** Address of the server. */
  readonly url: string;
  /** Its tensor-parallel ranks. */
  readonly tpSize: number;
  /** Its first rank in the group; 0 before there was one. */
  readonly rankOffset: number;
  /** Weight version that it last told, or was given. */
  readonly weightVersion: string | null;
  /** What its weights are. */
  readonly condition: WeightCondition;
  /** Whether it was paused here and not resumed. */
  readonly paused: boolean;
  /** Why it is not well, when it is not. */
  readonly problem: string | undefined;
}

/** One broadcast's worth of tensors, as the server is told of it. */
export interface DistributedUpdate {
  readonly names: readonly string[];
  readonly dtypes: readonly string[];
  readonly shapes: readonly (readonly number[])[];
  readonly groupName: string;
  readonly flattened: boolean;
}

/** A call's own deadline is set by the step around it; this one must only not come first. */
const BEYOND_ANY_STEP_MS = 24 * 3600 * 1000;

/** One server of a fleet: its calls, and what a sync has done to it so far. */
export class FleetServer {
  /** Address of the server. */
  readonly url: string;
  /** Its calls. */
  readonly client: SGLangClient;
  /** First rank of this server in the open group. */
  rankOffset = 0;
  /** Groups of ours that may live on the server. */
  readonly groups: Set<string> = new Set();
  /** Whether a session of ours may be open on it. */
  sessionOpen = false;
  /** Whether it was paused here and not resumed. */
  paused = false;
  /** Whether its version was replaced by a mark of ours. */
  marked = false;
  /** What its weights are. */
  condition: WeightCondition = "untouched";
  /** The version it last told, or was given. */
  weightVersion: string | null = null;
  /** Why it is not well. */
  problem: string | undefined;
  #givenVersion: string | undefined;
  #tpSize: number | undefined;
  #info: ServerInfo | undefined;
  #capabilities: Capabilities | undefined;

  readonly #isOwnClient: boolean;

  /** Makes it; nothing is sent. */
  constructor(
    worker: WeightWorker,
    options: Pick<ResolvedOptions, "apiKey" | "adminApiKey" | "headers" | "logger">,
  ) {
    this.#isOwnClient = worker.client === undefined;
    this.client = worker.client ?? new SGLangClient({
      url: worker.url,
      apiKey: options.apiKey,
      adminApiKey: options.adminApiKey,
      headers: options.headers,
      logger: options.logger,
      timeoutMs: BEYOND_ANY_STEP_MS,
      controlTimeoutMs: BEYOND_ANY_STEP_MS,
      retry: { retries: 1 },
    });
    this.url = this.client.url;
  }

  /** Tensor-parallel ranks; known after {@linkcode FleetServer.probe}. */
  get tpSize(): number {
    return this.#tpSize ?? 1;
  }

  /** Whether it computes on a CPU. */
  get isCpu(): boolean {
    return this.#info?.raw.device === "cpu";
  }

  /** SGLang version. */
  get version(): string {
    return this.#info?.version ?? "unknown";
  }

  /** What it can do; known after {@linkcode FleetServer.probe}. */
  get capabilities(): Capabilities {
    if (this.#capabilities === undefined) throw new Error("A server is used before it was probed");
    return this.#capabilities;
  }

  /** A copy of what is known. */
  get state(): WeightServerState {
    const { url, tpSize, rankOffset, weightVersion, condition, paused, problem } = this;
    return { url, tpSize, rankOffset, weightVersion, condition, paused, problem };
  }

  /** Reads what the server is, and refuses one that cannot take part. */
  async probe(signal: AbortSignal, expectedTpSize?: number): Promise<void> {
    const info = await this.client.serverInfo({ signal });
    this.#info = info;
    this.#capabilities = await this.client.capabilities({ signal });
    this.#tpSize = info.tpSize;
    if (expectedTpSize !== undefined && expectedTpSize !== info.tpSize) {
      throw new ValidationError(
        `${this.url} was declared with tpSize ${expectedTpSize}, it has ${info.tpSize}`,
      );
    }
    // From 0.5.22 attention data parallelism is reported as dp_size 1.
    const isAttentionDp = info.raw.enable_dp_attention === true;
    if (info.dpSize > 1 && !isAttentionDp) {
      throw new UnsupportedError(
        `${this.url} runs with dp_size ${info.dpSize}: SGLang takes weight updates only without ` +
          "data parallelism inside a server. Start one server for each replica",
      );
    }
    if (info.ppSize > 1) {
      throw new UnsupportedError(
        `${this.url} runs with pp_size ${info.ppSize}: its pipeline stages would claim the same ` +
          "ranks of the group. Use tensor parallelism",
      );
    }
  }

  /** Reads the weight version. */
  async readVersion(signal: AbortSignal): Promise<string | null> {
    const { weightVersion } = await this.client.modelInfo({ signal });
    this.weightVersion = weightVersion;
    return weightVersion;
  }

  /** Sets the weight version; nothing is aborted. */
  async setVersion(version: string, signal: AbortSignal): Promise<void> {
    await this.client.updateWeightVersion(version, { signal });
    this.weightVersion = version;
    this.#givenVersion = version;
  }

  /**
   * Whether the version is not the one that was set here last. Then somebody else set it, or the
   * server was started anew and knows nothing of our group; asked for an unknown group, servers up
   * to 0.5.20 end.
   */
  get isStrange(): boolean {
    return this.#givenVersion !== undefined && this.weightVersion !== this.#givenVersion;
  }

  /** Joins a group. */
  async initGroup(
    group: Omit<WeightsGroupOptions, "signal" | "timeoutMs">,
    signal: AbortSignal,
  ): Promise<void> {
    await this.client.initWeightsUpdateGroup({ ...group, signal });
  }

  /** Receives a bucket. */
  async updateFromDistributed(update: DistributedUpdate, signal: AbortSignal): Promise<void> {
    const { names, dtypes, shapes, groupName } = update;
    await this.client.updateWeightsFromDistributed({ names, dtypes, shapes, groupName }, {
      signal,
      timeoutMs: BEYOND_ANY_STEP_MS,
      loadFormat: update.flattened ? "flattened_bucket" : undefined,
    });
  }

  /**
   * Runs a call after which the server holds other weights, and judges from a failure what it holds
   * then. SGLang loads only after every byte of a request has come, so a first request that broke
   * off on the wire changed nothing.
   */
  async taking(
    part: { readonly isFirst: boolean; readonly isLast: boolean },
    call: () => Promise<void>,
  ): Promise<void> {
    const { isFirst, isLast } = part;
    const before = this.condition;
    this.condition = "updating";
    try {
      await call();
      if (isLast) this.condition = "taken";
    } catch (error) {
      const isIntact = isFirst && before === "untouched" && leavesWeightsAlone(error);
      this.condition = isIntact ? "untouched" : "partial";
      throw error;
    }
  }

  /** Leaves every group of ours; one that the server does not know is gone already. */
  async destroyGroups(signal: AbortSignal): Promise<void> {
    for (const groupName of this.groups) {
      try {
        await this.client.destroyWeightsUpdateGroup({ groupName, signal });
      } catch (error) {
        if (!(error instanceof HttpError)) throw error;
      }
      this.groups.delete(groupName);
    }
  }

  /** Closes a session of ours, if one may be open. */
  async endSession(signal: AbortSignal): Promise<void> {
    if (!this.sessionOpen) return;
    try {
      await this.client.endWeightUpdate({ signal });
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
    }
    this.sessionOpen = false;
  }

  /** Closes idle connections, unless the client is another's. */
  close(): void {
    if (this.#isOwnClient) this.client.close();
  }
}

const LOST_ON_THE_WIRE =
  /closed by peer|connection (was )?(reset|closed)|broken pipe|gloo|nccl|failed to receive weights/i;

/** Whether a refusal or failure of the first request of a sync says that nothing was loaded. */
function leavesWeightsAlone(error: unknown): boolean {
  if (!(error instanceof HttpError)) return false;
  const words = error.serverMessage;
  return LOST_ON_THE_WIRE.test(words) || !/partially updated/i.test(words);
}
