import { HttpError, StateError } from "../errors.ts";
import { parseJson } from "../internal/json.ts";
import { serverMessageOf } from "./classify.ts";
import { ServerControl } from "./control.ts";
import { type MemoryTag, ReleasedMemory } from "./memory.ts";
import { loraOutcome, modelList, outcome } from "./schema/control.ts";
import { checked } from "./server_info.ts";
import type { CallOptions } from "./types.ts";

/** Where a server joins a group for weight updates. */
export interface WeightsGroupOptions extends CallOptions {
  /** Address of the store that rank 0 serves, as the server reaches it. */
  readonly masterAddress: string;
  /** Port of the store. */
  readonly masterPort: number;
  /** Rank of the server's first tensor-parallel rank; the sender is rank 0. */
  readonly rankOffset: number;
  /** 1 + the tensor-parallel ranks of every server of the group. */
  readonly worldSize: number;
  /** Name of the group. Default `"weight_update_group"`. */
  readonly groupName?: string | undefined;
  /** Default `"nccl"`. `"cuda:gloo"`, `"cpu:gloo"`: for tensors of that device alone. */
  readonly backend?: "nccl" | "gloo" | "cuda:gloo" | "cpu:gloo" | undefined;
}

/** What every weight update takes. There is no `flush_cache`: true ends servers up to 0.5.20. */
export interface WeightUpdateOptions extends CallOptions {
  /** The server's weight version after the update. Default unchanged. */
  readonly weightVersion?: string | undefined;
  /** `"flattened_bucket"`: the tensors travel as one. Default one by one. */
  readonly loadFormat?: string | undefined;
  /** Abort what runs before updating. Default `false`. */
  readonly abortAllRequests?: boolean | undefined;
  /** Empty the device's allocator cache afterwards (from 0.5.11). Default the server's. */
  readonly emptyDeviceCache?: boolean | undefined;
  /**
   * Which models of a server with a draft model take it (from 0.5.22). Default `"all"`; must be what
   * the session was begun with.
   */
  readonly selector?: "all" | "target" | "draft" | undefined;
}

/** What a broadcast of weights will hold. */
export interface DistributedWeights {
  /** Names of the checkpoint, unsharded. */
  readonly names: readonly string[];
  /** Element types as torch names them: `"bfloat16"`, `"float32"`. */
  readonly dtypes: readonly string[];
  /** Shapes. */
  readonly shapes: readonly (readonly number[])[];
  /** Name of the group. Default `"weight_update_group"`. */
  readonly groupName?: string | undefined;
}

/** Calls for weights, memory and adapters; each is sent exactly once. */
export abstract class WeightControl extends ServerControl {
  readonly #memory = new ReleasedMemory();

  /**
   * Opens a weight update (servers from 0.5.22 ask for it around distributed and tensor updates).
   * `false`: this server knows no sessions and needs none.
   */
  async beginWeightUpdate(
    options: CallOptions & { readonly selector?: "all" | "target" | "draft" | undefined } = {},
  ): Promise<boolean> {
    if (!(await this.capabilities(options)).hasWeightSession) return false;
    await this.#update("/begin_weight_update", { selector: options.selector ?? "all" }, options);
    return true;
  }

  /** Ends a weight update; weights are whole only then. `false`: no sessions on this server. */
  async endWeightUpdate(options: CallOptions = {}): Promise<boolean> {
    if (!(await this.capabilities(options)).hasWeightSession) return false;
    await this.#update("/end_weight_update", {}, options);
    return true;
  }

