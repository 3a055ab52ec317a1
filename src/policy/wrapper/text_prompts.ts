import { areSame, beginsWith, firstDifference, joinIds } from "../../rollout/ids.ts";
import { type Sampled, turnIds } from "../../rollout/turn.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { driftError } from "./chat_prompts.ts";
import type { GivenRow } from "./given.ts";
import type { WrapperSettings } from "./options.ts";
import { type PromptRow, textRow } from "./prompt_row.ts";
import { canonicalIds } from "./vocabulary.ts";

/** What texts are prepared with. */
export interface TextContext {
  readonly settings: Pick<WrapperSettings, "onTokenDrift" | "generate">;
  readonly tokenizer: Tokenizer;
  readonly signal: AbortSignal | undefined;
}

/** Finds the ids of a text among the given ones; without any the server tokenises it. */
export async function textPrompt(
  text: string,
  given: GivenRow,
  context: TextContext,
): Promise<PromptRow> {
  const { settings, tokenizer, signal } = context;
  const { generate } = settings;
  const { prompt, full, sampled } = given;
  // What is scored is the whole.
  const ids = generate ? prompt : full;
  const behind = generate ? full : null;
  if (ids === null && behind === null) return textRow(text);
  const known = (values: Int32Array) =>
    textRow(text, {
      ids: values,
      assistantMask: fitting(given.assistantMask, values.length),
      logProbs: fitting(given.logProbs, values.length),
    });
  if (ids !== null && isSampled(text, ids, { sampled, generate })) {
    const row = known(ids);
    return { ...row, assistantMask: row.assistantMask ?? responseMask(sampled!, ids.length) };
  }
  if (ids !== null && given.isKept) return known(ids);
  const [plain, special] = await Promise.all([
    tokenizer.encode(text, { signal }),
    tokenizer.encode(text, { addSpecialTokens: true, signal }),
  ]);
  if (ids !== null) {
    const canonical = await canonicalIds(ids, tokenizer, { signal });
    const isText = [plain, special].some((own) => areSame(own, ids) || areSame(own, canonical));
    if (isText) return known(ids);
  }
  if (behind !== null) {
    const canonical = await canonicalIds(behind, tokenizer, { signal });
    const own = [special, plain].find((own) => beginsWith(own, canonical));
    if (own !== undefined) return known(joinIds(behind, own.subarray(canonical.length)));
  }
  return drifted(text, [ids ?? behind!, plain], { given, context });
}

/** Whether these ids were sampled, or sent, with just this text. */
function isSampled(
  text: string,
  ids: Int32Array,
  { sampled, generate }: Pick<GivenRow, "sampled"> & { generate: boolean },
): boolean {
  if (sampled === null || sampled.prompt.text === null) return false;
  const { prompt, sample } = sampled;
  return generate
    ? prompt.text === text && areSame(prompt.ids, ids)
    : prompt.text + (sample.text ?? "") === text && areSame(turnIds(sampled), ids);
}

function responseMask({ prompt }: Sampled, length: number): Uint8Array {
  return new Uint8Array(length).fill(1, prompt.ids.length);
}

function drifted(
  text: string,
  [ids, fresh]: readonly [Int32Array, Int32Array],
  { given, context }: { given: GivenRow; context: TextContext },
): PromptRow {
  const { onTokenDrift, generate } = context.settings;
  const index = firstDifference(ids, fresh) ?? 0;
  if (onTokenDrift === "repair") {
    return textRow(text, { ids: fresh, drift: { index, sent: "text" } });
  }
  const own = generate ? given.prompt : given.full;
  if (onTokenDrift === "report" && own !== null) {
    return textRow(text, {
      ids: own,
      logProbs: fitting(given.logProbs, own.length),
      drift: { index, sent: "ids" },
    });
  }
  throw driftError(ids, fresh, {
    index,
    of: generate ? "the prompt's text" : "the text to score",
    lacksPrompt: generate && own === null,
  });
}

/** Values over just these ids. */
function fitting<Row extends Uint8Array | Float32Array>(
  row: Row | null,
  length: number,
): Row | null {
  return row?.length === length ? row : null;
}
