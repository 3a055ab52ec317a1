import type { FlagValue, LaunchProgress } from "../process/mod.ts";
import type { OptionNames } from "../internal/option_names.ts";

/**
 * SGLang's own launch flags that a manager of servers needs, in camel case. Every other flag goes
 * into {@linkcode SGLangServerOptions.args}. What is left out keeps SGLang's default.
 */
export interface SGLangServerFlags {
  /** Tensor-parallel ranks. Default 1. */
  readonly tpSize?: number | undefined;
  /** Data-parallel copies in one server. Default 1. Weight sync needs 1: use replicas instead. */
  readonly dpSize?: number | undefined;
  /** Pipeline stages. */
  readonly ppSize?: number | undefined;
  /** Expert-parallel size. */
  readonly epSize?: number | undefined;
  /** Data parallelism for the attention only. */
  readonly enableDpAttention?: boolean | undefined;
  /** First GPU, counted inside `CUDA_VISIBLE_DEVICES`. Default 0. */
  readonly baseGpuId?: number | undefined;
  /** Distance between the GPUs of a server. */
  readonly gpuIdStep?: number | undefined;
  /** Address for several nodes, `host:port`. */
  readonly distInitAddr?: string | undefined;
  /** Number of nodes. */
  readonly nnodes?: number | undefined;
  /** This node's number. */
  readonly nodeRank?: number | undefined;
  /** Tokenizer's folder or name. Default the model's. */
  readonly tokenizerPath?: string | undefined;
  /** Name under which the model is served. */
  readonly servedModelName?: string | undefined;
  /** Element type, such as `"bfloat16"`. Default the checkpoint's. */
  readonly dtype?: string | undefined;
  /** How to read the weights; `"dummy"` makes random ones. */
  readonly loadFormat?: string | undefined;
  /** Quantization scheme. */
  readonly quantization?: string | undefined;
  /** Element type of the KV cache. */
  readonly kvCacheDtype?: string | undefined;
  /** Longest sequence, in tokens. */
  readonly contextLength?: number | undefined;
  /** Runs code from the model's repository. */
  readonly trustRemoteCode?: boolean | undefined;
  /** Share of the GPU's memory for weights and KV cache, 0 to 1. */
  readonly memFractionStatic?: number | undefined;
  /** Size of the KV cache, in tokens. */
  readonly maxTotalTokens?: number | undefined;
  /** Requests that run at once. */
  readonly maxRunningRequests?: number | undefined;
  /** Requests that wait at most; beyond it the server answers 503. */
  readonly maxQueuedRequests?: number | undefined;
  /** Tokens of a prompt that are computed at once. */
  readonly chunkedPrefillSize?: number | undefined;
  /** Attention kernels, such as `"fa3"`. */
  readonly attentionBackend?: string | undefined;
  /** Sampling kernels: `"flashinfer"` or `"pytorch"`. */
  readonly samplingBackend?: string | undefined;
  /** Grammar engine: `"xgrammar"`, `"outlines"`, `"llguidance"`, `"none"`. */
  readonly grammarBackend?: string | undefined;
  /** Skips the request that warms the server up. */
  readonly skipServerWarmup?: boolean | undefined;
  /** Serves token ids only. */
  readonly skipTokenizerInit?: boolean | undefined;
  /** No CUDA graphs. */
  readonly disableCudaGraph?: boolean | undefined;
  /** No prefix cache. */
  readonly disableRadixCache?: boolean | undefined;
  /** No overlap of scheduling and computing. */
  readonly disableOverlapSchedule?: boolean | undefined;
  /** Lets the memory be released between rollouts. */
  readonly enableMemorySaver?: boolean | undefined;
  /** Keeps a copy of released weights in host memory. */
  readonly enableWeightsCpuBackup?: boolean | undefined;
  /** Dotted names of functions that may load weights. */
  readonly customWeightLoader?: readonly string[] | undefined;
  /** Name of the weights that are loaded at first. Default `"default"`. */
  readonly weightVersion?: string | undefined;
  /** Dynamic LoRA adapters; needs `maxLoraRank` and `loraTargetModules`, or `loraPaths`. */
  readonly enableLora?: boolean | undefined;
  /** Adapters to load, each `name=path`. */
  readonly loraPaths?: readonly string[] | undefined;
  /** Largest rank of an adapter. */
  readonly maxLoraRank?: number | undefined;
  /** Modules that adapters may change, or `["all"]`. */
  readonly loraTargetModules?: readonly string[] | undefined;
  /** Adapters in one batch. */
  readonly maxLorasPerBatch?: number | undefined;
  /** Same output whatever else is in the batch. */
  readonly enableDeterministicInference?: boolean | undefined;
  /** Numerics that match a trainer's, such as `"fsdp"`. */
  readonly rlOnPolicyTarget?: string | undefined;
  /** Seed of the server. */
  readonly randomSeed?: number | undefined;
  /** Tokens between two steps of a stream. */
  readonly streamInterval?: number | undefined;
  /** Seconds after which a stuck scheduler ends the server. */
  readonly watchdogTimeout?: number | undefined;
  /** Priorities of requests. */
  readonly enablePriorityScheduling?: boolean | undefined;
  /** Allows requests to ask for hidden states. */
  readonly enableReturnHiddenStates?: boolean | undefined;
  /** Allows requests to bring logit processors. */
  readonly enableCustomLogitProcessor?: boolean | undefined;
  /** Prometheus metrics at `/metrics`. */
  readonly enableMetrics?: boolean | undefined;
  /** Level of the log, such as `"info"`. */
  readonly logLevel?: string | undefined;
  /** Level of the HTTP log. */
  readonly logLevelHttp?: string | undefined;
  /** Logs requests. */
  readonly logRequests?: boolean | undefined;
  /** Saves CPU while nothing runs. */
  readonly sleepOnIdle?: boolean | undefined;
}

