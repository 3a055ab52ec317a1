/**
 * Names of other libraries for sampling parameters, in snake case. Each may be given in camel case
 * too. Source of the mapping: vLLM `SamplingParams`, Hugging Face `GenerationConfig`, TorchRL's
 * `generate_kwargs`.
 */
export interface SamplingAliases {
  /** vLLM: most tokens to make. */
  readonly max_tokens?: number | undefined;
  /** vLLM: fewest tokens to make. */
  readonly min_tokens?: number | undefined;
  /** vLLM: seed. */
  readonly seed?: number | undefined;
  /** vLLM: keep the stop string in the text. */
  readonly include_stop_str_in_output?: boolean | undefined;
  /** vLLM: log-probabilities of the output, with this many likeliest tokens. */
  readonly logprobs?: number | undefined;
  /** vLLM: log-probabilities of the prompt too, with this many likeliest tokens. */
  readonly prompt_logprobs?: number | undefined;
  /** vLLM: ids whose log-probabilities are returned. */
  readonly logprob_token_ids?: readonly number[] | undefined;
  /** vLLM: `json`, `regex`, `choice`, `grammar` or `structural_tag`. */
  readonly structured_outputs?: Readonly<Record<string, unknown>> | undefined;
  /** vLLM: older name of `structured_outputs`. */
  readonly guided_decoding?: Readonly<Record<string, unknown>> | undefined;
  /** vLLM: parameters of a custom processor. */
  readonly extra_args?: Readonly<Record<string, unknown>> | undefined;
  /** TorchRL: stop strings. */
  readonly stop_sequences?: string | readonly string[] | undefined;
  /** Hugging Face: samples for each prompt. */
  readonly num_return_sequences?: number | undefined;
  /** Hugging Face: `false` is greedy. */
  readonly do_sample?: boolean | undefined;
  /** Hugging Face: stop strings. */
  readonly stop_strings?: string | readonly string[] | undefined;
  /** Hugging Face: stop tokens. */
  readonly eos_token_id?: number | readonly number[] | undefined;
  /** Hugging Face: added to logits, as pairs of a list with one id and a bias. */
  readonly sequence_bias?: readonly (readonly [readonly number[], number])[] | undefined;
  /** Hugging Face: beams. */
  readonly num_beams?: number | undefined;
  /** Hugging Face: return log-probabilities of the output. */
  readonly output_scores?: boolean | undefined;
  /** Hugging Face: return log-probabilities of the output. */
  readonly output_logits?: boolean | undefined;
  /** Hugging Face: return hidden states. */
  readonly output_hidden_states?: boolean | undefined;
  /** SGLang: most tokens to make. */
  readonly max_new_tokens?: number | undefined;
  /** SGLang: fewest tokens to make. */
  readonly min_new_tokens?: number | undefined;
  /** SGLang: nucleus mass. */
  readonly top_p?: number | undefined;
  /** SGLang: number of likeliest tokens kept; -1 and 0 for all. */
  readonly top_k?: number | undefined;
  /** SGLang: smallest share of the likeliest token's probability. */
  readonly min_p?: number | undefined;
  /** SGLang: frequency penalty. */
  readonly frequency_penalty?: number | undefined;
  /** SGLang: presence penalty. */
  readonly presence_penalty?: number | undefined;
  /** SGLang: repetition penalty. */
  readonly repetition_penalty?: number | undefined;
  /** SGLang: stop tokens. */
  readonly stop_token_ids?: readonly number[] | undefined;
  /** SGLang: stop patterns. */
  readonly stop_regex?: string | readonly string[] | undefined;
  /** SGLang: go on after the end-of-sequence token. */
  readonly ignore_eos?: boolean | undefined;
  /** SGLang: leave special tokens out of the text. */
  readonly skip_special_tokens?: boolean | undefined;
  /** SGLang: put spaces between special tokens. */
  readonly spaces_between_special_tokens?: boolean | undefined;
  /** SGLang: keep the stop string in the text. */
  readonly no_stop_trim?: boolean | undefined;
  /** SGLang: beams. */
  readonly beam_width?: number | undefined;
  /** SGLang: JSON schema. */
  readonly json_schema?: string | Readonly<Record<string, unknown>> | undefined;
  /** SGLang: structural tag. */
  readonly structural_tag?: string | undefined;
  /** SGLang: added to the logit of a token id. */
  readonly logit_bias?: Readonly<Record<number, number>> | undefined;
  /** SGLang: seed. */
  readonly sampling_seed?: number | undefined;
  /** SGLang: tokens between two stream events. */
  readonly stream_interval?: number | undefined;
  /** SGLang: parameters of a custom logit processor. */
  readonly custom_params?: Readonly<Record<string, unknown>> | undefined;
}

/** What an alias stands for: a sampling parameter, or a field of the request, by wire name. */
export interface AliasRule {
  /** Wire name of the parameter. */
  readonly target: string;
  /** Whether {@linkcode target} is a top-level field of the request. */
  readonly isRequestField?: boolean;
  /** vLLM's name wins over another name of the same parameter. */
  readonly origin: "vllm" | "hf" | "torchrl";
}

/** Aliases that take the value as it is. */
export const ALIASES: Readonly<Record<string, AliasRule>> = {
  max_tokens: { target: "max_new_tokens", origin: "vllm" },
  min_tokens: { target: "min_new_tokens", origin: "vllm" },
  seed: { target: "sampling_seed", origin: "vllm" },
  include_stop_str_in_output: { target: "no_stop_trim", origin: "vllm" },
  logprob_token_ids: { target: "token_ids_logprob", isRequestField: true, origin: "vllm" },
  extra_args: { target: "custom_params", origin: "vllm" },
  stop_sequences: { target: "stop", origin: "torchrl" },
  num_return_sequences: { target: "n", origin: "hf" },
  stop_strings: { target: "stop", origin: "hf" },
  output_scores: { target: "return_logprob", isRequestField: true, origin: "hf" },
  output_logits: { target: "return_logprob", isRequestField: true, origin: "hf" },
  output_hidden_states: { target: "return_hidden_states", isRequestField: true, origin: "hf" },
  num_beams: { target: "beam_width", origin: "hf" },
};

/** Names that SGLang has nothing for, with what to do instead. */
export const REFUSED: Readonly<Record<string, string>> = {
  stream: "use stream() for a streamed generation",
  streamer: "use stream() for a streamed generation",
  output_kind: "use stream() for a streamed generation",
  max_time: "give timeoutMs or an AbortSignal",
  max_length: "give maxNewTokens, the length without the prompt",
  min_length: "give minNewTokens, the length without the prompt",
  generator: "give samplingSeed",
  logits_processors: "give extra.custom_logit_processor and customParams",
  truncate_prompt_tokens: "launch the server with --allow-auto-truncate",
  detokenize: "launch the server with --skip-tokenizer-init",
  flat_logprobs: "give extra.return_flat_raw_top_logprobs",
  bad_words: "give logitBias of -100 for single tokens",
  bad_words_ids: "give logitBias of -100 for single tokens",
  suppress_tokens: "give logitBias of -100 for each token",
  allowed_token_ids: "give a grammar such as regex, or logitBias",
  best_of: "give n and choose among the samples",
  no_repeat_ngram_size: "give frequencyPenalty or repetitionPenalty",
  forced_bos_token_id: "put the token into the prompt",
};
