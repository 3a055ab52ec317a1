/**
 * A conversation over several turns whose rows can be trained on: every turn's prompt begins with the
 * very ids that were sampled before, and the last row covers all turns.
 *
 *     deno run --allow-net=127.0.0.1 examples/multi_turn.ts http://127.0.0.1:30000
 */
import { SGLangWrapper } from "@sglang-rl/sglang-rl";
import { masked } from "@sglang-rl/sglang-rl/rows";

const [url = "http://127.0.0.1:30000"] = Deno.args;
await using policy = new SGLangWrapper(url, {
  generateKwargs: { maxNewTokens: 32 },
  chatTemplateName: "chatml_format",
});

let output = await policy.call({ history: [{ role: "user", content: "Name a colour." }] });
for (const question of ["Another one?", "And a third?"]) {
  const input = await policy.nextTurn(output, [{ role: "user", content: question }]);
  output = await policy.call(input);
}

const ids = output.tokens.only("full");
const mask = output.masks.only("allAssistantMask");
for (const { role, content } of output.history.get("full").messages) {
  say(`${role}: ${content}`);
}
say(`${ids.length} tokens, ${masked(ids, mask).length} of them sampled`);
const sum = masked(output.logProbs.only("full"), mask).reduce((total, value) => total + value, 0);
say(`log-probability of all answers: ${sum.toFixed(3)}`);
say(`weight version: ${output.weightVersion[0]}`);

function say(line: string): void {
  // deno-lint-ignore no-console
  console.log(line);
}
