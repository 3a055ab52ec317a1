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

Deno.test("examples/grpo learns, and goes on with a run that was left", async () => {
  const folder = await Deno.makeTempDir();
  const steps = async (count: number) => {
    const { code, out, err } = await run([
      "--allow-all",
      "examples/grpo/main.ts",
      `--python=${pythonOf()}`,
      `--steps=${count}`,
      `--run=${folder}`,
    ]);
    assert.equal(code, 0, out + err);
    const rows = await Deno.readTextFile(`${folder}/numbers.jsonl`);
    return rows.trim().split("\n").map((row) =>
      JSON.parse(row) as { step: number; reward: number }
    );
  };
  try {
    assert.equal((await steps(3)).length, 3);
    const rows = await steps(16);
    assert.deepEqual(rows.map(({ step }) => step), Array.from({ length: 16 }, (_, i) => i + 1));
    const meanOf = (part: typeof rows) =>
      part.reduce((sum, row) => sum + row.reward, 0) / part.length;
    const [first, last] = [meanOf(rows.slice(0, 3)), meanOf(rows.slice(-3))];
    assert.ok(last > first + 0.02, `the reward went from ${first} to ${last}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
