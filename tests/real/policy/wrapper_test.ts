import assert from "node:assert/strict";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { EngineTokenizer, LocalTokenizer, SGLangWrapper } from "../../../src/policy/mod.ts";
import { masked } from "../../../src/policy/rows.ts";
import type { LLMWrapperOptions, PolicyOutput } from "../../../src/policy/mod.ts";
import { AbortedError } from "../../../src/errors.ts";
import { modelPath, sharedNewest, sharedRouter, sharedServers } from "../../_support/real.ts";

const CHATS = [
  [{ role: "user", content: "Hello" }],
  [{ role: "system", content: "You count." }, { role: "user", content: "One, two, three, ünï 😀" }],
];
const GREEDY = {
  generateKwargs: { temperature: 0, maxNewTokens: 12 },
  inplace: false,
} as const satisfies LLMWrapperOptions;
const TOLERANCE = 1e-3;

const targets: readonly (readonly [string, () => string])[] = [
  ["0.5.16", () => sharedServers()[0]!],
  ["0.5.23", sharedNewest],
  ["the router", sharedRouter],
];

function close(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    assert.ok(difference < TOLERANCE, `token ${i}: ${actual[i]} and ${expected[i]}`);
  }
}

/** Effective sample size of importance weights between two policies, as a share of the tokens. */
function effectiveSampleSize(a: readonly number[], b: readonly number[]): number {
  const weights = a.map((value, index) => Math.exp(value - b[index]!));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const squares = weights.reduce((total, weight) => total + weight * weight, 0);
  return sum * sum / (weights.length * squares);
}

for (const [name, url] of targets) {
  Deno.test(`the three modes give equal ids and log-probs, greedy (${name})`, async () => {
    await using engine = await AsyncSGLang.connect(url());
    const tokenizer = await LocalTokenizer.fromFolder(modelPath("tiny"));
    const wrapper = new SGLangWrapper(engine, { ...GREEDY, tokenizer });
    const chats = await wrapper.call({ history: CHATS });
    const texts = await wrapper.getNewVersion({ inputMode: "text" })
      .call({ text: chats.text!.get("prompt") });
    const ids = await wrapper.getNewVersion({ inputMode: "tokens" })
      .call({ tokens: chats.tokens.get("prompt") });
    for (const [row, full] of chats.tokens.get("full").entries()) {
      assert.equal(chats.tokens.get("response")[row]!.length, 12);
      assert.deepEqual(texts.tokens.get("full")[row], full);
      assert.deepEqual(ids.tokens.get("full")[row], full);
      close(texts.logProbs!.get("full")[row]!, chats.logProbs!.get("full")[row]!);
      close(ids.logProbs!.get("full")[row]!, chats.logProbs!.get("full")[row]!);
    }
    assert.deepEqual(texts.text!.get("full"), chats.text!.get("full"));
    assert.deepEqual(chats.weightVersion, ["default", "default"]);
  });

  // case 57

  Deno.test(`scores of sampled continuations equal the sampled log-probs (${name})`, async () => {
    await using engine = await AsyncSGLang.connect(url());
    const wrapper = new SGLangWrapper(engine, {
      generateKwargs: { maxNewTokens: 24, temperature: 1 },
      tokenizer: modelPath("tiny"),
      inplace: false,
    });
    // The tiny model samples a special token, which the text leaves out, in every tenth row.
    const output = await wrapper.call({ history: Array.from({ length: 20 }, () => CHATS).flat() });
    const scores = await wrapper.logProb(output);
    for (const [row, logProbs] of output.logProbs!.get("response").entries()) {
      const mask = output.masks.get("responseMask")[row]!;
      assert.deepEqual(scores.tokens.get("full")[row], output.tokens.get("full")[row]);
      close(masked(scores.logProbs!.get("full")[row]!, mask), logProbs);
    }
    assert.equal(scores.tokens.response, null);
    const ofText = await wrapper.getNewVersion({ inputMode: "text" }).logProb(output);
    assert.deepEqual(ofText.tokens.get("full"), output.tokens.get("full"));
  });

  // case 58

  Deno.test(`five turns keep every sampled id (${name})`, async () => {
    await using engine = await AsyncSGLang.connect(url());
    const wrapper = new SGLangWrapper(engine, {
      generateKwargs: { maxNewTokens: 10 },
      tokenizer: modelPath("tiny"),
      inplace: false,
    });
    let output = await wrapper.call({ history: CHATS[0]! });
    let sampled: number[] = [...output.tokens.only("response")];
    for (let turn = 1; turn < 5; turn++) {
      const before = output.tokens.only("full");
      const input = await wrapper.nextTurn(output, [{ role: "user", content: `turn ${turn} é` }]);
      output = await wrapper.call(input);
      const [sample] = output.samples;
      // The tiny model samples special tokens, which the text leaves out: the prompt is another one
      // then, and says so.
      const isBranch = input.prompts![0]!.branch !== null;
      if (isBranch) sampled = [];
      else assert.deepEqual(output.tokens.only("prompt").slice(0, before.length), before);
      assert.deepEqual(sample!.generation.promptIds, output.tokens.only("prompt"));
      sampled.push(...output.tokens.only("response"));
    }
    const mask = output.masks.only("allAssistantMask");
    assert.deepEqual(Array.from(masked(output.tokens.only("full"), mask)), sampled);
    const scores = await wrapper.getNewVersion({ inputMode: "tokens" })
      .logProb({ tokens: { full: output.tokens.only("full") } });
    close(masked(scores.logProbs!.only("full"), mask), masked(output.logProbs!.only("full"), mask));
  });
}

