/** What reads bytes, texts and values of others, and inputs for it. */
import fc from "fast-check";
import { parseGeneration } from "../../src/client/generation.ts";
import { serverMessageOf } from "../../src/client/classify.ts";
import { StreamAssembler } from "../../src/client/stream.ts";
import { readEvents } from "../../src/client/sse.ts";
import { parseManifest } from "../../src/delta/manifest.ts";
import { readPeftConfig } from "../../src/adapters/peft_config.ts";
import { parseQueue } from "../../src/fleet/discovery/slurm.ts";

import { encodeMessage, FrameReader } from "../../src/trainer/frames.ts";
import { readOffer } from "../../src/trainer/push_offer.ts";
import { capabilitiesOf } from "../../src/client/capabilities.ts";
import { parseLoads, parseModelInfo, parseServerInfo } from "../../src/client/server_info.ts";
import { encodeHeader, parseHeader } from "../../src/checkpoint/header.ts";
import { parseStrictJson } from "../../src/checkpoint/json.ts";
import { encodeHead, parseGlooRank, parseHead } from "../../src/collective/gloo/wire.ts";
import { encodeGlooRank } from "../../src/collective/gloo/wire.ts";
import { BodyReader } from "../../src/http/body.ts";
import { ByteReader } from "../../src/http/byte_reader.ts";
import { framingOf, parseHead as parseHttpHead } from "../../src/http/message.ts";
import { readHead } from "../../src/http/read_head.ts";
import { isRecord, parseJson } from "../../src/internal/json.ts";
import { LocalTokenizer } from "../../src/policy/local_tokenizer.ts";
import { parseChat } from "../../src/policy/templates/parse.ts";
import { renderChat } from "../../src/policy/templates/render.ts";
import { toolCallsIn, toolResponsesIn } from "../../src/policy/templates/written_calls.ts";
import { parseKeeperEvent } from "../../src/process/keeper_event.ts";
import { defaultStoreLimits } from "../../src/rendezvous/limits.ts";
import { StoreSession } from "../../src/rendezvous/session.ts";
import { KeyTable } from "../../src/rendezvous/table.ts";
import { jsonLines, RolloutBatch } from "../../src/collector/mod.ts";
import { toTensors } from "../../src/collector/export/safetensors.ts";
import { readRollout } from "../../src/rollout_file/mod.ts";
import { parseAccepted, parseWorkers } from "../../src/router/worker.ts";
import { rowOf } from "../_support/rollout_rows.ts";
import { modelInfo, serverInfo } from "../_support/http_stand_in.ts";
import { goOnWithLines, manyLines, parquetFiles, readDataset } from "./files.ts";
import { gatewayBodies, readGatewayBody } from "./gateway_bodies.ts";
import { mutatedBytes, mutatedJson, mutatedJsonText, mutatedText } from "./mutate.ts";

/** One reader with its inputs. It may only end, or throw an error of the library. */
export interface FuzzTarget {
  readonly name: string;
  readonly property: fc.IAsyncPropertyWithHooks<[unknown]>;
  /** Runs as if each input were this many: for readers whose inputs cost more. */
  readonly weight: number;
}

/** Makes a target; `check` wraps each run. */
export type Check = (run: () => unknown) => Promise<void>;

const utf8 = new TextEncoder();

const answer = {
  text: "<5><6>",
  output_ids: [5, 6],
  prompt_token_ids: [1, 2],
  meta_info: {
    id: "r",
    finish_reason: { type: "stop", matched: 7 },
    prompt_tokens: 2,
    completion_tokens: 2,
    cached_tokens: 0,
    weight_version: "default",
    weight_versions: [{ version: "1", start: 0, end: 2 }],
    e2e_latency: 0.01,
    output_token_logprobs: [[-0.5, 5, "a"], [-1.5, 6, null]],
    output_top_logprobs: [[[-0.5, 5, "a"]], null],
    input_token_logprobs: [[null, 1, null], [-2, 2, null]],
  },
};
const context = { server: "http://s", promptIds: null, wantsLogProbs: true };

const words = [
  "<tool_call>",
  "</tool_call>",
  "<|im_start|>",
  "<|im_end|>",
  "<|start_header_id|>",
  "<|header_start|>",
  "<|eot_id|>",
  "<tool_response>",
  "User:",
  "Assistant:",
  '{"name": "f", "arguments": {',
];
const chats: Readonly<Record<string, string>> = {
  qwen:
    '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>',
  llama: "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
  falcon: "User: hi\nAssistant: ho",
};

const template =
  "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content | trim }}</u>{% else %}{{ m['content'] }}{% endif %}{% endfor %}{% set x = namespace(n=0) %}{{ x.n + 1 }}";

