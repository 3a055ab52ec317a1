/**
 * SGLang as the rollout engine of a reinforcement-learning loop, from Deno.
 *
 * - {@linkcode AsyncSGLang} connects to SGLang servers, or starts and owns them, and generates with
 *   them at full concurrency; {@linkcode SGLangClient} is one server, {@linkcode makeSglangServer}
 *   and {@linkcode SGLangRouter} start the processes.
 * - {@linkcode SGLangWrapper} turns what the servers answer into rows to train on: token ids,
 *   log-probabilities, masks, and the policy version of every token.
 * - {@linkcode SGLangWeightSyncScheme} pushes new weights into the servers while they run.
 * - {@linkcode LLMCollector} collects trajectories from environments.
 *
 * Importing this module opens nothing and needs no permission; docs/permissions.md lists what each
 * part needs when it is used.
 *
 * @example
 * ```ts
 * import { AsyncSGLang, SGLangWrapper } from "@sglang-rl/sglang-rl";
 *
 * await using engine = await AsyncSGLang.connect("http://127.0.0.1:30000");
 * const policy = new SGLangWrapper(engine, { inputMode: "text" });
 * const rollout = await policy.call({ text: { prompt: ["2 + 2 ="] } });
 * // rollout.text, rollout.tokens, rollout.logProbs, rollout.masks
 * ```
 *
 * @module
 */
export * from "./src/errors.ts";
export * from "./src/client/mod.ts";
export type { DType, TensorInfo } from "./src/checkpoint/dtype.ts";
export * from "./src/server/mod.ts";
export * from "./src/router/mod.ts";
export * from "./src/engine/mod.ts";
export * from "./src/weights/mod.ts";
export * from "./src/policy/mod.ts";
export * from "./src/collector/mod.ts";
