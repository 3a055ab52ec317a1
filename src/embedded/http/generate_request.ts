/** The body of `/generate`, split into one request for each sample. */
import type { TaskRequest } from "../scheduler/task.ts";
import { parseSampling, type Sampling, samplingObjects } from "../scheduler/sampling_params.ts";
import type { ServerTokenizer } from "../tokenizer.ts";
import { formError, internalError, readingError, valueError } from "./api_error.ts";

/** What reading a body needs to know of the server. */
export interface BodyContext {
  readonly tokenizer: ServerTokenizer;
  readonly vocabSize: number;
  readonly contextLength: number;
  /** Whether the emulated version checks JSON types strictly (0.5.22 and later). */
  readonly strict: boolean;
  /** Ids of requests in work. */
  readonly inWork: ReadonlySet<string>;
  /** Called for what kills the emulated server (0.5.23 dies of an empty text, as measured). */
  readonly onDeadlyRequest: (reason: string) => void;
  /** The seed of a sample, given the one that its request names. */
  readonly seedFor: (given: number | null) => number;
}

/** A body that was understood. */
export interface ParsedBody {
  /** Prompt by prompt, its samples next to each other. */
  readonly requests: readonly TaskRequest[];
  /** Whether the answer is a list. */
  readonly isBatch: boolean;
  /** Samples for each prompt. */
  readonly n: number;
  readonly stream: boolean;
  /** Adapter of each request, `null` for the model alone. */
  readonly adapters: readonly (string | null)[];
  readonly returnPromptIds: boolean;
}

/** The real server keeps this many positions free. */
const reservedPositions = 6;

/** Reads a body; throws the real server's answer where it is wrong. */
export function parseGenerateBody(body: unknown, context: BodyContext): ParsedBody {
  const fields = asObject(body);
  const { prompts, isList } = readPrompts(fields, context);
  const sampling = samplingObjects(fields.sampling_params, prompts.length).map((raw) =>
    parseSampling(raw, context)
  );
  const n = sampling[0]!.n;
  if (sampling.some((one) => one.n !== n)) {
    throw readingError(
      "The parallel_sample_num should be the same for all samples in sample params.",
    );
  }
  if (fields.return_hidden_states) throw noHiddenStates(context);
  prompts.forEach((ids, i) => checkLength(ids, sampling[i]!, context.contextLength));
  const rids = requestIds(fields.rid, { prompts: prompts.length, isList, n, context });
  const requests = prompts.flatMap((promptIds, i) =>
    Array.from({ length: n }, (_, sample): TaskRequest => ({
      rid: rids[i * n + sample]!,
      promptIds,
      sampling: sampling[i]!,
      // Each of several samples gets the same, as in the real server.
      seed: context.seedFor(sampling[i]!.seed),
      ...logProbFields(fields, { index: i, isList, promptLength: promptIds.length }),
    }))
  );
  return {
    requests,
    adapters: prompts.flatMap((_, i) => Array.from({ length: n }, () => adapterOf(fields, i))),
    isBatch: isList || n > 1,
    n,
    stream: fields.stream === true,
    returnPromptIds: fields.return_prompt_token_ids === true,
  };
}

function adapterOf({ lora_path: asked }: Record<string, unknown>, index: number): string | null {
  const name = Array.isArray(asked) ? asked[index] : asked;
  return typeof name === "string" && name !== "" ? name : null;
}

function noHiddenStates({ strict }: BodyContext): Error {
  return valueError(
    strict
      ? "The server is not configured to return hidden states. Please set " +
        "`--return-hidden-states-mode last`, `--return-hidden-states-mode full`, or the legacy " +
        "`--enable-return-hidden-states` flag."
      : "The server is not configured to return the hidden states. Please set " +
        "`--enable-return-hidden-states` to enable this feature.",
  );
}

/** A JSON body as an object. */
export function asObject(body: unknown): Record<string, unknown> {
  if (typeof body === "object" && body !== null && !Array.isArray(body)) {
    return body as Record<string, unknown>;
  }
  throw formError("{'type': 'missing', 'loc': ('body',), 'msg': 'Field required', 'input': None}");
}

function readPrompts(
  fields: Record<string, unknown>,
  context: BodyContext,
): { prompts: number[][]; isList: boolean } {
  const { text, input_ids: ids } = fields;
  if (text == null && ids == null) {
    throw readingError("Either text, input_ids or input_embeds should be provided.");
  }
  // Where both are given, the ids win.
  if (ids == null) return readTexts(text, context);
  if (!Array.isArray(ids)) {
    throw formError(
      "{'type': 'value_error', 'loc': ('body', 'input_ids'), 'msg': 'Value error, must be list " +
        `or null; got ${typeof ids}', 'input': ${JSON.stringify(ids)}}`,
    );
  }
  const isList = Array.isArray(ids[0]);
  const prompts: unknown[][] = isList ? ids : [ids];
  if (prompts.some((prompt) => prompt.length === 0)) {
    throw readingError("input_ids cannot be empty.");
  }
  if (!prompts.every(isIdList)) {
    throw formError("{'type': 'value_error', 'loc': ('body', 'input_ids'), 'msg': 'not integers'}");
  }
  return { prompts, isList };
}