const tokenizer = {
  version: "1.0",
  added_tokens: [{ id: 3, content: "<s>", special: true, lstrip: false, normalized: false }],
  normalizer: null,
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false },
  post_processor: null,
  decoder: { type: "ByteLevel" },
  model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2 }, merges: ["a b"] },
};

const event = `data: ${JSON.stringify(answer)}\n\n: ping\n\ndata: [DONE]\n\n`;
const http = "HTTP/1.1 200 OK\r\ncontent-type: a\r\ntransfer-encoding: chunked\r\n\r\n" +
  "5\r\nhello\r\n3;a=b\r\nyou\r\n0\r\n\r\n";

/** All targets. */
export function targets(check: Check): FuzzTarget[] {
  const target = <T>(
    name: string,
    input: fc.Arbitrary<T>,
    read: (input: T) => unknown,
    weight = 1,
  ): FuzzTarget => ({
    name,
    weight,
    property: fc.asyncProperty(
      input as fc.Arbitrary<unknown>,
      (value) => check(() => read(value as T)),
    ),
  });
  return [
    target("JSON of a peer", mutatedJsonText(answer), (text) => parseJson(text, "it")),
    target("HTTP answers", mutatedBytes(utf8.encode(http)), readHttp),
    target("events of a stream", mutatedBytes(utf8.encode(event)), readAllEvents),
    target(
      "answers of /generate",
      mutatedJson(answer),
      (value) => parseGeneration(value, { ...context, latencyMs: 1 }),
    ),
    target(
      "steps of a stream",
      fc.tuple(mutatedJsonText(answer), mutatedJsonText(answer)),
      (steps) => {
        for (const mode of ["cumulative", "incremental"] as const) {
          const assembler = new StreamAssembler(mode, context);
          for (const step of steps) assembler.add(step, 1);
        }
      },
    ),
    ...Object.entries(gatewayBodies).map(([name, { api, body }]) =>
      target(name, mutatedJson(body), (value) => readGatewayBody(api, value))
    ),
    target("error texts", mutatedJsonText({ error: { message: "no" } }), serverMessageOf),
    target("/server_info", mutatedJson(serverInfo), (value) => {
      capabilitiesOf(parseServerInfo(value).raw);
    }),
    target("/model_info", mutatedJson(modelInfo), parseModelInfo),
    target(
      "/v1/loads",
      mutatedJson({ loads: [{ num_running_reqs: 1, num_waiting_reqs: 0 }] }),
      parseLoads,
    ),
    target(
      "a router's servers",
      mutatedJson({ workers: [{ id: "1", url: "http://a:1" }] }),
      parseWorkers,
    ),
    target("a router's answer", mutatedJson({ worker_id: "1" }), parseAccepted),
    target(
      "headers of safetensors",
      mutatedJsonText({
        __metadata__: { format: "pt" },
        w: { dtype: "F32", shape: [2, 2], data_offsets: [0, 16] },
      }),
      (text) => parseHeader(utf8.encode(text), 8 + text.length + 16),
    ),
    target(
      "bytes of safetensors headers",
      mutatedBytes(
        encodeHeader([{ name: "w", dtype: "float32", shape: [2] }], {}).subarray(8),
      ),
      (bytes) => parseHeader(bytes, 8 + bytes.length + 8),
    ),
    target(
      "indexes",
      mutatedJsonText({ weight_map: { w: "a.safetensors" } }),
      (text) => parseStrictJson(utf8.encode(text), "index"),
    ),
    target("conversations with a TCPStore", fc.uint8Array({ maxLength: 120 }), (bytes) => {
      const session = new StoreSession(new KeyTable(defaultStoreLimits), {
        limits: defaultStoreLimits,
        reply: () => {},
      });
      session.push(bytes);
      while (session.step());
      session.close();
    }),
    target(
      "heads of gloo",
      mutatedBytes(encodeHead({ opcode: 1, slot: 1n, length: 5 })),
      (bytes) => {
        if (bytes.length >= 48) parseHead(bytes);
      },
    ),
    target(
      "ranks of gloo",
      mutatedBytes(encodeGlooRank({
        hostname: "h",
        address: { ip: Uint8Array.of(127, 0, 0, 1), port: 1 },
        pairIds: [1n],
      })),
      parseGlooRank,
    ),
    target(
      "what a keeper says",
      mutatedText('{"event": "exited", "code": 0, "signal": null}'),
      parseKeeperEvent,
    ),
    target("files of a tokenizer", mutatedJson(tokenizer), (value) => {
      new LocalTokenizer({ tokenizer: value as Record<string, unknown> }).encode("abc");
    }, 4),
    target(
      "chat templates",
      mutatedText(template, [
        "{% for i in range(9) %}",
        "{% endfor %}",
        "{{ 'a' * 99 }}",
        "| tojson",
      ]),
      (text) =>
        renderChat([{ role: "user", content: "x" }], {
          template: text,
          addGenerationPrompt: true,
        }),
      4,
    ),
    ...Object.entries(chats).map(([name, chat]) =>
      target(`chats of ${name}`, mutatedText(chat, words), (text) => parseChat(text, name))
    ),
    target(
      "rollout files of JSON lines",
      mutatedJsonText(JSON.parse([...jsonLines(rollout)][0]!)),
      (text) => readAllRows(utf8.encode(text)),
    ),
    target("rollout files of safetensors", mutatedBytes(rolloutBytes()), readAllRows),
    target(
      "manifests of deltas",
      mutatedJsonText(deltaManifest),
      (text) => parseManifest(utf8.encode(text), "manifest"),
    ),
    target("pushes of a trainer", mutatedJson(push), (value) => {
      // A connection hands on objects only.
      if (isRecord(value)) readOffer(value, "trainer");
    }),
    target("frames of a trainer", mutatedBytes(encodeMessage(push)), readFrames),
    target("adapter_config.json", mutatedJson(peftConfig), (value) => {
      readPeftConfig(value as Parameters<typeof readPeftConfig>[0]);
    }),
    target("what squeue prints", mutatedText("3|gpu[1-2]\n|node-7\n"), parseQueue),
    target("datasets of JSON lines", manyLines, (bytes) => readDataset("jsonLines", bytes)),
    target("datasets of Parquet", parquetFiles(), (bytes) => readDataset("parquet", bytes), 8),
    target("lines of a sink that goes on", manyLines, goOnWithLines, 8),
    target("tool calls", mutatedText(chats.qwen!, words), toolCallsIn),
    target("answers of tools", mutatedText(chats.qwen!, words), toolResponsesIn),
  ];
}

