/**
 * How the cost of a history grows with its length: 100, 200 and 400 turns of the models' own templates
 * and tokenizers, as processor time. A ratio of 2 for twice as many turns is linear. Needs
 * `deno task setup:tokenizers`.
 *
 * Run as `deno run -A bench/history.ts [--rounds 15] [MODEL...]`. Other work
 * on the machine adds little: what is timed does not wait.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { encodeWithMask, maskOf } from "../src/policy/assistant_mask.ts";
import { LocalTokenizer, type Tokenizer } from "../src/policy/mod.ts";
import { renderChat } from "../src/policy/templates/render.ts";
import { renderWithSpans } from "../src/policy/templates/spans.ts";
import { type RealModel, tokenizerFolder } from "../tests/_support/real.ts";
import { median } from "../tests/_support/median.ts";
import { usedMs } from "../tests/_support/processor_time.ts";

const TURNS = [100, 200, 400];

const { values, positionals } = parseArgs({
  args: Deno.args,
  allowPositionals: true,
  options: { rounds: { type: "string", default: "15" } },
});
const models = positionals.length > 0 ? positionals : ["qwen3", "llama3.1", "deepseek-v3"];

function history(turns: number, salt: number) {
  return Array.from({ length: turns }, (_, turn) => [
    { role: "user", content: `Question ${turn}: what is ${salt} plus ${turn}? ünï 😀` },
    {
      role: "assistant",
      content: `It is ${salt + turn}. ${`And ${salt} more. `.repeat(turn % 9)}`,
    },
  ]).flat();
}

/** The milliseconds that each step takes for one history that nobody has seen before. */
async function timesOf(
  tokenizer: LocalTokenizer,
  { turns, salt }: { turns: number; salt: number },
): Promise<Map<string, number>> {
  const messages = history(turns, salt);
  const options = {
    template: tokenizer.chatTemplate!,
    specialTokens: tokenizer.specialTokens,
    addGenerationPrompt: false,
    variables: { tools: null },
  };
  const times = new Map<string, number>();
  const timed = async <T>(name: string, run: () => T | Promise<T>): Promise<T> => {
    const startedMs = usedMs();
    const result = await run();
    times.set(name, usedMs() - startedMs);
    return result;
  };
  await timed("render", () => renderChat(messages, options));
  const { text, spans } = await timed(
    "render with stretches",
    () => renderWithSpans(messages, options),
  );
  const { ids } = await timed(
    "ids with their mask",
    () => encodeWithMask(text, spans, { tokenizer }),
  );
  await timed("a mask for given ids", () => maskOf(ids, text, { tokenizer, spans }));
  // A tokenizer of a user's own may tell no borders of tokens.
  const plain = withoutBorders(tokenizer);
  await timed("the same, no borders", () => maskOf(ids, text, { tokenizer: plain, spans }));
  return times;
}

function withoutBorders(tokenizer: LocalTokenizer): Tokenizer {
  const { name, chatTemplate, specialTokens } = tokenizer;
  return {
    name,
    chatTemplate,
    specialTokens,
    idOf: (token) => tokenizer.idOf(token),
    encode: (text, options) => tokenizer.encode(text, options),
    decode: (ids, options) => tokenizer.decode(ids, options),
  };
}

for (const model of models) {
  const tokenizer = await LocalTokenizer.fromFolder(tokenizerFolder(model as RealModel));
  const rounds: Map<string, number>[][] = [];
  for (let round = 0; round <= Number(values.rounds); round++) {
    const bySize: Map<string, number>[] = [];
    for (const turns of TURNS) {
      bySize.push(await timesOf(tokenizer, { turns, salt: 1000 * round + turns }));
    }
    // The first round warms up.
    if (round > 0) rounds.push(bySize);
  }
  console.log(
    `${model.padEnd(24)} ${TURNS.map((turns) => `${turns} turns`.padStart(12)).join("")}`,
  );
  for (const name of rounds[0]![0]!.keys()) {
    const shown = TURNS.map((_, size) => median(rounds.map((bySize) => bySize[size]!.get(name)!)));
    const ratios = shown.slice(1).map((ms, size) => `${(ms / shown[size]!).toFixed(2)}x`);
    console.log(
      `  ${name.padEnd(22)} ${shown.map((ms) => `${ms.toFixed(1)} ms`.padStart(12)).join("")}   ` +
        ratios.join(", "),
    );
  }
}
