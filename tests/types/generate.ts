/** What `generate` gives depends on what it is asked for. */
import type { AsyncSGLang, Generation } from "../../mod.ts";
import type { GenerationWithLogProbs } from "../../src/client/mod.ts";

export async function generates(engine: AsyncSGLang): Promise<void> {
  const one: Generation = await engine.generate("a", { maxNewTokens: 4 });
  const byField: Generation = await engine.generate({ text: "a" });
  const byIds: Generation = await engine.generate({ inputIds: Int32Array.of(1, 2) });
  const byList: Generation = await engine.generate({ inputIds: [1, 2] });
  const many: Generation[] = await engine.generate(["a", "b"]);
  const manyByField: Generation[] = await engine.generate({ text: ["a"] });
  const manyByIds: Generation[] = await engine.generate({ inputIds: [[1], Int32Array.of(2)] });
  const samples: Generation[] = await engine.generate("a", { n: 4 });
  const idsSamples: Generation[] = await engine.generate({ inputIds: [1] }, { n: 4 });

  const scored: GenerationWithLogProbs = await engine.generate("a", { returnLogProbs: true });
  const logProbs: Float32Array = scored.logProbs;
  const [first] = await engine.generate(["a"], { returnLogProbs: true });
  const ofMany: Float32Array | undefined = first?.logProbs;
  const [group] = await engine.generate("a", { n: 2, returnLogProbs: true });
  const ofGroup: Float32Array | undefined = group?.logProbs;

  // @ts-expect-error They were not asked for, so that there may be none.
  const missing: Float32Array = one.logProbs;
  // @ts-expect-error Several prompts give a list.
  const notOne: Generation = await engine.generate(["a"]);
  // @ts-expect-error One prompt gives one sample.
  const notMany: Generation[] = await engine.generate("a");
  // @ts-expect-error Text and ids at once.
  await engine.generate({ text: "a", inputIds: [1] });
  // @ts-expect-error There is no such option.
  await engine.generate("a", { maxToken: 4 });
  // @ts-expect-error There is no such field.
  await engine.generate({ ids: [1] });

  void [byField, byIds, byList, many, manyByField, manyByIds, samples, idsSamples];
  void [logProbs, ofMany, ofGroup, missing, notOne, notMany];
}
