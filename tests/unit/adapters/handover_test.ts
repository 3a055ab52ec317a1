/** An adapter through shared memory: there while somebody reads it, and only then. */
import assert from "node:assert/strict";
import type { SGLangClient } from "../../../src/client/mod.ts";
import { readAdapter } from "../../../src/adapters/adapter.ts";
import { Handover } from "../../../src/adapters/handover.ts";
import { uploadBest } from "../../../src/adapters/upload.ts";
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { HttpError } from "../../../src/errors.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

const tensors = [
  { name: "w.lora_A.weight", dtype: "float32", shape: [1, 2], data: Float32Array.of(1, 2) },
] as const;

function foldersIn(parent: string): string[] {
  return [...Deno.readDirSync(parent)].map(({ name }) => name);
}

Deno.test("the folder is there while servers read it, is written once for all, and goes", async () => {
  await using parent = await temporaryFolder();
  const handover = new Handover({ r: 1 }, tensors, { parents: ["/nowhere", parent.path] });
  assert.ok(await handover.isPossible());
  const first = Promise.withResolvers<void>();
  const seen: string[] = [];
  const read = async (folder: string) => {
    seen.push(folder);
    assert.deepEqual(JSON.parse(await Deno.readTextFile(`${folder}/adapter_config.json`)), {
      r: 1,
    });
    await using file = await openCheckpoint(`${folder}/adapter_model.safetensors`);
    assert.deepEqual([...file.tensors.keys()], ["w.lora_A.weight"]);
  };
  const slow = handover.whileThere((folder) => first.promise.then(() => read(folder)));
  await handover.whileThere(read);
  assert.equal(foldersIn(parent.path).length, 1);
  first.resolve();
  await slow;
  assert.equal(new Set(seen).size, 1);
  assert.deepEqual(foldersIn(parent.path), []);
  await handover.whileThere(read);
  await assert.rejects(handover.whileThere(() => Promise.reject(new Error("gone"))), /gone/);
  assert.deepEqual(foldersIn(parent.path), []);
});

Deno.test("what a killed process left is removed an hour later, other things stay", async () => {
  await using parent = await temporaryFolder();
  const names = ["sglang-rl-adapter-old", "sglang-rl-adapter-new", "other"];
  for (const name of names) await Deno.mkdir(`${parent.path}/${name}`);
  for (const name of ["sglang-rl-adapter-old", "other"]) {
    const long = new Date("2020-01-01");
    await Deno.utime(`${parent.path}/${name}`, long, long);
  }
  const handover = new Handover({}, tensors, { parents: [parent.path] });
  await handover.whileThere(() => Promise.resolve());
  assert.deepEqual(foldersIn(parent.path).toSorted(), ["other", "sglang-rl-adapter-new"]);
});

Deno.test("servers that do not see the folder, and those elsewhere, get the matrices by value", async () => {
  const adapter = await readAdapter({
    config: { peft_type: "LORA", r: 1, lora_alpha: 1, target_modules: ["q_proj"] },
    tensors: {
      "base_model.model.m.q_proj.lora_A.weight": { data: Float32Array.of(1, 2), shape: [1, 2] },
      "base_model.model.m.q_proj.lora_B.weight": { data: Float32Array.of(3), shape: [1, 1] },
    },
  }, { maxBytes: 1e6 });
  const calls: string[] = [];
  const server = (url: string, sees: boolean) => ({
    ranks: 1,
    client: {
      url,
      loadLora({ path }: { path: string }) {
        calls.push("path");
        assert.match(path, /^\/(dev\/shm|tmp)\/sglang-rl-adapter-/);
        if (sees) return Promise.resolve(["a"]);
        return Promise.reject(
          new HttpError(`POST ${url}`, {
            status: 400,
            endpoint: "POST",
            serverMessage: "not found",
          }),
        );
      },
      loadLoraFromTensors() {
        calls.push("tensors");
        return Promise.resolve(["a"]);
      },
    } as unknown as SGLangClient,
  });
  const unseeing = new Set<string>();
  const load = async (url: string, sees: boolean) => {
    const upload = uploadBest(adapter, adapter.matrices, unseeing);
    calls.length = 0;
    await upload.load(server(url, sees), "a", {});
    return [upload.via, ...calls];
  };
  assert.deepEqual(await load("http://127.0.0.1:1", true), ["path", "path"]);
  assert.deepEqual(await load("http://10.0.0.1:1", true), ["tensors", "tensors"]);
  assert.deepEqual(await load("http://127.example.org:1", true), ["tensors", "tensors"]);
  assert.deepEqual(await load("http://localhost:2", false), ["tensors", "path", "tensors"]);
  assert.deepEqual(await load("http://localhost:2", false), ["tensors", "tensors"], "tried once");
});
