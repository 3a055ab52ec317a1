/** What a wrapper gives out depends on what it reads and on the keys that it was given. */
import { LLMCollector, SGLangWrapper } from "../../mod.ts";
import type { ChatHistory, LogProbs, Masks, Text, Tokens } from "../../mod.ts";
import type { InputMode, LLMWrapperOptions, PolicyOutput } from "../../src/policy/mod.ts";
import type { EnvironmentSource } from "../../src/collector/mod.ts";

declare const environments: EnvironmentSource;
const url = "http://127.0.0.1:30000";

export async function modes(): Promise<void> {
  const chats = await new SGLangWrapper(url).call({ history: [] });
  const inHistory: [ChatHistory, Text, Tokens, Masks, LogProbs] = [
    chats.history,
    chats.text,
    chats.tokens,
    chats.masks,
    chats.logProbs,
  ];

  const texts = await new SGLangWrapper(url, { inputMode: "text" }).call({ text: ["a"] });
  const inText: [Text, Tokens, LogProbs] = [texts.text, texts.tokens, texts.logProbs];
  // @ts-expect-error Texts are no conversations.
  const noHistory: ChatHistory = texts.history;

  const ids = await new SGLangWrapper(url, { inputMode: "tokens" }).call({ tokens: [[1]] });
  const inTokens: [Tokens, LogProbs] = [ids.tokens, ids.logProbs];
  // @ts-expect-error Token ids are no text.
  const noText: Text = ids.text;
  // @ts-expect-error There is no such output.
  ids.token;

  void [inHistory, inText, noHistory, inTokens, noText];
}

export async function logProbs(): Promise<void> {
  const without = new SGLangWrapper(url, { inputMode: "text", returnLogProbs: false });
  const output = await without.call({ text: "a" });
  // @ts-expect-error They were not asked for.
  const none: LogProbs = output.logProbs;
  const scored: LogProbs = (await without.logProb({ text: { full: ["a"] } })).logProbs;
  void [none, scored];
}

export async function ownKeys(): Promise<void> {
  const policy = new SGLangWrapper(url, {
    inputMode: "text",
    textKey: "answer",
    logProbsKey: "scores",
  });
  const output = await policy.call({ answer: { prompt: ["a"] } });
  const own: [Text, LogProbs, Tokens] = [output.answer, output.scores, output.tokens];
  // @ts-expect-error It is under another key.
  output.text;
  // @ts-expect-error It is under another key.
  output.logProbs;
  void own;
}

export async function newVersions(): Promise<void> {
  const texts = new SGLangWrapper(url, { inputMode: "text", textKey: "answer" });
  const quiet = await texts.getNewVersion({ returnLogProbs: false }).call({ answer: "a" });
  const stillText: Text = quiet.answer;
  // @ts-expect-error It returns none any more.
  const none: LogProbs = quiet.logProbs;
  const ids = await texts.getNewVersion({ inputMode: "tokens" }).call({ tokens: [[1]] });
  // @ts-expect-error It reads ids now.
  const noText: Text = ids.answer;
  // @ts-expect-error There is no such option.
  texts.getNewVersion({ inputmode: "text" });
  void [stillText, none, noText];
}

export async function named(policy: SGLangWrapper<"text">, options: LLMWrapperOptions) {
  const text: Text = (await policy.call({ text: "a" })).text;
  const any: PolicyOutput<InputMode> = await policy.call({ text: "a" });
  // @ts-expect-error Not in every mode.
  const perhaps: Text = any.text;
  const output = await new SGLangWrapper(url, options).call({ text: "a" });
  const tokens: Tokens = output.tokens;
  // @ts-expect-error Only run time knows the mode.
  const unknown: Text = output.text;
  void [text, perhaps, tokens, unknown];
}

export const options = [
  // @ts-expect-error There is no such option.
  () => new SGLangWrapper(url, { inputmode: "text" }),
  // @ts-expect-error There is no such mode.
  () => new SGLangWrapper(url, { inputMode: "chat" }),
  // @ts-expect-error A name is a text.
  () => new SGLangWrapper(url, { textKey: 1 }),
  () => {
    const policy = new SGLangWrapper(url, { tokensKey: "ids" });
    return new LLMCollector(environments, { policy, dialogTurnsPerBatch: 1, totalDialogTurns: 1 });
  },
];
