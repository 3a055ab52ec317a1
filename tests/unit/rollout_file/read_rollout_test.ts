import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import {
  jsonLines,
  RolloutBatch,
  type RolloutRow,
  writeJsonLines,
  writeRollout,
} from "../../../src/collector/mod.ts";
import { LimitError, SGLangError, StateError, ValidationError } from "../../../src/errors.ts";
import { readRollout, type RolloutRecord } from "../../../src/rollout_file/mod.ts";
import { rowOf } from "../../_support/rollout_rows.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

const int = fc.integer({ min: 0, max: 2 ** 31 - 1 });
const aRow = fc.record({
  dialog: fc.maxSafeNat(),
  attempt: fc.nat(5),
  group: fc.maxSafeNat(),
  member: fc.nat(20),
  turn: fc.nat(9),
  parent: fc.option(fc.nat(9)),
  branch: fc.nat(9),
  promptIds: fc.array(int, { maxLength: 8 }).map((ids) => Int32Array.from(ids)),
  answer: fc.array(
    fc.tuple(int, fc.double({ max: 0, noNaN: true }), fc.integer({ min: -1, max: 2 })),
    {
      maxLength: 8,
    },
  ),
  text: fc.string({ unit: "grapheme" }),
  reward: fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e30, max: 1e30 }).map(
    Math.fround,
  ),
  done: fc.boolean(),
  truncated: fc.boolean(),
  versionsExact: fc.boolean(),
  server: fc.option(fc.constantFrom("http://a:1", "http://b:2")),
  finishReason: fc.constantFrom<RolloutRow["finishReason"]>(
    { type: "stop", matched: null },
    { type: "length", length: 3 },
  ),
  info: fc.dictionary(
    fc.string({ unit: "grapheme", minLength: 1 }),
    fc.string({ unit: "grapheme" }),
    { noNullPrototype: true },
  ),
  experts: fc.option(
    fc.record({ start: fc.nat(9), tokens: fc.nat(5), width: fc.integer({ min: 1, max: 6 }) }),
  ),
}).map(({ answer, text, experts, ...more }) =>
  rowOf(0, {
    ...more,
    ...(experts === null ? {} : { routedExperts: expertsOf(experts) }),
    response: { role: "assistant", content: text },
    responseIds: Int32Array.from(answer, ([id]) => id),
    logProbs: Float32Array.from(answer, ([, logProb]) => logProb),
    tokenVersions: Int32Array.from(answer, ([, , version]) => version),
    weightVersions: [{ version: "step-1", start: 0, end: answer.length }],
  })
);
/** Experts that differ from each other. */
function expertsOf({ start, tokens, width }: { start: number; tokens: number; width: number }) {
  const perToken = tokens === 0 ? 0 : width;
  const data = Int32Array.from({ length: tokens * perToken }, (_, i) => 300 + i);
  return { start, tokens, perToken, data };
}

const versionNames = ["0", "1", "b3b4"];
const versions = [0, 1, "b3b4"];

/** What both forms tell of a row. */
function expected(
  row: RolloutRow,
  batch: RolloutBatch,
): Omit<RolloutRecord, "messages" | "response"> {
  const { messages: _m, response, nextMessages: _n, drift: _d, finishReason, ...same } = row;
  return {
    ...same,
    responseText: String(response.content),
    finishReason: finishReason.type as RolloutRecord["finishReason"],
    stale: batch.isStale(row),
    tokenVersions: Array.from(row.tokenVersions!, (index) => versions[index] ?? null),
  };
}

