/** The built-in templates, in the order in which TorchRL guesses. */
import { chatml } from "./chatml.ts";
import { deepseek } from "./deepseek.ts";
import { dialogpt } from "./dialogpt.ts";
import { falcon } from "./falcon.ts";
import type { TemplateFamily } from "./family.ts";
import { llama } from "./llama.ts";
import { qwen } from "./qwen.ts";

/** All of them. */
export const families: readonly TemplateFamily[] = [
  chatml,
  qwen,
  dialogpt,
  falcon,
  deepseek,
  llama,
];
