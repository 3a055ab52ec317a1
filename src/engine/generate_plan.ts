import { setImmediate } from "node:timers/promises";
import type { FleetAdapters } from "../adapters/fleet_adapters.ts";
import { assertIds, buildOwnRequest, REQUEST_FIELDS, samplingIn } from "../client/request.ts";
import { isSamplingName, mergeSampling, nearestSamplingName } from "../client/sampling_params.ts";
import type { GenerateRequest, SamplingInput, SamplingParams } from "../client/types.ts";
import { ValidationError } from "../errors.ts";
import { nearestName } from "../internal/suggest.ts";
import type { GenerateOptions } from "./engine.ts";
import type { PromptList } from "./prompts.ts";
import { seedsFor } from "./sample_seeds.ts";

/** One prompt of a call, checked and ready to send. */
export interface PlannedRequest {
  readonly request: GenerateRequest & { readonly rid: string };
  /** Body of `POST /generate`, by which the way to send it is chosen. */
  readonly body: Readonly<Record<string, unknown>>;
  /** Its samples, each as a request of its own, where they need seeds of their own. */
  readonly parts?: readonly PlannedRequest[] | undefined;
  /** Id of the request that this is a part of. */
  readonly partOf?: string | undefined;
  /** The request for servers that refuse seeds, where only some servers of the fleet take them. */
  readonly unseeded?: (GenerateRequest & { readonly rid: string }) | undefined;
}

/** What a call of `generate` will send. Its requests are built when their turn comes. */
export interface GeneratePlan {
  /** How many prompts. */
  readonly total: number;
  /** Samples for each prompt. */
  readonly n: number;
  /** The adapter that all of them use, when it is one that the fleet was given. */
  readonly adapter: string | undefined;
  /** Ids that the caller gave, one for each prompt. */
  readonly rids: ReadonlySet<string> | undefined;
  /** The first request, which says what all have in common; `undefined` where there is none. */
  readonly sample: PlannedRequest | undefined;
  /** Builds the request of a prompt; asked once for each, in order. */
  readonly request: (row: number) => PlannedRequest;
}

type RequestField = keyof typeof REQUEST_FIELDS;

/** Names of {@linkcode GenerateOptions} that are not for sampling. */
const FIELD_NAMES = Object.keys(REQUEST_FIELDS) as RequestField[];

/** TorchRL's and SGLang's names of request fields. */
const FIELD_ALIASES: Readonly<Record<string, RequestField>> = {
  ...Object.fromEntries(FIELD_NAMES.map((name) => [REQUEST_FIELDS[name], name])),
  return_logprobs: "returnLogProbs",
  return_log_probs: "returnLogProbs",
};

/** Fields of SGLang that go into the request as they are. */
const EXTRA_ALIASES = ["return_text_in_logprobs", "custom_logit_processor", "cache_salt"];

const CALL_OPTIONS = ["signal", "timeoutMs", "rids", "onProgress", "samplingParams", "extra"];

/** What a plan depends on besides the call. */
export interface PlanContext {
  /** Sampling parameters of requests that give none. */
  readonly samplingDefaults: SamplingParams | undefined;
  /** Which servers are deterministic, so that samples need seeds of their own. */
  readonly deterministic: "none" | "some" | "all";
  /** Number of the call, which tells apart calls that take their seed from the defaults. */
  readonly nextCall: () => number;
  /** The adapter that a name of the user's means. */
  readonly adapters: Pick<FleetAdapters, "resolve" | "has">;
}

/**
 * Checks options and texts before anything is sent; `checkPrompts` does the rest. Prompts of a call
 * differ in nothing but themselves, so the first request stands for all.
 */
