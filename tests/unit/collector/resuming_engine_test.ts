import assert from "node:assert/strict";
import type { Generation } from "../../../src/client/types.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import {
  AsyncSGLang,
  type GenerateOptions,
  makeGeneration,
  type PromptFields,
  type PromptList,
  RLSGLangEngine,
} from "../../../src/engine/mod.ts";
import { TimeoutError } from "../../../src/errors.ts";
import { ResumingEngine } from "../../../src/collector/mod.ts";
import { FakeClock, until } from "../../_support/clock.ts";
import { tinyFolder } from "./_servers.ts";

/** Pauses as a weight sync does while `server` stands still, then names new weights and resumes. */
async function syncWhenStalled(
  server: EmbeddedServer,
  engine: AsyncSGLang,
  version: string,
): Promise<void> {
  await until(() => server.faults.stalled === true);
  await engine.pause("abort");
  for (const { client } of engine.workers) {
    await client.updateWeightVersion(version, { abortAllRequests: false });
  }
  await engine.resume();
  server.setFaults({ stalled: false });
}

Deno.test("a paused generation goes on where it was: the same tokens as without a pause", async () => {
  await using server = await EmbeddedServer.start({ model: await tinyFolder() });
  await using engine = await AsyncSGLang.connect(server.url);
  const resumptions: number[] = [];
  const resuming = new ResumingEngine(engine, {
    onResume: (partial) => resumptions.push(partial.ids.length),
  });
  const options = { temperature: 0, maxNewTokens: 32, ignoreEos: true, returnLogProbs: true };
  const prompts = ["Hello", "The answer is", "One, two,"];
  const whole = await engine.generate(prompts, options);
  server.setFaults({ stallAfterTokens: 20 });
  const [cut] = await Promise.all([
    resuming.generate(prompts, options),
    syncWhenStalled(server, engine, "second"),
  ]);
  assert.equal(resumptions.length, 3);
  for (const [i, sample] of cut.entries()) {
    assert.deepEqual([...sample.ids], [...whole[i]!.ids]);
    assert.equal(sample.text, whole[i]!.text);
    assert.deepEqual(sample.finishReason, { type: "length", length: 32 });
    assert.equal(sample.completionTokens, 32);
    sample.logProbs!.forEach((value, at) =>
      assert.ok(Math.abs(value - whole[i]!.logProbs![at]!) < 1e-4)
    );
    const seam = resumptions[i]!;
    assert.ok(seam > 0 && seam < 32);
    assert.deepEqual(sample.weightVersions?.map((span) => span.version), ["default", "second"]);
    assert.equal(sample.weightVersions?.at(-1)?.end, 32);
    assert.equal(sample.weightVersions?.[0]?.end, sample.weightVersions?.[1]?.start);
  }
});

Deno.test("a sample under a grammar is made anew: its grammar would begin again in the middle", async () => {
  await using server = await EmbeddedServer.start({ model: await tinyFolder() });
  await using engine = await AsyncSGLang.connect(server.url);
  const sent: PromptList["list"][] = [];
  const { generateAll } = engine;
  // The embedded server has no grammars, and refuses them.
  engine.generateAll = (prompts, { regex: _, ...options }) => {
    sent.push(prompts.list);
    return generateAll.call(engine, prompts, options);
  };
  const dropped: number[] = [];
  const resuming = new ResumingEngine(engine, {
    onResume: (partial) => dropped.push(partial.ids.length),
  });
  const options = { temperature: 0, maxNewTokens: 32, ignoreEos: true, returnLogProbs: true };
  const whole = await engine.generate("Hello", options);
  server.setFaults({ stallAfterTokens: 20 });
  const [cut] = await Promise.all([
    resuming.generate("Hello", { ...options, regex: "a*" }),
    syncWhenStalled(server, engine, "second"),
  ]);
  assert.deepEqual(dropped, [0]);
  assert.deepEqual([...sent.at(-1)![0] as Int32Array], [...cut.promptIds!]);
  assert.deepEqual([...cut.ids], [...whole.ids]);
  assert.equal(cut.text, whole.text);
  assert.equal(cut.logProbs!.length, 32);
  assert.deepEqual(cut.weightVersions, [{ version: "second", start: 0, end: 32 }]);
});

Deno.test("what the caller aborts itself stays aborted", async () => {
  await using server = await EmbeddedServer.start({ model: await tinyFolder() });
  await using engine = await AsyncSGLang.connect(server.url);
  const resuming = new ResumingEngine(engine);
  for (const which of ["rid", "all"] as const) {
    const rid = crypto.randomUUID();
    server.setFaults({ stallAfterTokens: 3 });
    const wait = resuming.generate("Hello", { maxNewTokens: 500, ignoreEos: true, rids: [rid] });
    await until(() => server.faults.stalled === true);
    await resuming.abort(which === "rid" ? [rid] : "all");
    server.setFaults({ stalled: false });
    const sample = await wait;
    assert.equal(sample.finishReason.type, "abort");
    assert.ok(sample.ids.length < 500);
  }
});

