/** The embedded server beside the real one, on the same checkpoint and with the same requests. */
import assert from "node:assert/strict";
import { EmbeddedServer, type EmulatedVersion } from "../../../src/embedded/mod.ts";
import { modelPath, sharedNewest, sharedServers } from "../../_support/real.ts";
import { compareAnswers, type Json, keysOf, send } from "./_support.ts";

const versions: Record<EmulatedVersion, () => string> = {
  "0.5.16": () => sharedServers()[0]!,
  "0.5.23": sharedNewest,
};

const greedy = { max_new_tokens: 16, temperature: 0, ignore_eos: true };

/** Requests whose answers do not depend on chance. */
const requests: Record<string, Json> = {
  "greedy from ids": { input_ids: [655, 430, 434, 811, 72, 78], sampling_params: greedy },
  "greedy from text": { text: "import asyncio", sampling_params: greedy },
  "one token": { input_ids: [5], sampling_params: greedy },
  "a long prompt": {
    input_ids: Array.from({ length: 300 }, (_, i) => (i * 37) % 1000),
    sampling_params: greedy,
  },
  "all log-probabilities": {
    input_ids: [655, 430, 434, 811, 72, 78],
    return_logprob: true,
    logprob_start_len: 0,
    top_logprobs_num: 3,
    sampling_params: greedy,
  },
  "log-probabilities from the middle": {
    input_ids: [11, 12, 13, 14, 15],
    return_logprob: true,
    logprob_start_len: 2,
    top_logprobs_num: 1,
    sampling_params: greedy,
  },
  "output log-probabilities only": {
    input_ids: [21, 22, 23],
    return_logprob: true,
    sampling_params: greedy,
  },
  "a score alone": {
    input_ids: [31, 32, 33, 34],
    return_logprob: true,
    logprob_start_len: 0,
    sampling_params: { max_new_tokens: 0, temperature: 0 },
  },
  "log-probabilities with text": {
    text: "hello world",
    return_logprob: true,
    return_text_in_logprobs: true,
    logprob_start_len: 0,
    sampling_params: greedy,
  },
  "a batch": {
    input_ids: [[41, 42], [43, 44, 45]],
    sampling_params: [greedy, { ...greedy, max_new_tokens: 3 }],
  },
  "several samples": { input_ids: [51, 52], sampling_params: { ...greedy, n: 2 } },
  "a request id": { input_ids: [61], rid: `side-${crypto.randomUUID()}`, sampling_params: greedy },
  "a bias": {
    input_ids: [71, 72],
    return_logprob: true,
    sampling_params: { ...greedy, logit_bias: { "7": 100 } },
  },
  // Not together: SGLang keeps penalties in a set, and the order of a set of classes is chance.
  "frequency and presence penalties": {
    input_ids: [81, 82],
    return_logprob: true,
    sampling_params: { ...greedy, frequency_penalty: 0.5, presence_penalty: 0.5 },
  },
  "a repetition penalty": {
    input_ids: [81, 82],
    return_logprob: true,
    sampling_params: { ...greedy, repetition_penalty: 1.3 },
  },
  "stop tokens": {
    input_ids: [91],
    sampling_params: {
      max_new_tokens: 64,
      temperature: 0,
      stop_token_ids: Array.from({ length: 200 }, (_, i) => i * 5),
    },
  },
  "a stop string": {
    input_ids: [101],
    sampling_params: { max_new_tokens: 64, temperature: 0, stop: ["e", "a"], ignore_eos: true },
  },
  "a stop string that stays": {
    input_ids: [101],
    sampling_params: { ...greedy, max_new_tokens: 64, stop: "e", no_stop_trim: true },
  },
  "a stop pattern": {
    input_ids: [111],
    sampling_params: { ...greedy, max_new_tokens: 64, stop_regex: "[aeiou]{2}" },
  },
  "an unknown field": { input_ids: [121], nonsense: 1, sampling_params: greedy },
  "text and ids": { text: "a", input_ids: [1], sampling_params: greedy },
};

/**
 * Requests that both refuse. None of these harms a real server; an empty text is left out, as it
 * kills 0.5.23, and so is token_ids_logprob above, which kills 0.5.16 where it shares a batch with a
 * request that has none.
 */
