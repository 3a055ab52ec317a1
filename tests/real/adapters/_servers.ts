/** Real servers that take adapters or have experts, on a CPU. */
import { join } from "node:path";
import type { SGLangServer } from "../../../src/server/mod.ts";
import { testLora } from "../../_support/adapters.ts";
import { cpuEnv, pythonOf, type SGLangVersion, startRealServer } from "../../_support/real.ts";

const shim = join(import.meta.dirname!, "../../../scripts/sglang_cpu/shim_lora");

/** What SGLang's code for both needs where there is no CUDA driver: it pins memory all the same. */
export function withoutPin(version: SGLangVersion) {
  return {
    version,
    env: { PYTHONPATH: `${shim}:${cpuEnv.PYTHONPATH}`, SGLANG_RL_NO_PIN: "1" },
    // A fork of a process that has begun already does not read the shim.
    python: pythonOf(version),
  };
}

/** A server as the embedded one of `testLora` is. */
export function startLoraServer(version: SGLangVersion): Promise<SGLangServer> {
  return startRealServer({
    ...withoutPin(version),
    enableLora: true,
    maxLoraRank: testLora.maxRank,
    loraTargetModules: testLora.targetModules,
    args: { loraBackend: "torch_native" },
  });
}
