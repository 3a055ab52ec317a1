/** Each official client leaves in the middle, is refused, and shows log-probabilities. */
import { plainSampling } from "../../../_support/gateway_agents.ts";
import { checkLeaving, checkLogProbs, clients } from "../../../_support/gateway_clients.ts";
import { setup } from "../_support.ts";

for (const [name, client] of Object.entries(clients)) {
  Deno.test(`${name}: it leaves in the middle, and is refused by its own errors`, async () => {
    await using it = await setup({
      policy: { generateKwargs: { ...plainSampling, maxNewTokens: 1500, ignoreEos: true } },
    });
    await checkLeaving(client, it.gateway.open());
  });

  if (client.logProbs === null) continue;
  Deno.test(`${name}: it shows the log-probabilities that the row has`, async () => {
    await using it = await setup();
    await checkLogProbs(client, it.gateway.open());
  });
}
