import assert from "node:assert/strict";
import { TokenDriftError } from "../../../src/errors.ts";
import fc from "fast-check";
import { ChatHistory, History } from "../../../src/policy/chat.ts";
import { LogProbs, masked, Masks, Tokens } from "../../../src/policy/rows.ts";
import type { LLMWrapperOptions, PolicyOutput } from "../../../src/policy/mod.ts";
import { bytes, lists, named, wrap } from "./support.ts";

const HI = [{ role: "user", content: "Hi" }];
const HELLO = [{ role: "system", content: "S" }, { role: "user", content: "Hello there" }];
const half = bytes.encode("é")[0]!;

/** Responses whose ids their text cannot give back. */
const RESPONSES: Record<string, Int32Array> = {
  "an end that the template does not write": ids("ok", "<|endoftext|>"),
  "a turn opened within a turn": ids("a", "<|im_start|>", "b"),
  "half a character": Int32Array.of(...bytes.encode("a"), half, half),
  "nothing but an end": ids("<|im_end|>"),
};

function ids(...parts: string[]): Int32Array {
  return Int32Array.from(parts.flatMap((part) => {
    const special = bytes.idOf(part);
    return special === null ? Array.from(bytes.encode(part)) : [special];
  }));
}

function sampling(sample: Int32Array, options: LLMWrapperOptions = {}) {
  return wrap({ inplace: false, ...options }, { sample: () => sample });
}

for (const [name, response] of Object.entries(RESPONSES)) {
  for (const inputMode of ["history", "text"] as const) {
    for (const padOutput of [false, true]) {
      const what = `${name} (${inputMode}, ${padOutput ? "padded" : "ragged"})`;
      Deno.test(`own output is scored id for id: ${what}`, async () => {
        const { wrapper, engine } = sampling(response, { inputMode, padOutput });
        const output = await wrapper.call({ history: [HI, HELLO], text: ["Hi", "Hello there"] });
        const full = output.tokens.unpad().get("full");
        const scores = await wrapper.logProb(output);
        assert.deepEqual(lists(engine.lastIds), lists(full));
        const assistant = scores.masks.get("allAssistantMask");
        for (const [row, ids] of scores.tokens.get("full").entries()) {
          assert.deepEqual(masked(ids, assistant[row]!), response);
        }
      });
    }
  }

  Deno.test(`a longer history goes on behind the sampled ids: ${name}`, async () => {
    const { wrapper } = sampling(response);
    const byHand = await turns(wrapper, async (output, messages) => {
      const prompt = output.history!.full!.extend([messages], { dim: -1, inPlace: false });
      const { tokens, masks, logProbs } = output;
      return await wrapper.call({ history: { prompt }, tokens, masks, logProbs });
    });
    const byWrapper = await turns(wrapper, async (output, messages) => {
      return await wrapper.call(await wrapper.nextTurn(output, messages));
    });
    assert.deepEqual(lists(byHand.tokens.full), lists(byWrapper.tokens.full));
    assert.deepEqual(lists(byHand.masks.allAssistantMask), lists(byWrapper.masks.allAssistantMask));
    assert.deepEqual(lists(byHand.logProbs!.full), lists(byWrapper.logProbs!.full));
    const scores = await wrapper.logProb(byHand);
    assert.deepEqual(lists(scores.tokens.full), lists(byHand.tokens.full));
  });
}

/** Three turns of one conversation. */
async function turns(
  wrapper: ReturnType<typeof wrap>["wrapper"],
  next: (output: PolicyOutput, messages: { role: string; content: string }[]) => Promise<
    PolicyOutput
  >,
): Promise<PolicyOutput> {
  let output = await wrapper.call({ history: [HI] });
  for (const content of ["x", "y"]) output = await next(output, [{ role: "user", content }]);
  return output;
}

Deno.test("a prompt is sampled from again with the ids of the first time", async () => {
  const { wrapper, engine } = sampling(RESPONSES["a turn opened within a turn"]!);
  const first = await wrapper.call({ history: [HI] });
  const second = await wrapper.call(
    await wrapper.nextTurn(first, [{ role: "user", content: "x" }]),
  );
  const { history, tokens } = second;
  await wrapper.call({ history, tokens: { prompt: tokens.get("prompt") } });
  assert.deepEqual(lists(engine.lastIds), lists(tokens.prompt));
});

Deno.test("another model with the same vocabulary scores the rows too", async () => {
  const { wrapper } = sampling(RESPONSES["a turn opened within a turn"]!);
  const output = await wrapper.call({ history: [HI] });
  const reference = wrap({ tokenizer: named("qwen-other") });
  await reference.wrapper.logProb(output);
  assert.deepEqual(lists(reference.engine.lastIds), lists(output.tokens.full));
});