Deno.test("whatever rows are written, both forms give them back, in windows and one by one", async () => {
  await using folder = await temporaryFolder();
  await fc.assert(
    fc.asyncProperty(
      fc.array(aRow, { maxLength: 12 }),
      fc.nat(12),
      fc.nat(12),
      async (rows, a, b) => {
        const stale = new Set(rows.slice(0, 2));
        const batch = new RolloutBatch({ rows, shape: [rows.length], versionNames, stale });
        const paths = [
          join(folder.path, "rows.jsonl"),
          join(folder.path, "rows.safetensors"),
        ] as const;
        await writeJsonLines(paths[0], batch);
        await writeRollout(paths[1], batch);
        const wanted = rows.map((row) => expected(row, batch));
        const [start, end] = [Math.min(a, b), Math.max(a, b)];
        for (const path of paths) {
          await using file = await readRollout(path);
          assert.equal(file.length, rows.length);
          assert.equal(file.schema, "sglang-rl.rollout/2");
          const strip = ({ messages: _m, response: _r, ...rest }: RolloutRecord) => ({
            ...rest,
            reward: Math.fround(rest.reward) + 0,
            // -0 is 0 in JSON.
            logProbs: rest.logProbs && rest.logProbs.map((value) => value + 0),
          });
          const same = (got: RolloutRecord[], from: number, to: number) =>
            assert.deepEqual(
              got.map(strip),
              wanted.slice(from, to).map((row) => strip(row as RolloutRecord)),
            );
          same(await Array.fromAsync(file), 0, rows.length);
          same(await file.rows(start, end), start, end);
        }
        await using file = await readRollout(paths[0]);
        for (const [i, { messages, response }] of (await Array.fromAsync(file)).entries()) {
          assert.deepEqual(messages, rows[i]!.messages);
          assert.deepEqual(response, rows[i]!.response);
        }
      },
    ),
    { numRuns: 40 },
  );
});

const line = [...jsonLines(new RolloutBatch({ rows: [rowOf(4)], shape: [1] }))][0]!;
const bytesOf = (text: string) => new TextEncoder().encode(text);

Deno.test("files of the first schema, of a Blob, with empty lines and Windows' line ends are read", async () => {
  const old = JSON.parse(line);
  for (const name of ["group", "member", "parent", "branch", "server"]) delete old[name];
  old.schema = "sglang-rl.rollout/1";
  const text = `\n${JSON.stringify(old)}\r\n\r\n${JSON.stringify({ ...old, dialog: 5 })}`;
  await using file = await readRollout(new File([text], "old.jsonl"));
  assert.equal(file.schema, "sglang-rl.rollout/1");
  const rows = await file.rows(0, 100);
  assert.deepEqual(
    rows.map(({ dialog, group, member, parent, branch }) => ({
      dialog,
      group,
      member,
      parent,
      branch,
    })),
    [4, 5].map((dialog) => ({ dialog, group: dialog, member: 0, parent: null, branch: 0 })),
  );
  await using none = await readRollout(new Uint8Array());
  assert.deepEqual([none.length, await none.rows(0, 1)], [0, []]);
});

Deno.test("a damaged line names its row and does not cost the others", async () => {
  const damaged: [string, RegExp][] = [
    [line.slice(0, -20), /line 2 is not JSON: /],
    ['{"schema": }', /line 2 is not JSON: /],
    ["[]", /line 2 is no JSON object/],
    [line.replace("rollout/2", "rollout/9"), /line 2: schema should be one of/],
    [line.replace('"response_ids":[2]', '"response_ids":[2.5]'), /response_ids\[0\] should be/],
    [
      line.replace('"log_probs":[-1]', '"log_probs":[]'),
      /log_probs should be as long as response_ids, 1/,
    ],
    [line.replace('"dialog":4', '"dialog":-4'), /dialog should be a whole number/],
    [line.replace('"done":true,', ""), /line 2: done is missing/],
    [line.replace('"role":"user"', '"role":3'), /messages\[0\] should be a message/],
    [
      line.replace('"info":{}', `"info":${"[".repeat(500)}${"]".repeat(500)}`),
      /nested deeper than 256/,
    ],
  ];
  for (const [text, reason] of damaged) {
    await using file = await readRollout(bytesOf(`${line.trim()}\n${text.trim()}\n${line}`));
    assert.equal(file.length, 3);
    await assert.rejects(
      file.rows(1, 2),
      (error) => error instanceof ValidationError && reason.test(error.message),
      text,
    );
    assert.equal((await file.rows(2, 3))[0]!.dialog, 4);
  }
});

