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

interface Noted {
  readonly step: number;
  readonly reward: number;
  readonly lookedUp: number;
}

/** Runs examples/grpo in a folder until so many steps are noted, and kills it then; or to its end. */
async function grpoSteps(
  folder: string,
  { by, steps, killedAfter }: { by: string; steps: number; killedAfter?: number },
): Promise<readonly Noted[]> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-check",
      "--quiet",
      "--allow-all",
      "examples/grpo/main.ts",
      `--python=${pythonOf()}`,
      `--by=${by}`,
      `--steps=${steps}`,
      `--run=${folder}`,
    ],
    cwd: root,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  const err = new Response(child.stderr).text();
  let out = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    out += text;
    const said = out.match(/^step \d+ /gm)?.length ?? 0;
    if (said === killedAfter) child.kill("SIGKILL");
  }
  const { code, signal } = await child.status;
  if (killedAfter === undefined) assert.equal(code, 0, out + await err);
  else assert.equal(signal, "SIGKILL", out + await err);
  const lines = await Deno.readTextFile(`${folder}/numbers.jsonl`);
  return lines.trim().split("\n").map((line) => JSON.parse(line));
}

for (
  const { by, steps, isLearning } of [
    { by: "files", steps: 26, isLearning: true },
    { by: "link", steps: 5, isLearning: false },
  ]
) {
  Deno.test(
    `examples/grpo by ${by}: killed -9 twice it takes each step once${
      isLearning ? ", and learns to call the tool" : ""
    }`,
    async () => {
      const folder = await Deno.makeTempDir();
      try {
        await grpoSteps(folder, { by, steps, killedAfter: 2 });
        await grpoSteps(folder, { by, steps, killedAfter: 1 });
        const noted = await grpoSteps(folder, { by, steps });
        assert.deepEqual(
          noted.map(({ step }) => step),
          Array.from({ length: steps }, (_, i) => i + 1),
        );
        // Of the trainer's files only the last is left.
        const files = [...Deno.readDirSync(folder)].map(({ name }) => name);
        assert.deepEqual(files.filter((name) => name.endsWith(".pt")), [`trainer-${steps}.pt`]);
        if (!isLearning) return;
        const meanOf = (part: readonly Noted[], name: "reward" | "lookedUp") =>
          part.reduce((sum, row) => sum + row[name], 0) / part.length;
        for (const name of ["reward", "lookedUp"] as const) {
          const [first, last] = [meanOf(noted.slice(0, 5), name), meanOf(noted.slice(-5), name)];
          assert.ok(last > 1.5 * first, `${name} went from ${first} to ${last}`);
        }
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  );
}
