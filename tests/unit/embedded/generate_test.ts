import assert from "node:assert/strict";
import { events, greedy, post, type Sample, startTiny, tinyCheckpoint } from "./_support.ts";

Deno.test("greedy ids equal those that SGLang 0.5.16 makes from the same checkpoint", async () => {
  await using server = await startTiny();
  // Recorded from the real server; tests/real/embedded compares live.
  const recorded: [number[], number[]][] = [
    [[1, 2, 3], [85, 919, 297, 832, 785, 540, 22, 860, 540, 585, 918, 928]],
    [[500], [155, 285, 155, 155, 217, 178, 278, 457, 128, 851, 653, 136]],
    [[9, 9, 9, 9], [723, 517, 422, 119, 223, 333, 975, 919, 754, 997, 330, 62]],
  ];
  for (const [prompt, ids] of recorded) assert.deepEqual(await greedy(server, prompt), ids);
});

Deno.test("a request gets the same ids and log-probabilities alone and in a batch", async () => {
  await using server = await startTiny({ enableDeterministicInference: true });
  const body = (prompt: number[]) => ({
    input_ids: prompt,
    return_logprob: true,
    sampling_params: { max_new_tokens: 20, temperature: 1, sampling_seed: 7, ignore_eos: true },
  });
  const alone = await post(server, "/generate", body([5, 6, 7]));
  await post(server, "/flush_cache", {});
  const prompts = Array.from({ length: 21 }, (_, i) => [5, 6, 7 + i]);
  const together = await Promise.all(
    prompts.map((prompt) => post(server, "/generate", body(prompt))),
  );
  assert.deepEqual(together[0]!.body.output_ids, alone.body.output_ids);
  assert.deepEqual(
    together[0]!.body.meta_info.output_token_logprobs,
    alone.body.meta_info.output_token_logprobs,
  );
});

Deno.test("the prefix cache changes what is computed, not what comes out", async () => {
  await using server = await startTiny();
  const prompt = Array.from({ length: 40 }, (_, i) => (i * 31) % 1000);
  const first = await greedy(server, prompt);
  const { body } = await post(server, "/generate", {
    input_ids: prompt,
    sampling_params: { max_new_tokens: 12, temperature: 0, ignore_eos: true },
  });
  assert.equal(body.meta_info.cached_tokens, 39);
  assert.deepEqual(body.output_ids, first);
});

Deno.test("log-probabilities of the prompt continue those of the output", async () => {
  await using server = await startTiny();
  const options = { return_logprob: true, top_logprobs_num: 2, token_ids_logprob: [3, 4] };
  const made = await post(server, "/generate", {
    ...options,
    input_ids: [1, 2, 3],
    sampling_params: { max_new_tokens: 5, temperature: 0, ignore_eos: true },
  });
  const scored = await post(server, "/generate", {
    ...options,
    input_ids: [1, 2, 3, ...made.body.output_ids],
    logprob_start_len: 0,
    sampling_params: { max_new_tokens: 0, temperature: 0 },
  });
  const { meta_info: info } = scored.body;
  assert.deepEqual(info.input_token_logprobs[0], [null, 1, null]);
  assert.equal(info.input_token_logprobs.length, 8);
  const output = made.body.meta_info.output_token_logprobs;
  assert.deepEqual(info.input_token_logprobs.slice(3), output);
  assert.equal(scored.body.text, "");
  // Greedy takes the likeliest, so it heads each list of likeliest tokens.
  made.body.meta_info.output_top_logprobs.forEach((top, i) => assert.deepEqual(top[0], output[i]));
  const picked = made.body.meta_info.output_token_ids_logprobs;
  assert.deepEqual(picked.map((row) => row.map(([, id]) => id)), Array(5).fill([3, 4]));
});

Deno.test("probabilities at a position sum to one", async () => {
  await using server = await startTiny();
  const { body } = await post(server, "/generate", {
    input_ids: [1],
    return_logprob: true,
    token_ids_logprob: Array.from({ length: 1024 }, (_, id) => id),
    sampling_params: { max_new_tokens: 1, temperature: 0.7 },
  });
  const row = body.meta_info.output_token_ids_logprobs[0]!;
  const total = row.reduce((sum, [value]) => sum + Math.exp(value), 0);
  assert.ok(Math.abs(total - 1) < 1e-5, `sum ${total}`);
});

Deno.test("a stream is cumulative and ends with the whole answer", async () => {
  await using server = await startTiny();
  const request = {
    input_ids: [1, 2, 3],
    sampling_params: { max_new_tokens: 6, temperature: 0, ignore_eos: true },
  };
  const whole = await post(server, "/generate", request);
  const stream = await events(server, request);
  assert.equal(stream.at(-1), "[DONE]");
  const steps = stream.slice(0, -1) as Sample[];
  assert.deepEqual(steps.at(-1)!.output_ids, whole.body.output_ids);
  assert.equal(steps.at(-1)!.text, whole.body.text);
  assert.equal(steps[0]!.meta_info.finish_reason, null);
  for (let i = 1; i < steps.length; i++) {
    const before = steps[i - 1]!.output_ids;
    assert.deepEqual(steps[i]!.output_ids.slice(0, before.length), before);
  }
});

