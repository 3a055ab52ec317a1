import assert from "node:assert/strict";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { type PolicyOutput, SGLangWrapper } from "../../../src/policy/mod.ts";
import { ProtocolError } from "../../../src/errors.ts";
import { answer, healthyServer, standIn } from "../../_support/http_stand_in.ts";
import { lists, wrap } from "./support.ts";

/** What the wrapper makes of this answer of the server to a prompt of three tokens. */
async function answered(
  body: (answered: Record<string, unknown>) => Record<string, unknown>,
): Promise<PolicyOutput> {
  await using server = standIn({
    ...healthyServer,
    "POST /generate": () => Response.json(body(answer([5, 6]))),
  });
  await using engine = await AsyncSGLang.connect(server.url, { vocabSize: 1024 });
  const wrapper = new SGLangWrapper(engine, { inputMode: "tokens", inplace: false });
  return await wrapper.call({ tokens: [[1, 2, 3]] });
}

const withMeta = (meta: Record<string, unknown>) => () => answer([5, 6], meta);

// case 63

Deno.test("triples and bare numbers both become float32", async () => {
  const triples = await answered(withMeta({
    output_token_logprobs: [[-0.1, 5, null], [-0.2, 6, "x"]],
  }));
  const bare = await answered(withMeta({ output_token_logprobs: [-0.1, -0.2] }));
  for (const { logProbs } of [triples, bare]) {
    assert.deepEqual(logProbs!.get("response")[0], Float32Array.of(-0.1, -0.2));
  }
});

// case 64

Deno.test("log-probs are found in all three places", async () => {
  const values = [[-0.1, 5, null], [-0.2, 6, null]];
  const outputs = await Promise.all([
    answered(withMeta({ output_token_logprobs: values })),
    answered((body) => ({ ...body, output_token_logprobs: values })),
    answered(withMeta({ logprobs: values })),
  ]);
  for (const { logProbs } of outputs) assert.equal(logProbs!.get("response")[0]!.length, 2);
});

// case 65

Deno.test("a wrong count is refused with both counts", async () => {
  await assert.rejects(
    answered(withMeta({ output_token_logprobs: [[-0.1, 5, null]] })),
    (error) => error instanceof ProtocolError && /1.*2|2.*1/.test(error.message),
  );
  const { wrapper } = wrap({}, { change: () => ({ logProbs: new Float32Array(1) }) });
  await assert.rejects(wrapper.call({ history: [{ role: "user", content: "a" }] }), /1 log-prob/);
});

// case 66

Deno.test("NaN, infinite and null log-probs are refused", async () => {
  await assert.rejects(
    answered(withMeta({ output_token_logprobs: [[null, 5, null], [-1, 6, null]] })),
    ProtocolError,
  );
  for (const value of [NaN, Infinity, -Infinity]) {
    const { wrapper } = wrap({}, {
      change: ({ ids }) => ({ logProbs: new Float32Array(ids.length).fill(value) }),
    });
    await assert.rejects(
      wrapper.call({ history: [{ role: "user", content: "a" }] }),
      (error) => error instanceof ProtocolError && /non-finite/.test(error.message),
    );
  }
});

// case 67

Deno.test("full is zeros for the prompt and then the response", async () => {
  const output = await answered(withMeta({
    output_token_logprobs: [[-0.1, 5, null], [-0.2, 6, null]],
  }));
  assert.deepEqual(output.logProbs!.get("full")[0], Float32Array.of(0, 0, 0, -0.1, -0.2));
});

// case 68

Deno.test("an empty response is a row of length zero, alone or among others", async () => {
  const { wrapper } = wrap({ inputMode: "tokens" }, {
    sample: (_, index) => index === 0 ? new Int32Array() : Int32Array.of(9),
  });
  const output = await wrapper.call({ tokens: [[1, 2], [3]] });
  assert.deepEqual(lists(output.tokens.response), [[], [9]]);
  assert.deepEqual(lists(output.logProbs!.full), [[0, 0], [0, -0.5]]);
  assert.deepEqual(lists(output.masks.allAssistantMask), [[0, 0], [0, 1]]);
});

// case 69

Deno.test("log-probs that were asked for and are absent are an error", async () => {
  await assert.rejects(answered((body) => body), ProtocolError);
  const { wrapper } = wrap({ inputMode: "tokens" }, {
    change: (_, index) => index === 1 ? { logProbs: null } : {},
  });
  await assert.rejects(wrapper.call({ tokens: [[1], [2]] }), /row 1 came without/);
});

// case 69

Deno.test("a server that does not return prompt ids nor tokenises is told apart", async () => {
  const { wrapper } = wrap({ inputMode: "tokens", generate: false }, {
    change: () => ({ promptLogProbs: Float32Array.of(NaN, NaN) }),
  });
  await assert.rejects(wrapper.call({ tokens: { full: [[1, 2]] } }), /non-finite.*token 1/);
});
