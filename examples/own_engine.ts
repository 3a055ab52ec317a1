/**
 * An engine of your own. This one answers by itself; yours asks what you have. Policies and
 * collectors take it as they take `AsyncSGLang`.
 *
 *     deno run examples/own_engine.ts
 */
// deno-lint-ignore-file no-console
import { type GenerateOptions, RLSGLangEngine, SGLangWrapper } from "@sglang-rl/sglang-rl";
import { makeGeneration, type PromptList } from "@sglang-rl/sglang-rl/engine";

/** Says "yes"; its tokens are letters. */
class YesEngine extends RLSGLangEngine {
  readonly url = "http://yes.invalid";
  readonly workers = [];

  override async generateAll({ list }: PromptList, { n = 1 }: GenerateOptions) {
    const answers = await Promise.all(list.map(async (prompt) => {
      const promptIds = typeof prompt === "string" ? await this.tokenize(prompt) : prompt;
      return makeGeneration({
        text: "yes",
        ids: await this.tokenize("yes"),
        logProbs: Float32Array.of(-0.1, -0.2, -0.3),
        promptIds: Int32Array.from(promptIds),
      });
    }));
    return answers.flatMap((answer) => Array.from({ length: n }, () => answer));
  }

  override tokenize(text: string): Promise<Int32Array> {
    return Promise.resolve(Int32Array.from(text, (letter) => letter.codePointAt(0)!));
  }

  override detokenize(ids: ArrayLike<number>): Promise<string> {
    return Promise.resolve(String.fromCodePoint(...Array.from(ids)));
  }
}

await using engine = new YesEngine();
const policy = new SGLangWrapper(engine, { inputMode: "text" });
const rollout = await policy.call({ text: { prompt: ["Is the sky blue?", "Is 2 + 2 four?"] } });
console.log(`said: ${rollout.text.get("response").join(", ")}`);
console.log(`tokens: ${rollout.tokens.get("response").map((ids) => ids.length).join(", ")}`);
console.log(`log-probabilities: ${rollout.logProbs.get("response").map((lp) => lp.length)}`);