  /** Lets the server join a group as ranks `rankOffset` to `rankOffset + tpSize - 1`. */
  async initWeightsUpdateGroup(options: WeightsGroupOptions): Promise<void> {
    await this.#update("/init_weights_update_group", {
      master_address: options.masterAddress,
      master_port: options.masterPort,
      rank_offset: options.rankOffset,
      world_size: options.worldSize,
      group_name: options.groupName ?? "weight_update_group",
      backend: options.backend ?? "nccl",
    }, options);
  }

  /**
   * Lets the server receive a broadcast of the group; resolves with its message when loaded. Names
   * that the model does not have are ignored by the server without a word.
   */
  async updateWeightsFromDistributed(
    weights: DistributedWeights,
    options: WeightUpdateOptions = {},
  ): Promise<string> {
    const { names, dtypes, shapes, groupName } = weights;
    return await this.#update("/update_weights_from_distributed", {
      names,
      dtypes,
      shapes,
      group_name: groupName ?? "weight_update_group",
      ...updateFields(options),
    }, options);
  }

  /**
   * Sends pickled tensors in the request.
   *
   * @param serializedNamedTensors Base64 of a pickled list of names and tensors, one for each
   * tensor-parallel rank. A pickle that the server distrusts ends it.
   */
  async updateWeightsFromTensor(
    serializedNamedTensors: readonly string[],
    options: WeightUpdateOptions = {},
  ): Promise<string> {
    return await this.#update("/update_weights_from_tensor", {
      serialized_named_tensors: serializedNamedTensors,
      ...updateFields(options),
    }, options);
  }

  /** Lets the server load a checkpoint folder, a path on its own host. */
  async updateWeightsFromDisk(
    modelPath: string,
    options: WeightUpdateOptions = {},
  ): Promise<string> {
    return await this.#update("/update_weights_from_disk", {
      model_path: modelPath,
      ...updateFields(options),
    }, options);
  }

  /** Lets the server leave a group. */
  async destroyWeightsUpdateGroup(
    options: CallOptions & { readonly groupName?: string | undefined } = {},
  ): Promise<void> {
    const body = { group_name: options.groupName ?? "weight_update_group" };
    await this.#update("/destroy_weights_update_group", body, options);
  }

  /** Sets the weight version; requests go on unless `abortAllRequests`. */
  async updateWeightVersion(
    version: string,
    options: CallOptions & { readonly abortAllRequests?: boolean | undefined } = {},
  ): Promise<void> {
    await this.#update("/update_weight_version", {
      new_version: version,
      // The server's own default is true.
      abort_all_requests: options.abortAllRequests ?? false,
    }, options);
  }

  /**
   * Runs a check of the weights and returns the answer as received. `"checksum"` is the action to
   * compare servers by; before 0.5.23 it needs a GPU.
   */
  async weightsChecker(
    action: "checksum" | "snapshot" | "compare" | "reset_tensors",
    options: CallOptions = {},
  ): Promise<Readonly<Record<string, unknown>>> {
    const text = await this.control("/weights_checker", { action }, options);
    return checked(outcome, parseJson(text, "POST /weights_checker"), "POST /weights_checker");
  }

  /** First values of a parameter, nested as its shape. Llama models only; others answer 400. */
  async getWeightsByName(
    name: string,
    options: CallOptions & { readonly truncateSize?: number | undefined } = {},
  ): Promise<unknown> {
    const body = { name, truncate_size: options.truncateSize ?? 100 };
    const text = await this.control("/get_weights_by_name", body, options);
    return parseJson(text, "POST /get_weights_by_name");
  }

  /** Parts of the server's memory that this client has released. */
  get releasedMemory(): readonly MemoryTag[] {
    return this.#memory.tags;
  }

  /**
   * Frees memory of a server that was launched with `--enable-memory-saver`; without it nothing
   * happens. A server that has requests, running or waiting, would end: the client asks for its load
   * first. Pause it with mode `"abort"` before, so that no new ones come; `engine.sleep()` does all
   * of it.
   *
   * @param options `tags`: what to free; default everything.
   * @throws {StateError} This client has not paused the server, requests are there, or it is
   * released already; nothing was sent.
   */
  async releaseMemoryOccupation(
    options: CallOptions & { readonly tags?: readonly MemoryTag[] | undefined } = {},
  ): Promise<void> {
    const tags = this.#memory.toRelease(options.tags);
    if (!this.isPaused) {
      throw new StateError(
        `${this.url} is not paused by this client: a request that comes while its memory is ` +
          'released would end it. Call pause("abort") first',
      );
    }
    const { running, waiting } = await this.load(options);
    if (running + waiting > 0) {
      throw new StateError(
        `${this.url} has ${running} running and ${waiting} waiting requests, and to release its ` +
          'memory now would end it. Call pause("abort") and wait until its load is 0',
      );
    }
    this.#memory.released(tags);
    await this.control("/release_memory_occupation", tagsBody(options.tags), options);
  }

  /**
   * Resumes generation; does nothing when not paused.
   *
   * @throws {StateError} Memory is released, without which a request would end the server.
   */
  override async resume(
    options: CallOptions & { readonly emptyDeviceCache?: boolean | undefined } = {},
  ): Promise<void> {
    const { tags } = this.#memory;
    if (tags.length > 0) {
      throw new StateError(
        `The memory of ${tags.join(", ")} of ${this.url} is released: take it back before resume()`,
      );
    }
    await super.resume(options);
  }

  /**
   * Takes memory back. What weights and caches held is lost: send all weights next, then resume.
   *
   * @param options `tags`: default those that this client released. `wasReleasedElsewhere`: another
   * client released it, such as one of a trainer that is gone.
   * @throws {StateError} It was not released, which would end the server; nothing was sent.
   */
  async resumeMemoryOccupation(
    options: CallOptions & {
      readonly tags?: readonly MemoryTag[] | undefined;
      readonly wasReleasedElsewhere?: boolean | undefined;
    } = {},
  ): Promise<void> {
    const tags = this.#memory.toResume(options.tags, options.wasReleasedElsewhere ?? false);
    await this.control("/resume_memory_occupation", tagsBody(tags), options);
    this.#memory.resumed(tags);
  }

  /** Loads an adapter from a path on the server's host; returns the names of all loaded ones. */
  async loadLora(
    adapter: { readonly name: string; readonly path: string; readonly pinned?: boolean },
    options: CallOptions = {},
  ): Promise<string[]> {
    return await this.#adapters("/load_lora_adapter", {
      lora_name: adapter.name,
      lora_path: adapter.path,
      pinned: adapter.pinned ?? false,
    }, options);
  }

  /**
   * Loads an adapter whose matrices travel in the request; returns the names of all loaded ones. A
   * matrix of a wrong shape ends the server at its first use: `LoraSyncScheme` checks them.
   *
   * @param adapter `payload`: base64 of a pickle as `flattened_bucket` asks for it. `ranks`: the
   * server's tensor-parallel size; from 0.5.17 each rank gets the payload.
   */
  async loadLoraFromTensors(
    adapter: {
      readonly name: string;
      readonly config: Readonly<Record<string, unknown>>;
      readonly payload: string;
      readonly ranks: number;
    },
    options: CallOptions = {},
  ): Promise<string[]> {
    const { name, config, payload, ranks } = adapter;
    const { loraPayload } = await this.capabilities(options);
    return await this.#adapters("/load_lora_adapter_from_tensors", {
      lora_name: name,
      config_dict: config,
      load_format: "flattened_bucket",
      ...(loraPayload === "each_rank" ? {} : { serialized_tensors: payload }),
      ...(loraPayload === "one"
        ? {}
        : { serialized_named_tensors: Array.from({ length: ranks }, () => payload) }),
    }, options);
  }

  /** Names of the adapters that are loaded. */
  async loadedLoras(options: CallOptions = {}): Promise<string[]> {
    const { data } = checked(
      modelList,
      await this.getJson("/v1/models", options),
      "GET /v1/models",
    );
    return data.filter(({ parent }) => typeof parent === "string").map(({ id }) => id);
  }

  /** Unloads an adapter; returns the names of those left. */
  async unloadLora(name: string, options: CallOptions = {}): Promise<string[]> {
    return await this.#adapters("/unload_lora_adapter", { lora_name: name }, options);
  }

  async #adapters(path: string, body: unknown, options: CallOptions): Promise<string[]> {
    const endpoint = `POST ${path}`;
    const text = await this.control(path, body, options);
    const answer = checked(loraOutcome, parseJson(text, endpoint), endpoint);
    if (!answer.success) throw this.#failure(endpoint, text);
    return Object.keys(answer.loaded_adapters ?? {});
  }

  async #update(path: string, body: unknown, options: CallOptions): Promise<string> {
    const endpoint = `POST ${path}`;
    const text = await this.control(path, body, options);
    const answer = checked(outcome, parseJson(text, endpoint), endpoint);
    if (!answer.success) throw this.#failure(endpoint, text);
    return answer.message ?? "";
  }

  #failure(endpoint: string, text: string): HttpError {
    const serverMessage = serverMessageOf(text);
    return new HttpError(`${endpoint} at ${this.url} failed: ${serverMessage}`, {
      status: 200,
      endpoint,
      serverMessage,
    });
  }
}

function updateFields(options: WeightUpdateOptions): Record<string, unknown> {
  const fields: Record<string, unknown> = {
    flush_cache: false,
    abort_all_requests: options.abortAllRequests ?? false,
  };
  if (options.weightVersion !== undefined) fields.weight_version = options.weightVersion;
  if (options.loadFormat !== undefined) fields.load_format = options.loadFormat;
  if (options.selector !== undefined) fields.selector = options.selector;
  if (options.emptyDeviceCache !== undefined) fields.torch_empty_cache = options.emptyDeviceCache;
  return fields;
}

function tagsBody(tags: readonly MemoryTag[] | undefined): Record<string, unknown> {
  return tags === undefined ? {} : { tags };
}
