import assert from "node:assert/strict";
import fc from "fast-check";
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { parseHeader, parseHeaderLength } from "../../../src/checkpoint/header.ts";
import { entriesOf, parseValue } from "../../../src/checkpoint/json.ts";
import { SGLangError } from "../../../src/errors.ts";
import { readOptionalJson } from "../../../src/embedded/read_json.ts";
import { LocalTokenizer } from "../../../src/policy/local_tokenizer.ts";

/** Things that are no file: to open some of them waits, to read others never ends. */
const things: Readonly<Record<string, (path: string) => Promise<unknown>>> = {
  "a pipe": (path) => new Deno.Command("mkfifo", { args: [path] }).output(),
  "a device": (path) => Deno.symlink("/dev/zero", path),
  "a folder": (path) => Deno.mkdir(path),
  // It tells no size, and to read it takes hours. Deno lets read it only who may do all.
  "a file of /proc": (path) => Deno.symlink("/proc/self/pagemap", path),
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
          assert.ok(["checkpoint", "validation", "permission"].includes(error.code));
          return error.message.includes(folder);
        });
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    }
  });
}

Deno.test("a file that tells fewer bytes than it gives is read only as far as it tells", async () => {
  const folder = await Deno.makeTempDir();
  const open = Deno.open;
  try {
    const path = `${folder}/config.json`;
    await Deno.writeTextFile(path, '{"a":1}' + "x".repeat(1000));
    Deno.open = async (...args) => {
      const file = await open(...args);
      const stat = file.stat.bind(file);
      file.stat = async () => ({ ...await stat(), size: 7 });
      return file;
    };
    assert.deepEqual(await readOptionalJson(path), { a: 1 });
    await Deno.writeTextFile(path, '{"a":');
    await assert.rejects(readOptionalJson(path), /became shorter while it was read/);
  } finally {
    Deno.open = open;
    await Deno.remove(folder, { recursive: true });
  }
});

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

Deno.test("the entries of an object are those that JSON.parse finds, whatever stands in it", () => {
  const object = fc.dictionary(
    fc.string({ unit: "binary" }),
    fc.jsonValue({ maxDepth: 2 }),
    { maxKeys: 6 },
  );
  fc.assert(
    fc.property(object, fc.constantFrom(0, 1, 3), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      const read = [...entriesOf(text, "x")].map(([name, json]) => [name, parseValue(json, "x")]);
      assert.deepEqual(Object.fromEntries(read), JSON.parse(text));
    }),
    { numRuns: 30 },
  );
});

Deno.test("a text is refused as an object's wherever it was cut or a character was changed", () => {
  const text = JSON.stringify({ a: { b: [1, "}"], c: null }, 'd,"': "e\\", f: -1.5e3, g: {} });
  const read = (json: string) => {
    for (const [, value] of entriesOf(json, "x")) parseValue(value, "x");
  };
  const isJson = (json: string) => {
    try {
      return typeof JSON.parse(json) === "object" && json.trim().startsWith("{");
    } catch {
      return false;
    }
  };
  fc.assert(
    fc.property(
      fc.nat({ max: text.length - 1 }),
      fc.constantFrom("", "{", "}", "[", "]", ",", ":", '"', "\\", " ", "\0", "x", "1"),
      fc.boolean(),
      (at, put, cuts) => {
        const changed = text.slice(0, at) + put + (cuts ? "" : text.slice(at + 1));
        if (isJson(changed)) return;
        assert.throws(() => read(changed), { code: "checkpoint" });
      },
    ),
    { numRuns: 2000 },
  );
});

Deno.test("a thousand names of one file cost what one costs", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const names = Array.from({ length: 50 }, (_, i) => `t${i}`);
    const entry = { dtype: "F32", shape: [0], data_offsets: [0, 0] };
    const header = new TextEncoder().encode(
      JSON.stringify(Object.fromEntries(names.map((name) => [name, entry]))),
    );
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
    await Deno.writeFile(`${folder}/0.safetensors`, new Uint8Array([...length, ...header]));
    for (let i = 1; i < 20; i++) await Deno.symlink("0.safetensors", `${folder}/${i}.safetensors`);
    await Deno.writeTextFile(
      `${folder}/model.safetensors.index.json`,
      JSON.stringify({
        weight_map: Object.fromEntries(names.map((name, i) => [name, `${i % 20}.safetensors`])),
      }),
    );
    await assert.rejects(openCheckpoint(folder, { maxTensors: 500 }), {
      code: "limit",
      limit: "maxTensors",
    });
    await using open = await openCheckpoint(folder, { maxTensors: 1000 });
    assert.equal(open.tensors.size, 50);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
