/** Our process dies in the middle of an update; the server answers again and is repaired. */
import { equal, ok } from "node:assert/strict";
import { openGroup, record, timed, within } from "./support/gpu.ts";
import { readHeader, readInto, Server, updateBody } from "./support/server.ts";

const server = new Server(Deno.env.get("GPU_SERVER") ?? "http://127.0.0.1:34100");
const folder = Deno.env.get("GPU_MODELS") ?? "/tmp/sglang-rl-gpu/models";

Deno.test({
  name: "a server whose rank 0 is killed in flight answers within 5 s and takes the next update",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    await server.ready(200_000);
    await server.must("/update_weights_from_disk", { model_path: `${folder}/q05b-a` });
    const sum = await server.checksum();
    const script = new URL("./support/dying_rank0.ts", import.meta.url).pathname;
    const { signal } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-check",
        "--cached-only",
        script,
        server.url,
        `${folder}/q05b-b/model.safetensors`,
      ],
      stdout: "inherit",
      stderr: "inherit",
    }).output();
    equal(signal, "SIGKILL");
    const prompt = {
      input_ids: [5, 6, 7],
      sampling_params: { temperature: 0, max_new_tokens: 4 },
    };
    const answersMs = await timed(async () => {
      const answer = await server.post("/generate", prompt, 30_000);
      equal(answer.status, 200);
    });
    const destroy = await server.post("/destroy_weights_update_group", { group_name: "dying" });
    const partial = await server.checksum() !== sum;
    await using opened = await openGroup();
    const { group, store } = opened;
    await server.must("/init_weights_update_group", {
      master_address: "127.0.0.1",
      master_port: store.port,
      rank_offset: 1,
      world_size: 2,
      group_name: group.groupName,
      backend: "nccl",
    });
    const file = `${folder}/q05b-a/model.safetensors`;
    const { tensors, dataOffset, byteLength } = await readHeader(file);
    const bytes = group.stagingBuffer(byteLength);
    await readInto(file, dataOffset, bytes);
    const body = updateBody(tensors, group.groupName, { load_format: "flattened_bucket" });
    const repairMs = await timed(() =>
      Promise.all([
        server.must("/update_weights_from_distributed", body),
        group.broadcast([{ bytes, dtype: "uint8" }], within()),
      ])
    );
    equal(await server.checksum(), sum);
    record("death", { answersMs, destroy: destroy.status, partial, repairMs });
    await Promise.all([
      server.must("/destroy_weights_update_group", { group_name: group.groupName }),
      group.close(),
    ]);
    ok(answersMs < 5000, `answered after ${answersMs} ms`);
  },
});
