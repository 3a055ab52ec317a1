import assert from "node:assert/strict";
import { PolicyVersion } from "../../../src/collector/mod.ts";
import { ValidationError } from "../../../src/errors.ts";
import { stalenessLimit } from "../../../src/gateway/mod.ts";
import { setup } from "./_support.ts";

Deno.test("agents begin only while their answers can be trained on in time, and go on once begun", async () => {
  const versions = new PolicyVersion("int");
  const holdBack = stalenessLimit({ versions, maxStaleness: 1, turnsPerStep: 2, retryAfterS: 7 });
  await using it = await setup({ holdBack });
  const ask = async (session = it.gateway.open()) => {
    const response = await fetch(`${session.baseUrl}/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${session.key}` },
      body: JSON.stringify({ model: "any", messages: [{ role: "user", content: "a" }] }),
    });
    await response.body?.cancel();
    return { status: response.status, after: response.headers.get("retry-after"), session };
  };
  const first = await ask();
  // Two steps' worth of two answers each, before any sync.
  for (let i = 0; i < 3; i++) assert.equal((await ask()).status, 200);
  const held = await ask();
  assert.deepEqual([held.status, held.after], [429, "7"]);
  assert.equal((await ask(first.session)).status, 200);
  versions.increment();
  // Five were answered, one more has room.
  assert.equal((await ask(held.session)).status, 200);
  assert.equal((await ask()).status, 429);
  versions.increment();
  assert.equal((await ask()).status, 200);
});

Deno.test("numbers that make no limit are refused", () => {
  const versions = new PolicyVersion("int");
  for (const wrong of [{ maxStaleness: -1 }, { turnsPerStep: 0 }, { retryAfterS: NaN }]) {
    assert.throws(
      () => stalenessLimit({ versions, maxStaleness: 1, turnsPerStep: 2, ...wrong }),
      ValidationError,
    );
  }
});
