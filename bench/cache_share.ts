/**
 * How much of the prompts comes from the prefix cache of two servers: by this library without a
 * router, by the real router, and with each dialog sent to one server by hand. Dialogs of some turns
 * through the wrapper, and groups of equal prompts as separate requests. No times: counts.
 *
 * Run as `deno run -A bench/cache_share.ts [--servers real|embedded] [--dialogs 8] [--turns 6]
 * [--rounds 2]`; the router is the real one in both cases.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { EmbeddedServer } from "../src/embedded/mod.ts";
import { AsyncSGLang } from "../src/engine/mod.ts";
import { SGLangWrapper } from "../src/policy/mod.ts";
import { modelPath, startRealRouter, startRealServer } from "../tests/_support/real.ts";

const { values } = parseArgs({
  options: {
    servers: { type: "string", default: "real" },
    dialogs: { type: "string", default: "8" },
    turns: { type: "string", default: "6" },
    rounds: { type: "string", default: "2" },
  },
});
await using stack = new AsyncDisposableStack();
const servers: { readonly url: string }[] = [];
for (let i = 0; i < 2; i++) {
  servers.push(
    stack.use(
      values.servers === "real"
        ? await startRealServer()
        : await EmbeddedServer.start({ model: modelPath("tiny") }),
    ),
  );
}
const urls = servers.map(({ url }) => url);
const router = stack.use(await startRealRouter({ workers: urls, policy: "cache_aware" }));
const engines = {
  "no router": [stack.use(await AsyncSGLang.connect(urls))],
  "real router": [stack.use(await AsyncSGLang.connect(router.url))],
  "by hand": await Promise.all(urls.map(async (url) => stack.use(await AsyncSGLang.connect(url)))),
};
const word = (seed: number) =>
  Array.from({ length: 40 }, (_, k) => {
    return "abcdefghijklmnopqrstuvwxyz"[(seed * 7 + k * 3 + seed * k) % 26];
  }).join("");

/** Prompt tokens, those of them from a cache, and how many requests each server had. */
class Count {
  prompt = 0;
  cached = 0;

  add(sample: { readonly promptTokens: number | null; readonly cachedTokens: number | null }) {
    this.prompt += sample.promptTokens ?? 0;
    this.cached += sample.cachedTokens ?? 0;
  }

  toString(): string {
    return `${(100 * this.cached / this.prompt).toFixed(1)} % of ${this.prompt} prompt tokens`;
  }
}

const flush = () =>
  Promise.all(engines["by hand"].map((engine) => engine.flushCache({ timeoutMs: 30_000 })));

async function dialogs(some: readonly AsyncSGLang[], round: number): Promise<Count> {
  const count = new Count();
  await Promise.all(Array.from({ length: Number(values.dialogs) }, async (_, dialog) => {
    const wrapper = new SGLangWrapper(some[dialog % some.length]!, {
      tokenizer: modelPath("tiny"),
      chatTemplateName: "qwen",
      generateKwargs: { maxNewTokens: 8 + dialog % 5 * 4, temperature: 1, ignoreEos: true },
    });
    const messageOf = (turn: number) => {
      const content = `${word(dialog + 1000 * round)} ${word(dialog + 100 * turn)} ${turn}`;
      return [{ role: "user" as const, content }];
    };
    let last = await wrapper.call({ history: messageOf(0) });
    for (let turn = 0;;) {
      count.add(last.samples[0]!.generation!);
      if (++turn === Number(values.turns)) return;
      last = await wrapper.call(await wrapper.nextTurn(last, messageOf(turn)));
    }
  }));
  return count;
}

async function groups(some: readonly AsyncSGLang[], round: number): Promise<Count> {
  const count = new Count();
  const prompts = Array.from({ length: 16 }, (_, i) => {
    return Array.from({ length: 6 }, (_, k) => word(i * 31 + k * 17 + 3 + 1000 * round)).join(" ");
  });
  await Promise.all(some.map(async (engine, index) => {
    const own = prompts.filter((_, i) => i % some.length === index);
    const equal = own.flatMap((prompt) => Array.from({ length: 8 }, () => prompt));
    const samples = await engine.generate(equal, { maxNewTokens: 8, returnLogProbs: true });
    for (const sample of samples) count.add(sample);
  }));
  return count;
}

for (const [what, run] of Object.entries({ dialogs, groups })) {
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [name, some] of Object.entries(engines)) {
      await flush();
      console.log(`${what}, round ${round + 1}, ${name.padEnd(12)} ${await run(some, round)}`);
    }
  }
}