// case 70

Deno.test("padded and ragged log-probs agree with the scores, ESS above 0.99", async () => {
  await using engine = await AsyncSGLang.connect(sharedServers()[0]!);
  const wrapper = new SGLangWrapper(engine, { ...GREEDY, tokenizer: modelPath("tiny") });
  const ragged = await wrapper.call({ history: CHATS });
  const scores = await wrapper.logProb(ragged);
  const padded = await wrapper.getNewVersion({ padOutput: true }).call({ history: CHATS });
  const chosen = (output: Pick<PolicyOutput, "logProbs">, mask: Pick<PolicyOutput, "masks">) =>
    mask.masks.get("responseMask").flatMap((
      row,
      index,
    ) => [...masked(output.logProbs!.get("full")[index]!, row)]);
  const expected = chosen(scores, ragged);
  for (const values of [chosen(ragged, ragged), chosen(padded, padded)]) {
    close(values, expected);
    assert.ok(effectiveSampleSize(values, expected) > 0.99);
  }
});

Deno.test("the local tokenizer gives the server's ids, and the server's gives the same rows", async () => {
  await using engine = await AsyncSGLang.connect(sharedServers()[0]!);
  const local = await LocalTokenizer.fromFolder(modelPath("tiny"));
  const texts = [
    "Hello",
    "  two  spaces\n\nand\tlines",
    "ünï 😀 中文",
    "<|im_start|>user\nx<|im_end|>\n",
    "12345 it's",
  ];
  for (const text of texts) {
    const ids = await engine.tokenize(text, { addSpecialTokens: false });
    assert.deepEqual(local.encode(text), ids);
    assert.equal(local.decode(ids), text);
  }
  const options = { ...GREEDY, chatTemplateName: "chatml_format" };
  const here = new SGLangWrapper(engine, { ...options, tokenizer: local });
  const there = new SGLangWrapper(engine, { ...options, tokenizer: new EngineTokenizer(engine) });
  const [a, b] = await Promise.all([here, there].map((one) => one.call({ history: CHATS })));
  assert.deepEqual(a!.tokens.get("full"), b!.tokens.get("full"));
});

Deno.test("several samples of a prompt come as a last dimension", async () => {
  await using engine = await AsyncSGLang.connect(sharedRouter());
  const wrapper = new SGLangWrapper(engine, {
    generateKwargs: { maxNewTokens: 6 },
    numSamples: 3,
    tokenizer: modelPath("tiny"),
  });
  const output = await wrapper.call({ history: CHATS });
  assert.deepEqual(output.batchShape, [2, 3]);
  const prompts = output.tokens.get("prompt");
  assert.deepEqual(prompts[0], prompts[2]);
  assert.notDeepEqual(prompts[2], prompts[3]);
});

// case 32

Deno.test("an address is enough, and an abort ends a long generation", async () => {
  await using wrapper = new SGLangWrapper(sharedServers()[0]!, {
    inputMode: "text",
    generateKwargs: { maxNewTokens: 1500, ignoreEos: true },
  });
  const controller = new AbortController();
  const call = assert.rejects(
    wrapper.call({ text: ["x"] }, { signal: controller.signal }),
    AbortedError,
  );
  setTimeout(() => controller.abort(), 200);
  await call;
});