function readTexts(
  text: unknown,
  context: BodyContext,
): { prompts: number[][]; isList: boolean } {
  const isList = Array.isArray(text);
  const texts: unknown[] = isList ? text : [text];
  if (!texts.every((one) => typeof one === "string")) {
    throw formError(
      "{'type': 'value_error', 'loc': ('body', 'text'), 'msg': 'must be str or list'}",
    );
  }
  if (texts.length === 0 || texts.some((one) => one === "")) {
    if (context.strict) context.onDeadlyRequest("an empty text");
    throw valueError("texts cannot be empty and tokenizer must be initialized");
  }
  const prompts = texts.map((one) => context.tokenizer.encode(one, { addSpecialTokens: true }));
  return { prompts, isList };
}

function isIdList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((id) => Number.isInteger(id));
}

function checkLength(ids: readonly number[], sampling: Sampling, contextLength: number): void {
  if (ids.length >= contextLength) {
    throw valueError(
      `The input (${ids.length} tokens) is longer than the model's context length ` +
        `(${contextLength} tokens).`,
    );
  }
  const total = ids.length + sampling.maxNewTokens;
  if (Number.isFinite(total) && total > contextLength) {
    throw valueError(
      `Requested token count exceeds the model's maximum context length of ${contextLength} ` +
        `tokens. You requested a total of ${total} tokens: ${ids.length} tokens from the input ` +
        `messages and ${sampling.maxNewTokens} tokens for the completion. Please reduce the ` +
        "number of tokens in the input messages or the completion to fit within the limit.",
    );
  }
  const longest = contextLength - reservedPositions;
  // The real server refuses a prompt of just the length that it calls allowed.
  if (ids.length >= longest) {
    throw valueError(
      `Input length (${ids.length} tokens) exceeds the maximum allowed length (${longest} ` +
        "tokens). Use a shorter input or enable --allow-auto-truncate.",
    );
  }
}

function requestIds(
  rid: unknown,
  options: { prompts: number; isList: boolean; n: number; context: BodyContext },
): string[] {
  const { prompts, isList, n, context } = options;
  const fresh = () => crypto.randomUUID().replaceAll("-", "");
  // With several samples the real server makes new ids and forgets the caller's.
  if (rid == null || n > 1) return Array.from({ length: prompts * n }, fresh);
  const ids = typeof rid === "string"
    ? isList ? Array.from({ length: prompts }, (_, i) => `${rid}_${i}`) : [rid]
    : rid;
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === "string")) throw internalError();
  if (ids.length !== prompts) {
    throw readingError("The rids length mismatch with the batch_size.");
  }
  const repeated = [...new Set(ids.filter((id, i) => ids.indexOf(id) !== i))];
  if (repeated.length > 0) {
    throw readingError(
      `Duplicate request IDs detected within the request: [${quoted(repeated)}]`,
    );
  }
  const live = ids.filter((id) => context.inWork.has(id));
  if (live.length > 0) throw readingError(`Duplicate request ID detected: ${live[0]}`);
  return ids;
}

function quoted(ids: readonly string[]): string {
  return ids.map((id) => `'${id}'`).join(", ");
}

function logProbFields(
  fields: Record<string, unknown>,
  prompt: { index: number; isList: boolean; promptLength: number },
): Omit<TaskRequest, "rid" | "promptIds" | "sampling" | "seed"> {
  const item = (key: string): unknown => {
    const value = fields[key];
    return prompt.isList && Array.isArray(value) ? value[prompt.index] : value;
  };
  const start = item("logprob_start_len") ?? -1;
  const top = item("top_logprobs_num") ?? 0;
  const pickedField = fields.token_ids_logprob;
  const isNested = Array.isArray(pickedField) && Array.isArray(pickedField[0]);
  const picked = isNested ? pickedField[prompt.index] : pickedField ?? null;
  if (typeof start !== "number" || typeof top !== "number") throw internalError();
  if (picked !== null && !isIdList(picked)) throw internalError();
  const { promptLength } = prompt;
  if (start > promptLength) {
    throw valueError(
      `req.logprob_start_len=${start} is higher than the number of input tokens ` +
        `len(req.origin_input_ids)=${promptLength}. Please use a smaller logprob_start_len.`,
    );
  }
  const returnLogProbs = item("return_logprob") === true;
  return {
    returnLogProbs,
    logProbStart: !returnLogProbs || start < 0 ? promptLength : start,
    topLogProbs: returnLogProbs ? top : 0,
    tokenIdsLogProb: returnLogProbs ? picked : null,
    textInLogProbs: fields.return_text_in_logprobs === true,
  };
}
