/** Answers of `/generate` in the real server's form, key order included. */
import type { LogProb, Task } from "../scheduler/task.ts";
import type { ServerTokenizer } from "../tokenizer.ts";

/** What an answer needs to know of the server. */
export interface AnswerContext {
  readonly tokenizer: ServerTokenizer;
  /** Whether the emulated version tells the version of each token (0.5.20 and later). */
  readonly tellsSpans: boolean;
  readonly returnPromptIds: boolean;
  /** Position in a streamed batch. */
  readonly index?: number | undefined;
  /** What the `wrongLogProbCounts` fault adds to or takes from the list of log-probabilities. */
  readonly spoilLogProbs?: boolean | undefined;
}

/** The answer for what a task has made so far. */
export function answerOf(task: Task, context: AnswerContext): Record<string, unknown> {
  const outputIds = task.outputIds();
  return {
    text: visibleText(task, outputIds, context.tokenizer),
    output_ids: outputIds,
    meta_info: metaInfo(task, context),
    ...(context.returnPromptIds ? { prompt_token_ids: task.request.promptIds } : {}),
    ...(context.index === undefined ? {} : { index: context.index }),
  };
}

function visibleText(task: Task, outputIds: readonly number[], tokenizer: ServerTokenizer): string {
  const { skipSpecialTokens, noStopTrim } = task.request.sampling;
  const matched = task.finish?.type === "stop" ? task.finish.matched : null;
  const dropsToken = typeof matched === "number" && !noStopTrim;
  const ids = dropsToken ? outputIds.slice(0, -1) : outputIds;
  const text = tokenizer.decode(ids, { skipSpecialTokens });
  // The bytes of a character may be spread over tokens: a stream shows it when it is whole.
  if (task.finish === null) {
    return text.endsWith("\ufffd") ? text.replace(/(?<!\ufffd)\ufffd+$/, "") : text;
  }
  if (typeof matched !== "string") return text;
  const at = text.indexOf(matched);
  if (at < 0) return text;
  return text.slice(0, noStopTrim ? at + matched.length : at);
}

function metaInfo(task: Task, context: AnswerContext): Record<string, unknown> {
  const { request, cachedTokens } = task;
  const ended = task.finishedMs !== null;
  const aboutPrompt = task.abortedInQueue ? {} : { prompt_tokens: task.promptLength };
  return {
    id: request.rid,
    finish_reason: task.finish,
    ...aboutPrompt,
    weight_version: task.weightVersion,
    num_retractions: task.retractions,
    ...(request.returnLogProbs ? logProbs(task, context) : {}),
    reasoning_tokens: 0,
    completion_tokens: task.outputLength,
    ...(task.abortedInQueue ? {} : { cached_tokens: cachedTokens ?? 0 }),
    ...(context.tellsSpans && ended ? { weight_versions: spansOf(task) } : {}),
    cached_tokens_details: cachedTokens ? { device: cachedTokens, host: 0 } : null,
    dp_rank: null,
    ...(ended ? { e2e_latency: (task.finishedMs! - task.arrivedMs) / 1000 } : {}),
    response_sent_to_client_ts: Date.now() / 1000,
  };
}

/** Without output there is one empty span. */
function spansOf({ spans, weightVersion }: Task): Task["spans"] {
  return spans.length > 0 ? spans : [{ version: weightVersion, start: 0, end: 0 }];
}

function logProbs(task: Task, context: AnswerContext): Record<string, unknown> {
  const { request } = task;
  const withText = ([value, id]: LogProb): [number | null, number, string | null] => [
    value,
    id,
    request.textInLogProbs ? context.tokenizer.decode([id], { skipSpecialTokens: false }) : null,
  ];
  const lists = (rows: readonly (readonly LogProb[] | null)[]) =>
    rows.map((row) => row === null ? null : row.map(withText));
  const output = task.outputLogProbs.map(withText);
  if (context.spoilLogProbs) output.pop();
  return {
    input_token_logprobs: task.promptLogProbs.map(withText),
    output_token_logprobs: output,
    output_token_logprobs_length: task.outputLogProbs.length,
    ...(request.topLogProbs > 0
      ? { input_top_logprobs: lists(task.promptTop), output_top_logprobs: lists(task.outputTop) }
      : {}),
    ...(request.tokenIdsLogProb !== null
      ? {
        input_token_ids_logprobs: lists(task.promptPicked),
        output_token_ids_logprobs: lists(task.outputPicked),
      }
      : {}),
  };
}