/** Names of the flags above, for the check of names and their order on the command line. */
export const FLAG_NAMES = {
  tpSize: true,
  dpSize: true,
  baseGpuId: true,
  ppSize: true,
  epSize: true,
  enableDpAttention: true,
  gpuIdStep: true,
  distInitAddr: true,
  nnodes: true,
  nodeRank: true,
  tokenizerPath: true,
  servedModelName: true,
  dtype: true,
  loadFormat: true,
  quantization: true,
  kvCacheDtype: true,
  contextLength: true,
  trustRemoteCode: true,
  memFractionStatic: true,
  maxTotalTokens: true,
  maxRunningRequests: true,
  maxQueuedRequests: true,
  chunkedPrefillSize: true,
  attentionBackend: true,
  samplingBackend: true,
  grammarBackend: true,
  skipServerWarmup: true,
  skipTokenizerInit: true,
  disableCudaGraph: true,
  disableRadixCache: true,
  disableOverlapSchedule: true,
  enableMemorySaver: true,
  enableWeightsCpuBackup: true,
  customWeightLoader: true,
  weightVersion: true,
  enableLora: true,
  loraPaths: true,
  maxLoraRank: true,
  loraTargetModules: true,
  maxLorasPerBatch: true,
  enableDeterministicInference: true,
  rlOnPolicyTarget: true,
  randomSeed: true,
  streamInterval: true,
  watchdogTimeout: true,
  enablePriorityScheduling: true,
  enableReturnHiddenStates: true,
  enableCustomLogitProcessor: true,
  enableMetrics: true,
  logLevel: true,
  logLevelHttp: true,
  logRequests: true,
  sleepOnIdle: true,
} as const satisfies OptionNames<SGLangServerFlags>;

/** The same as a list. */
export const flagKeys: readonly (keyof SGLangServerFlags)[] = Object.keys(
  FLAG_NAMES,
) as (keyof SGLangServerFlags)[];

/** What to start, and how. */
export interface SGLangServerOptions extends SGLangServerFlags {
  /** Folder or Hugging Face name of the model. */
  readonly model: string;
  /** Address to listen on. Default `"127.0.0.1"`. */
  readonly host?: string | undefined;
  /** HTTP port, at most 55,535. Default a free one. */
  readonly port?: number | undefined;
  /** Port of the server's internal process group. Default a free one. */
  readonly ncclPort?: number | undefined;
  /** Key that requests must carry. Kept out of the log. */
  readonly apiKey?: string | undefined;
  /** Key that control requests must carry. Kept out of the log. */
  readonly adminApiKey?: string | undefined;
  /**
   * `"cpu"` adds the flags and variables with which SGLang runs without a GPU, where the other
   * options don't say otherwise. Default: the first kind of device that SGLang finds.
   */
  readonly device?: "cuda" | "cpu" | undefined;
  /**
   * GPUs of this server, by index or by UUID, as `CUDA_VISIBLE_DEVICES`. Default: those that
   * are inherited. See {@linkcode assignGpus}.
   */
  readonly gpus?: readonly (number | string)[] | undefined;
  /** Further flags by name, in any case style: `{ cudaGraphMaxBs: 64, "--enable-mixed-chunk": true }`. */
  readonly args?: Readonly<Record<string, FlagValue>> | undefined;
  /** Variables of the server's environment, to set or (with `null`) to unset. They win over ours. */
  readonly env?: Readonly<Record<string, string | null>> | undefined;
  /**
   * Python that has SGLang. Default `$SGLANG_PYTHON`, the active virtual environment's, `python3`.
   * The variables are looked at only where Deno may already read them.
   */
  readonly python?: string | undefined;
  /** File for the log. Default a temporary file, kept only when the server crashes. */
  readonly logFile?: string | undefined;
  /** Called with every line of the log. */
  readonly onLog?: ((line: string) => void) | undefined;
  /** Longest wait until the server is ready, in milliseconds. Default 600,000. */
  readonly readyTimeoutMs?: number | undefined;
  /** Called every few seconds until the server is ready. */
  readonly onProgress?: ((progress: LaunchProgress) => void) | undefined;
  /** What `stop` waits after SIGTERM before it kills, in milliseconds. Default 10,000. */
  readonly stopGraceMs?: number | undefined;
  /** Gives the launch up; a server that is ready is left alone. */
  readonly signal?: AbortSignal | undefined;
}

/** Names of {@linkcode SGLangServerOptions}. */
export const SERVER_OPTION_NAMES = {
  ...FLAG_NAMES,
  model: true,
  host: true,
  port: true,
  ncclPort: true,
  apiKey: true,
  adminApiKey: true,
  device: true,
  gpus: true,
  args: true,
  env: true,
  python: true,
  logFile: true,
  onLog: true,
  readyTimeoutMs: true,
  onProgress: true,
  stopGraceMs: true,
  signal: true,
} as const satisfies OptionNames<SGLangServerOptions>;
