/**
 * A server that holds an FP8 checkpoint with a scale for each block: whatever is sent, it generates as
 * after loading the same FP8 checkpoint from disk. scripts/gpu/run_multi.sh starts it (part `fp8blocks`).
 */
import { deepEqual, notDeepEqual, ok } from "node:assert/strict";
import { SGLangWeightSyncScheme } from "../../src/weights/mod.ts";
import { float8Blocks, safetensors, type WeightSource } from "../../src/weights/source/mod.ts";
import { libraries, openGroup, record, stderrLogger } from "./support/gpu.ts";
import { onDevice } from "./support/sources.ts";
import { Server } from "./support/server.ts";

const models = Deno.env.get("GPU_MODELS") ?? "/tmp/sglang-rl-gpu/models";

interface Answer {
  readonly tokens: readonly number[];
  readonly logProbs: readonly number[];
}

async function generate(server: Server): Promise<Answer> {
  const { body } = await server.must("/generate", {
    input_ids: [5, 100, 200, 300, 400, 17, 33],
    sampling_params: { temperature: 0, max_new_tokens: 16, ignore_eos: true },
    return_logprob: true,
  });
  const info = body.meta_info as { output_token_logprobs: [number, number][] };
  return {
    tokens: body.output_ids as number[],
    logProbs: info.output_token_logprobs.map(([logProb]) => logProb),
  };
}

Deno.test({
  name: "quantised: FP8 in blocks, from an FP8 checkpoint and from bfloat16 by our cast",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const server = new Server(Deno.env.get("GPU_FP8_BLOCKS")!);
    await server.ready(240_000);
    const load = (version: string) =>
      server.must("/update_weights_from_disk", {
        model_path: `${models}/q05b-fp8-${version}`,
        load_format: "auto",
      });
    await load("b");
    const wanted = await generate(server);
    await using trainer = await openGroup();
    const sources: Record<string, WeightSource> = {
      checkpoint: safetensors(`${models}/q05b-fp8-b`),
      "cast of files": float8Blocks(safetensors(`${models}/q05b-b`)),
      "cast of device memory": float8Blocks(await onDevice(`${models}/q05b-b`, trainer.group)),
    };
    await using sender = new SGLangWeightSyncScheme({
      workers: [server.url],
      transport: "nccl",
      masterAddress: "127.0.0.1",
      nccl: libraries,
      logger: stderrLogger,
    }).createSender();
    await sender.initAllWorkersGroup();
    const found: Record<string, unknown> = {};
    for (const [name, source] of Object.entries(sources)) {
      const syncMs: number[] = [];
      let farthest = 0;
      for (let i = 0; i < 3; i++) {
        await load("a");
        notDeepEqual((await generate(server)).tokens, wanted.tokens);
        syncMs.push(Math.round((await sender.updateWeights(source)).durationMs));
        const { tokens, logProbs } = await generate(server);
        deepEqual(tokens, wanted.tokens, name);
        const apart = logProbs.map((one, at) => Math.abs(one - wanted.logProbs[at]!));
        farthest = Math.max(farthest, ...apart);
      }
      ok(farthest < 1e-3, `${name}: log-probabilities ${farthest} apart`);
      found[name] = { syncMs, farthest };
    }
    record("multi.fp8blocks", found);
  },
});
