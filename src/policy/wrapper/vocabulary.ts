import type { SignalOptions } from "../../rollout/chat_model.ts";
import { areSame } from "../../rollout/ids.ts";
import { PiecewiseTokenizer } from "../../rollout/piecewise_tokenizer.ts";
import type { Tokenizer } from "../tokenizer.ts";

/** The ids that tokenising what some ids say gives. */
export async function canonicalIds(
  ids: Int32Array,
  tokenizer: Tokenizer,
  { signal }: SignalOptions,
): Promise<Int32Array> {
  return await tokenizer.encode(await tokenizer.decode(ids, { signal }), { signal });
}

/** Whether two tokenizers read ids alike. */
export async function isOfVocabulary(
  ids: Int32Array,
  [one, other]: readonly [Tokenizer, Tokenizer],
  options: SignalOptions,
): Promise<boolean> {
  if (beneath(one) === beneath(other)) return true;
  const [a, b] = await Promise.all([
    canonicalIds(ids, one, options),
    canonicalIds(ids, other, options),
  ]);
  return areSame(a, b);
}

function beneath(tokenizer: Tokenizer): Tokenizer {
  return tokenizer instanceof PiecewiseTokenizer ? tokenizer.inner : tokenizer;
}
