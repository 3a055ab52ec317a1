/** Every example runs, against an embedded server where that is what it is for. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { startTiny, tinyCheckpoint } from "../embedded/_support.ts";

const root = new URL("../../../", import.meta.url).pathname;

interface Run {
  /** Flags and arguments. */
  readonly permissions: readonly string[];
  readonly args: readonly string[];
  /** What it says when it worked. */
  readonly says: readonly RegExp[];
}

interface Place {
  readonly url: string;
  readonly folder: string;
}

/** Examples that run here, by file; most with the flags that their first lines name. */
const runs: Readonly<Record<string, (place: Place) => Run>> = {
  "generate.ts": ({ url }) => ({
    permissions: [`--allow-net=${new URL(url).host}`],
    args: [url],
    says: [/^one: ".*" length$/m, /^Bread is made of 8 tokens, log-prob -/m, /^abort: Aborted/m],
  }),
  "multi_turn.ts": ({ url }) => ({
    permissions: ["--allow-net=127.0.0.1"],
    args: [url],
    says: [/^log-probability of all answers: -\d/m, /^weight version: /m],
  }),
  "refresh_fleet.ts": ({ url, folder }) => ({
    permissions: ["--allow-net=127.0.0.1", "--allow-read"],
    args: ["--server", url, folder],
    says: [/version \S+ on 1 servers, .* by gloo/],
  }),
  // Clients read many variables, and look where they run.
  "agents.ts": () => ({
    permissions: ["-A"],
    args: ["--steps", "1", "--pairs", "1", "--dialogs", "4"],
    says: [
      /^openai: reward 0\.\d+ before, \d\.\d+ after; \d+ tokens recorded/m,
      /^anthropic: reward /m,
      /^ai: reward /m,
      /^langchain: reward \d\.\d+ before, \d\.\d+ after/m,
    ],
  }),
  "own_engine.ts": () => ({
    permissions: [],
    args: [],
    says: [/^said: yes, yes$/m, /^tokens: 3, 3$/m],
  }),
  "rollout.ts": () => ({
    permissions: ["--allow-all"],
    args: [],
    says: [/^30 dialogs of 60 turns/m],
  }),
  "evolution_strategies.ts": () => ({
    permissions: ["--allow-all"],
    args: ["--seeds=0", "--generations=2", "--pairs=2"],
    says: [/mean reward over 1 seed\(s\): first tenth [\d.]+, last tenth [\d.]+/, /\(gloo\)/],
  }),
};

/** Examples that run in another test, which takes longer or needs the real SGLang. */
const elsewhere: Readonly<Record<string, string>> = {
  "demo.ts": "tests/unit/embedded/demo_test.ts",
  "managed.ts": "tests/real/examples/examples_test.ts",
  "grpo": "tests/real/examples/examples_test.ts",
  "python_trainer": "tests/real/examples/examples_test.ts",
};

/** Files that are programs, and folders whose program is `main.ts`. */
async function examples(): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(join(root, "examples")));
  const found: string[] = [];
  for (const { name, isFile } of entries) {
    if (isFile && name.endsWith(".ts")) found.push(name);
    if (isFile) continue;
    const hasMain = await Deno.stat(join(root, "examples", name, "main.ts")).catch(() => null);
    if (hasMain !== null) found.push(name);
  }
  return found.sort();
}

Deno.test("every example has a test that runs it and a line in examples/README.md", async () => {
  const all = await examples();
  assert.deepEqual([...Object.keys(runs), ...Object.keys(elsewhere)].sort(), all);
  const readme = await Deno.readTextFile(join(root, "examples/README.md"));
  for (const name of all) {
    assert.ok(readme.includes(`](${name}`), `examples/README.md does not list ${name}`);
  }
  for (const [name, test] of Object.entries(elsewhere)) {
    const text = await Deno.readTextFile(join(root, test));
    assert.ok(text.includes(`examples/${name}`), `${test} does not run examples/${name}`);
  }
});

for (const [name, runOf] of Object.entries(runs)) {
  Deno.test(`examples/${name} does what it says`, async () => {
    await using server = await startTiny();
    const next = await tinyCheckpoint({ seed: 1 });
    const { permissions, args, says } = runOf({ url: server.url, folder: next });
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-check",
        "--no-prompt",
        "--quiet",
        ...permissions,
        `examples/${name}`,
        ...args,
      ],
      cwd: root,
      stdin: "null",
      env: { NO_COLOR: "1" },
    }).output();
    const decoder = new TextDecoder();
    const out = decoder.decode(stdout);
    assert.equal(code, 0, out + decoder.decode(stderr));
    for (const pattern of says) assert.match(out, pattern);
  });
}
