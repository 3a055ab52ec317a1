/**
 * Many stand-ins in one process, each on a port of its own; prints their addresses as one line. They
 * answer a generation after some time, as a server that is busy with others does. For bench/scale.ts.
 *
 * Arguments: how many, milliseconds of an answer, the folder of their model.
 */
import {
  answer,
  healthyServer,
  modelInfo,
  vocabularyRefusal,
} from "../../tests/_support/http_stand_in.ts";
import { weightsStandIn } from "../../tests/_support/weights_stand_in.ts";

const [count = "1", ms = "100", model = ""] = Deno.args;
const ids = Array.from({ length: 32 }, (_, i) => i);
const meta = { output_token_logprobs: ids.map((id) => [-1.2345, id, null]) };
const urls = Array.from({ length: Number(count) }, () => {
  const server = weightsStandIn({
    "GET /health": healthyServer["GET /health"]!,
    "GET /model_info": () =>
      Response.json({ ...modelInfo, model_path: model, weight_version: server.weightVersion }),
    "POST /update_weights_from_disk": () => Response.json({ success: true, message: "ok" }),
    async "POST /generate"({ body }) {
      const sampling = body?.sampling_params as Record<string, unknown> | undefined;
      if (sampling?.logit_bias !== undefined) return vocabularyRefusal(100_000);
      // Not all at one moment: answers differ in length.
      const wait = Number(ms) * (0.5 + Math.random());
      await new Promise((resolve) => setTimeout(resolve, wait));
      return Response.json(answer(ids, { ...meta, weight_version: server.weightVersion }));
    },
  }, {
    model_path: model,
    max_running_requests: 4096,
    max_total_num_tokens: 10_000_000,
    max_req_input_len: 30_000,
  });
  // Only what was asked is kept by a stand-in, and here that would be all.
  setInterval(() => (server.requests as unknown[]).length = 0, 1000);
  return server.url;
});
await Deno.stdout.write(new TextEncoder().encode(`${urls.join(" ")}\n`));
