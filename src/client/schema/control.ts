import { z } from "zod";

/** Answer of the weight endpoints. */
export const outcome = z.looseObject({ success: z.boolean(), message: z.string().nullish() });

/** Answer of the LoRA endpoints. */
export const loraOutcome = z.looseObject({
  success: z.boolean(),
  error_message: z.string().nullish(),
  loaded_adapters: z.record(z.string(), z.unknown()).nullish(),
});
