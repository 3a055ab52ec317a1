import assert from "node:assert/strict";
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { parseHeader, parseHeaderLength } from "../../../src/checkpoint/header.ts";
import { SGLangError } from "../../../src/errors.ts";
import { readOptionalJson } from "../../../src/embedded/read_json.ts";
import { LocalTokenizer } from "../../../src/policy/local_tokenizer.ts";

/** Things that are no file: to open some of them waits, to read others never ends. */
const things: Readonly<Record<string, (path: string) => Promise<unknown>>> = {
  "a pipe": (path) => new Deno.Command("mkfifo", { args: [path] }).output(),
  "a device": (path) => Deno.symlink("/dev/zero", path),
  "a folder": (path) => Deno.mkdir(path),
  "a loop": (path) => Deno.symlink(path, path),
};
/** Where one can lie, and what reads it. */
const places: readonly [string, (folder: string, path: string) => Promise<unknown>][] = [
  ["model.safetensors", (folder) => openCheckpoint(folder)],
  ["other.safetensors", (folder) => openCheckpoint(folder)],
  ["model.safetensors.index.json", (folder) => openCheckpoint(folder)],
  ["x.safetensors", (_, path) => openCheckpoint(path)],
  ["x.json", (_, path) => openCheckpoint(path)],
  ["tokenizer.json", (folder) => LocalTokenizer.fromFolder(folder)],
  ["config.json", (_, path) => readOptionalJson(path)],
];

for (const [kind, make] of Object.entries(things)) {
  Deno.test(`${kind} in the place of any file of a model is refused and not opened`, async () => {
    for (const [name, read] of places) {
      const folder = await Deno.makeTempDir();
      try {
        await make(`${folder}/${name}`);
        await assert.rejects(read(folder, `${folder}/${name}`), (error: Error) => {
          assert.ok(error instanceof SGLangError, `${name}: ${error}`);
          assert.ok(["checkpoint", "validation"].includes(error.code));
          return error.message.includes(folder);
        });
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    }
  });
}

Deno.test("an open that is cancelled ends with the signal", async () => {
  const signal = AbortSignal.abort("enough");
  await assert.rejects(openCheckpoint("/tmp", { signal }), { code: "aborted", cause: "enough" });
});

Deno.test("a header that is longer than it may be is not read, and the limit can be raised", () => {
  const field = new Uint8Array(8);
  new DataView(field.buffer).setBigUint64(0, 17n * 2n ** 20n, true);
  assert.throws(() => parseHeaderLength(field, 2 ** 30), {
    code: "limit",
    limit: "maxHeaderBytes",
  });
  assert.equal(parseHeaderLength(field, 2 ** 30, 32 * 2 ** 20), 17 * 2 ** 20);
});

Deno.test("headers that are made to overflow a stack or a message are refused shortly", () => {
  const escapes = "\\n".repeat(500_000);
  const sizes = Array(500_000).fill(1).join();
  const headers = [
    `{"a":${"[".repeat(500_000)}${"]".repeat(500_000)}}`,
    `{"a":${'{"a":'.repeat(300_000)}1${"}".repeat(300_000)}}`,
    `{"${escapes}":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`,
    `{"a":{"dtype":"F32","shape":[${sizes}],"data_offsets":[0,4]}}`,
    `{"a":{"dtype":"${"F".repeat(500_000)}","shape":[1],"data_offsets":[0,4]}}`,
    `{"__metadata__":{"${escapes}":1}}`,
  ];
  for (const header of headers) {
    assert.throws(() => parseHeader(new TextEncoder().encode(header), 1), (error: Error) => {
      assert.ok(error instanceof SGLangError, String(error).slice(0, 200));
      return error.message.length < 20_000;
    });
  }
});
