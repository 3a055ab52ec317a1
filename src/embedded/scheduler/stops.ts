/** When a request is done, in the real server's order. Source: `schedule_batch.py` of SGLang. */
import type { ServerTokenizer } from "../tokenizer.ts";
import type { Finish, Task } from "./task.ts";

/** The reason to end after the last token, or `null` to go on. */
export function finishOf(
  task: Task,
  model: { eosTokenIds: readonly number[]; contextLength: number; tokenizer: ServerTokenizer },
): Finish | null {
  const { sampling } = task.request;
  const length = task.outputLength;
  if (length >= sampling.maxNewTokens) return { type: "length", length: sampling.maxNewTokens };
  const text = matchedText(task, model.tokenizer);
  if (text !== null) return { type: "stop", matched: text };
  const last = task.ids.at(-1)!;
  if (!sampling.ignoreEos) {
    const isEnd = sampling.stopTokenIds.has(last) || model.eosTokenIds.includes(last);
    if (isEnd) return { type: "stop", matched: last };
  }
  return task.ids.length >= model.contextLength ? { type: "length", length } : null;
}

function matchedText(task: Task, tokenizer: ServerTokenizer): string | null {
  const { stop, stopRegex } = task.request.sampling;
  if (stop.length === 0 && stopRegex.length === 0) return null;
  // A character takes at most four byte-level tokens, so a window is enough for plain words.
  const longest = stop.reduce((most, word) => Math.max(most, word.length), 0);
  const window = stopRegex.length > 0 ? task.outputLength : 4 * longest + 4;
  const from = Math.max(task.promptLength, task.ids.length - window);
  const text = tokenizer.decode(task.ids.slice(from), { skipSpecialTokens: false });
  const found = stop.find((word) => text.includes(word));
  if (found !== undefined) return found;
  return stopRegex.find((pattern) => pattern.test(text))?.source ?? null;
}
