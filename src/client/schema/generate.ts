import { z } from "zod";

/** `meta_info.finish_reason` of a finished answer. */
const finishReason = z.union([
  z.looseObject({ type: z.literal("length"), length: z.number() }),
  z.looseObject({
    type: z.literal("stop"),
    matched: z.union([z.number(), z.string(), z.array(z.number())]).nullish(),
  }),
  z.looseObject({
    type: z.literal("abort"),
    message: z.string().nullish(),
    status_code: z.number().nullish(),
  }),
]);

/** The part of `meta_info` that is read; long token arrays are checked by hand. */
const metaInfo = z.looseObject({
  id: z.string(),
  finish_reason: finishReason.nullish(),
  prompt_tokens: z.number().nullish(),
  completion_tokens: z.number().nullish(),
  cached_tokens: z.number().nullish(),
  weight_version: z.string().nullish(),
  weight_versions: z.array(
    z.looseObject({ version: z.string(), start: z.number(), end: z.number() }),
  ).nullish(),
  e2e_latency: z.number().nullish(),
});

/** One answer of `/generate`, or one event of its stream. */
export const generateAnswer = z.looseObject({
  text: z.string().nullish(),
  meta_info: metaInfo,
});

/** One checked answer. */
export type GenerateAnswer = z.infer<typeof generateAnswer>;

/** The checked `finish_reason`. */
export type WireFinishReason = z.infer<typeof finishReason>;
