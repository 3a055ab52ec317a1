/** A loop in TypeScript alone trains a real server of Qwen2.5-0.5B's shapes, over NCCL. */
import { equal, match } from "node:assert/strict";
import { record } from "./support/gpu.ts";
import { Server } from "./support/server.ts";

const server = new Server(Deno.env.get("GPU_SERVER") ?? "http://127.0.0.1:34100");
const folder = Deno.env.get("GPU_MODELS") ?? "/tmp/sglang-rl-gpu/models";
const example = new URL("../../examples/evolution_strategies.ts", import.meta.url).pathname;

Deno.test({
  name: "evolution strategies push candidates by nccl and roll each out, for a few generations",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    await server.ready(200_000);
    await server.must("/update_weights_from_disk", { model_path: `${folder}/q05b-a` });
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-check",
        "--cached-only",
        example,
        "--gpu",
        `--server=${server.url}`,
        `--model=${folder}/q05b-a`,
        "--generations=3",
        "--pairs=4",
        "--noise=0.05",
      ],
      env: {
        SGLANG_RL_NCCL: Deno.env.get("GPU_NCCL") ?? "",
        SGLANG_RL_CUDART: Deno.env.get("GPU_CUDART") ?? "",
        SGLANG_RL_CUDA: Deno.env.get("GPU_CUDA") ?? "",
      },
    }).output();
    const said = new TextDecoder().decode(stdout);
    equal(code, 0, said + new TextDecoder().decode(stderr));
    const phases = /each of 24 candidates: (.*) \(nccl\)/.exec(said)?.[1] ?? "";
    match(phases, /sync [\d.]+ ms, rollout [\d.]+ ms/);
    const ofSync = /of its sync: (.*)/.exec(said)?.[1];
    record("learning", { phases, ofSync, reward: /mean reward.*/.exec(said)?.[0] });
  },
});