const sha = "0".repeat(64);
const deltaManifest = {
  schema: "sglang-rl.delta/1",
  version: "one",
  number: 2,
  files: [{
    name: "model.safetensors",
    size: 10,
    sha256: sha,
    delta: { path: "model.safetensors.delta", size: 3, baseSha256: sha },
  }],
};
const push = {
  type: "push",
  push: 1,
  version: "7",
  kind: "adapter",
  adapter: { name: "policy", config: {} },
  tensors: [["w", "float32", [2, 2]]],
};
const peftConfig = {
  peft_type: "LORA",
  r: 8,
  lora_alpha: 16,
  target_modules: ["q_proj", "v_proj"],
  bias: "none",
  use_rslora: false,
};

const rollout = new RolloutBatch({
  rows: [rowOf(1, { tokenVersions: Int32Array.of(0) })],
  shape: [1],
  versionNames: ["0"],
});

function rolloutBytes(): Uint8Array {
  const tensors = toTensors(rollout).map(({ data, ...info }) => ({
    ...info,
    bytes: typeof data === "function"
      ? [...data() as Iterable<Uint8Array>].flatMap((piece) => [...piece])
      : [...new Uint8Array(data.buffer, data.byteOffset, data.byteLength)],
  }));
  const header = encodeHeader(tensors, {
    schema: "sglang-rl.rollout/2",
    version_names: '["0"]',
    finish_reasons: '["stop", "length", "abort"]',
  });
  return Uint8Array.from([...header, ...tensors.flatMap(({ bytes }) => bytes)]);
}

async function readAllRows(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  await using file = await readRollout(bytes);
  await Array.fromAsync(file);
}

/** Gives the bytes three at a time, as a slow network does. */
function inParts(bytes: Uint8Array): (most: number) => Uint8Array | null {
  let at = 0;
  return (most) => {
    if (at >= bytes.length) return null;
    const part = bytes.subarray(at, at + Math.min(3, most));
    at += part.length;
    return part;
  };
}

async function readFrames(bytes: Uint8Array): Promise<void> {
  const next = inParts(bytes);
  const reader = new FrameReader({
    read(target) {
      const part = next(target.length);
      if (part !== null) target.set(part);
      return Promise.resolve(part?.length ?? null);
    },
  }, "trainer");
  for (;;) {
    const { length } = await reader.head();
    await reader.message(length, 64 * 1024);
  }
}

async function readHttp(bytes: Uint8Array): Promise<void> {
  const next = inParts(bytes);
  const reader = new ByteReader((into) => {
    const part = next(into.length);
    if (part !== null) into.set(part);
    return Promise.resolve(part?.length ?? null);
  });
  const head = parseHttpHead(await readHead(reader));
  await new BodyReader(reader, framingOf(head)).text("answerBytes", 10_000);
}

async function readAllEvents(bytes: Uint8Array): Promise<void> {
  const next = inParts(bytes);
  const read = () => Promise.resolve(next(3));
  for await (const _ of readEvents(read, { eventBytes: 2000, streamBytes: 10_000 }));
}
