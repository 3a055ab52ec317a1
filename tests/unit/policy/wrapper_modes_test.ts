import assert from "node:assert/strict";
import { History } from "../../../src/policy/chat.ts";
import { masked, Tokens } from "../../../src/policy/rows.ts";
import type { PolicyOutput } from "../../../src/policy/mod.ts";
import { TokenDriftError, ValidationError } from "../../../src/errors.ts";
import { bytes, golden, lists, pythonText, qwenTiny, wrap } from "./support.ts";

const HI = [{ role: "user", content: "Hi" }];
const HELLO = [{ role: "system", content: "S" }, { role: "user", content: "Hello there" }];
const TWO = [{ role: "user", content: "a" }, { role: "assistant", content: "b" }, {
  role: "user",
  content: "c",
}];

/** What TorchRL's wrapper returned for two prompts, as data. */
async function goldenRows(name: string): Promise<Record<string, Record<string, unknown>>> {
  const text = await golden("wrapper", name);
  return JSON.parse(
    pythonText(text.match(/'same obj', '(\{.*\})', \{/s)![1]!.replaceAll("\\\\", "\\"))
      .replaceAll("\n", "\\n"),
  );
}

/** Row lengths of a column, as the goldens tell them. */
function lengths(rows: readonly ArrayLike<number>[] | null | undefined): number[] {
  return (rows ?? []).map((row) => row.length);
}

function goldenLengths(column: unknown): number[] {
  return (column as [string, [number]][]).map(([, [length]]) => length);
}

for (const isPadded of [false, true]) {
  // case 51
  Deno.test(`history mode gives TorchRL's rows, pad_output ${isPadded}`, async () => {
    const expected = await goldenRows(`wrap history pad=${isPadded ? "True" : "False"}`);
    const { wrapper } = wrap({ padOutput: isPadded, generateKwargs: { maxNewTokens: 4 } });
    const output = await wrapper.call({ history: [HI, HELLO] });
    assert.deepEqual(lengths(output.tokens.response), goldenLengths(expected.tokens!.response));
    assert.deepEqual(lengths(output.tokens.full), goldenLengths(expected.tokens!.full));
    assert.deepEqual(lengths(output.logProbs!.full), goldenLengths(expected.log_probs!.full));
    assert.deepEqual(
      lengths(output.masks.allAssistantMask),
      goldenLengths(expected.masks!.all_assistant_mask),
    );
    assert.deepEqual(output.text!.get("full"), expected.text!.full);
    assert.deepEqual(output.text!.get("prompt"), expected.text!.prompt);
    const [, shape, roles, contents] = expected.history!.full as unknown[];
    const { full, response } = output.history!;
    assert.deepEqual([full!.shape, full!.roles, full!.contents], [shape, roles, contents]);
    assert.deepEqual(response!.shape, [2, 1]);
    assert.equal(output.tokens.isPadded, isPadded);
  });
}

// case 50

Deno.test("the prompt is rendered with the generation prompt, one request row each", async () => {
  const { wrapper, engine } = wrap();
  const output = await wrapper.call({ history: [HI, HELLO] });
  const prompt = output.text!.get("prompt");
  assert.ok(prompt.every((text) => text.endsWith("<|im_start|>assistant\n")));
  assert.deepEqual(engine.lastIds.map((ids) => bytes.decode(ids)), prompt);
});

// case 52

Deno.test("the full ids decode to the full text, without an end marker of the template", async () => {
  const output = await wrap().wrapper.call({ history: [HI] });
  const full = bytes.decode(output.tokens.get("full")[0]!);
  assert.equal(full, output.text!.get("full")[0]);
  const [again] = output.history!.full!.applyChatTemplate({
    tokenizer: qwenTiny,
    addGenerationPrompt: false,
  });
  assert.equal(again, full + "<|im_end|>\n");
});

// case 53

Deno.test("given prompt ids are sent as they are, end-of-sequence ids included", async () => {
  const { wrapper, engine } = wrap({ inputMode: "text" });
  const eos = bytes.idOf("<|endoftext|>")!;
  const ids = [1, 2, eos, 3];
  const text = bytes.decode(ids);
  await wrapper.call({
    text: [text, "b"],
    tokens: { prompt: [ids, lists([bytes.encode("b")])[0]!] },
  });
  assert.deepEqual(lists(engine.lastIds), [ids, lists([bytes.encode("b")])[0]]);
});

// case 53

Deno.test("padded prompt ids lose their pads and nothing else", async () => {
  const { wrapper, engine } = wrap({ inputMode: "tokens" });
  const eos = bytes.idOf("<|endoftext|>")!;
  const prompt = [Int32Array.of(1, 2, eos, 3), Int32Array.of(eos)];
  await wrapper.call({ tokens: new Tokens({ prompt }).pad({ padId: eos }) });
  assert.deepEqual(lists(engine.lastIds), [[1, 2, eos, 3], [eos]]);
});

// case 54

Deno.test("without prompt ids those of the turn before are extended, else the text's", async () => {
  const { wrapper, engine } = wrap();
  const first = await wrapper.call({ history: [HI] });
  const before = first.tokens.get("full")[0]!;
  const prompt = first.history!.full!.append([{ role: "user", content: "More" }], {
    inPlace: false,
  });
  await wrapper.call({ history: { prompt }, tokens: { full: [before] } });
  const sent = engine.lastIds[0]!;
  assert.deepEqual(sent.subarray(0, before.length), before);
  assert.equal(bytes.decode(sent), prompt.applyChatTemplate({ tokenizer: qwenTiny })[0]);
  await wrapper.call({ history: [HI] });
  assert.equal(bytes.decode(engine.lastIds[0]!), first.text!.get("prompt")[0]);
});

// case 55

Deno.test("text is sent unchanged and comes back with ids, masks and log-probs", async () => {
  const expected = await goldenRows("wrap text pad=False");
  const { wrapper, engine } = wrap({ inputMode: "text" });
  const output = await wrapper.call({ text: ["Hi", "Hello there"] });
  assert.deepEqual(engine.calls[0]!.prompts.text, ["Hi", "Hello there"]);
  assert.equal(engine.calls[0]!.options.returnPromptIds, true);
  assert.deepEqual(output.text!.get("full"), expected.text!.full);
  assert.deepEqual(lengths(output.tokens.response), goldenLengths(expected.tokens!.response));
  assert.deepEqual(output.tokens.get("full").map((ids) => bytes.decode(ids)), expected.text!.full);
  assert.deepEqual(lengths(output.logProbs!.full), lengths(output.tokens.full));
  assert.deepEqual(lengths(output.masks.allAttentionMask), lengths(output.tokens.full));
  assert.equal(output.history, undefined);
});

// case 55

Deno.test("a server that returns no prompt ids is asked to tokenise first", async () => {
  const { wrapper, engine } = wrap({ inputMode: "text" }, { returnsPromptIds: false });
  const output = await wrapper.call({ text: ["Hi"] });
  assert.deepEqual(lists(output.tokens.prompt), lists([bytes.encode("Hi")]));
  assert.deepEqual(lists(engine.lastIds), lists([bytes.encode("Hi")]));
});

// case 56

Deno.test("the exact ids are sent, pads under the attention mask are not", async () => {
  const { wrapper, engine } = wrap({ inputMode: "tokens", inplace: false });
  const output = await wrapper.call({
    tokens: { prompt: [[0, 0, 5], [4, 5, 6]] },
    masks: { allAttentionMask: [[0, 0, 1], [1, 1, 1]] },
  });
  assert.deepEqual(lists(engine.lastIds), [[5], [4, 5, 6]]);
  assert.equal(output.text, undefined);
  assert.equal(output.history, undefined);
  await assert.rejects(
    wrapper.call({ tokens: [[1, 2]], masks: { allAttentionMask: [[1]] } }),
    /Row 0 has 2 ids, but its attention mask 1 values/,
  );
});

for (const inputMode of ["history", "text", "tokens"] as const) {
  // case 57
  Deno.test(`generate false scores the given tokens and samples nothing (${inputMode})`, async () => {
    const { wrapper, engine } = wrap({ inputMode, generate: false });
    const ids = Int32Array.of(3, 4, 5, 6);
    const input = {
      history: { full: [TWO.slice(0, 2)] },
      text: { full: [bytes.decode(ids)] },
      tokens: { full: [ids] },
    };
    const output = await wrapper.call({ [inputMode]: input[inputMode] });
    const { options } = engine.calls[0]!;
    assert.equal(options.samplingParams!.maxNewTokens, 0);
    assert.deepEqual([options.returnLogProbs, options.logProbStartLen], [true, 0]);
    const full = output.logProbs!.get("full")[0]!;
    assert.deepEqual(
      Array.from(full),
      Array.from(output.tokens.get("full")[0]!, (_, i) => i === 0 ? 0 : -0.25 * i),
    );
    assert.equal(output.tokens.response, null);
    assert.equal(output.text?.response ?? null, null);
    if (inputMode === "tokens") assert.deepEqual(lists(output.tokens.full), lists([ids]));
    if (inputMode !== "history") return;
    const row = masked(output.tokens.get("full")[0]!, output.masks.get("allAssistantMask")[0]!);
    assert.equal(bytes.decode(row), "b<|im_end|>");
  });
}

// case 57

Deno.test("logProb scores the output of the same wrapper", async () => {
  const { wrapper, engine } = wrap({ inplace: false });
  const output = await wrapper.call({ history: [HI] });
  const scores = await wrapper.logProb(output);
  assert.deepEqual(lengths(scores.logProbs!.full), lengths(output.tokens.full));
  assert.deepEqual(lists(engine.lastIds), lists(output.tokens.full));
});

/** Runs five turns; each prompt must begin with everything before it. */
async function fiveTurns(
  next: (output: PolicyOutput, turn: number) => Promise<PolicyOutput>,
  first: PolicyOutput,
): Promise<void> {
  let output = first;
  for (let turn = 1; turn < 5; turn++) {
    const before = output.tokens.get("full")[0]!;
    const responses = bytes.decode(
      masked(before, output.masks.get("allAssistantMask")[0]!),
    );
    output = await next(output, turn);
    const prompt = output.tokens.get("prompt")[0]!;
    assert.ok(prompt.length > before.length);
    assert.deepEqual(prompt.slice(0, before.length), before);
    const text = output.text!.get("response")[0]!;
    assert.equal(
      bytes.decode(masked(output.tokens.get("full")[0]!, output.masks.get("allAssistantMask")[0]!)),
      responses + text,
    );
  }
}

// case 58

Deno.test("next turns begin with the sampled ids (nextTurn)", async () => {
  const { wrapper } = wrap();
  await fiveTurns(
    async (output, turn) =>
      await wrapper.call(await wrapper.nextTurn(output, [{ role: "user", content: `${turn}` }])),
    await wrapper.call({ history: HI }),
  );
});

// case 58

Deno.test("next turns begin with the sampled ids (same object, longer history)", async () => {
  const { wrapper } = wrap();
  await fiveTurns(
    (output, turn) => {
      const full = output.history!.full!;
      const prompt = full.append({ role: "user", content: `${turn}` }, { inPlace: false });
      return wrapper.call(Object.assign(output, { history: { prompt } }));
    },
    await wrapper.call({ history: HI }),
  );
});

Deno.test("a turn that ended by its stop token is not closed twice", async () => {
  const end = bytes.idOf("<|im_end|>")!;
  const sample = () => Int32Array.of(...bytes.encode("ok"), end);
  const { wrapper } = wrap({}, { sample });
  const first = await wrapper.call({ history: HI });
  const next = await wrapper.nextTurn(first, [{ role: "user", content: "x" }]);
  const text = bytes.decode((next.tokens as Tokens).only("prompt"));
  assert.ok(text.includes("ok<|im_end|>\n<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"));
});

Deno.test("ids that text cannot give back are kept over turns", async () => {
  const broken = Int32Array.of(bytes.encode("é")[0]!, bytes.encode("é")[0]!);
  const { wrapper } = wrap({}, { sample: () => broken });
  const first = await wrapper.call({ history: HI });
  assert.equal(first.text!.only("response"), "\uFFFD\uFFFD");
  const second = await wrapper.call(
    await wrapper.nextTurn(first, [{ role: "user", content: "x" }]),
  );
  assert.deepEqual(
    masked(
      second.tokens.only("full"),
      second.masks.only("allAssistantMask"),
    ),
    Int32Array.of(...broken, ...broken),
  );
});

Deno.test("log-probs of earlier turns stay in the full row", async () => {
  const { wrapper } = wrap();
  const first = await wrapper.call({ history: HI });
  const logProbs = first.logProbs!.only("response");
  const second = await wrapper.call(
    await wrapper.nextTurn(first, [{ role: "user", content: "x" }]),
  );
  const full = second.logProbs!.only("full");
  const kept = masked(full, second.masks.only("allAssistantMask"));
  assert.deepEqual(Array.from(kept), [...logProbs, ...second.logProbs!.only("response")]);
});

Deno.test("a padded output goes on like a ragged one", async () => {
  const ragged = wrap();
  const padded = wrap({ padOutput: true });
  const messages = [[{ role: "user", content: "x" }], [{ role: "user", content: "y" }]];
  const next = async ({ wrapper }: ReturnType<typeof wrap>) =>
    await wrapper.nextTurn(await wrapper.call({ history: [HI, HELLO] }), messages);
  const [one, other] = await Promise.all([next(ragged), next(padded)]);
  assert.deepEqual(lists((one.tokens as Tokens).prompt), lists((other.tokens as Tokens).prompt));
  assert.deepEqual(lists(one.logProbs!.prompt), lists(other.logProbs!.prompt));
});

/** Leaves the reasoning of earlier turns out, as the templates of reasoning models do. */
const REWRITING = "{% for m in messages %}[{{ m.role }}]" +
  "{{ m.content if loop.last else m.content.split('</think>')[-1] }}[/]{% endfor %}" +
  "{% if add_generation_prompt %}[assistant]{% endif %}";

Deno.test("a template that rewrites earlier turns begins a branch, and tells it", async () => {
  const sample = () => bytes.encode("<think>a</think>b");
  const { wrapper, engine } = wrap({ chatTemplate: REWRITING, inplace: false }, { sample });
  const output = await wrapper.call({ history: HI });
  const input = await wrapper.nextTurn(output, [{ role: "user", content: "x" }]);
  const prompt = (input.tokens as Tokens).only("prompt");
  assert.equal(bytes.decode(prompt), "[user]Hi[/][assistant]b[/][user]x[/][assistant]");
  const next = await wrapper.call(input);
  assert.deepEqual(lists(engine.lastIds), lists([prompt]));
  const [{ turn, drift }] = next.samples as [typeof next.samples[0]];
  const index = "[user]Hi[/][assistant]".length;
  assert.deepEqual(turn!.prompt.branch, { index, within: "answer" });
  assert.deepEqual(drift, { index, sent: "text" });
  assert.equal(turn!.prompt.parent, output.samples[0]!.turn);
  // The turn before is a row of its own; in this one only what was sampled here counts.
  const full = next.tokens.only("full");
  assert.deepEqual(
    masked(full, next.masks.only("allAssistantMask")),
    bytes.encode("<think>a</think>b"),
  );
  assert.equal(next.logProbs!.only("full").findIndex((value) => value !== 0), prompt.length);
});

Deno.test("ids of another text are refused, repaired or reported with the place", async () => {
  const ids = lists([bytes.encode("Ha")])[0]!;
  const input = () => ({ text: ["Hi"], tokens: { prompt: [ids] } });
  const options = { inputMode: "text", inplace: false } as const;
  await assert.rejects(
    wrap(options).wrapper.call(input()),
    (error) => error instanceof TokenDriftError && error.index === 1,
  );
  const repaired = wrap({ ...options, onTokenDrift: "repair" });
  const { samples: [sample] } = await repaired.wrapper.call(input());
  assert.deepEqual(sample!.drift, { index: 1, sent: "text" });
  assert.equal(bytes.decode(repaired.engine.lastIds[0]!), "Hi");
  const reported = wrap({ ...options, onTokenDrift: "report" });
  const { samples: [told] } = await reported.wrapper.call(input());
  assert.deepEqual(told!.drift, { index: 1, sent: "ids" });
  assert.deepEqual(lists(reported.engine.lastIds), [ids]);
});

Deno.test("versions, finish reasons and marks come with every sample", async () => {
  const spans = [{ version: "6", start: 0, end: 1 }, { version: "7", start: 1, end: 4 }];
  const { wrapper } = wrap({}, {
    change: (_, index) =>
      index === 0 ? { finishReason: { type: "length", length: 4 } } : {
        finishReason: { type: "abort", message: "Aborted", statusCode: null },
        weightVersions: spans,
      },
  });
  const { samples, weightVersion, history } = await wrapper.call({ history: [HI, HELLO] });
  assert.deepEqual(samples.map((s) => [s.isTruncated, s.isAborted]), [[true, false], [
    false,
    true,
  ]]);
  assert.deepEqual(weightVersion, ["7", "7"]);
  const one = { sample: () => Int32Array.of(1) };
  const { wrapper: short } = wrap({}, {
    ...one,
    change: () => ({ finishReason: { type: "length", length: 1 } }),
  });
  assert.equal((await short.call({ history: HI })).samples[0]!.isTruncated, true);
  assert.deepEqual(samples[0]!.weightVersions, [{ version: "7", start: 0, end: 4 }]);
  assert.deepEqual(samples[1]!.weightVersions, spans);
  assert.equal(history!.response!.chats[0]![0]!.isComplete, false);
});

Deno.test("tool calls of a response are parsed and its text is kept", async () => {
  const call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>';
  const { wrapper } = wrap({}, { sample: () => bytes.encode(call) });
  const [message] = (await wrapper.call({ history: HI })).history!.response!.messages;
  assert.deepEqual(message!.toolCalls, [{ name: "f", arguments: {} }]);
  assert.equal(message!.content, call);
});

Deno.test("nextTurn needs conversations and a list for each row", async () => {
  const { wrapper } = wrap({ inputMode: "text" });
  const output = await wrapper.call({ text: ["a"] });
  await assert.rejects(wrapper.nextTurn(output, []), ValidationError);
  const chat = wrap();
  const two = await chat.wrapper.call({ history: [HI, HELLO] });
  await assert.rejects(chat.wrapper.nextTurn(two, HI), /2 rows, but there are messages for 1/);
  assert.ok(History.fromChats([HI]).rank === 2);
});
