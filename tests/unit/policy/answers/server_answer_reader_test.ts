import assert from "node:assert/strict";
import fc from "fast-check";
import { SGLangClient } from "../../../../src/client/mod.ts";
import { readAnswer, serverAnswerReader } from "../../../../src/policy/chat.ts";
import type { ServerAnswerReaderOptions } from "../../../../src/policy/chat.ts";
import { until } from "../../../_support/clock.ts";
import { standIn, type StandInHandler } from "../../../_support/http_stand_in.ts";

const tools = [{ type: "function", function: { name: "add", parameters: { type: "object" } } }];
const call = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>';
const parsers = { toolCallParser: "qwen25", reasoningParser: "qwen3" };
const failed = () => new Response("Internal Server Error", { status: 500 });

/** Reads as SGLang's `Qwen25Detector` and `Qwen3Detector` do. */
const qwen = {
  "POST /parse_function_call": ({ body }) => {
    const text = body!.text as string;
    const at = text.indexOf("<tool_call>");
    if (at < 0) return Response.json({ normal_text: text, calls: [] });
    const calls = [...text.matchAll(/<tool_call>(.*?)<\/tool_call>/gs)].flatMap(([, json]) => {
      try {
        const { name, arguments: given } = JSON.parse(json!);
        if (name !== "add") return [];
        return [{ tool_index: 0, name, parameters: JSON.stringify(given) }];
      } catch {
        return [];
      }
    });
    return Response.json({ normal_text: text.slice(0, at).trim(), calls });
  },
  "POST /separate_reasoning": ({ body }) => {
    const text = body!.text as string;
    if (!text.includes("<think>")) return Response.json({ reasoning_text: "", text });
    const written = text.replace(/^(<think>)+/, "");
    const call = written.indexOf("<tool_call>");
    if (!written.includes("</think>") && call >= 0) {
      return Response.json({ reasoning_text: written.slice(0, call), text: written.slice(call) });
    }
    const [reasoning, ...rest] = written.split("</think>");
    return Response.json({ reasoning_text: reasoning, text: rest.join("</think>") });
  },
} satisfies Record<string, StandInHandler>;

async function withServer(
  handlers: Readonly<Record<string, StandInHandler>>,
  use: (
    read: ReturnType<typeof serverAnswerReader>,
    server: ReturnType<typeof standIn>,
  ) => Promise<void>,
  options: Partial<ServerAnswerReaderOptions> = parsers,
): Promise<void> {
  await using server = standIn(handlers);
  using client = new SGLangClient({ url: server.url });
  await use(serverAnswerReader({ server: client, ...options }), server);
}

Deno.test("thoughts and calls are what the server says", async () => {
  await withServer(qwen, async (read, server) => {
    assert.deepEqual(await read(`<think>hm</think>Sure. ${call}`, { tools }), {
      reasoning: "hm",
      content: "Sure.",
      calls: [{ name: "add", arguments: { a: 1 } }],
      faults: [],
    });
    assert.deepEqual(server.calls, ["POST /separate_reasoning", "POST /parse_function_call"]);
    assert.deepEqual(await read("<think>hm</think>It is 4.", { tools }), {
      reasoning: "hm",
      content: "It is 4.",
      calls: [],
      faults: [],
    });
  });
});

Deno.test("no call inside thoughts is run, also where the prompt opened them", async () => {
  const piece = fc.constantFrom("hm ", call, "<tool_call>", "</tool_call>", "\n");
  const thoughts = fc.array(piece, { maxLength: 5 }).map((pieces) => pieces.join(""));
  for (const chosen of [parsers, { toolCallParser: "qwen25" }, { reasoningParser: "qwen3" }]) {
    await withServer(qwen, async (read) => {
      await fc.assert(
        fc.asyncProperty(thoughts, fc.boolean(), fc.boolean(), async (thought, ends, calls) => {
          const said = ends ? `</think>${calls ? call : "4"}` : "";
          const expected = ends && calls ? 1 : 0;
          const opened = await read(thought + said, { tools, isThinking: true });
          assert.equal(opened.calls.length, expected);
          // SGLang takes thoughts without an end for ended where a call begins.
          const isTold = !ends && thought.includes("<tool_call>") && "reasoningParser" in chosen;
          assert.equal(opened.faults.length, isTold ? 1 : 0);
          const written = await read(`<think>${thought}${said}`, { tools });
          assert.deepEqual(written, opened);
        }),
        { numRuns: 20 },
      );
    }, chosen);
  }
});

Deno.test("thoughts that the server's parser does not know stay thoughts", async () => {
  const handlers = {
    ...qwen,
    "POST /separate_reasoning": ({ body }) =>
      Response.json({ reasoning_text: null, text: body!.text }),
  } satisfies Record<string, StandInHandler>;
  await withServer(handlers, async (read) => {
    const answer = await read(`I could ${call}</think>4`, { tools, isThinking: true });
    assert.deepEqual(answer.calls, []);
    assert.equal(answer.content, "4");
    assert.equal(answer.reasoning, `I could ${call}`);
  });
});

