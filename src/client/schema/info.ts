import { z } from "zod";

/** What is read of `/server_info`. */
export const serverInfo = z.looseObject({
  version: z.string(),
  tp_size: z.number().int().positive(),
  dp_size: z.number().int().positive(),
  pp_size: z.number().int().positive().nullish(),
  attn_dp_size: z.number().int().positive().nullish(),
  model_path: z.string(),
  max_running_requests: z.number().nullish(),
  max_total_num_tokens: z.number().nullish(),
  max_req_input_len: z.number().nullish(),
  vocab_size: z.number().nullish(),
  internal_states: z.array(
    z.looseObject({ effective_max_running_requests_per_dp: z.number().nullish() }),
  ).nullish(),
});

/** What is read of `/model_info`. */
export const modelInfo = z.looseObject({
  model_path: z.string(),
  tokenizer_path: z.string().nullish(),
  weight_version: z.string().nullish(),
  model_type: z.string().nullish(),
  architectures: z.array(z.string()).nullish(),
});

/** What is read of `/v1/loads`. */
export const loads = z.looseObject({
  loads: z.array(z.looseObject({
    num_running_reqs: z.number(),
    num_waiting_reqs: z.number(),
    gen_throughput: z.number().nullish(),
    token_usage: z.number().nullish(),
    cache_hit_rate: z.number().nullish(),
  })),
});

/** `/tokenize` of one text. */
export const tokenized = z.looseObject({ tokens: z.array(z.number().int()) });

/** `/detokenize` of one list. */
export const detokenized = z.looseObject({ text: z.string() });
