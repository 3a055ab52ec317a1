/** Random histories; `deno task test:histories` runs 10,000 sessions. */
import assert from "node:assert/strict";
import { runHistories } from "../../_support/gateway_histories.ts";

const templates = ["keeps it", "drops its thinking", "trims it"] as const;

for (const template of templates) {
  Deno.test(`all that was sampled is in one row, bit for bit: a template that ${template}`, async () => {
    const counted = await runHistories({ seed: 7, sessions: 24, template });
    assert.equal(counted.sessions, 24);
    assert.ok(counted.branches > counted.sessions && counted.turns > 60);
    if (template === "keeps it") assert.ok(counted.appended > 10, `${counted.appended} appended`);
  });
}