const refused: Record<string, Json> = {
  "no prompt": { sampling_params: greedy },
  "empty ids": { input_ids: [], sampling_params: greedy },
  "ids as a string": { input_ids: "abc", sampling_params: greedy },
  "too long": { input_ids: Array(3000).fill(5), sampling_params: greedy },
  "at the context length": {
    input_ids: Array(2047).fill(5),
    sampling_params: { max_new_tokens: 1 },
  },
  "prompt and output too long": {
    input_ids: Array(2000).fill(5),
    sampling_params: { max_new_tokens: 500 },
  },
  "a negative temperature": { input_ids: [1], sampling_params: { temperature: -1 } },
  "top_p above 1": { input_ids: [1], sampling_params: { top_p: 2 } },
  "top_k of 0": { input_ids: [1], sampling_params: { top_k: 0 } },
  "min_p above 1": { input_ids: [1], sampling_params: { min_p: 2 } },
  "a large penalty": { input_ids: [1], sampling_params: { frequency_penalty: 3 } },
  "a repetition penalty of 0": { input_ids: [1], sampling_params: { repetition_penalty: 0 } },
  "negative max_new_tokens": { input_ids: [1], sampling_params: { max_new_tokens: -1 } },
  "min above max": { input_ids: [1], sampling_params: { max_new_tokens: 1, min_new_tokens: 2 } },
  "a bias outside the vocabulary": {
    input_ids: [1],
    sampling_params: { logit_bias: { "5000": 1 } },
  },
  "a schema without grammars": { input_ids: [1], sampling_params: { json_schema: "{}" } },
  "hidden states": { input_ids: [1], return_hidden_states: true, sampling_params: greedy },
  "the same id twice": { input_ids: [[1], [2]], rid: ["x", "x"], sampling_params: greedy },
  "a start beyond the prompt": {
    input_ids: [1],
    return_logprob: true,
    logprob_start_len: 2,
    sampling_params: greedy,
  },
  "an unknown sampling parameter": { input_ids: [1], sampling_params: { nonsense: 1 } },
  "a list of parameters for one prompt": { input_ids: [1], sampling_params: [greedy, greedy] },
};

for (const [version, url] of Object.entries(versions)) {
  const start = () =>
    EmbeddedServer.start({ model: modelPath("tiny"), version: version as EmulatedVersion });

  Deno.test(`${version}: same ids, text and keys, log-probabilities within 0.001`, async (t) => {
    await using embedded = await start();
    for (const [title, request] of Object.entries(requests)) {
      await t.step(title, async () => {
        const real = await send(url(), "/generate", request);
        const ours = await send(embedded.url, "/generate", request);
        assert.deepEqual([ours.status, real.status], [200, 200]);
        compareAnswers(ours.body, real.body);
      });
    }
  });

  Deno.test(`${version}: a stream ends with the same answer`, async () => {
    await using embedded = await start();
    const request = { ...requests["output log-probabilities only"]!, stream: true };
    const last = async (server: string) => {
      const { body } = await send(server, "/generate", request);
      const events = String(body).trimEnd().split("\n\n");
      assert.equal(events.at(-1), "data: [DONE]");
      return JSON.parse(events.at(-2)!.replace(/^data: /, ""));
    };
    compareAnswers(await last(embedded.url), await last(url()));
  });

  Deno.test(`${version}: the same requests are refused, with the same status and words`, async (t) => {
    await using embedded = await start();
    for (const [title, request] of Object.entries(refused)) {
      await t.step(title, async () => {
        const real = await send(url(), "/generate", request);
        const ours = await send(embedded.url, "/generate", request);
        assert.equal(ours.status, real.status);
        assert.deepEqual(keysOf(ours.body), keysOf(real.body));
        const words = (body: unknown) => (body as { error?: { message?: string } }).error?.message;
        assert.equal(words(ours.body), words(real.body));
      });
    }
  });

  Deno.test(`${version}: what the server tells of itself has the real server's keys`, async () => {
    await using embedded = await start();
    for (const path of ["/model_info", "/server_info", "/v1/loads", "/v1/models"]) {
      const real = keysOf((await send(url(), path)).body);
      const ours = keysOf((await send(embedded.url, path)).body);
      const invented = ours.filter((key) => !real.includes(key) && key !== "test_double");
      assert.deepEqual(invented, [], path);
      if (path === "/model_info" && version === "0.5.16") assert.deepEqual(ours, real);
    }
  });

  Deno.test(`${version}: tokens and text as the real server makes them`, async () => {
    await using embedded = await start();
    for (
      const prompt of ["import asyncio", "Hello, what's 12 + 30?\n\n  é 😀 <|im_end|>", ["a", "b"]]
    ) {
      const body = { prompt };
      const real = await send(url(), "/tokenize", body);
      assert.deepEqual((await send(embedded.url, "/tokenize", body)).body, real.body);
      const { tokens } = real.body as { tokens: number[] };
      const back = await send(url(), "/detokenize", { tokens });
      assert.deepEqual((await send(embedded.url, "/detokenize", { tokens })).body, back.body);
    }
  });
}