Deno.test("what looks like a call and is none to the server is a fault", async () => {
  const broken = '<tool_call>{"name": "add", "argu';
  const unknown = '<tool_call>{"name": "sub", "arguments": {}}</tool_call>';
  const cases: [text: string, calls: number, faults: RegExp[]][] = [
    [unknown, 0, [/"qwen25" did not take it for a call/]],
    [`${call}${unknown}`, 1, [/did not take it/]],
    [`${call}${call}${unknown}${unknown}`, 2, [/did not take it/, /did not take it/]],
    [broken, 0, [/not JSON/]],
    [`${call}${broken}`, 1, [/not JSON/]],
  ];
  await withServer(qwen, async (read) => {
    for (const [text, calls, faults] of cases) {
      const answer = await read(text, { tools });
      assert.equal(answer.calls.length, calls, text);
      assert.equal(answer.faults.length, faults.length, text);
      for (const [at, reason] of faults.entries()) {
        assert.match(answer.faults[at]!.reason, reason);
      }
    }
  });
});

Deno.test("a call in a spelling that only the server knows and cannot read is a fault", async () => {
  const handlers = {
    "POST /parse_function_call": () => Response.json({ normal_text: "Well.", calls: [] }),
  };
  await withServer(handlers, async (read) => {
    const answer = await read("Well. ⟦call add⟧", { tools });
    assert.deepEqual(answer.calls, []);
    assert.deepEqual(answer.faults, [{
      text: "Well. ⟦call add⟧",
      reason: `the server's parser "own" saw a call and could not read it`,
    }]);
  }, { toolCallParser: "own" });
});

Deno.test("arguments that are no JSON, and a call without a name, are faults", async () => {
  const calls = [
    { tool_index: 0, name: "add", parameters: '{"a": ' },
    { tool_index: 1, name: null, parameters: "{}" },
    { tool_index: 2, name: "add", parameters: "" },
  ];
  const handlers = {
    "POST /parse_function_call": () => Response.json({ normal_text: "", calls }),
  };
  await withServer(handlers, async (read) => {
    const answer = await read("⟦⟧", { tools });
    assert.deepEqual(answer.calls, [{ name: "add", arguments: {} }]);
    assert.deepEqual(answer.faults.map(({ reason }) => reason), [
      "the arguments are not JSON",
      "the call has no name",
    ]);
  }, { toolCallParser: "own" });
});

Deno.test("without tools the server finds no calls, so it is not asked for them", async () => {
  await withServer(qwen, async (read, server) => {
    const text = `<think>hm</think>${call}`;
    assert.deepEqual(await read(text, {}), readAnswer(text));
    assert.deepEqual(server.calls, ["POST /separate_reasoning"]);
  });
});

Deno.test("an answer on which a parser fails loses no dialog; a parser that nobody knows is told", async () => {
  const failing = {
    "POST /parse_function_call": (request) =>
      String(request.body!.text).includes("<tool_call>")
        ? failed()
        : qwen["POST /parse_function_call"](request),
    "POST /separate_reasoning": (request) =>
      String(request.body!.text).includes("<think>")
        ? failed()
        : qwen["POST /separate_reasoning"](request),
  } satisfies Record<string, StandInHandler>;
  await withServer(failing, async (read) => {
    const answer = await read(`<think>hm</think>Sure. ${call}`, { tools });
    assert.deepEqual(answer.calls, []);
    assert.equal(answer.reasoning, "hm");
    assert.equal(answer.content, "Sure.");
    assert.match(answer.faults[0]!.reason, /parser "qwen25" failed on this answer/);
  });
  const unknown = { "POST /parse_function_call": failed, "POST /separate_reasoning": failed };
  for (const chosen of [{ toolCallParser: "qwen26" }, { reasoningParser: "qwen26" }]) {
    await withServer(unknown, async (read) => {
      await assert.rejects(async () => await read("a", { tools }), {
        code: "http",
        message: /"qwen26"/,
      });
    }, chosen);
  }
});

Deno.test("a signal ends the reading", async () => {
  const held = Promise.withResolvers<Response>();
  const handlers = { "POST /separate_reasoning": () => held.promise };
  await withServer(handlers, async (read, server) => {
    const cancel = new AbortController();
    const reading = read("a", { tools, signal: cancel.signal });
    await until(() => server.requests.length > 0);
    cancel.abort();
    await assert.rejects(async () => await reading, { code: "aborted" });
    held.resolve(Response.json({}));
  });
});

Deno.test("a reader without a parser or a server is refused", () => {
  const server = { parseFunctionCall: () => {}, separateReasoning: () => {} } as never;
  assert.throws(
    () => serverAnswerReader({ server }),
    /needs a toolCallParser or a reasoningParser/,
  );
  assert.throws(
    () => serverAnswerReader({ server: {} as never, toolCallParser: "qwen25" }),
    /server must be an engine or an SGLangClient/,
  );
});
