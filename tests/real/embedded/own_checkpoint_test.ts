/** The checkpoint that TypeScript makes, in the real SGLang. */
import assert from "node:assert/strict";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { makeSGLangServer } from "../../../src/server/mod.ts";
import { pythonOf } from "../../_support/real.ts";
import { compareAnswers, send } from "./_support.ts";

Deno.test("the real SGLang loads makeTinyCheckpoint's folder and makes the same tokens", async () => {
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-tiny-" });
  try {
    await makeTinyCheckpoint(folder, { seed: 3 });
    await using real = await makeSGLangServer({
      model: folder,
      device: "cpu",
      dtype: "float32",
      maxTotalTokens: 8192,
      python: pythonOf(),
    });
    await using embedded = await EmbeddedServer.start({ model: folder });
    const requests = [
      { input_ids: [1, 2, 3] },
      { text: "What is the capital of France?" },
      { text: "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n" },
      // token_ids_logprob only here: it needs a server without other requests.
      {
        input_ids: [9, 8, 7],
        logprob_start_len: 0,
        top_logprobs_num: 2,
        token_ids_logprob: [1, 2],
      },
    ].map((request) => ({
      ...request,
      return_logprob: true,
      sampling_params: { max_new_tokens: 24, temperature: 0, ignore_eos: true },
    }));
    for (const request of requests) {
      const theirs = await send(real.url, "/generate", request);
      const ours = await send(embedded.url, "/generate", request);
      assert.equal(theirs.status, 200);
      compareAnswers(ours.body, theirs.body);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
