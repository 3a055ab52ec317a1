import assert from "node:assert/strict";
import { join } from "node:path";
import {
  namesOtherVersion,
  sglangVersion,
  sglangVersions,
} from "../../../scripts/sglang_cpu/home.ts";
import { type EnvironmentRecipe, pipProgress } from "../../../scripts/sglang_cpu/environment.ts";
import { isWhole } from "../../../scripts/sglang_cpu/models.ts";
import { readStamp, stampOf, writeStamp } from "../../../scripts/sglang_cpu/stamp.ts";

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("the stamp of an environment changes with its lock and with its shim", () =>
  inFolder(async (folder) => {
    const lock = join(folder, "requirements.lock");
    const shim = join(folder, "shim");
    await Deno.mkdir(shim);
    await Deno.writeTextFile(lock, "a==1\n");
    await Deno.writeTextFile(join(shim, "__init__.py"), "x = 1\n");
    const recipe: EnvironmentRecipe = {
      name: "venv",
      title: "t",
      lock,
      imports: [],
      shim,
      diskBytes: 0,
    };
    const first = await stampOf(recipe);
    assert.equal(await stampOf(recipe), first);
    await Deno.writeTextFile(join(shim, "__init__.py"), "x = 2\n");
    const second = await stampOf(recipe);
    await Deno.writeTextFile(lock, "a==2\n");
    const third = await stampOf(recipe);
    assert.equal(new Set([first, second, third]).size, 3);

    assert.equal(await readStamp(folder), undefined);
    await writeStamp(folder, third);
    assert.equal(await readStamp(folder), third);
  }));

Deno.test("a checkpoint is whole only with all files and the last byte of its weights", () =>
  inFolder(async (folder) => {
    for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json"]) {
      await Deno.writeTextFile(join(folder, name), "{}");
    }
    assert.equal(await isWhole(folder), false, "no weights");
    const header = new TextEncoder().encode(
      '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    );
    const bytes = new Uint8Array(8 + header.length + 8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
    bytes.set(header, 8);
    const weights = join(folder, "model.safetensors");
    await Deno.writeFile(weights, bytes.subarray(0, bytes.length - 1));
    assert.equal(await isWhole(folder), false, "one byte short");
    await Deno.writeFile(weights, bytes);
    assert.equal(await isWhole(folder), true);
    await Deno.writeTextFile(join(folder, "tokenizer.json"), '{"cut');
    assert.equal(await isWhole(folder), false, "a tokenizer that is cut off");
  }));

Deno.test("pip's many lines become a few", () => {
  const said: string[] = [];
  const onLine = pipProgress("SGLang", 21, (line) => said.push(line));
  for (let i = 0; i < 21; i++) onLine(`Collecting package${i}==1.0`);
  onLine("  Downloading torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl (530.6 MB)");
  onLine("  Downloading idna-3.20-py3-none-any.whl (71 kB)");
  onLine("  Downloading small-1.0-py3-none-any.whl (1.5 MB)");
  onLine("Installing collected packages: a, b");
  assert.deepEqual(said, [
    "SGLang: 20 of 21",
    "SGLang: 21 of 21",
    "SGLang: downloading torch (530.6 MB)",
    "SGLang: unpacking",
  ]);
});

Deno.test("a run on one version leaves out the tests that name another, and only those", () => {
  for (const version of sglangVersions) {
    for (const other of sglangVersions) {
      const isOther = other !== version;
      assert.equal(namesOtherVersion(`${other}: it answers`, version), isOther);
      assert.equal(namesOtherVersion(`it answers (as ${other}, twice)`, version), isOther);
      // Another number that begins or ends with the same digits.
      assert.equal(namesOtherVersion(`${other}0 and 1${other} and ${other}.1`, version), false);
    }
    assert.equal(namesOtherVersion("it answers", version), false);
  }
  assert.ok(namesOtherVersion("0.5.23 gives it; 0.5.16 is not asked", "0.5.23"));
});

Deno.test("a version without a recipe is refused with those that have one", () => {
  assert.throws(
    () => sglangVersion("0.4.1"),
    /SGLang "0\.4\.1", only for .*0\.5\.16.*CONTRIBUTING/,
  );
});
