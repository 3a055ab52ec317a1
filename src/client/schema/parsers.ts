import { z } from "zod";

/** `/parse_function_call`. */
export const functionCalls = z.looseObject({
  normal_text: z.string().nullish(),
  calls: z.array(z.looseObject({
    tool_index: z.number().int(),
    name: z.string().nullish(),
    parameters: z.string(),
  })),
});

/** `/separate_reasoning`. */
export const separatedReasoning = z.looseObject({
  reasoning_text: z.string().nullish(),
  text: z.string().nullish(),
});
