import assert from "node:assert/strict";
import fc from "fast-check";
import { parseGeneration } from "../../../src/client/generation.ts";
import { buildRequest } from "../../../src/client/request.ts";
import { joinRoutedExperts, toRoutedExperts } from "../../../src/client/routed_experts.ts";
import { ProtocolError, ValidationError } from "../../../src/errors.ts";
import { toBase64 } from "../../../src/internal/text_of_bytes.ts";

const server = "http://127.0.0.1:1";

function base64(values: Iterable<number>): string {
  return toBase64(new Uint8Array(Int32Array.from(values).buffer));
}

Deno.test("experts of a whole answer are read with their place and width", () => {
  // 5 tokens of prompt, 4 sampled, 2 layers, 2 experts each: as SGLang answers it.
  const generation = parseGeneration({
    output_ids: [1, 2, 3, 4],
    meta_info: {
      id: "x",
      finish_reason: { type: "length", length: 4 },
      prompt_tokens: 5,
      routed_experts: base64(Array.from({ length: 32 }, (_, i) => i)),
    },
  }, { server, latencyMs: 1, promptIds: null, wantsLogProbs: false, routedExpertsStart: 0 });
  const { start, tokens, perToken, data } = generation.routedExperts!;
  assert.deepEqual([start, tokens, perToken, data[31]], [0, 8, 4, 31]);
});

Deno.test("a server that returns no experts, or a number that fits no token, is told of", () => {
  const context = { start: 0, promptTokens: 3, outputTokens: 2, isAborted: false, server };
  for (const value of [undefined, null, "####", base64([1, 2, 3, 4, 5, 6, 7])]) {
    assert.throws(() => toRoutedExperts(value, context), ProtocolError);
  }
  assert.equal(toRoutedExperts(undefined, { ...context, isAborted: true }), null);
});

Deno.test("the sampled positions only are asked for from the last token of the prompt on", () => {
  const { body } = buildRequest({ inputIds: [1, 2, 3], returnRoutedExperts: "sampled" });
  assert.equal(body.return_routed_experts, true);
  assert.equal(body.routed_experts_start_len, 2);
  for (
    const wrong of [
      { text: "a", returnRoutedExperts: "sampled" as const },
      { inputIds: [1], routedExpertsStartLen: 0 },
      { inputIds: [1], returnRoutedExperts: true, routedExpertsStartLen: 2 },
      { inputIds: [1], returnRoutedExperts: true, routedExpertsStartLen: -1 },
      { text: "a", returnRoutedExperts: true, routedExpertsStartLen: 1 },
    ]
  ) assert.throws(() => buildRequest(wrong), ValidationError);
});

Deno.test("the parts of a sample that was cut anywhere join to the experts of the whole", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 1, max: 4 }),
      fc.boolean(),
      (prompt, first, second, perToken, isAll) => {
        const part = (from: number, to: number) => ({
          start: from,
          tokens: to - from,
          perToken,
          data: Int32Array.from({ length: (to - from) * perToken }, (_, i) => from * perToken + i),
        });
        const seam = prompt + first;
        const begin = isAll ? 0 : prompt - 1;
        const whole = part(begin, seam + second - 1);
        // The second part's prompt is the first's prompt and ids.
        const joined = joinRoutedExperts(
          part(begin, seam - 1),
          part(isAll ? 0 : seam - 1, seam + second - 1),
        );
        assert.deepEqual(joined, whole);
      },
    ),
  );
});
