/** The official clients against the gateway before both real servers. */
import assert from "node:assert/strict";
import OpenAI from "openai";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { RecordingGateway } from "../../../src/gateway/mod.ts";
import { type LLMWrapperOptions, SGLangWrapper } from "../../../src/policy/mod.ts";
import { agents, checkLoop, plainSampling, scriptedReader } from "../../_support/gateway_agents.ts";
import { checkLeaving, checkLogProbs, clients } from "../../_support/gateway_clients.ts";
import { sharedNewest, sharedServers } from "../../_support/real.ts";

interface Setup extends AsyncDisposable {
  readonly gateway: RecordingGateway;
}

async function setup(version: string, policy: LLMWrapperOptions): Promise<Setup> {
  const url = version === "0.5.16" ? sharedServers()[0]! : sharedNewest();
  const stack = new AsyncDisposableStack();
  const engine = stack.use(await AsyncSGLang.connect(url));
  const gateway = stack.use(await RecordingGateway.listen(new SGLangWrapper(engine, policy)));
  return { gateway, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

for (const version of ["0.5.16", "0.5.23"]) {
  for (const [name, agent] of Object.entries(agents)) {
    for (const isStream of [false, true]) {
      const title = `${version}, ${name}: a loop of parallel tools${
        isStream ? " over streams" : ""
      }`;
      Deno.test(title, async () => {
        await using it = await setup(version, {
          generateKwargs: plainSampling,
          readAnswer: scriptedReader(),
        });
        const session = it.gateway.open();
        assert.equal(await agent(session, isStream), 3);
        checkLoop(await session.end());
      });
    }
  }

  for (const [name, client] of Object.entries(clients)) {
    Deno.test(`${version}, ${name}: it leaves in the middle, and is refused by its own errors`, async () => {
      await using it = await setup(version, {
        generateKwargs: { ...plainSampling, maxNewTokens: 1500, ignoreEos: true },
      });
      await checkLeaving(client, it.gateway.open());
    });
    Deno.test({
      name: `${version}, ${name}: it shows the log-probabilities that the row has`,
      ignore: client.logProbs === null,
      async fn() {
        await using it = await setup(version, {});
        await checkLogProbs(client, it.gateway.open());
      },
    });
  }

  Deno.test(`${version}: answers tell log-probabilities and ids as the rows have them`, async () => {
    await using it = await setup(version, { generateKwargs: { maxNewTokens: 6 } });
    const session = it.gateway.open();
    const client = new OpenAI({ baseURL: session.baseUrl, apiKey: session.key, maxRetries: 0 });
    const { choices } = await client.chat.completions.create({
      model: "policy",
      messages: [{ role: "user", content: "Talk" }],
      logprobs: true,
      top_logprobs: 2,
      n: 2,
      ...{ return_token_ids: true },
    });
    const { rows } = await session.end();
    assert.equal(rows.length, 2);
    for (const choice of choices) {
      const { response_token_ids: ids } = choice as unknown as { response_token_ids: number[] };
      const row = rows.find(({ responseIds }) => String([...responseIds]) === String(ids))!;
      const tokens = choice.logprobs!.content!;
      assert.deepEqual(tokens.map(({ logprob }) => Math.fround(logprob)), [...row.logProbs!]);
      assert.ok(tokens.every(({ top_logprobs: top }) => top.length === 2));
    }
  });
}
