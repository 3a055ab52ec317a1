/** Fields that want a grammar: honoured where the servers can, else refused by name. */
// deno-lint-ignore-file no-explicit-any
import assert from "node:assert/strict";
import fc from "fast-check";
import { AsyncSGLang, type GenerateOptions } from "../../../src/engine/mod.ts";
import { RecordingGateway } from "../../../src/gateway/mod.ts";
import { callsOrFormat, callsOrWhole, requiredCalls } from "../../../src/gateway/grammars.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import { until } from "../../_support/clock.ts";
import { setup } from "./_support.ts";

const messages = [{ role: "user", content: "Talk" }];
const schema = { type: "object", properties: { a: { type: "number" } }, required: ["a"] };
const tools = [{ type: "function", function: { name: "add", parameters: schema } }];
const chat = (more: object) => ["/v1/chat/completions", { model: "m", messages, ...more }] as const;
const claude = (more: object) =>
  ["/v1/messages", { model: "m", max_tokens: 8, messages, ...more }] as const;
const claudeTools = [{ name: "add", input_schema: schema }];
const responses = (more: object) =>
  ["/v1/responses", { model: "m", input: "Talk", ...more }] as const;
const responseTools = [{ type: "function", name: "add", parameters: schema }];
const jsonSchema = { type: "json_schema", json_schema: { name: "a", schema, strict: true } };

/** Requests that want a grammar, by the field that does. */
const wanting: readonly (readonly [field: string, request: readonly [string, object]])[] = [
  ["response_format", chat({ response_format: jsonSchema })],
  ["response_format", chat({ response_format: { type: "json_object" } })],
  ["response_format", chat({ response_format: jsonSchema, tools, tool_choice: "none" })],
  ["response_format", chat({ response_format: jsonSchema, tools })],
  ["tool_choice", chat({ response_format: jsonSchema, tools, tool_choice: "required" })],
  [
    "output_config.format",
    claude({ tools: claudeTools, output_config: { format: { type: "json_schema", schema } } }),
  ],
  ["regex", chat({ regex: "[0-9]+" })],
  ["ebnf", chat({ ebnf: 'root ::= "a"', stream: true })],
  ["tool_choice", chat({ tools, tool_choice: "required" })],
  [
    "tool_choice",
    chat({ tools, tool_choice: { type: "function", function: { name: "add" } }, stream: true }),
  ],
  ["regex", ["/v1/completions", { model: "m", prompt: "a", regex: "[0-9]+" }]],
  ["text.format", responses({ text: { format: { type: "json_schema", name: "a", schema } } })],
  ["text.format", responses({ text: { format: { type: "json_object" } }, stream: true })],
  ["tool_choice", responses({ tools: responseTools, tool_choice: "required" })],
  [
    "tool_choice",
    responses({ tools: responseTools, tool_choice: { type: "function", name: "add" } }),
  ],
  ["output_config.format", claude({ output_config: { format: { type: "json_schema", schema } } })],
  ["tool_choice", claude({ tools: claudeTools, tool_choice: { type: "any" } })],
  ["tool_choice", claude({ tools: claudeTools, tool_choice: { type: "tool", name: "add" } })],
];

async function post(
  { url, key }: { url: string; key: string },
  [path, body]: readonly [string, object],
): Promise<{ status: number; body: any; ignored: string | null }> {
  const headers = { authorization: `Bearer ${key}` };
  const response = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json");
  const ignored = response.headers.get("x-sglang-rl-ignored");
  return { status: response.status, body: isJson ? JSON.parse(text) : text, ignored };
}

Deno.test("a server without grammars is asked for none: the field is named in each API's shape", async () => {
  await using it = await setup();
  await using session = it.gateway.open();
  const place = { url: it.gateway.url, key: session.key };
  for (const [field, request] of wanting) {
    const { status, body } = await post(place, request);
    assert.equal(status, 400, JSON.stringify(request));
    assert.match(
      body.error.message,
      new RegExp(`"${field}" needs a grammar.*grammar-backend none`),
    );
    if (request[0] === "/v1/messages") {
      assert.deepEqual([body.type, body.error.type], ["error", "invalid_request_error"]);
    } else {
      const { type, param, code } = body.error;
      assert.deepEqual([type, param, code], ["invalid_request_error", field, "unsupported"]);
    }
  }
  assert.equal(session.turns.length, 0);
  for (const tool_choice of ["auto", "none"]) {
    assert.equal((await post(place, chat({ tools, tool_choice }))).status, 200);
  }
});

