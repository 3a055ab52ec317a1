import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { jsonLines, RolloutBatch } from "../../../src/collector/mod.ts";
import { writeSafetensors } from "../../../src/checkpoint/mod.ts";
import { toTensors } from "../../../src/collector/export/safetensors.ts";
import { readRollout } from "../../../src/rollout_file/mod.ts";
import { rowOf } from "../../_support/rollout_rows.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

const line = [...jsonLines(new RolloutBatch({ rows: [rowOf(4)], shape: [1] }))][0]!;
const bytesOf = (text: string) => new TextEncoder().encode(text);

Deno.test("the lines of a file go out as they came in, whatever fields they have", async () => {
  const plain = JSON.parse(line);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 4 }), { minLength: 1 }),
      async (further) => {
        const lines = further.map((fields, i) =>
          JSON.stringify({ ...fields, ...plain, dialog: i }).replace(
            /"reward":[^,]+/,
            '"reward":1e999',
          )
        );
        await using file = await readRollout(bytesOf(lines.join("\r\n")));
        assert.deepEqual(
          (await Array.fromAsync(file.jsonLines())).join(""),
          lines.map((text) => `${text}\n`).join(""),
        );
        const last = lines.length - 1;
        assert.equal(
          (await Array.fromAsync(file.jsonLines(last))).join(""),
          `${lines[last]}\n`,
        );
      },
    ),
    { numRuns: 50 },
  );
});

Deno.test("columns of tensors that no schema knows go out with their rows, numbers unchanged", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "rows.safetensors");
  const batch = new RolloutBatch({ rows: [rowOf(0), rowOf(1), rowOf(2)], shape: [3] });
  await writeSafetensors(path, [
    ...toTensors(batch),
    { name: "advantage", dtype: "float32", shape: [3], data: Float32Array.of(0.5, -Infinity, NaN) },
    { name: "big", dtype: "int64", shape: [3], data: BigInt64Array.of(2n ** 60n, -1n, 0n) },
    { name: "pair", dtype: "int32", shape: [3, 2], data: Int32Array.of(1, 2, 3, 4, 5, 6) },
    { name: "marks", dtype: "bool", shape: [4], data: Uint8Array.of(1, 0, 1, 1) },
    { name: "marks_offsets", dtype: "int64", shape: [4], data: BigInt64Array.of(0n, 2n, 2n, 4n) },
    { name: "half", dtype: "bfloat16", shape: [3], data: Uint16Array.of(0x3f80, 0xc000, 0x7f80) },
    { name: "of_the_file", dtype: "float32", shape: [7], data: new Float32Array(7) },
    { name: "response", dtype: "int32", shape: [3], data: Int32Array.of(7, 8, 9) },
  ], {
    metadata: {
      schema: "sglang-rl.rollout/2",
      version_names: "[]",
      finish_reasons: '["stop","length","abort"]',
    },
  });
  await using file = await readRollout(path);
  const text = (await Array.fromAsync(file.jsonLines())).join("");
  const further = text.trimEnd().split("\n").map((one) =>
    one.slice(one.indexOf('"info":{}') + 9, -1)
  );
  assert.deepEqual(
    further.map((one) => one.split(",").sort().join(",")),
    [
      ',"advantage":0.5,"big":1152921504606846976,"half":1,"marks":[true,false],"pair":[1,2]',
      ',"advantage":-1e999,"big":-1,"half":-2,"marks":[],"pair":[3,4]',
      ',"advantage":"NaN","big":0,"half":1e999,"marks":[true,true],"pair":[5,6]',
    ].map((one) => one.split(",").sort().join(",")),
  );
  await using again = await readRollout(bytesOf(text));
  assert.deepEqual((await again.rows(0, 3)).map(({ dialog }) => dialog), [0, 1, 2]);
  assert.equal((await Array.fromAsync(again.jsonLines())).join(""), text);
});
