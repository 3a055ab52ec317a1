/** `/server_info`, `/model_info`, loads and health. */
import { systemClock } from "../../internal/clock.ts";
import type { EmbeddedState } from "../state.ts";
import { ApiError } from "./api_error.ts";

/** Says in `/server_info` what this is. */
const testDouble = "sglang-rl embedded server: a test double of SGLang, not SGLang itself";

/** `GET /server_info`. */
export function serverInfo(state: EmbeddedState, address: { port: number }): unknown {
  const { options, emulated, model } = state;
  const args = {
    model_path: state.modelPath,
    tokenizer_path: options.modelPath,
    tokenizer_mode: "auto",
    skip_tokenizer_init: false,
    load_format: "auto",
    trust_remote_code: false,
    context_length: null,
    is_embedding: false,
    // As started without `--dtype`: the types are those of the checkpoint.
    dtype: "auto",
    quantization: null,
    max_running_requests: options.maxRunningRequests,
    max_queued_requests: null,
    max_total_tokens: options.maxTotalTokens,
    schedule_policy: "fcfs",
    enable_priority_scheduling: false,
    page_size: 1,
    disable_radix_cache: false,
    nnodes: 1,
    node_rank: 0,
    tp_size: 1,
    pp_size: 1,
    dp_size: 1,
    enable_dp_attention: false,
    ep_size: 1,
    stream_interval: 1,
    incremental_streaming_output: false,
    device: "cpu",
    random_seed: options.seed,
    host: "127.0.0.1",
    port: address.port,
    api_key: null,
    admin_api_key: null,
    served_model_name: state.modelPath,
    weight_version: state.scheduler.weightVersion,
    enable_lora: options.lora === undefined ? null : true,
    max_lora_rank: options.lora?.maxRank ?? null,
    lora_target_modules: options.lora?.targetModules ?? null,
    max_loaded_loras: options.lora?.maxLoaded ?? null,
    enable_metrics: false,
    enable_return_hidden_states: false,
    enable_deterministic_inference: options.isDeterministic,
    sampling_backend: "pytorch",
    grammar_backend: "none",
    skip_server_warmup: true,
  };
  return {
    ...args,
    status: "ready",
    max_total_num_tokens: options.maxTotalTokens,
    max_req_input_len: model.config.contextLength - 6,
    internal_states: [{
      ...args,
      effective_max_running_requests_per_dp: options.maxRunningRequests,
    }],
    version: emulated.version,
    kv_events: null,
    ...(emulated.version === "0.5.16" ? {} : { attn_dp_size: 1, frontend: "deno" }),
    test_double: testDouble,
  };
}

/** `GET /model_info`. */
export function modelInfo(state: EmbeddedState): unknown {
  const newest = {
    served_model_name: state.modelPath,
    load_format: "auto",
    reasoning_parser: null,
    tool_call_parser: null,
    disaggregation_mode: "null",
  };
  return {
    model_path: state.modelPath,
    tokenizer_path: state.options.modelPath,
    is_generation: true,
    preferred_sampling_params: null,
    weight_version: state.scheduler.weightVersion,
    ...(state.emulated.version === "0.5.16" ? {} : newest),
    has_image_understanding: false,
    has_audio_understanding: false,
    model_type: state.model.config.modelType,
    architectures: [state.model.config.architecture],
  };
}

/** `GET /v1/loads`. */
export function loads(state: EmbeddedState): unknown {
  const { scheduler, options, emulated } = state;
  const used = scheduler.usedTokens;
  const share = (part: number, whole: number) => Math.round(part / whole * 1e4) / 1e4;
  const load = {
    timestamp: Date.now() / 1000,
    dp_rank: 0,
    num_running_reqs: scheduler.running,
    num_waiting_reqs: scheduler.waiting,
    num_waiting_uncached_tokens: 0,
    num_used_tokens: used,
    num_total_tokens: used,
    max_total_num_tokens: options.maxTotalTokens,
    max_running_requests: options.maxRunningRequests,
    token_usage: share(used, options.maxTotalTokens),
    gen_throughput: scheduler.tokensPerSecond,
    cache_hit_rate: 0,
    utilization: share(scheduler.running, options.maxRunningRequests),
    queues: { waiting: scheduler.waiting, grammar: 0, paused: 0, retracted: 0 },
  };
  return {
    timestamp: new Date().toISOString().replace("Z", "000+00:00"),
    version: emulated.version,
    ...(emulated.version === "0.5.16" ? {} : { accelerator: null, num_accelerators: 1 }),
    loads: [load],
  };
}

/** `GET /get_load`, gone from 0.5.22 on. */
export function getLoad(state: EmbeddedState): unknown {
  if (!state.emulated.hasGetLoad) throw new ApiError(404, { detail: "Not Found" });
  const { scheduler } = state;
  return [{
    dp_rank: 0,
    num_reqs: scheduler.running + scheduler.waiting,
    num_waiting_reqs: scheduler.waiting,
    num_tokens: scheduler.usedTokens,
    num_pending_tokens: 0,
    ts_tic: systemClock.now() / 1000,
  }];
}

/** `GET /v1/models`. */
export function models(state: EmbeddedState): unknown {
  return {
    object: "list",
    data: [
      {
        id: state.modelPath,
        object: "model",
        created: Math.floor(Date.now() / 1000),
        owned_by: "sglang",
        root: state.modelPath,
        parent: null,
        max_model_len: state.model.config.contextLength,
      },
      ...(state.adapters?.list ?? []).map(({ name, path }) => ({
        id: name,
        object: "model",
        created: Math.floor(Date.now() / 1000),
        owned_by: "sglang",
        root: path,
        parent: state.modelPath,
        max_model_len: null,
      })),
    ],
  };
}