Deno.test("sampled ids are refused once they say something else", async () => {
  const { wrapper } = sampling(RESPONSES["a turn opened within a turn"]!);
  const output = await wrapper.call({ history: [HI] });
  const { history, tokens } = output;
  const isRefused = (scoring: Promise<unknown>) =>
    assert.rejects(scoring, (error) => {
      assert.ok(error instanceof TokenDriftError);
      assert.match(error.message, /text to score.* inputMode "tokens"/);
      return true;
    });

  const edited = history!.prompt!.append([{ role: "assistant", content: "aB" }], {
    inPlace: false,
  });
  await isRefused(wrapper.logProb({ history: { full: edited }, tokens }));

  const answer = history!.response!.chats[0]![0]!;
  const asked = History.fromChats([[{ role: "user", content: "Ho" }, answer]]);
  await isRefused(wrapper.logProb({ history: { full: asked }, tokens }));

  const otherTemplate = wrapper.getNewVersion({ chatTemplateName: "llama" });
  await isRefused(otherTemplate.logProb({ history, tokens }));

  const upper = (ids: ArrayLike<number>) => bytes.decode(ids).toUpperCase();
  const otherVocabulary = wrap({ tokenizer: named("qwen-other", { decode: upper }) });
  await isRefused(otherVocabulary.wrapper.logProb({ history, tokens }));

  const full = tokens.get("full")[0]!;
  await isRefused(wrapper.logProb({ history, tokens: { full: [full.slice(0, -1)] } }));
  full[full.length - 1]! += 1;
  await isRefused(wrapper.logProb({ history, tokens }));
});

/** What is left of an output that was written down and read again. */
function copied(output: PolicyOutput) {
  const { tokens, history, text } = JSON.parse(JSON.stringify({
    tokens: { prompt: lists(output.tokens.prompt), full: lists(output.tokens.full) },
    text: { prompt: output.text!.prompt, full: output.text!.full },
    history: output.history && {
      prompt: output.history.prompt!.chats,
      full: output.history.full!.chats,
    },
  }));
  return { tokens, text, history };
}

Deno.test("a copy of own ids is taken, with the tokens that the server puts before a text", async () => {
  const begin = bytes.idOf("<|endoftext|>")!;
  const encode: typeof bytes.encode = (text, options) =>
    Int32Array.of(...options?.addSpecialTokens ? [begin] : [], ...bytes.encode(text));
  const { wrapper, engine } = wrap(
    { inputMode: "text", inplace: false, tokenizer: named("begins", { encode }) },
    { change: ({ promptIds }) => ({ promptIds: Int32Array.of(begin, ...promptIds!) }) },
  );
  const output = await wrapper.call({ text: ["Hi", "é 😀"] });
  const { text, tokens } = copied(output);
  await wrapper.call({ text, tokens });
  assert.deepEqual(lists(engine.lastIds), lists(output.tokens.prompt));
});

Deno.test("a copy of an output goes on and is scored as the output does", async () => {
  const sample = ids("ok", "<|im_end|>");
  const { wrapper, engine } = sampling(sample);
  const output = await wrapper.call({ history: [HI, HELLO] });
  const copy = copied(output);
  await wrapper.logProb({ history: copy.history, tokens: { full: copy.tokens.full } });
  assert.deepEqual(lists(engine.lastIds), lists(output.tokens.full));
  const more = [{ role: "user", content: "x" }];
  const next = await wrapper.nextTurn(output, [more, more]);
  await wrapper.call({
    history: { prompt: copy.history.full.map((chat: []) => [...chat, ...more]) },
    tokens: { full: copy.tokens.full },
  });
  assert.deepEqual(lists(engine.lastIds), lists((next.tokens as Tokens).prompt));
});

Deno.test("log-probs of a copy come along, by nextTurn() and without it", async () => {
  const { wrapper } = sampling(ids("ok", "<|im_end|>"));
  const more = [{ role: "user", content: "x" }];
  const output = await wrapper.call({ history: [HI, HELLO] });
  const { chats } = output.history!.full!;
  const copy = {
    history: new ChatHistory({ full: History.fromChats(structuredClone(chats)) }),
    tokens: new Tokens({ full: lists(output.tokens.full).map((row) => Int32Array.from(row)) }, [2]),
    masks: new Masks({
      allAssistantMask: lists(output.masks.allAssistantMask).map((row) => Uint8Array.from(row)),
    }, [2]),
    logProbs: new LogProbs({
      full: lists(output.logProbs!.full).map((row) => Float32Array.from(row)),
    }, [2]),
  } as unknown as PolicyOutput;
  const wanted = await wrapper.call(await wrapper.nextTurn(output, [more, more]));
  const { prompts: _, ...plain } = await wrapper.nextTurn(copy, [more, more]);
  for (const input of [await wrapper.nextTurn(copy, [more, more]), plain]) {
    const next = await wrapper.call(input);
    assert.deepEqual(lists(next.tokens.full), lists(wanted.tokens.full));
    assert.deepEqual(lists(next.masks.allAssistantMask), lists(wanted.masks.allAssistantMask));
    assert.deepEqual(lists(next.logProbs!.full), lists(wanted.logProbs!.full));
  }
});

