import { ValidationError } from "../errors.ts";
import { nearestName } from "../internal/suggest.ts";
import {
  type ConvertSamplingOptions,
  convertSamplingParams,
  mergeSampling,
  TORCHRL_SAMPLING_DEFAULTS,
} from "./sampling_params.ts";
import type { GenerateRequest } from "./types.ts";

/** A checked request, ready to send. */
export interface WireRequest {
  /** Body of `POST /generate`. */
  readonly body: Readonly<Record<string, unknown>>;
  readonly rid: string;
  /** Ids that the caller sent, when it sent ids. */
  readonly promptIds: Int32Array | null;
  readonly n: number;
  readonly warnings: readonly string[];
}

/** Fields of a request beside the prompt and the sampling parameters, and their names on the wire. */
export const REQUEST_FIELDS = {
  returnLogProbs: "return_logprob",
  logProbStartLen: "logprob_start_len",
  topLogProbs: "top_logprobs_num",
  tokenIdsLogProb: "token_ids_logprob",
  returnPromptIds: "return_prompt_token_ids",
  returnHiddenStates: "return_hidden_states",
  returnRoutedExperts: "return_routed_experts",
  routedExpertsStartLen: "routed_experts_start_len",
  lora: "lora_path",
  priority: "priority",
  extraKey: "extra_key",
  sessionId: "session_id",
  routedDpRank: "routed_dp_rank",
} as const satisfies Partial<Record<keyof GenerateRequest, string>>;

const KNOWN = [
  "text",
  "inputIds",
  "samplingParams",
  "rid",
  "extra",
  ...Object.keys(REQUEST_FIELDS),
];

/** What only this library may set, because an answer is read by it. */
const NOT_EXTRA = ["text", "input_ids", "sampling_params", "rid", "stream"];

/** Requests of this library that are built, by the defaults that they were built with. */
const own = new WeakMap<
  GenerateRequest,
  { readonly defaults: ConvertSamplingOptions["defaults"]; readonly wire: WireRequest }
>();

/**
 * Builds a request that nobody changes afterwards: the next time that it is built it is at hand.
 * Not for requests of users.
 */
export function buildOwnRequest(
  request: GenerateRequest,
  options: ConvertSamplingOptions = {},
): WireRequest {
  const wire = buildRequest(request, options);
  own.set(request, { defaults: options.defaults ?? TORCHRL_SAMPLING_DEFAULTS, wire });
  return wire;
}

/**
 * One sample of a request of {@linkcode buildOwnRequest}, with an id and a seed of its own. Nothing
 * else differs, so nothing is built and checked again.
 */
export function ownSample<Request extends GenerateRequest>(
  request: Request,
  { rid, seed }: { readonly rid: string; readonly seed: number },
): { readonly request: Request & { readonly rid: string }; readonly body: WireRequest["body"] } {
  const { defaults, wire } = own.get(request)!;
  const samplingParams = mergeSampling(request.samplingParams ?? {}, { n: 1, samplingSeed: seed });
  const sample = { ...request, rid, samplingParams };
  const sampling_params = { ...samplingIn(wire.body), n: 1, sampling_seed: seed };
  const body = { ...wire.body, rid, sampling_params };
  own.set(sample, { defaults, wire: { ...wire, body, rid, n: 1 } });
  return { request: sample, body };
}

/** Checks a request and brings it into the form of `POST /generate`. Unset fields are not sent. */
export function buildRequest(
  request: GenerateRequest,
  options: ConvertSamplingOptions = {},
): WireRequest {
  const built = own.get(request);
  if (built !== undefined) {
    const { defaults = TORCHRL_SAMPLING_DEFAULTS } = options;
    if (built.defaults === defaults) return built.wire;
  }
  refuseUnknown(request);
  const { text, inputIds, rid = crypto.randomUUID() } = request;
  const prompt = promptOf(text, inputIds);
  const sampling = convertSamplingParams(request.samplingParams, options);

  const body: Record<string, unknown> = { ...prompt.fields };
  const fields = { ...sampling.requestFields };
  const warnings = [...sampling.warnings];
  for (const [name, wireName] of Object.entries(REQUEST_FIELDS)) {
    const value: unknown = request[name as keyof typeof REQUEST_FIELDS];
    if (value === undefined) continue;
    const other = fields[wireName];
    if (other !== undefined && JSON.stringify(other) !== JSON.stringify(value)) {
      throw new ValidationError(
        `${name} and a sampling parameter both set ${wireName}, to ${JSON.stringify(value)} and ` +
          `${JSON.stringify(other)}. Give one of them`,
      );
    }
    fields[wireName] = value;
  }
  checkFields(fields);
  checkRoutedExperts(fields, prompt.ids);
  Object.assign(body, fields, extraOf(request.extra));
  body.rid = rid;
  body.sampling_params = sampling.samplingParams;
  const n = typeof sampling.samplingParams.n === "number" ? sampling.samplingParams.n : 1;
  return { body, rid, promptIds: prompt.ids, n, warnings };
}

/** Sampling parameters of a body of `/generate`, by their names on the wire. */
export function samplingIn(
  body: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  return (body.sampling_params ?? {}) as Readonly<Record<string, unknown>>;
}

/** Whether a body of `/generate` holds token ids, so that the vocabulary size matters. */
export function holdsIds(body: Readonly<Record<string, unknown>>): boolean {
  return body.input_ids !== undefined || otherIdsIn(body).length > 0;
}

