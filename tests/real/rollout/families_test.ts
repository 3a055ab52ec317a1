/** Which families append and which branch, with their real tokenizers: the table of docs/policy.md. */
import assert from "node:assert/strict";
import type { Generation } from "../../../src/client/types.ts";
import { silentLogger } from "../../../src/internal/logger.ts";
import { LocalTokenizer, TemplateChatModel } from "../../../src/policy/mod.ts";
import type { Message } from "../../../src/policy/chat.ts";
import { endTurn, nextTurn, prepareTurn, type Turn } from "../../../src/rollout/mod.ts";
import { type RealModel, tokenizerFolder } from "../../_support/real.ts";

/** The kinds of the second and third turn, once where they are the same. */
type Kinds = "append" | "branch" | "branch append";

/** A plain answer, an answer after thoughts, and a step of a tool loop after thoughts. */
const expected: readonly (readonly [RealModel, Record<string, unknown>, Kinds, Kinds, Kinds])[] = [
  ["qwen2.5", {}, "append", "append", "append"],
  ["qwen3", {}, "append", "branch", "append"],
  ["qwen3", { enable_thinking: false }, "branch", "branch", "branch"],
  ["qwen3-2507-training", {}, "append", "append", "append"],
  ["qwen3-training", {}, "branch", "append", "append"],
  ["qwen3.5-think", {}, "branch", "branch", "append"],
  ["llama3.1", {}, "append", "append", "append"],
  ["llama3.2", {}, "append", "append", "append"],
  ["deepseek-v3", {}, "branch", "branch", "branch append"],
  ["deepseek-r1", {}, "branch", "branch", "branch append"],
];
const ENDS = { qwen: "<|im_end|>", llama: "<|eot_id|>", deeps: "<｜end▁of▁sentence｜>" };

async function kindsOf(
  model: TemplateChatModel,
  { answer, end, follow }: { answer: string; end: string; follow: Message },
): Promise<string> {
  let turn: Turn | null = null;
  const kinds: string[] = [];
  for (let number = 0; number < 3; number++) {
    const user: Message = { role: "user", content: "What is 2 * 3?" };
    const prompt = turn === null
      ? await prepareTurn(model, [user])
      : await nextTurn(turn, [follow]);
    if (turn !== null) kinds.push(prompt.kind);
    // A prompt may have opened the thoughts already.
    const said = prompt.text.endsWith("<think>\n") ? answer.replace("<think>\n", "") : answer;
    const ids = await model.tokenizer.encode(said + end);
    const text = await model.tokenizer.decode(ids, { skipSpecialTokens: true });
    turn = await endTurn(prompt, {
      ids,
      text,
      logProbs: null,
      promptIds: prompt.ids,
      finishReason: { type: "stop", matched: ids.at(-1)! },
      weightVersion: null,
      weightVersions: null,
    } as Partial<Generation> as Generation);
  }
  return [...new Set(kinds)].join(" ");
}

for (const [name, variables, plain, thought, tool] of expected) {
  Deno.test(`${name} ${JSON.stringify(variables)} appends and branches as documented`, async () => {
    const tokenizer = await LocalTokenizer.fromFolder(tokenizerFolder(name));
    const options = { tokenizer, chatTemplateName: "model", variables, logger: silentLogger };
    const model = new TemplateChatModel(options);
    const end = ENDS[name.startsWith("llama") ? "llama" : name.slice(0, 5) as "deeps"] ??
      ENDS.qwen;
    const thinking = "<think>\nTwo times three.\n</think>\n\nIt is 6.";
    const user: Message = { role: "user", content: "And 3 * 3?" };
    const answerOfTool: Message = { role: "tool", content: "6" };
    const kinds = [
      await kindsOf(model, { answer: "It is 6.", end, follow: user }),
      await kindsOf(model, { answer: thinking, end, follow: user }),
      await kindsOf(model, { answer: thinking, end, follow: answerOfTool }),
    ];
    assert.deepEqual(kinds, [plain, thought, tool]);
  });
}
