/** A user's first program: serve a tiny checkpoint, generate, push other weights, generate again. */
import { AsyncSGLang, safetensors, SGLangWeightSyncScheme } from "@sglang-rl/sglang-rl";
import { EmbeddedServer, makeTinyCheckpoint } from "@sglang-rl/sglang-rl/testing";

const folder = Deno.args[0]!;
await makeTinyCheckpoint(`${folder}/step-0`, { seed: 0 });
await makeTinyCheckpoint(`${folder}/step-1`, { seed: 1 });
await using server = await EmbeddedServer.start({ model: `${folder}/step-0` });
await using engine = await AsyncSGLang.connect(server.url);
const options = { maxNewTokens: 8, temperature: 0 };

const before = await engine.generate("Hello", options);
const scheme = new SGLangWeightSyncScheme({ engine });
await using sender = scheme.createSender();
await sender.initAllWorkersGroup();
await sender.updateWeights(safetensors(`${folder}/step-1`), {
  version: "step-1",
});
const after = await engine.generate("Hello", options);
// deno-lint-ignore no-console
console.log(
  JSON.stringify({
    before: [...before.ids],
    after: [...after.ids],
    version: after.weightVersion,
  }),
);
