import assert from "node:assert/strict";
import { join } from "node:path";
import { sglangHome } from "../../../scripts/sglang_cpu/home.ts";
import { tensorBoardSink } from "../../../src/sinks/mod.ts";
import { pythonOf } from "../../_support/real.ts";

/** TensorBoard's reader in a folder of its own; numpy is SGLang's. */
async function tensorBoard(): Promise<string> {
  const folder = join(sglangHome(), "tensorboard-2.21.0");
  const isThere = await Deno.stat(join(folder, "tensorboard/compat")).then(() => true, () => false);
  if (isThere) return folder;
  const lock = new URL("requirements-tensorboard.lock", import.meta.url).pathname;
  const { code, stderr } = await new Deno.Command(pythonOf(), {
    args: ["-m", "pip", "install", "-q", "--no-deps", "--target", folder, "-r", lock],
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return folder;
}

Deno.test("TensorBoard reads what a run wrote, and of a killed run's last steps what came after", async () => {
  const packages = await tensorBoard();
  const folder = await Deno.makeTempDir();
  let seconds = 1_700_000_000;
  const now = () => 1_000 * seconds++;
  try {
    // The first run noted step 5 and had saved step 3 when it was killed.
    for (const [from, to] of [[1, 5], [4, 7]] as const) {
      await using sink = await tensorBoardSink(folder, { purgeStep: from, now });
      for (let step = from; step <= to; step++) {
        await sink.log(step, { "größe/reward": step + from / 2, k3: -step });
      }
    }
    const { code, stdout, stderr } = await new Deno.Command(pythonOf(), {
      args: ["-B", new URL("read_events.py", import.meta.url).pathname, folder],
      env: { PYTHONPATH: packages },
    }).output();
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    assert.deepEqual(JSON.parse(new TextDecoder().decode(stdout)), {
      "größe/reward": [[1, 1.5], [2, 2.5], [3, 3.5], [4, 6], [5, 7], [6, 8], [7, 9]],
      k3: [1, 2, 3, 4, 5, 6, 7].map((step) => [step, -step]),
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
