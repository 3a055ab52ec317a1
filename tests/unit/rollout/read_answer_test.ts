import assert from "node:assert/strict";
import { silentLogger } from "../../../src/internal/logger.ts";
import { LocalTokenizer } from "../../../src/policy/local_tokenizer.ts";
import { TemplateChatModel } from "../../../src/policy/wrapper/chat_model.ts";
import { turnTemplates } from "../../_support/turn_templates.ts";

const folder = new URL("../../fixtures/policy/byte_level/", import.meta.url);
const MARKS = [
  "<｜tool▁calls▁begin｜>",
  "<｜tool▁call▁begin｜>",
  "<｜tool▁sep｜>",
  "<｜tool▁call▁end｜>",
  "<｜tool▁calls▁end｜>",
  "<|channel|>",
  "<|message|>",
  "<|start|>",
  "<|end|>",
  "<|return|>",
];

/** A tokenizer whose marks around calls and thoughts are special tokens. */
async function marking(): Promise<LocalTokenizer> {
  const tokenizer = JSON.parse(
    await Deno.readTextFile(new URL("tokenizer.json", folder)),
  );
  const like = tokenizer.added_tokens[0];
  MARKS.forEach((content, index) =>
    tokenizer.added_tokens.push({ ...like, content, id: 300 + index })
  );
  return new LocalTokenizer({ tokenizer, name: "marking" });
}

/** An answer as the server shows it: without its special tokens. */
async function read(written: string, promptText = "") {
  const tokenizer = await marking();
  const chatTemplate = turnTemplates["keeps it"];
  const model = new TemplateChatModel({ tokenizer, chatTemplate, logger: silentLogger });
  const ids = tokenizer.encode(written);
  return await model.read({
    promptIds: new Int32Array(),
    ids,
    logProbs: null,
    text: tokenizer.decode(ids, { skipSpecialTokens: true }),
    finishReason: { type: "stop", matched: ids.at(-1)! },
    weightVersion: null,
    weightVersions: null,
  }, { promptText });
}

Deno.test("calls that are written with special tokens are read from the ids", async () => {
  const message = await read(
    "I multiply.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>multiply\n" +
      '```json\n{"a": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><|im_end|>',
  );
  assert.equal(message.content, "I multiply.");
  assert.deepEqual(
    message.toolCalls!.map(({ name, arguments: given }) => [name, given]),
    [["multiply", { a: 2 }]],
  );
});

Deno.test("thoughts in channels are told apart from what is said", async () => {
  const message = await read(
    "<|channel|>analysis<|message|>hmm<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>",
  );
  assert.deepEqual([message.content, message.reasoning_content], ["Hi", "hmm"]);
});

Deno.test("special tokens that mean nothing stay out of the content, as the server shows it", async () => {
  const message = await read("a<|im_start|>b<|im_end|>");
  assert.equal(message.content, "ab");
  assert.equal(message.toolCalls, null);
});

Deno.test("a call in thoughts that the prompt opened is no call", async () => {
  const call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>';
  assert.equal((await read(`${call}</think>no<|im_end|>`, "…<think>\n")).toolCalls, null);
  assert.equal((await read(`${call}<|im_end|>`)).toolCalls!.length, 1);
});