Deno.test("whatever lines are broken, empty or too long, the others are read and these are told by number", async () => {
  const good = line.trim();
  const kinds = {
    good,
    blank: " \t",
    zeros: "\0".repeat(20),
    controls: "\v\f\x1b",
    cut: good.slice(0, 40),
    long: `"${"x".repeat(2 * good.length)}"`,
    bytes: "\xff",
    other: '{"step": 1}',
  };
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom(...Object.keys(kinds) as (keyof typeof kinds)[]), { maxLength: 40 }),
      fc.constantFrom("\n", "\r\n"),
      fc.boolean(),
      async (names, lineEnd, endsLine) => {
        const text = names.map((name) => kinds[name]).join(lineEnd) + (endsLine ? lineEnd : "");
        const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
        // A file that begins with zeros is taken for safetensors.
        fc.pre(!bytes.subarray(0, 8).includes(0));
        const rows = names.map((name, i) => ({ name, line: i + 1 }))
          .filter(({ name }) => name !== "blank");
        const opening = readRollout(bytes, { maxLineBytes: good.length + 1 });
        if (rows.length > 0 && !rows.some(({ name }) => name === "good")) {
          await assert.rejects(opening, new RegExp(`line ${rows[0]!.line}[ :]`));
          return;
        }
        await using file = await opening;
        const entries = await Array.fromAsync(file.entries());
        assert.equal(entries.length, rows.length);
        for (const [i, { name, line }] of rows.entries()) {
          const { row, record, damage } = entries[i]!;
          assert.equal(row, i);
          if (name === "good") assert.equal(record?.dialog, 4);
          else assert.match(damage!.message, new RegExp(`the bytes, line ${line}[ :]`));
        }
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("limits of rows, lines and windows are kept, and a closed file says so", async () => {
  const bytes = bytesOf(line.repeat(10));
  const over = (limit: string) => (error: unknown) =>
    error instanceof LimitError && error.message.includes(limit);
  await assert.rejects(readRollout(bytes, { maxRows: 9 }), over("maxRows"));
  await assert.rejects(readRollout(bytes, { maxLineBytes: line.length - 2 }), over("maxLineBytes"));
  await assert.rejects(
    readRollout(bytesOf("x".repeat(3_000_000)), { maxLineBytes: 2_000_000 }),
    over("maxLineBytes"),
  );
  const file = await readRollout(bytes, { maxWindowBytes: 3 * line.length });
  await assert.rejects(file.rows(0, 4), /rows 0 to 3 have .*maxWindowBytes.*; read fewer at once/);
  await using narrow = await readRollout(bytes, { maxWindowBytes: 10 });
  await assert.rejects(narrow.rows(2, 3), /row 2 has \d+ bytes, more than maxWindowBytes, 10$/);
  assert.equal((await file.rows(0, 3)).length, 3);
  assert.equal((await Array.fromAsync(file)).length, 10);
  await assert.rejects(file.rows(3, 2), ValidationError);
  await file[Symbol.asyncDispose]();
  await assert.rejects(file.rows(0, 1), StateError);
  await assert.rejects(readRollout("/nowhere/rows.jsonl"), /does not exist/);
  await assert.rejects(
    readRollout(bytes, { signal: AbortSignal.abort(new Error("enough")) }),
    /enough/,
  );
});

Deno.test("a safetensors file that is closed says so to whoever reads it row by row", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "rows.safetensors");
  await writeRollout(
    path,
    new RolloutBatch({ rows: [rowOf(0), rowOf(1)], shape: [2], versionNames: [] }),
  );
  const file = await readRollout(path);
  await file[Symbol.asyncDispose]();
  await assert.rejects(Array.fromAsync(file.entries()), StateError);
  await assert.rejects(Array.fromAsync(file.jsonLines()), StateError);
});