Deno.test("what an assistant said is marked under a tokenizer that normalises, whatever is said", async () => {
  const parts = ["\u2581", "e\u0301", "\u212a", "a", "\u00e9", "\u2581\u2581"];
  for (const normalize of [(text: string) => text.normalize("NFC"), (text: string) => text]) {
    const tokenizer = named("qwen-normal", {
      // A piece that stands alone gets a space: pieces do not give the ids of the whole.
      encode: (text) =>
        bytes.encode((text.startsWith("<|im_start|>") ? "" : " ") + normalize(text)),
      borders: (ids) => bytes.borders(ids),
    });
    const { wrapper } = wrap({ tokenizer, inplace: false }, { sample: () => ids("ok") });
    const said = fc.array(fc.constantFrom(...parts), { minLength: 1, maxLength: 4 })
      .map((list) => list.join(""));
    await fc.assert(fc.asyncProperty(said, said, async (asked, answer) => {
      const chat = [
        { role: "user", content: asked },
        { role: "assistant", content: `x${answer}x` },
        { role: "user", content: asked },
      ];
      const output = await wrapper.call({ history: [chat] });
      const own = masked(output.tokens.full![0]!, output.masks.allAssistantMask![0]!);
      const shown = bytes.decode(own) as string;
      assert.equal(shown, `${normalize(`x${answer}x`)}<|im_end|>ok`);
    }));
  }
});

Deno.test("a stored output that the template writes in another way is a branch without marks", async () => {
  const chatTemplate = "{% for m in messages %}<|im_start|>{{ m.role }}\n" +
    "{{ m.content if loop.last else m.content | upper }}<|im_end|>\n{% endfor %}" +
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  const { wrapper } = wrap({ chatTemplate, inplace: false }, {
    sample: () => ids("ok", "<|im_end|>"),
  });
  const more = [{ role: "user", content: "x" }];
  const output = await wrapper.call({ history: [HI] });
  const copy = {
    history: new ChatHistory({
      full: History.fromChats(structuredClone(output.history!.full!.chats)),
    }),
    tokens: new Tokens({ full: lists(output.tokens.full).map((row) => Int32Array.from(row)) }, [1]),
  } as unknown as PolicyOutput;
  for (const stored of [output, copy]) {
    const next = await wrapper.call(await wrapper.nextTurn(stored, [more]));
    assert.equal(next.samples[0]!.turn!.prompt.kind, "branch");
    const { prompt, full } = next.tokens;
    const marked = masked(full![0]!, next.masks.allAssistantMask![0]!);
    assert.deepEqual(Array.from(marked), Array.from(full![0]!.subarray(prompt![0]!.length)));
  }
});

Deno.test("stored rows that are padded keep masks and log-probs on what was sampled", async () => {
  const { wrapper } = sampling(ids("ok", "<|im_end|>"));
  const padding = sampling(ids("ok", "<|im_end|>"), { padOutput: true }).wrapper;
  const output = await padding.call({ history: [HI, HELLO] });
  const more = { role: "user", content: "x" };
  const history = output.history!.full!.chats.map((chat) => [...chat, more]);
  const wanted = await wrapper.call(await wrapper.nextTurn(output, [[more], [more]]));
  for (const isPadded of [false, true]) {
    const { allAttentionMask, allAssistantMask } = output.masks;
    const next = await wrapper.call({
      history,
      tokens: { full: lists(output.tokens.full) },
      masks: new Masks({ allAttentionMask, allAssistantMask }, [2], { isPadded }),
      logProbs: new LogProbs({ full: output.logProbs!.full }, [2], { isPadded }),
    });
    assert.deepEqual(lists(next.tokens.full), lists(wanted.tokens.full));
    assert.deepEqual(lists(next.masks.allAssistantMask), lists(wanted.masks.allAssistantMask));
    assert.deepEqual(lists(next.logProbs!.full), lists(wanted.logProbs!.full));
  }
});

Deno.test("a mask or log-probs for other ids than were given are refused with both lengths", async () => {
  const { wrapper } = sampling(ids("ok", "<|im_end|>"));
  const { tokens, history } = await wrapper.call({ history: [HI] });
  const full = lists(tokens.full);
  for (const length of [1, full[0]!.length + 1]) {
    const input = { history: history!.full!.chats, tokens: { full } };
    const masks = new Masks({ allAssistantMask: [new Uint8Array(length)] }, [1]);
    const logProbs = new LogProbs({ full: [new Float32Array(length)] }, [1]);
    for (const more of [{ masks }, { logProbs }]) {
      await assert.rejects(
        wrapper.call({ ...input, ...more }),
        new RegExp(`has ${full[0]!.length} ids, but .* has ${length} values`),
      );
    }
  }
});
