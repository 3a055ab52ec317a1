import assert from "node:assert/strict";
import { join } from "node:path";
import {
  LLMCollector,
  type PolicyRequest,
  toJsonLines,
  writeRollout,
} from "../../../src/collector/mod.ts";
import { pythonOf } from "../../_support/real.ts";
import { countingEnvironments, sampleOf } from "../../unit/collector/_fakes.ts";

Deno.test("Python's safetensors and JSON read back every row as it was collected", async () => {
  await using collector = new LLMCollector(countingEnvironments(4, 3), {
    policy: {
      call: ({ dialog, turn }: PolicyRequest) => {
        const ids = answerOf(dialog, turn);
        return Promise.resolve(sampleOf(ids, {
          message: { role: "assistant", content: `naïve – ${dialog} 🦕` },
          promptIds: promptOf(dialog, turn),
          logProbs: Float32Array.from(ids, (id) => -(id + 1) / 7),
        }));
      },
    },
    dialogTurnsPerBatch: 20,
    trackPolicyVersion: true,
    maxStaleness: 0,
  });
  collector.incrementVersion();
  const batch = (await collector.rollout())!;
  const expected = batch.rows.map((row) => ({
    dialog: row.dialog,
    group: row.group,
    parent: row.parent,
    info: row.info,
    turn: row.turn,
    promptIds: [...row.promptIds!],
    responseIds: [...row.responseIds],
    logProbs: [...row.logProbs!],
    tokenVersions: [...row.tokenVersions!],
    reward: row.reward,
    done: row.done,
    stale: false,
  }));
  const joined = batch.joined().map(({ dialog, branch, ids, mask, logProbs, turns }) => ({
    dialog,
    branch,
    ids: [...ids],
    mask: [...mask],
    logProbs: [...logProbs!],
    turns: turns.map(({ turn }) => turn),
  }));
  // Some dialogs are one row, some have a branch.
  assert.ok(
    joined.some(({ turns }) => turns.length > 1) && joined.some(({ branch }) => branch > 0),
  );
  const folder = await Deno.makeTempDir();
  try {
    const files = ["batch.safetensors", "batch.jsonl"].map((name) => join(folder, name));
    await writeRollout(files[0]!, batch);
    await Deno.writeTextFile(files[1]!, toJsonLines(batch));
    for (const file of files) {
      assert.deepEqual(await readBack(file), { rows: expected, joined });
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the Python package installs from its folder, and what is installed holds its tests", async () => {
  const folder = await Deno.makeTempDir();
  const python = async (args: readonly string[]) => {
    const { code, stderr } = await new Deno.Command(pythonOf(), {
      args: ["-B", "-m", ...args],
      env: { PYTHONPATH: join(folder, "site") },
    }).output();
    assert.equal(code, 0, new TextDecoder().decode(stderr));
  };
  try {
    // A copy: setuptools writes beside the sources.
    const source = join(folder, "source");
    await copy(new URL("../../../python", import.meta.url).pathname, source);
    await python(["pip", "install", "-q", "--no-deps", "--target", join(folder, "site"), source]);
    await Deno.remove(join(source, "sglang_rl"), { recursive: true });
    await python(["unittest", "discover", join(source, "tests")]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copy(join(from, name), join(to, name));
    else await Deno.copyFile(join(from, name), join(to, name));
  }
}

function answerOf(dialog: number, turn: number): number[] {
  return Array.from({ length: 1 + (dialog + turn) % 4 }, (_, i) => dialog * 10 + i);
}

/** Of even dialogs a prompt goes on with the turn before; of odd ones the last begins anew. */
function promptOf(dialog: number, turn: number): Int32Array {
  if (turn === 0) return Int32Array.of(dialog);
  if (dialog % 2 === 1 && turn === 2) return Int32Array.of(99);
  return Int32Array.from([
    ...promptOf(dialog, turn - 1),
    ...answerOf(dialog, turn - 1),
    100 + turn,
  ]);
}

async function readBack(file: string): Promise<unknown> {
  const local = (path: string) => new URL(path, import.meta.url).pathname;
  const { code, stdout, stderr } = await new Deno.Command(pythonOf(), {
    args: ["-B", local("read_back.py"), local("../../../python"), file],
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}