/** Refuses ids outside the vocabulary, wherever a body of `/generate` holds them. */
export function checkVocabulary(
  body: Readonly<Record<string, unknown>>,
  vocabSize: number | null,
): void {
  if (Array.isArray(body.input_ids)) {
    assertIds(body.input_ids as number[], { name: "inputIds", vocabSize });
  }
  for (const { name, ids } of otherIdsIn(body)) assertIds(ids, { name, vocabSize });
}

function otherIdsIn(body: Readonly<Record<string, unknown>>): { name: string; ids: number[] }[] {
  const sampling = samplingIn(body);
  const lists = {
    tokenIdsLogProb: body.token_ids_logprob,
    // With min_new_tokens these index the logits too.
    stopTokenIds: sampling.stop_token_ids,
    logitBias: sampling.logit_bias && Object.keys(sampling.logit_bias).map(Number),
  };
  return Object.entries(lists).flatMap(([name, ids]) =>
    Array.isArray(ids) && ids.length > 0 ? [{ name, ids: ids as number[] }] : []
  );
}

/** Checks ids against the vocabulary; an id outside it would end the server. */
export function assertIds(
  ids: ArrayLike<number>,
  { name, vocabSize }: { name: string; vocabSize: number | null },
): void {
  if (ids.length === 0) {
    throw new ValidationError(`${name} must hold at least one token id, got an empty list`);
  }
  const limit = vocabSize ?? 2 ** 31;
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (Number.isInteger(id) && id >= 0 && id < limit) continue;
    throw new ValidationError(
      `${name}[${i}] must be a token id from 0 to ${limit - 1}, got ${String(id)}. ` +
        "An id outside the vocabulary would end the server",
    );
  }
}

/** The same, and gives them as an array of their own. */
export function checkIds(
  ids: ArrayLike<number>,
  options: { name: string; vocabSize: number | null },
): Int32Array {
  assertIds(ids, options);
  return Int32Array.from(ids);
}

function promptOf(
  text: unknown,
  inputIds: ArrayLike<number> | undefined,
): { fields: Record<string, unknown>; ids: Int32Array | null } {
  if (text !== undefined && inputIds !== undefined) {
    throw new ValidationError("Cannot provide both text and inputIds");
  }
  if (inputIds !== undefined) {
    const ids = checkIds(inputIds, { name: "inputIds", vocabSize: null });
    return { fields: { input_ids: Array.from(ids) }, ids };
  }
  if (text === undefined) throw new ValidationError("Must provide either text or inputIds");
  if (typeof text !== "string") {
    throw new ValidationError(`text must be one string, got ${typeof text}`);
  }
  // A prompt of no tokens ends SGLang 0.5.23; 0.5.16 refuses it.
  if (text === "") throw new ValidationError("text is empty; give at least one token");
  return { fields: { text }, ids: null };
}

function refuseUnknown(request: GenerateRequest): void {
  for (const [name, value] of Object.entries(request)) {
    if (value === undefined || KNOWN.includes(name)) continue;
    const nearest = nearestName(name, KNOWN);
    throw new ValidationError(
      `Unknown field "${name}" of a generate request` +
        (nearest === undefined ? "" : `; did you mean "${nearest}"?`) +
        " Further fields of SGLang go into `extra`",
    );
  }
}

function extraOf(extra: GenerateRequest["extra"]): Record<string, unknown> {
  for (const name of NOT_EXTRA) {
    if (extra !== undefined && name in extra) {
      throw new ValidationError(`extra must not set "${name}": use the request's own field`);
    }
  }
  return { ...extra };
}

/** A start that is no position of the prompt fails in the server's scheduler. */
function checkRoutedExperts(fields: Record<string, unknown>, promptIds: Int32Array | null): void {
  const { return_routed_experts: asked, routed_experts_start_len: start } = fields;
  if (asked === "sampled") {
    if (promptIds === null || start !== undefined) {
      throw new ValidationError(
        'returnRoutedExperts: "sampled" needs the prompt as inputIds, and no routedExpertsStartLen',
      );
    }
    fields.return_routed_experts = true;
    fields.routed_experts_start_len = promptIds.length - 1;
    return;
  }
  if (asked !== undefined && typeof asked !== "boolean") {
    throw new ValidationError(
      `returnRoutedExperts must be true, false or "sampled", got ${String(asked)}`,
    );
  }
  if (start === undefined) return;
  const most = promptIds?.length ?? 0;
  if (
    asked === true && Number.isSafeInteger(start) && Number(start) >= 0 && Number(start) <= most
  ) {
    return;
  }
  throw new ValidationError(
    asked === true
      ? `routedExpertsStartLen must be from 0 to ${most}, the number of inputIds, got ${
        String(start)
      }`
      : "routedExpertsStartLen needs returnRoutedExperts",
  );
}

function checkFields(fields: Record<string, unknown>): void {
  const ids = fields.token_ids_logprob;
  if (ids !== undefined) {
    const checked = checkIds(ids as ArrayLike<number>, {
      name: "tokenIdsLogProb",
      vocabSize: null,
    });
    fields.token_ids_logprob = Array.from(checked);
  }
  const wantsMore = ["top_logprobs_num", "token_ids_logprob"].filter((name) => fields[name]);
  const isStart = typeof fields.logprob_start_len === "number" && fields.logprob_start_len >= 0;
  if (isStart) wantsMore.push("logprob_start_len");
  if (wantsMore.length > 0 && fields.return_logprob === false) {
    throw new ValidationError(`${wantsMore[0]} needs returnLogProbs, which is false`);
  }
  // SGLang ignores the detail fields without it: nothing asked for may vanish.
  if (wantsMore.length > 0) fields.return_logprob = true;
}
