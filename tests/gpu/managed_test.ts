/** A server that we start ourselves on the GPU: seeds, and what is left of it. */
import { deepEqual, notDeepEqual, ok } from "node:assert/strict";
import { AsyncSGLang } from "../../src/engine/mod.ts";
import { leftOf, treeOf } from "../_support/processes.ts";
import { record } from "./support/gpu.ts";
import { python } from "./support/peer.ts";

const folder = Deno.env.get("GPU_MODELS") ?? "/tmp/sglang-rl-gpu/models";
const site = Deno.env.get("GPU_SITE");

/** The server's packages, where they are not in the Python itself. */
const env = {
  HF_HUB_OFFLINE: "1",
  TRANSFORMERS_OFFLINE: "1",
  ...(site ? { PYTHONPATH: site, TVM_FFI_CACHE_DIR: `${site}/jit_cache` } : {}),
};

Deno.test({
  name: "a managed server gives the same sample for the same seed, and ends with us",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const start = performance.now();
    const engine = await AsyncSGLang.fromPretrained(`${folder}/q05b-a`, {
      device: "cuda",
      python,
      env,
      attentionBackend: "triton",
      grammarBackend: "none",
      memFractionStatic: 0.3,
      maxTotalTokens: 20_000,
      maxRunningRequests: 32,
      disableCudaGraph: true,
      enableDeterministicInference: true,
      readyTimeoutMs: 100_000,
    });
    const processes = (await treeOf(Deno.pid)).filter((pid) => pid !== Deno.pid);
    ok(processes.length > 1);
    try {
      const readyMs = Math.round(performance.now() - start);
      const prompts = Array.from({ length: 8 }, (_, i) => `prompt ${i}`);
      const sample = async (samplingSeed: number, some = prompts) => {
        const params = { temperature: 1, maxNewTokens: 24, ignoreEos: true, samplingSeed };
        return (await engine.generate(some, params)).map(({ ids }) => [...ids]);
      };
      const first = await sample(1);
      deepEqual(await sample(1), first);
      // Alone in its batch, a prompt gives what it gave among others.
      deepEqual(await sample(1, [prompts[3]!]), [first[3]]);
      notDeepEqual(await sample(2), first);
      record("managed", { readyMs, seeds: "the same seed gives the same tokens" });
    } finally {
      await engine.shutdown();
    }
    deepEqual(await leftOf(processes, { withinMs: 10_000 }), []);
  },
});