Deno.test("two grammars, and one that is no format beside tools that may be called, are refused", async () => {
  await using it = await setup();
  await using session = it.gateway.open();
  const place = { url: it.gateway.url, key: session.key };
  const wrong: [readonly [string, object], RegExp][] = [
    [chat({ regex: "a", response_format: jsonSchema }), /"response_format" and "regex" each/],
    [chat({ tools, tool_choice: "required", regex: "a" }), /and "tool_choice" each/],
    [chat({ tools, regex: "a" }), /"regex" leaves .* no room for calls of "tools"/],
    [chat({ tools, ebnf: 'root ::= "a"' }), /no room for calls of "tools"/],
    [chat({ response_format: { type: "xml" } }), /must be one of text, json_object/],
    [chat({ response_format: { type: "json_schema" } }), /must have a schema/],
  ];
  for (const [request, pattern] of wrong) {
    const { status, body } = await post(place, request);
    assert.equal(status, 400);
    assert.match(body.error.message, pattern);
  }
});

Deno.test("fields within others are read, told as ignored, or refused by their path", async () => {
  await using it = await setup();
  await using session = it.gateway.open();
  const place = { url: it.gateway.url, key: session.key };
  const strict = [{ type: "function", function: { ...tools[0]!.function, strict: true } }];
  const told: [readonly [string, object], string | null][] = [
    [
      chat({ tools: [...strict, { ...strict[0], function: { name: "b", strict: true } }] }),
      "tools[].function.strict",
    ],
    [chat({ tools: [{ type: "function", function: { name: "b", strict: false } }] }), null],
    [
      responses({ tools: [{ ...responseTools[0], strict: true }], text: { verbosity: "low" } }),
      "tools[].strict, text.verbosity",
    ],
    [claude({ output_config: { effort: "low" } }), "output_config.effort"],
    [
      claude({
        tools: [{ ...claudeTools[0], cache_control: { type: "ephemeral" } }],
        tool_choice: { type: "auto", disable_parallel_tool_use: true },
      }),
      "tools[].cache_control, tool_choice.disable_parallel_tool_use",
    ],
    [
      chat({ stream_options: { include_obfuscation: false } }),
      "stream_options.include_obfuscation",
    ],
  ];
  for (const [request, ignored] of told) {
    const answer = await post(place, request);
    assert.deepEqual([answer.status, answer.ignored], [200, ignored], JSON.stringify(answer.body));
  }
  const { status, body } = await post(place, chat({ stream_options: { include_usge: true } }));
  assert.equal(status, 400);
  assert.match(body.error.message, /"stream_options.include_usge".*did you mean "include_usage"/);
});

