import assert from "node:assert/strict";
import { assignGpus } from "../../../src/server/mod.ts";

Deno.test("each replica gets neighbouring GPUs, none twice", () => {
  assert.deepEqual(assignGpus({ replicas: 2, tpSize: 2 }), [[0, 1], [2, 3]]);
  assert.deepEqual(assignGpus({ replicas: 2, tpSize: 1, ppSize: 2, dpSize: 2 }), [
    [0, 1, 2, 3],
    [4, 5, 6, 7],
  ]);
});

Deno.test("data-parallel attention shares the tensor-parallel GPUs", () => {
  const gpus = assignGpus({ replicas: 1, tpSize: 2, dpSize: 2, enableDpAttention: true });
  assert.deepEqual(gpus, [[0, 1]]);
});

Deno.test("given GPUs are handed out in their order, from the first to use on", () => {
  const gpus = ["GPU-a", "GPU-b", "GPU-c"];
  assert.deepEqual(assignGpus({ replicas: 2, gpus, firstGpu: 1 }), [["GPU-b"], ["GPU-c"]]);
});

Deno.test("too few GPUs, and one that is named twice, are refused", () => {
  assert.throws(() => assignGpus({ replicas: 2, tpSize: 2, gpus: [0, 1, 2] }), {
    message: "2 servers with 2 GPUs each, from GPU 0 on, need 4 GPUs; `gpus` has 3",
  });
  assert.throws(() => assignGpus({ replicas: 1, gpus: [0, 0] }), /names a GPU twice: 0, 0/);
  assert.throws(() => assignGpus({ replicas: 0 }), /`replicas` must be a whole number from 1/);
});
