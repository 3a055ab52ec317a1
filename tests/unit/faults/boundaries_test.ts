import assert from "node:assert/strict";
import { openCheckpoint, type OpenOptions } from "../../../src/checkpoint/mod.ts";
import { SGLangClient, type SGLangClientOptions } from "../../../src/client/mod.ts";
import { ReplayBuffer } from "../../../src/collector/mod.ts";
import {
  LimitError,
  SGLangError,
  TemplateLimitError,
  TimeoutError,
  UnreachableError,
} from "../../../src/errors.ts";
import { makeTokenDecoder } from "../../../src/internal/token_decoder.ts";
import { LocalTokenizer } from "../../../src/policy/local_tokenizer.ts";
import type { TemplateLimits } from "../../../src/policy/templates/jinja/mod.ts";
import { renderChat } from "../../../src/policy/templates/render.ts";
import { FakeClock, until } from "../../_support/clock.ts";
import { type RawHandler, rawServer, send } from "../../_support/raw_server.ts";

/** What came of a fault: the error, and whether the deadline had to pass for it. */
type Fault = () => Promise<unknown>;

const OK = "HTTP/1.1 200 OK\r\n";
const CHUNKED = `${OK}transfer-encoding: chunked\r\n\r\n`;
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;

/** Asks a server that misbehaves. Time stands still until the server has been asked. */
function asking(
  handler: RawHandler,
  ask: (client: SGLangClient) => Promise<unknown>,
  options: Partial<SGLangClientOptions> & { passes?: boolean } = {},
): Fault {
  return async () => {
    const { passes = false, ...more } = options;
    await using server = rawServer(handler);
    const clock = new FakeClock();
    await using client = new SGLangClient({
      url: server.url,
      clock,
      vocabSize: 100,
      capabilities: { streamMode: "incremental" } as SGLangClientOptions["capabilities"],
      abandon: () => Promise.resolve(),
      retry: { retries: 0 },
      ...more,
    });
    const asked = ask(client).then(() => undefined, (error: unknown) => error);
    if (passes) {
      await until(() => server.requests.length > 0);
      await clock.advance(5000);
    }
    return await asked;
  };
}

const info = (client: SGLangClient) => client.serverInfo({ timeoutMs: 5000 });
const generate = (client: SGLangClient) => client.generate({ text: "a" }, { timeoutMs: 5000 });
const stream = async (client: SGLangClient) => {
  for await (const _ of client.stream({ text: "a" }, { timeoutMs: 5000 }));
};

/** Sends the beginning, then the rest again and again until the client has had enough. */
function endless(beginning: string, rest: string): RawHandler {
  return async (connection) => {
    await send(connection, beginning);
    for (;;) await send(connection, rest);
  };
}

/** Sends the beginning and then nothing until the client closes. */
function silent(beginning: string): RawHandler {
  return async (connection) => {
    await send(connection, beginning);
    await connection.read(new Uint8Array(1));
  };
}

