/** The official clients run a loop of parallel tools, whole and over streams. */
import assert from "node:assert/strict";
import {
  agents,
  checkLoop,
  plainSampling,
  scriptedReader,
} from "../../../_support/gateway_agents.ts";
import { setup } from "../_support.ts";

for (const [name, agent] of Object.entries(agents)) {
  for (const isStream of [false, true]) {
    Deno.test(`${name}: a loop of parallel tools${isStream ? " over streams" : ""}`, async () => {
      await using it = await setup({
        policy: { generateKwargs: plainSampling, readAnswer: scriptedReader() },
      });
      const session = it.gateway.open();
      assert.equal(await agent(session, isStream), 3);
      checkLoop(await session.end());
    });
  }
}