Deno.test("a batch with several samples answers prompt by prompt", async () => {
  await using server = await startTiny();
  const { body } = await post<Sample[]>(server, "/generate", {
    input_ids: [[1, 2, 3], [4, 5, 6, 7]],
    sampling_params: { max_new_tokens: 3, temperature: 1, n: 3 },
  });
  assert.deepEqual(body.map((one) => one.meta_info.prompt_tokens), [3, 3, 3, 4, 4, 4]);
  assert.equal(new Set(body.map((one) => one.output_ids.join())).size, 6);
});

Deno.test("stop strings, stop tokens and the end token end a request", async (t) => {
  await using server = await startTiny();
  const ids = await greedy(server);
  const run = async (params: Record<string, unknown>) =>
    (await post(server, "/generate", {
      input_ids: [1, 2, 3],
      sampling_params: { max_new_tokens: 12, temperature: 0, ...params },
    })).body;
  const full = await run({ ignore_eos: true });
  await t.step("stop token: its id stays, its text goes", async () => {
    const made = await run({ stop_token_ids: [ids[2]] });
    assert.deepEqual(made.output_ids, ids.slice(0, 3));
    assert.deepEqual(made.meta_info.finish_reason, { type: "stop", matched: ids[2] });
    assert.ok(full.text.startsWith(made.text));
  });
  await t.step("ignore_eos disables stop tokens too", async () => {
    const made = await run({ stop_token_ids: [ids[2]], ignore_eos: true });
    assert.equal(made.output_ids.length, 12);
  });
  await t.step("stop string: the text ends before it", async () => {
    const word = full.text.slice(6, 8);
    const made = await run({ stop: ["never made", word] });
    assert.equal(made.meta_info.finish_reason!.matched, word);
    assert.equal(made.text, full.text.slice(0, full.text.indexOf(word)));
    const kept = await run({ stop: word, no_stop_trim: true });
    assert.equal(kept.text, made.text + word);
  });
  await t.step("a bias of 100 on the end token ends at once", async () => {
    const made = await run({ logit_bias: { "1023": 100 } });
    assert.deepEqual(made.meta_info.finish_reason, { type: "stop", matched: 1023 });
    const later = await run({ logit_bias: { "1023": 100 }, min_new_tokens: 4 });
    assert.equal(later.output_ids.length, 5);
  });
});

Deno.test("a text prompt is tokenised, and tokenize and detokenize agree with it", async () => {
  await using server = await startTiny();
  const text = "What is the capital of France? é 😀";
  const { body } = await post<{ tokens: number[]; count: number }>(server, "/tokenize", {
    prompt: text,
  });
  const back = await post<{ text: string }>(server, "/detokenize", { tokens: body.tokens });
  assert.equal(back.body.text, text);
  const sampling_params = { max_new_tokens: 4, temperature: 0 };
  const fromText = await post(server, "/generate", { text, sampling_params });
  const fromIds = await post(server, "/generate", { input_ids: body.tokens, sampling_params });
  assert.deepEqual(fromText.body.output_ids, fromIds.body.output_ids);
  assert.equal(fromText.body.meta_info.prompt_tokens, body.count);
});

Deno.test("a Llama checkpoint runs and tells its weights by name", async () => {
  await using server = await startTiny({
    model: await tinyCheckpoint({ arch: "llama", tied: true, dtype: "float32" }),
  });
  assert.equal((await greedy(server)).length, 12);
  const { status, body } = await post<number[][]>(server, "/get_weights_by_name", {
    name: "model.layers.0.self_attn.k_proj.weight",
    truncate_size: 2,
  });
  assert.equal(status, 200);
  assert.deepEqual(body.map((row) => row.length), [64, 64]);
});

Deno.test("a prompt longer than one step is scored as a whole", async () => {
  await using server = await startTiny();
  const input_ids = Array.from({ length: 1500 }, (_, i) => (i * 17) % 1000);
  const score = async (start: number) =>
    (await post(server, "/generate", {
      input_ids,
      return_logprob: true,
      logprob_start_len: start,
      sampling_params: { max_new_tokens: 0 },
    })).body.meta_info.input_token_logprobs;
  const whole = await score(0);
  assert.equal(whole.length, 1500);
  assert.ok(whole.slice(1).every(([value]) => value !== null && value < 0));
  assert.deepEqual((await score(1400)).slice(1), whole.slice(1401));
});