function inFolder(
  make: (folder: string) => Promise<unknown>,
  options?: OpenOptions,
): Fault {
  return async () => {
    const folder = await Deno.makeTempDir();
    try {
      await make(folder);
      await using _ = await openCheckpoint(folder, options);
      return undefined;
    } catch (error) {
      return error;
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  };
}

const faults: Readonly<Record<string, Fault>> = {
  "an answer without end": asking(endless(CHUNKED, chunk("x".repeat(60_000))), info),
  "a generation without end": asking(endless(CHUNKED, chunk("x".repeat(60_000))), generate),
  "an announced length of 10 GB": asking(silent(`${OK}content-length: 10000000000\r\n\r\n`), info),
  "an event of a stream without end": asking(endless(CHUNKED, chunk("x".repeat(60_000))), stream),
  "a stream of empty events without end": asking(
    endless(CHUNKED, chunk("data:\n".repeat(10_000))),
    stream,
  ),
  "an error text without end": asking(
    endless("HTTP/1.1 500 X\r\n\r\n", "e".repeat(60_000)),
    info,
  ),
  "headers without end": asking(endless(OK, "a: b\r\n".repeat(100)), info),
  "answers before the answer without end": asking(
    endless("", "HTTP/1.1 100 Continue\r\n\r\n"),
    info,
  ),
  "a packed answer": asking(silent(`${OK}content-encoding: gzip\r\n\r\n`), info),
  "JSON that is nested a million times": asking(
    endless(`${OK}content-length: 1000000\r\n\r\n`, "[".repeat(10_000)),
    info,
  ),
  "JSON of a million empty lists": asking(
    silent(`${OK}content-length: 3000001\r\n\r\n[${"[],".repeat(999_999)}[]]`),
    info,
  ),
  "no answer at all": asking(silent(""), info, { passes: true }),
  "an answer that stops in its middle": asking(
    silent(`${OK}content-length: 9\r\n\r\n{`),
    generate,
    {
      passes: true,
    },
  ),
  "a stream of pings": asking(silent(CHUNKED + chunk(": ping\n\n")), stream, { passes: true }),
  "a connection that is cut": asking((connection) => send(connection, OK), info),
  "a proxy that answers": asking(
    silent("HTTP/1.1 503 No\r\nvia: 1.1 squid\r\ncontent-length: 2\r\n\r\nno"),
    info,
  ),
  "memory released while nothing is paused": asking(
    silent(""),
    (client) => client.releaseMemoryOccupation(),
  ),
  "memory taken back that was not released": asking(
    silent(""),
    (client) => client.resumeMemoryOccupation(),
  ),
  "a pipe in a model folder": inFolder((folder) =>
    new Deno.Command("mkfifo", { args: [`${folder}/model.safetensors`] }).output()
  ),
  "a device in a model folder": inFolder((folder) =>
    Deno.symlink("/dev/zero", `${folder}/model.safetensors.index.json`)
  ),
  "a loop of links in a model folder": inFolder((folder) =>
    Deno.symlink(`${folder}/model.safetensors`, `${folder}/model.safetensors`)
  ),
  "a header of 90 MB": inFolder(async (folder) => {
    using file = await Deno.create(`${folder}/model.safetensors`);
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, 90_000_000n, true);
    await file.write(length);
    await file.truncate(90_000_008);
  }),
  "a header of more tensors than a model has": inFolder((folder) => {
    const entry = { dtype: "F32", shape: [0], data_offsets: [0, 0] };
    const header = new TextEncoder().encode(JSON.stringify({ a: entry, b: entry, c: entry }));
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
    const bytes = new Uint8Array([...length, ...header]);
    return Deno.writeFile(`${folder}/model.safetensors`, bytes);
  }, { maxTensors: 2 }),
  "an index of 20,000 files": inFolder((folder) => {
    const names = Array.from({ length: 20_000 }, (_, i) => [`t${i}`, `f${i}.safetensors`]);
    return writeIndex(folder, Object.fromEntries(names));
  }),
  "an index of more tensors than a model has": inFolder(
    (folder) => writeIndex(folder, { a: "x.safetensors", b: "x.safetensors" }),
    { maxTensors: 1 },
  ),
  "an index of more bytes than one has": inFolder(
    (folder) => writeIndex(folder, { a: "x.safetensors" }),
    { maxIndexBytes: 10 },
  ),
  "a folder of more files than a model has": inFolder(async (folder) => {
    for (let i = 0; i < 3; i++) {
      await Deno.writeFile(`${folder}/${i}.safetensors`, new Uint8Array());
    }
  }, { maxFiles: 2 }),
  "an index that names a file elsewhere": inFolder((folder) =>
    writeIndex(folder, { a: "../../etc/passwd" })
  ),
  "a tokenizer.json that is nested a million times": async () => {
    const folder = await Deno.makeTempDir();
    try {
      await Deno.writeTextFile(`${folder}/tokenizer.json`, "[".repeat(1_000_000));
      return await LocalTokenizer.fromFolder(folder).catch((error: unknown) => error);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
  "a pattern of tokenizer.json that never ends": thrown(() =>
    makeTokenDecoder({
      tokens: ["a".repeat(60) + "b"],
      special: new Set(),
      decoder: { type: "Replace", pattern: { Regex: "(a|a)+$" }, content: "c" },
    }).decode([0], false)
  ),
  "a chat template that loops for hours": rendering(
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    { maxSteps: 10 ** 12, maxMs: 20 },
  ),
  "a chat template that does too much": rendering(
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    { maxSteps: 10_000 },
  ),
  "a chat template that fills the memory": rendering("{{ 'a' * 10 ** 9 }}"),
  "a chat template that calls itself": rendering(
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
  ),
  "a chat template that reaches out of its world": rendering(
    "{{ messages.constructor.constructor('return 1')() }}",
  ),
  "a collector that fails while rows are waited for": async () => {
    const buffer = new ReplayBuffer({ capacity: 10 });
    buffer.begin();
    const waiting = buffer.waitFor(5).catch((error: unknown) => error);
    buffer.end(new UnreachableError("the server is gone", { url: "http://127.0.0.1:1" }));
    return await waiting;
  },
};

function writeIndex(folder: string, weight_map: Record<string, string>): Promise<void> {
  const text = JSON.stringify({ weight_map });
  return Deno.writeTextFile(`${folder}/model.safetensors.index.json`, text);
}

function thrown(run: () => unknown): Fault {
  return () => {
    try {
      run();
      return Promise.resolve(undefined);
    } catch (error) {
      return Promise.resolve(error);
    }
  };
}

function rendering(template: string, limits?: Partial<TemplateLimits>): Fault {
  const messages = [{ role: "user" as const, content: "x" }];
  return thrown(() => renderChat(messages, { template, addGenerationPrompt: false, limits }));
}

const page = new URL("../../../docs/faults.md", import.meta.url);
const [begin, end] = ["<!-- boundaries -->", "<!-- /boundaries -->"];

/** A row of the table: what happens, in which class of error it ends, and by what. */
function rowOf(fault: string, error: unknown): string {
  assert.ok(error instanceof SGLangError, `${fault}: ${Deno.inspect(error)}`);
  const by = error instanceof LimitError || error instanceof TemplateLimitError
    ? `\`${error.limit}\``
    : error instanceof TimeoutError
    ? "the deadline of the call"
    : "at once";
  return `| ${fault} | \`${error.name}\`, code \`"${error.code}"\` | ${by} |`;
}

Deno.test("every fault at a boundary ends in the error that the page of faults tells", async () => {
  const rows: string[] = [];
  for (const [fault, cause] of Object.entries(faults)) rows.push(rowOf(fault, await cause()));
  const table = ["| A peer or a file brings | Error | Ended by |", "| --- | --- | --- |", ...rows];
  const text = await Deno.readTextFile(page);
  const [before, told, after] = [
    text.slice(0, text.indexOf(begin) + begin.length),
    text.slice(text.indexOf(begin) + begin.length, text.indexOf(end)),
    text.slice(text.indexOf(end)),
  ];
  if (Deno.env.get("UPDATE_DOCS") === "1") {
    await Deno.writeTextFile(page, `${before}\n\n${table.join("\n")}\n\n${after}`);
    return;
  }
  const cells = (lines: string) =>
    lines.trim().split("\n").map((line) => line.split("|").map((cell) => cell.trim()).join("|"))
      .filter((line) => !line.includes("---"));
  assert.deepEqual(cells(told), cells(table.join("\n")), "run again with UPDATE_DOCS=1");
});
