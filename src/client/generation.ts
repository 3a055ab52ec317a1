import { HttpError, ProtocolError } from "../errors.ts";
import { toIds, toLogProbs, toTopLogProbs } from "./columns.ts";
import { toRoutedExperts } from "./routed_experts.ts";
import { type GenerateAnswer, generateAnswer, type WireFinishReason } from "./schema/generate.ts";
import type { FinishReason, Generation, TopLogProbs, VersionSpan } from "./types.ts";

/** What is known about the request besides its answer. */
export interface GenerationContext {
  readonly server: string;
  readonly latencyMs: number;
  /** Ids that the caller sent, when it sent ids. */
  readonly promptIds: Int32Array | null;
  /** Whether log-probabilities were asked for. */
  readonly wantsLogProbs: boolean;
  /** First position whose experts were asked for, when they were. */
  readonly routedExpertsStart?: number | undefined;
}

/** Checks one element of an answer of `/generate` and brings it into the form for trainers. */
export function parseGeneration(value: unknown, context: GenerationContext): Generation {
  const answer = checkAnswer(value);
  const { meta_info: meta } = answer;
  if (meta.finish_reason === null || meta.finish_reason === undefined) {
    throw new ProtocolError("The answer has no finish_reason: it ended before the generation did");
  }
  const finishReason = toFinishReason(meta.finish_reason);
  const ids = toIds(answer.output_ids ?? [], "output_ids");
  const promptIds = answer.prompt_token_ids;
  return {
    text: answer.text ?? null,
    ids,
    logProbs: outputLogProbs(answer, ids, { ...context, finishReason }),
    promptIds: Array.isArray(promptIds) ? toIds(promptIds, "prompt_token_ids") : context.promptIds,
    promptLogProbs: promptLogProbs(meta),
    topLogProbs: perPosition(meta, "output_top_logprobs") as TopLogProbs[] | null,
    promptTopLogProbs: perPosition(meta, "input_top_logprobs"),
    tokenIdsLogProbs: perPosition(meta, "output_token_ids_logprobs") as TopLogProbs[] | null,
    promptTokenIdsLogProbs: perPosition(meta, "input_token_ids_logprobs"),
    routedExperts: context.routedExpertsStart === undefined
      ? null
      : toRoutedExperts(meta.routed_experts, {
        start: context.routedExpertsStart,
        promptTokens: context.promptIds?.length ?? meta.prompt_tokens ?? null,
        outputTokens: ids.length,
        isAborted: finishReason.type === "abort",
        server: context.server,
      }),
    finishReason,
    weightVersion: meta.weight_version ?? null,
    weightVersions: versionSpans(meta),
    promptTokens: meta.prompt_tokens ?? null,
    completionTokens: meta.completion_tokens ?? ids.length,
    cachedTokens: meta.cached_tokens ?? null,
    id: meta.id,
    server: context.server,
    latencyMs: context.latencyMs,
    serverLatencyMs: typeof meta.e2e_latency === "number" ? meta.e2e_latency * 1000 : null,
    meta: withoutColumns(meta, context),
  };
}

/** Columns of `meta_info` with an element for each token, which become typed arrays. */
const COLUMNS = new Set([
  "output_token_logprobs",
  "input_token_logprobs",
  "output_top_logprobs",
  "input_top_logprobs",
  "output_token_ids_logprobs",
  "input_token_ids_logprobs",
  "logprobs",
]);

/**
 * The rest of `meta_info`: a list of lists takes ten times the memory of the arrays that were read
 * from it. A column with the tokens' texts, which were asked for and are nowhere else, stays.
 */
function withoutColumns(
  meta: GenerateAnswer["meta_info"],
  { routedExpertsStart }: GenerationContext,
): Readonly<Record<string, unknown>> {
  const rest: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(meta)) {
    // Read only where the other is not there.
    const isUnread = name === "logprobs" && Array.isArray(meta.output_token_logprobs);
    if (COLUMNS.has(name) && !isUnread && !hasTexts(value)) continue;
    if (name === "routed_experts" && routedExpertsStart !== undefined) continue;
    rest[name] = value;
  }
  return rest;
}

/** Whether tuples `[log-probability, id, text]`, or lists of them, have a text. */
function hasTexts(column: unknown): boolean {
  // The first may be missing, and says nothing.
  const last: unknown = Array.isArray(column) ? column.at(-1) : undefined;
  if (!Array.isArray(last)) return false;
  return typeof last[2] === "string" || (Array.isArray(last[0]) && hasTexts(last));
}

/** Checks the envelope of an answer or of a stream's event. */
export function checkAnswer(value: unknown): GenerateAnswer {
  const checked = generateAnswer.safeParse(value);
  if (checked.success) return checked.data;
  const issue = checked.error.issues[0];
  throw new ProtocolError(
    `The answer of /generate is not as expected at "${issue?.path.join(".")}": ${issue?.message}`,
    { cause: checked.error },
  );
}

/**
 * A request that the server gave up on by itself (queue full, timeouts, no memory) comes back as an
 * abort with a status, which a non-streamed call would have had as its HTTP status.
 */
export function throwIfRefused(generation: Generation): void {
  const { finishReason } = generation;
  if (finishReason.type !== "abort" || finishReason.statusCode === null) return;
  throw new HttpError(
    `POST /generate at ${generation.server} was refused with ${finishReason.statusCode}: ` +
      finishReason.message,
    {
      status: finishReason.statusCode,
      endpoint: "POST /generate",
      serverMessage: finishReason.message,
    },
  );
}

function toFinishReason(wire: WireFinishReason): FinishReason {
  switch (wire.type) {
    case "length":
      return { type: "length", length: wire.length };
    case "stop": {
      const { matched } = wire;
      return {
        type: "stop",
        matched: Array.isArray(matched) ? matched[0] ?? null : matched ?? null,
      };
    }
    case "abort":
      return { type: "abort", message: wire.message ?? "", statusCode: wire.status_code ?? null };
  }
}

function outputLogProbs(
  answer: GenerateAnswer,
  ids: Int32Array,
  context: GenerationContext & { finishReason: FinishReason },
): Float32Array | null {
  const idCount = ids.length;
  const found = answer.meta_info.output_token_logprobs ?? answer.output_token_logprobs ??
    answer.meta_info.logprobs;
  const aborted = context.finishReason.type === "abort";
  if (found === undefined || found === null) {
    if (!context.wantsLogProbs) return null;
    if (aborted && idCount === 0) return new Float32Array(0);
    throw new ProtocolError(
      `Log-probabilities were asked for, but ${context.server} returned none for ${idCount} tokens`,
    );
  }
  const logProbs = toLogProbs(found, { name: "output_token_logprobs", ids });
  if (logProbs.length !== idCount) {
    throw new ProtocolError(
      `The answer has ${logProbs.length} log-probabilities for ${idCount} output ids`,
    );
  }
  return logProbs;
}

function promptLogProbs(meta: GenerateAnswer["meta_info"]): Float32Array | null {
  const found = meta.input_token_logprobs;
  if (!Array.isArray(found) || found.length === 0) return null;
  return toLogProbs(found, { name: "input_token_logprobs", firstMayBeMissing: true });
}

function perPosition(
  meta: GenerateAnswer["meta_info"],
  key: string,
): (TopLogProbs | null)[] | null {
  const found = meta[key];
  if (!Array.isArray(found) || found.length === 0) return null;
  return toTopLogProbs(found, key);
}

function versionSpans(meta: GenerateAnswer["meta_info"]): VersionSpan[] | null {
  return meta.weight_versions?.map(({ version, start, end }) => ({ version, start, end })) ?? null;
}