export function planGenerate(
  { list: prompts, isList }: PromptList,
  options: GenerateOptions,
  context: PlanContext,
): GeneratePlan {
  // The caller may change its list before the last of them is sent.
  const list = [...prompts];
  const { samplingDefaults: defaults } = context;
  const { sampling, fields: given } = splitOptions(options);
  const lora = given.lora === undefined ? undefined : context.adapters.resolve(given.lora);
  const fields = lora === undefined ? given : { ...given, lora };
  const rids = ridsFor(list.length, options.rids);
  const build = (row: number): PlannedRequest => {
    const prompt = list[row]!;
    const request = {
      ...(typeof prompt === "string" ? { text: prompt } : { inputIds: prompt }),
      ...fields,
      samplingParams: sampling,
      rid: options.rids?.[row] ?? crypto.randomUUID(),
    };
    return { request, body: buildOwnRequest(request, { defaults }).body };
  };
  const sample = list.length === 0 ? undefined : build(0);
  const n = sample === undefined ? 1 : samplesOf(sample);
  if (!isList && n > 1) {
    throw new ValidationError(
      `samplingParams asks for ${n} samples of one prompt: give n directly in the options, or the ` +
        "prompt in a list, to get a list",
    );
  }
  // A text costs a look. What is asked of ids may depend on their number.
  const dependsOnPrompt = sample !== undefined && "return_routed_experts" in sample.body;
  for (let row = 1; row < list.length; row++) {
    if (list[row] === "" || dependsOnPrompt) build(row);
  }
  const seeds = sample && seedsFor(sample, context);
  return {
    total: list.length,
    n,
    adapter: lora !== undefined && context.adapters.has(lora) ? lora : undefined,
    rids,
    sample,
    request: (row) => {
      const planned = row === 0 ? sample! : build(row);
      return seeds === undefined ? planned : seeds(planned);
    },
  };
}

/** Ids that are checked before others get their turn: some milliseconds. */
const IDS_AT_ONCE = 500_000;

/**
 * Checks the ids of all prompts before any request is sent; others get their turn meanwhile.
 *
 * @throws {ValidationError} A prompt has none, or one that is no id of the vocabulary.
 */
export async function checkPrompts(
  { list }: Pick<PromptList, "list">,
  vocabSize: number | null,
): Promise<void> {
  let since = 0;
  for (const prompt of list) {
    if (typeof prompt === "string") continue;
    if (typeof prompt?.length !== "number") {
      throw new ValidationError("Must provide either text or inputIds");
    }
    assertIds(prompt, { name: "inputIds", vocabSize });
    since += prompt.length;
    if (since < IDS_AT_ONCE) continue;
    since = 0;
    await setImmediate();
  }
}

/** Samples that a request makes. */
export function samplesOf(planned: PlannedRequest): number {
  const { n = 1 } = samplingIn(planned.body) as { readonly n?: number };
  return n;
}

function splitOptions(
  options: GenerateOptions,
): { sampling: SamplingInput; fields: Partial<GenerateRequest> } {
  const direct: Record<string, unknown> = {};
  const fields: Record<string, unknown> = {};
  const extra: Record<string, unknown> = { ...options.extra };
  const samplingParams: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options.samplingParams ?? {})) {
    // TorchRL takes these among the sampling parameters too.
    if (!setRequestField(name, value, { fields, extra })) samplingParams[name] = value;
  }
  for (const [name, value] of Object.entries(options)) {
    if (CALL_OPTIONS.includes(name) || value === undefined) continue;
    if (name === "stream" && value === false) continue;
    if (setRequestField(name, value, { fields, extra })) continue;
    if (!isSamplingName(name)) throw unknownOption(name);
    direct[name] = value;
  }
  if (Object.keys(extra).length > 0) fields.extra = extra;
  return { sampling: mergeSampling(samplingParams, direct), fields };
}

function setRequestField(
  name: string,
  value: unknown,
  into: { fields: Record<string, unknown>; extra: Record<string, unknown> },
): boolean {
  const field = FIELD_ALIASES[name] ?? FIELD_NAMES.find((known) => known === name);
  if (field !== undefined) into.fields[field] = value;
  else if (EXTRA_ALIASES.includes(name)) into.extra[name] = value;
  else return false;
  return true;
}

function unknownOption(name: string): ValidationError {
  const known = [...FIELD_NAMES, ...CALL_OPTIONS, ...Object.keys(FIELD_ALIASES)];
  const nearest = nearestName(name, known) ?? nearestSamplingName(name);
  return new ValidationError(
    `Unknown option "${name}" of generate` +
      (nearest === undefined ? "" : `; did you mean "${nearest}"?`) +
      " Further fields of SGLang go into `extra`",
  );
}

function ridsFor(
  count: number,
  given: readonly string[] | undefined,
): ReadonlySet<string> | undefined {
  if (given === undefined) return undefined;
  if (given.length !== count) {
    throw new ValidationError(
      `rids must hold one id for each of ${count} prompts, got ${given.length}`,
    );
  }
  const rids = new Set(given);
  if (rids.size !== count) throw new ValidationError("rids must differ from each other");
  return rids;
}
