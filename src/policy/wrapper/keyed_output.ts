import { padIdOf, type Tokenizer } from "../tokenizer.ts";
import type { PolicyInput } from "./inputs.ts";
import type { WrapperSettings } from "./options.ts";
import type { OutputParts } from "./outputs.ts";

/** Where outputs go, and what pads them. */
export interface OutputPlace {
  readonly settings: WrapperSettings;
  readonly findTokenizer: () => Promise<Tokenizer>;
  /** The object that gets them; `null` for a new one. */
  readonly into: PolicyInput | null;
}

/** The outputs under the keys that the options name, padded where they say so. */
export async function keyedOutput(
  parts: OutputParts,
  { settings, findTokenizer, into }: OutputPlace,
): Promise<object> {
  const { tokens, masks, logProbs } = settings.padOutput
    ? await padded(parts, settings, findTokenizer)
    : parts;
  const output: Record<string, unknown> = {
    batchShape: parts.batchShape,
    ...(parts.text && { [settings.textKey]: parts.text }),
    [settings.masksKey]: masks,
    [settings.tokensKey]: tokens,
    ...(logProbs && { [settings.logProbsKey]: logProbs }),
    ...(parts.history && { [settings.historyKey]: parts.history }),
    samples: parts.samples,
    weightVersion: parts.samples.map(({ weightVersion }) => weightVersion),
  };
  if (into === null) return output;
  const target = into as Record<string, unknown>;
  // These ids were the prompt's; the next call of the same object must find its own.
  delete target.keepTokens;
  delete target.prompts;
  return Object.assign(target, output);
}

async function padded(
  parts: OutputParts,
  { padId, padLayout }: WrapperSettings,
  findTokenizer: () => Promise<Tokenizer>,
): Promise<Pick<OutputParts, "tokens" | "masks" | "logProbs">> {
  const plan = parts.tokens.paddingPlan(padLayout);
  return {
    tokens: parts.tokens.pad({
      padId: padId ?? padIdOf(await findTokenizer()) ?? 0,
      layout: padLayout,
    }),
    masks: parts.masks.pad(plan),
    logProbs: parts.logProbs?.pad(plan) ?? null,
  };
}