Deno.test("a safetensors file with a byte changed, or cut, is read or refused, never worse", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "rows.safetensors");
  const rows = [
    rowOf(1, { tokenVersions: Int32Array.of(0) }),
    rowOf(2, { tokenVersions: Int32Array.of(0) }),
  ];
  await writeRollout(path, new RolloutBatch({ rows, shape: [2], versionNames: ["0"] }));
  const whole = await Deno.readFile(path);
  await fc.assert(
    fc.asyncProperty(
      fc.nat(whole.length - 1),
      fc.nat(255),
      fc.boolean(),
      async (at, byte, cuts) => {
        const bytes = cuts ? whole.slice(0, at) : whole.slice();
        if (!cuts) bytes[at] = byte;
        try {
          await using file = await readRollout(bytes);
          const rows = await Array.fromAsync(file.entries());
          assert.deepEqual(rows.map(({ row }) => row), [0, 1].slice(0, file.length));
          await Array.fromAsync(file);
        } catch (error) {
          if (!(error instanceof SGLangError)) throw error;
        }
      },
    ),
    { numRuns: 1000 },
  );
  await assert.rejects(readRollout(whole.slice(0, -1)), /is no safetensors file/);
});

/** Numbers that files hold, those that JSON has no form for among them. */
const anyNumber = fc.oneof(
  fc.double().map((value) => Math.fround(value)),
  fc.constantFrom(Infinity, -Infinity, NaN),
);

Deno.test("whatever number a row has, it is written so that it reads back, by the writer and by the export", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "rows.jsonl");
  await fc.assert(
    fc.asyncProperty(
      anyNumber,
      fc.array(anyNumber, { maxLength: 5 }),
      fc.constantFrom(1, Infinity, -Infinity, null),
      async (reward, logProbs, kept) => {
        const row = rowOf(1, {
          reward,
          logProbs: Float32Array.from(logProbs),
          responseIds: Int32Array.from(logProbs, (_, i) => i),
          info: { kept, text: "null" },
        });
        const batch = new RolloutBatch({ rows: [row], shape: [1] });
        await writeJsonLines(path, batch);
        const tensors = join(folder.path, "rows.safetensors");
        await writeRollout(tensors, batch);
        for (const source of [path, tensors]) {
          await using file = await readRollout(source);
          const exported = (await Array.fromAsync(file.jsonLines())).join("");
          for (const text of [undefined, exported]) {
            await using again = text === undefined ? undefined : await readRollout(bytesOf(text));
            const [read] = await (again ?? file).rows(0, 1);
            assert.equal(read!.reward + 0, reward + 0);
            assert.deepEqual(
              Array.from(read!.logProbs!, (one) => one + 0),
              logProbs.map((one) => one + 0),
            );
            assert.deepEqual(read!.info, { kept, text: "null" });
          }
        }
      },
    ),
    { numRuns: 30 },
  );
});

Deno.test("a file is opened however many broken lines come first, and an empty one has no rows", async () => {
  for (const count of [1, 65, 1001, 3000]) {
    await using file = await readRollout(bytesOf(`${"{broken\n".repeat(count)}${line}`));
    assert.deepEqual([file.length, file.schema], [count + 1, "sglang-rl.rollout/2"]);
    assert.equal((await file.rows(count, count + 1))[0]!.dialog, 4);
  }
  await assert.rejects(readRollout(bytesOf("{broken\n".repeat(2000))), /line 1 is not JSON/);
  for (const text of ["", "\n\n"]) {
    await using file = await readRollout(bytesOf(text));
    assert.equal(file.length, 0);
    assert.deepEqual(await Array.fromAsync(file.jsonLines()), []);
  }
});
