/** Owns a real server with no more permission than documented: the arguments say what to run. */
// deno-lint-ignore-file no-console
import { makeSGLangServer } from "../../../src/server/mod.ts";

const [python, model, shim] = Deno.args as [string, string, string];

const server = await makeSGLangServer({
  model,
  python,
  device: "cpu",
  memFractionStatic: 0.1,
  maxTotalTokens: 8192,
  env: { PYTHONPATH: shim, HF_HUB_OFFLINE: "1", OMP_NUM_THREADS: "1" },
  onProgress: ({ elapsedMs }) => console.log(`loading ${Math.round(elapsedMs)}`),
});
console.log(`ready ${server.url}`);
await server.wait();
