import assert from "node:assert/strict";
import fc from "fast-check";
import type { FinishReason, Generation } from "../../../src/client/types.ts";
import { TemplateChatModel } from "../../../src/policy/wrapper/chat_model.ts";
import { SGLangWrapper } from "../../../src/policy/wrapper/sglang_wrapper.ts";
import type { Environment } from "../../../src/collector/environments/mod.ts";
import { LLMCollector } from "../../../src/collector/mod.ts";
import { silentLogger } from "../../../src/internal/logger.ts";
import {
  joinTurns,
  nextTurn,
  prepareTurn,
  type Sampler,
  sampleTurn,
  type Turn,
  TurnTree,
} from "../../../src/rollout/mod.ts";
import { checkRows, checkTurn, type Served } from "../../_support/turn_checks.ts";
import {
  mergingTokenizer,
  mergingVocabulary,
  turnTemplates,
} from "../../_support/turn_templates.ts";
import { FakeEngine } from "../policy/support.ts";

const tokenizer = await mergingTokenizer();
const [END, OTHER_END] = ["<|im_end|>", "<|endoftext|>"].map((token) => tokenizer.idOf(token)!);

/** An answer as a server makes it. */
interface Answer {
  readonly ids: readonly number[];
  readonly end: "template's" | "other" | "cut" | "aborted" | "stop string";
}

const piece = fc.oneof(
  { weight: 6, arbitrary: fc.string({ unit: "grapheme", maxLength: 8 }).map(encode) },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      ..."<|,\n,\n\n, hello, a,<think>x</think>y,</think>,ass,ok, ,é".split(",").map(encode),
    ),
  },
  // Any id: halves of characters, special tokens, tokens that nobody would cut there.
  { weight: 2, arbitrary: fc.nat(mergingVocabulary - 1).map((id) => [id]) },
);
const answer: fc.Arbitrary<Answer> = fc.record({
  ids: fc.array(piece, { maxLength: 5 }).map((pieces) => pieces.flat()),
  end: fc.constantFrom("template's", "template's", "other", "cut", "aborted", "stop string"),
});
const user = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 10 }),
  fc.constantFrom("hello", " ", "<|im_end|>", "\n", "</think>", "assistant: "),
);
const dialog = fc.record({
  system: fc.boolean(),
  turns: fc.array(fc.tuple(user, answer), { minLength: 2, maxLength: 5 }),
});

function encode(text: string): number[] {
  return Array.from(tokenizer.encode(text));
}

/** What SGLang answers: the text without special tokens and without the stop string. */
function generationOf({ ids, end }: Answer, promptIds: Int32Array): Generation {
  const last = { "template's": [END!], other: [OTHER_END!], "stop string": encode("STOP") };
  const all = [...ids, ...(end in last ? last[end as keyof typeof last] : [])];
  const finishReason: FinishReason = end === "cut"
    ? { type: "length", length: all.length }
    : end === "aborted"
    ? { type: "abort", message: "Aborted", statusCode: null }
    : { type: "stop", matched: end === "stop string" ? "STOP" : all.at(-1)! };
  const text = tokenizer.decode(all, { skipSpecialTokens: true });
  return {
    text: end === "stop string" ? text.slice(0, text.lastIndexOf("STOP")) : text,
    ids: Int32Array.from(all),
    logProbs: Float32Array.from(all, (id, index) => -(id + 1) / 100 - index),
    promptIds,
    promptLogProbs: null,
    topLogProbs: null,
    promptTopLogProbs: null,
    tokenIdsLogProbs: null,
    promptTokenIdsLogProbs: null,
    finishReason,
    weightVersion: "1",
    weightVersions: null,
    promptTokens: promptIds.length,
    completionTokens: all.length,
    cachedTokens: 0,
    id: "r",
    server: "http://fake",
    latencyMs: 1,
    serverLatencyMs: null,
    meta: {},
  };
}

/** A server that gives the answers one after the other, and what it was sent. */
function serverOf(answers: readonly Answer[]): { sampler: Sampler; served: Served[] } {
  const served: Served[] = [];
  const sampler: Sampler = (promptIds) => {
    const generation = generationOf(answers[served.length]!, promptIds);
    served.push({
      promptIds: promptIds.slice(),
      ids: generation.ids,
      logProbs: generation.logProbs!,
    });
    return Promise.resolve(generation);
  };
  return { sampler, served };
}

function modelOf(chatTemplate: string): TemplateChatModel {
  return new TemplateChatModel({ tokenizer, chatTemplate, logger: silentLogger });
}

