/** The command line with the real SGLang. */
import assert from "node:assert/strict";
import { makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { pythonOf } from "../../_support/real.ts";
import { jsonLines, run } from "../../unit/cli/_support.ts";

Deno.test("serve starts a real server that status, generate and sync work on, until Ctrl-C", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-cli-" });
  const interrupt = new AbortController();
  const ready = Promise.withResolvers<string>();
  try {
    await makeTinyCheckpoint(`${folder}/step-0`, { seed: 0 });
    await makeTinyCheckpoint(`${folder}/step-1`, { seed: 1 });
    const serving = run([
      "serve",
      `${folder}/step-0`,
      "--device=cpu",
      "--dtype=float32",
      "--arg=max-total-tokens=8192",
      `--python=${pythonOf()}`,
      "--json",
    ], { signal: interrupt.signal, onOut: ready.resolve });
    const early = serving.then(({ err }) => Promise.reject(new Error(`serve ended: ${err}`)));
    const { url } = JSON.parse(await Promise.race([ready.promise, early])) as { url: string };
    early.catch(() => {});
    await t.step("status", async () => {
      const { code, out } = await run(["status", "-s", url, "--json"]);
      assert.equal(code, 0);
      assert.equal(jsonLines(out)[0]!.weight_version, "default");
    });
    await t.step("sync", async () => {
      const { code, out, err } = await run(["sync", `${folder}/step-1`, "-s", url, "--json"]);
      assert.equal(code, 0, err);
      assert.equal(jsonLines(out)[0]!.version, "step-1");
    });
    await t.step("generate", async () => {
      const { code, out } = await run(["generate", "Hello", "-s", url, "-m", "4", "--json"]);
      assert.equal(code, 0);
      assert.equal(jsonLines(out)[0]!.weight_version, "step-1");
    });
    interrupt.abort();
    assert.equal((await serving).code, 130);
    await assert.rejects(fetch(url), TypeError);
  } finally {
    interrupt.abort();
    await Deno.remove(folder, { recursive: true });
  }
});
