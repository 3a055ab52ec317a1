/**
 * What the router (sglang_router 0.3.2) passes on to a worker: it parses a request into its own
 * type and writes that out again, so what it does not know is lost without a word. Measured with a
 * recording worker behind a real router.
 */
const PASSED_FIELDS: ReadonlySet<string> = new Set([
  "text",
  "input_ids",
  "sampling_params",
  "rid",
  "stream",
  "return_logprob",
  "logprob_start_len",
  "top_logprobs_num",
  "token_ids_logprob",
  "return_text_in_logprobs",
  "return_hidden_states",
  "session_params",
  "lora_path",
  "custom_logit_processor",
  "conversation_id",
  "priority",
  "extra_key",
  "no_logs",
  "log_metrics",
  "custom_labels",
  "return_bytes",
  "return_entropy",
]);

const PASSED_SAMPLING: ReadonlySet<string> = new Set([
  "temperature",
  "max_new_tokens",
  "min_new_tokens",
  "top_p",
  "top_k",
  "min_p",
  "frequency_penalty",
  "presence_penalty",
  "repetition_penalty",
  "stop",
  "stop_token_ids",
  "ignore_eos",
  "skip_special_tokens",
  "json_schema",
  "regex",
  "ebnf",
  "no_stop_trim",
  "n",
  "sampling_seed",
]);

/** The fields of a request that the router would lose; none when it may go through the router. */
export function lostByRouter(body: Readonly<Record<string, unknown>>): string[] {
  const sampling = body.sampling_params;
  const params = typeof sampling === "object" && sampling !== null ? Object.keys(sampling) : [];
  return [
    ...Object.keys(body).filter((name) => !PASSED_FIELDS.has(name)),
    ...params.filter((name) => !PASSED_SAMPLING.has(name)),
  ];
}