for (const [name, template] of Object.entries(turnTemplates)) {
  Deno.test(`turns are what was sent and sampled: a template that ${name}`, async () => {
    await fc.assert(
      fc.asyncProperty(dialog, async ({ system, turns: said }) => {
        const model = modelOf(template);
        const { sampler, served } = serverOf(said.map(([, answer]) => answer));
        const turns: Turn[] = [];
        for (const [content] of said) {
          const messages = [{ role: "user", content }];
          const first = system ? [{ role: "system", content: "be" }, ...messages] : messages;
          const prompt = turns.length === 0
            ? await prepareTurn(model, first)
            : await nextTurn(turns.at(-1)!, messages);
          turns.push(await sampleTurn(prompt, sampler));
          await checkTurn(turns.at(-1)!, served.at(-1)!);
        }
        const rows = joinTurns(turns.map(({ sample }) => ({ ...sample, responseIds: sample.ids })));
        checkRows(rows, served);
      }),
      { numRuns: 60 },
    );
  });

  Deno.test(`the wrapper and the collector give the same turns: a template that ${name}`, async () => {
    await fc.assert(
      fc.asyncProperty(dialog, async ({ turns: said }) => {
        const answers = said.map(([, answer]) => answer);
        const byHand = serverOf(answers);
        const make = () => {
          const served: Served[] = [];
          const engine = new FakeEngine({
            change: (generation) => {
              const changed = generationOf(answers[served.length]!, generation.promptIds!);
              const { promptIds, ids, logProbs } = changed;
              served.push({ promptIds: promptIds!.slice(), ids, logProbs: logProbs! });
              return changed;
            },
          });
          const options = { tokenizer, chatTemplate: template, inplace: false };
          return { served, wrapper: new SGLangWrapper(engine, options) };
        };

        const direct = new TurnTree(modelOf(template));
        const wrapped = make();
        let output = await wrapped.wrapper.call({
          history: [{ role: "user", content: said[0]![0] }],
        });
        let messages = [{ role: "user", content: said[0]![0] }] as Turn["message"][];
        for (const [index, [content]] of said.entries()) {
          if (index > 0) {
            const added = [{ role: "user", content }];
            output = await wrapped.wrapper.call(await wrapped.wrapper.nextTurn(output, added));
            messages = [...messages, direct.turns.at(-1)!.message, ...added];
          }
          const turn = await direct.sample(messages, byHand.sampler);
          await checkTurn(output.samples[0]!.turn!, wrapped.served.at(-1)!);
          assert.deepEqual(
            output.tokens.only("full").length,
            turn.prompt.ids.length + turn.sample.ids.length,
          );
        }
        assert.deepEqual(wrapped.served, byHand.served);

        const collected = make();
        const environment: Environment = {
          reset: () => ({ messages: [{ role: "user", content: said[0]![0] }] }),
          step: ({ turn }) =>
            turn + 1 === said.length ? { reward: 0, done: true } : {
              reward: 0,
              done: false,
              messages: [{ role: "user", content: said[turn + 1]![0] }],
            },
        };
        await using collector = new LLMCollector(environment, {
          policy: collected.wrapper,
          partialRollouts: "keep",
          dialogTurnsPerBatch: 1,
          totalDialogs: 1,
          yieldCompletedTrajectories: true,
        });
        const batch = (await collector.rollout())!;
        assert.deepEqual(collected.served, byHand.served);
        for (const [index, row] of batch.rows.entries()) {
          assert.deepEqual(row.promptIds, byHand.served[index]!.promptIds);
          assert.deepEqual(row.responseIds, byHand.served[index]!.ids);
        }
        checkRows(batch.joined(), byHand.served);
        assert.equal(batch.joined().length, batch.rows.at(-1)!.branch + 1);
      }),
      { numRuns: 15 },
    );
  });
}

Deno.test("a template that keeps answers appends to each that it can write", async () => {
  const readable = fc.record({
    ids: fc.string({ unit: "grapheme-ascii", maxLength: 12 }).map(encode),
    end: fc.constantFrom("template's", "cut", "aborted"),
  }) as fc.Arbitrary<Answer>;
  await fc.assert(
    fc.asyncProperty(fc.array(readable, { minLength: 2, maxLength: 6 }), async (answers) => {
      const { sampler, served } = serverOf(answers);
      const tree = new TurnTree(modelOf(turnTemplates["keeps it"]));
      let messages: Turn["message"][] = [];
      for (const _ of answers) {
        messages = [...messages, { role: "user", content: "q" }];
        messages.push((await tree.sample(messages, sampler)).message);
      }
      assert.deepEqual(
        tree.turns.slice(1).map(({ prompt }) => prompt.kind),
        answers.slice(1).map(() => "append"),
      );
      assert.equal(tree.rows().length, 1);
      checkRows(
        joinTurns(tree.turns.map(({ sample }) => ({ ...sample, responseIds: sample.ids }))),
        served,
      );
    }),
  );
});

Deno.test("a tokenizer that writes the first token of a text without its space appends too", async () => {
  // As SentencePiece does.
  const decode: typeof tokenizer.decode = (ids, options) =>
    tokenizer.decode(ids, options).replace(/^ /, "");
  const encodes = tokenizer.encode.bind(tokenizer);
  const stripping = { ...tokenizer, idOf: tokenizer.idOf.bind(tokenizer), encode: encodes, decode };
  const model = new TemplateChatModel({
    tokenizer: { ...stripping, name: "stripping" },
    chatTemplate: turnTemplates["keeps it"],
    logger: silentLogger,
  });
  const { sampler } = serverOf([{ ids: encode(" a hello"), end: "cut" }]);
  const turn = await sampleTurn(
    await prepareTurn(model, [{ role: "user", content: "q" }]),
    sampler,
  );
  const next = await nextTurn(turn, [{ role: "user", content: "q" }]);
  assert.equal(next.kind, "append");
  assert.equal(next.drift, null);
});