/** An engine whose server says that it has grammars; what would follow one is what the model says. */
async function withGrammars(onGenerate: (options: GenerateOptions) => void) {
  const stack = new AsyncDisposableStack();
  const it = stack.use(await setup());
  const engine = stack.use(await AsyncSGLang.connect(it.server.url));
  for (const worker of engine.workers) {
    (worker as { grammarBackend: string }).grammarBackend = "xgrammar";
  }
  const plain = ({ samplingParams, ...options }: GenerateOptions): GenerateOptions => {
    onGenerate({ samplingParams, ...options });
    const { jsonSchema: _, regex: __, ebnf: ___, ...rest } = samplingParams as any;
    return { ...options, samplingParams: rest };
  };
  const { generateAll, stream } = engine;
  engine.generateAll = (prompts, options) => generateAll.call(engine, prompts, plain(options));
  engine.stream = (prompt, options) => stream.call(engine, prompt as string, plain(options!));
  const generateKwargs = { maxNewTokens: 12, ignoreEos: true };
  const policy = new SGLangWrapper(engine, { generateKwargs });
  const gateway = stack.use(await RecordingGateway.listen(policy));
  return { server: it.server, engine, gateway, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

Deno.test("a server with grammars is sent each one, and whoever reads the answer sees what was said", async () => {
  const sent: any[] = [];
  await using it = await withGrammars(({ samplingParams }) => sent.push(samplingParams));
  await using session = it.gateway.open();
  const place = { url: it.gateway.url, key: session.key };
  for (const [field, request] of wanting) {
    const { status, body } = await post(place, request);
    assert.equal(status, 200, JSON.stringify(body));
    const { jsonSchema, regex, ebnf } = sent.at(-1);
    const grammar = field === "regex" ? regex : field === "ebnf" ? ebnf : jsonSchema;
    assert.ok(grammar !== undefined, field);
  }
  assert.deepEqual(sent[0].jsonSchema, schema);
  assert.equal(sent.length, wanting.length);
  assert.equal(session.turns[0]!.shown.reasoning, null);
});

Deno.test("an answer under a grammar that a pause cuts is recorded, and asked for again", async () => {
  await using it = await withGrammars(() => {});
  await using session = it.gateway.open();
  const place = { url: it.gateway.url, key: session.key };
  for (const stream of [false, true]) {
    it.server.setFaults({ stallAfterTokens: 5 });
    const asking = post(place, chat({ regex: "a*", stream, max_tokens: 30 }));
    await until(() => it.server.faults.stalled === true);
    await it.engine.pause("abort");
    await it.engine.resume();
    it.server.setFaults({ stalled: false, stallAfterTokens: 0 });
    const { status, body } = await asking;
    if (stream) assert.match(body, /"code":"paused"/);
    else assert.deepEqual([status, body.error.code], [503, "paused"]);
  }
  const { rows } = await session.end();
  assert.deepEqual(rows.map(({ info, finishReason }) => [info.aborted, finishReason.type]), [
    [true, "abort"],
    [true, "abort"],
  ]);
  for (const { responseIds } of rows) assert.ok(responseIds.length > 0 && responseIds.length < 30);
});

Deno.test("references of a tool's schema to itself lead to the same places in the schema of the calls", () => {
  const names = fc.constantFrom("node", "leaf", "other");
  fc.assert(fc.property(fc.array(names, { minLength: 1 }), fc.nat(2), (order, at) => {
    const inner = {
      type: "object",
      properties: Object.fromEntries(
        order.map((name, i) => [`p${i}`, { $ref: `#/$defs/${name}` }]),
      ),
      $defs: {
        node: { anyOf: [{ $ref: "#" }, { type: "null" }] },
        leaf: { type: "string" },
        other: {},
      },
    };
    const tools = Array.from({ length: 3 }, (_, i) => ({
      type: "function",
      function: { name: `t${i}`, parameters: i === at ? inner : { type: "object" } },
    }));
    const whole: any = requiredCalls(tools, null);
    const resolve = (ref: string): any =>
      ref.slice(2).split("/").reduce((value, part) => value[part], whole);
    const moved = resolve(whole.items.anyOf[at].properties.parameters.$ref);
    for (const [i, name] of order.entries()) {
      const found = resolve(moved.properties[`p${i}`].$ref);
      if (name === "node") assert.equal(resolve(found.anyOf[0].$ref), moved);
      else assert.deepEqual(found, (inner.$defs as any)[name]);
    }
  }));
});

Deno.test("beside a format an answer is calls of the tools on offer, or the whole of what it says", () => {
  const read: any = callsOrWhole(tools);
  const name = fc.constantFrom("add", "sub");
  const call = fc.record({ name, parameters: fc.dictionary(fc.string(), fc.jsonValue()) });
  const answer = fc.oneof(fc.array(call), fc.array(fc.oneof(call, fc.jsonValue())), fc.jsonValue());
  fc.assert(fc.property(answer, (value) => {
    const text = JSON.stringify(value);
    const { calls, content } = read(text, {});
    const isCalls = Array.isArray(value) && value.length > 0 &&
      value.every((one: any) =>
        Object.keys(one ?? {}).sort().join() === "name,parameters" && one.name === "add" &&
        typeof one.parameters === "object" && one.parameters !== null &&
        !Array.isArray(one.parameters)
      );
    if (isCalls) {
      const made = calls.map(({ name, arguments: parameters }: any) => ({ name, parameters }));
      assert.deepEqual([made, content], [JSON.parse(text), ""]);
    } else assert.deepEqual([calls, content], [[], text]);
  }));
  for (const text of ["[", "", "[".repeat(100_000)]) {
    assert.equal(read(text, {}).content, text);
  }
});

Deno.test("the schema beside tools is the format's or the calls', each with its references", () => {
  const format = {
    type: "object",
    properties: { a: { $ref: "#/$defs/a" } },
    $defs: { a: { type: "string" } },
  };
  const parameters = { type: "object", properties: { b: { $ref: "#/$defs/b" } }, $defs: { b: {} } };
  const whole: any = callsOrFormat(
    [{ type: "function", function: { name: "t", parameters } }],
    format,
  );
  assert.deepEqual(Object.keys(whole).sort(), ["$defs", "anyOf"]);
  assert.equal(whole.anyOf[0].type, "array");
  const resolve = (ref: string): any =>
    ref.slice(2).split("/").reduce((value, part) => value[part], whole);
  const moved = resolve(whole.anyOf[1].$ref);
  assert.deepEqual(resolve(moved.properties.a.$ref), { type: "string" });
});
