import { z } from "zod";

/** Answer of the weight endpoints. */
export const outcome = z.looseObject({ success: z.boolean(), message: z.string().nullish() });

/** Answer of the LoRA endpoints. */
export const loraOutcome = z.looseObject({
  success: z.boolean(),
  error_message: z.string().nullish(),
  loaded_adapters: z.record(z.string(), z.unknown()).nullish(),
});

/** `/v1/models`: the model, and the adapters, which have a parent. */
export const modelList = z.looseObject({
  data: z.array(z.looseObject({ id: z.string(), parent: z.string().nullish() })),
});
