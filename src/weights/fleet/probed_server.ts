import type { Capabilities } from "../../client/capabilities.ts";
import { SGLangClient } from "../../client/client.ts";
import type { ServerInfo } from "../../client/types.ts";
import { UnsupportedError, ValidationError } from "../../errors.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import type { WeightWorker } from "../options.ts";
import {
  type DraftChoice,
  type DraftModel,
  draftOf,
  requireDraftFit,
  type WeightSelector,
} from "./draft.ts";
import { BEYOND_ANY_STEP_MS } from "./on_all.ts";

/** A server of a fleet as it is: its calls, and what it told of itself when it was looked at. */
export class ProbedServer {
  /** Address of the server. */
  readonly url: string;
  /** Its calls. */
  readonly client: SGLangClient;
  readonly #isOwnClient: boolean;
  readonly #draftChoice: DraftChoice;
  #tpSize: number | undefined;
  #info: ServerInfo | undefined;
  #capabilities: Capabilities | undefined;

  /** Makes it; nothing is sent. */
  constructor(
    worker: WeightWorker,
    options: Pick<
      ResolvedOptions,
      "apiKey" | "adminApiKey" | "headers" | "proxy" | "caCerts" | "logger" | "draft"
    >,
  ) {
    this.#isOwnClient = worker.client === undefined;
    this.#draftChoice = options.draft;
    this.client = worker.client ?? new SGLangClient({
      url: worker.url,
      apiKey: options.apiKey,
      adminApiKey: options.adminApiKey,
      headers: options.headers,
      proxy: options.proxy,
      caCerts: options.caCerts,
      logger: options.logger,
      timeoutMs: BEYOND_ANY_STEP_MS,
      controlTimeoutMs: BEYOND_ANY_STEP_MS,
      retry: { retries: 1 },
    });
    this.url = this.client.url;
  }

  /** Tensor-parallel ranks; known after {@linkcode ProbedServer.look}. */
  get tpSize(): number {
    return this.#tpSize ?? 1;
  }

  /** Whether it computes on a CPU. */
  get isCpu(): boolean {
    return this.#info?.raw.device === "cpu";
  }

  /** The model that guesses ahead for its own one, if it has one. */
  get draft(): DraftModel | undefined {
    return draftOf(this.#info?.raw ?? {});
  }

  /** Which of its models take updates; `undefined` where it has one. */
  get selector(): WeightSelector | undefined {
    if (this.draft === undefined || !this.capabilities.hasWeightSession) return undefined;
    return this.#draftChoice === "keep" ? "target" : "all";
  }

  /** How it quantises the weights that it is given, where it was started with `--quantization`. */
  get quantizes(): string | undefined {
    const quantization = this.#info?.raw.quantization;
    return typeof quantization === "string" ? quantization : undefined;
  }

  /** Type of its weights, where it was started with `--dtype`; else that of its checkpoint. */
  get dtype(): "float32" | "bfloat16" | "float16" | undefined {
    const dtype = this.#info?.raw.dtype;
    if (dtype === "half") return "float16";
    if (dtype === "float") return "float32";
    return dtype === "float32" || dtype === "bfloat16" || dtype === "float16" ? dtype : undefined;
  }

  /** SGLang version. */
  get version(): string {
    return this.#info?.version ?? "unknown";
  }

  /** What it can do; known after {@linkcode ProbedServer.look}. */
  get capabilities(): Capabilities {
    if (this.#capabilities === undefined) throw new Error("A server is used before it was probed");
    return this.#capabilities;
  }

  /** Whether its ranks are processes of one host. */
  get isOnOneHost(): boolean {
    return (this.#info?.raw.nnodes ?? 1) === 1;
  }

  /** Reads what the server is, and refuses one that is not what it was declared. */
  protected async look(signal: AbortSignal, expectedTpSize?: number): Promise<void> {
    const info = await this.client.serverInfo({ signal });
    this.#info = info;
    this.#capabilities = await this.client.capabilities({ signal });
    this.#tpSize = info.tpSize;
    if (expectedTpSize === undefined || expectedTpSize === info.tpSize) return;
    throw new ValidationError(
      `${this.url} was declared with tpSize ${expectedTpSize}, it has ${info.tpSize}`,
    );
  }

  /** Whether its ranks hold parts of the model in another way than by tensor parallelism. */
  get isSplit(): boolean {
    const { dpSize = 1, ppSize = 1, raw = {} } = this.#info ?? {};
    // From 0.5.22 attention data parallelism is reported as dp_size 1.
    return ppSize > 1 || (dpSize > 1 && raw.enable_dp_attention !== true);
  }

  /**
   * Refuses a server that cannot take updates in this way.
   *
   * @throws {UnsupportedError} Tells the way that works.
   */
  requireFit(transport: string): void {
    const { url, version, draft } = this;
    const { hasWeightSession } = this.capabilities;
    const choice = this.#draftChoice;
    requireDraftFit({ url, version, draft, hasWeightSession, transport, choice });
    const { dpSize = 1, ppSize = 1 } = this.#info ?? {};
    const isByGroup = transport === "nccl" || transport === "gloo" || transport === "cuda-ipc";
    if (ppSize > 1 && isByGroup) {
      throw new UnsupportedError(
        `${this.url} runs with pp_size ${ppSize}: its pipeline stages would claim the same ranks of ` +
          'a group. Use transport "disk", or tensor parallelism',
      );
    }
    if (this.isSplit && isByGroup) {
      throw new UnsupportedError(
        `${this.url} runs with dp_size ${dpSize}: SGLang takes weight updates over a group only ` +
          'without data parallelism inside a server. Use transport "disk", or one server for each ' +
          "replica",
      );
    }
    const { quantizes } = this;
    if (quantizes === undefined || this.capabilities.hasWeightSession) return;
    throw new UnsupportedError(
      `${this.url} quantises its weights (--quantization ${quantizes}): SGLang ${this.version} ` +
        "cannot load new ones into it and would be left with a part of them, or end. Start it " +
        "without --quantization, or with SGLang 0.5.22 or newer, whose update sessions quantise again",
    );
  }

  /** Whether requests can be taken off the device at once, from where they can be aborted. */
  protected get canRetract(): boolean {
    const { disaggregation_mode: disaggregation = "null" } = this.#info!.raw;
    const isWhole = disaggregation === "null" || disaggregation === null;
    return this.capabilities.hasPauseModes && isWhole && !this.isSplit;
  }

  /** Headers that its control calls need, such as its key. */
  get controlHeaders(): Readonly<Record<string, string>> {
    return this.client.controlHeaders;
  }

  /** Closes idle connections, unless the client is another's. */
  close(): void {
    if (this.#isOwnClient) this.client.close();
  }
}