Deno.test("what was resumed can still be aborted by its id", async () => {
  await using server = await EmbeddedServer.start({ model: await tinyFolder() });
  await using engine = await AsyncSGLang.connect(server.url);
  let resumptions = 0;
  const resuming = new ResumingEngine(engine, { onResume: () => resumptions++ });
  const rid = crypto.randomUUID();
  server.setFaults({ stallAfterTokens: 3 });
  const wait = resuming.generate("Hello", { maxNewTokens: 900, ignoreEos: true, rids: [rid] });
  await syncWhenStalled(server, engine, "second");
  server.setFaults({ stallAfterTokens: 3 });
  await until(() => server.faults.stalled === true);
  await resuming.abort([rid]);
  server.setFaults({ stalled: false });
  const sample = await wait;
  assert.equal(sample.finishReason.type, "abort");
  assert.ok(resumptions === 1 && sample.ids.length > 3 && sample.ids.length < 900);
});

/** An engine whose answers are given, and which notes what it was asked. */
function scriptedEngine(answers: Partial<Generation>[]) {
  const asked: { prompts: PromptFields; options: GenerateOptions }[] = [];
  const engine: RLSGLangEngine = Object.assign(Object.create(RLSGLangEngine.prototype), {
    generateAll({ list: [prompt] }: PromptList, options: GenerateOptions) {
      const prompts = typeof prompt === "string" ? { text: prompt } : { inputIds: prompt };
      asked.push({ prompts, options });
      return Promise.resolve([sampleOf(answers[Math.min(asked.length, answers.length) - 1]!)]);
    },
    tokenize: () => Promise.resolve(Int32Array.of(1, 2)),
    // One letter a token.
    detokenize: (ids: Int32Array) => Promise.resolve(String.fromCharCode(...ids)),
  });
  return { engine, asked };
}

const aborted = { type: "abort", message: "Aborted", statusCode: null } as const;

function sampleOf(more: Partial<Generation>): Generation {
  const text = more.text ?? "";
  const ids = Int32Array.from(text, (letter) => letter.charCodeAt(0));
  return makeGeneration({ id: "a", latencyMs: 1, text, ids, ...more });
}

Deno.test("the rest is asked for with the ids so far and what is left of the limits", async () => {
  const { engine, asked } = scriptedEngine([
    { text: "ab", finishReason: aborted },
    { text: "", finishReason: aborted },
    { text: "c" },
  ]);
  const resuming = new ResumingEngine(engine);
  const sample = await resuming.generate("Hi", {
    max_tokens: 10,
    minNewTokens: 3,
    n: 1,
    lora: "l",
  });
  assert.equal(sample[0]?.text, "abc");
  assert.deepEqual([...sample[0]!.promptIds!], [1, 2]);
  assert.equal(asked.length, 3);
  for (const { prompts, options } of asked.slice(1)) {
    assert.deepEqual([...prompts.inputIds as Int32Array], [1, 2, 97, 98]);
    assert.equal(options.maxNewTokens, 8);
    assert.equal(options.minNewTokens, 1);
    assert.equal(options.lora, "l");
    assert.deepEqual(options.rids, ["a"]);
  }
});

Deno.test("an abort at the limit is the limit's end, and no further request", async () => {
  const { engine, asked } = scriptedEngine([{ text: "abcd", finishReason: aborted }]);
  const resuming = new ResumingEngine(engine);
  const sample = await resuming.generate("Hi", { maxNewTokens: 4 });
  assert.deepEqual(sample.finishReason, { type: "length", length: 4 });
  assert.equal(asked.length, 1);
});

Deno.test("a stop string across the seam ends the answer there", async () => {
  for (const [noStopTrim, text] of [[false, "one"], [true, "oneEND"]] as const) {
    const { engine } = scriptedEngine([
      { text: "oneEN", finishReason: aborted, logProbs: new Float32Array(5) },
      { text: "Dtwo", logProbs: new Float32Array(4) },
    ]);
    const resuming = new ResumingEngine(engine);
    const sample = await resuming.generate("Hi", { stop: ["END"], noStopTrim });
    assert.equal(sample.text, text);
    assert.equal(String.fromCharCode(...sample.ids), "oneEND");
    assert.equal(sample.logProbs?.length, 6);
    assert.deepEqual(sample.finishReason, { type: "stop", matched: "END" });
  }
});

Deno.test("a sample that is aborted again and again fails in the end and says so", async () => {
  const clock = new FakeClock();
  const { engine, asked } = scriptedEngine([{ text: "", finishReason: aborted }]);
  const resuming = new ResumingEngine(engine, { maxResumes: 3, clock });
  const outcome = assert.rejects(
    resuming.generate("Hi"),
    /aborted 4 times, the last time by "Aborted"; raise maxResumes/,
  );
  for (let i = 0; i < 5; i++) await clock.advance(5_000);
  await outcome;
  assert.equal(asked.length, 4);
});

Deno.test("the deadline is for the whole sample", async () => {
  const clock = new FakeClock();
  const { engine, asked } = scriptedEngine([{ text: "", finishReason: aborted }]);
  const resuming = new ResumingEngine(engine, { clock });
  const outcome = assert.rejects(resuming.generate("Hi", { timeoutMs: 100 }), TimeoutError);
  for (let i = 0; i < 10; i++) await clock.advance(50);
  await outcome;
  assert.ok((asked.at(-1)?.options.timeoutMs ?? 0) < 100);
});
