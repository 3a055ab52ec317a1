/** Examples that need the real SGLang, or the Python that it brings. */
import assert from "node:assert/strict";
import { cpuEnv, modelPath, pythonOf, routerPython } from "../../_support/real.ts";

const root = new URL("../../../", import.meta.url).pathname;

async function run(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-prompt", "--quiet", ...args],
    cwd: root,
    stdin: "null",
    env: { NO_COLOR: "1", ...env },
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

Deno.test("examples/managed.ts starts two servers and a router, generates and ends", async () => {
  const [python, router] = [pythonOf(), routerPython()];
  const { code, out, err } = await run([
    `--allow-run=${python},${router}`,
    "--allow-net=127.0.0.1",
    "examples/managed.ts",
    modelPath("tiny"),
    `--python=${python}`,
    `--router-python=${router}`,
    "--cpu",
  ], cpuEnv);
  assert.equal(code, 0, out + err);
  assert.match(out, /^router http\S+, servers http\S+, http\S+$/m);
  assert.match(out, /^16 samples, \d+ tokens$/m);
  // Nothing of it listens any more.
  for (const [url] of out.matchAll(/http:\/\/127\.0\.0\.1:\d+/g)) {
    await assert.rejects(fetch(url), url);
  }
});

for (const format of ["safetensors", "link"]) {
  Deno.test(`examples/python_trainer runs steps of Python's trainer, by ${format}`, async () => {
    const { code, out, err } = await run([
      "--allow-all",
      "examples/python_trainer/main.ts",
      `--python=${pythonOf()}`,
      "--steps=2",
      `--format=${format}`,
    ]);
    assert.equal(code, 0, out + err);
    assert.match(out, /mean reward: first tenth [\d.]+/);
  });
}
