/**
 * What users send and what goes wrong, with a real tokenizer and template on the embedded server, or
 * on real ones: a dialog that grows past the context, one bad prompt among many, messages in every
 * shape, an answer to go on with.
 */
import assert from "node:assert/strict";
import { PartialResultError } from "../../../src/errors.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { type Environment, EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { LLMCollector } from "../../../src/collector/mod.ts";
import { History, type Message } from "../../../src/policy/chat.ts";
import { LocalTokenizer, SGLangWrapper } from "../../../src/policy/mod.ts";
import {
  type SGLangVersion,
  startRealServer,
  tinyOnRealTokenizer,
  tokenizerFolder,
} from "../../_support/real.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

/** What the tiny model holds. */
const CONTEXT = 512;
const NEW = 64;

const user = (content: Message["content"]): Message => ({ role: "user", content });
/** Messages as people send them; those of one list are the same conversation. */
const shapes: Readonly<Record<string, readonly (readonly Message[])[]>> = {
  "parts": [
    [user([{ type: "text", text: "one" }, { type: "text", text: "two" }])],
    [user("one two")],
  ],
  "calls": [
    [
      user("1+2?"),
      {
        role: "assistant",
        content: null,
        tool_calls: [{
          id: "c1",
          type: "function",
          function: { name: "add", arguments: '{"a": 1}' },
        }],
      },
      { role: "tool", tool_call_id: "c1", content: "3" },
    ],
    [
      user("1+2?"),
      { role: "assistant", content: null, toolCalls: [{ name: "add", arguments: { a: 1 } }] },
      { role: "tool", toolCallId: "c1", content: "3" },
    ],
  ],
  "thoughts": [
    [
      user("1+2?"),
      { role: "assistant", content: "", reasoning_content: "hm", tool_calls: [] },
      { role: "tool", content: "3" },
    ],
    [
      user("1+2?"),
      { role: "assistant", content: null, reasoning: "hm" },
      { role: "tool", content: "3" },
    ],
  ],
};

/** The tiny model on Qwen3's tokenizer, which holds less. */
async function shortModel(folder: string): Promise<string> {
  const whole = tinyOnRealTokenizer("qwen3");
  for await (const { name } of Deno.readDir(whole)) {
    if (name !== "config.json") await Deno.symlink(`${whole}/${name}`, `${folder}/${name}`);
  }
  const config = JSON.parse(await Deno.readTextFile(`${whole}/config.json`));
  config.max_position_embeddings = CONTEXT;
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(config));
  return folder;
}

async function serve(
  kind: string,
  model: string,
): Promise<AsyncDisposable & { url: string }> {
  if (kind === "embedded") return await EmbeddedServer.start({ model });
  return await startRealServer({ model, version: kind as SGLangVersion, memFractionStatic: 0.3 });
}

/** How many tokens the server itself makes of a conversation. */
async function tokensByServer(url: string, messages: readonly Message[]): Promise<number> {
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "default", messages, max_tokens: 1 }),
  });
  const body = await answer.json();
  assert.ok(answer.ok, JSON.stringify(body));
  return body.usage.prompt_tokens;
}

/** The real servers on request: `SGLANG_RL_SERVED_BY=0.5.16,0.5.23,embedded`. */
const kinds = Deno.env.get("SGLANG_RL_SERVED_BY")?.split(",") ?? ["embedded"];

for (const kind of kinds) {
  Deno.test(`odd requests with Qwen3's tokenizer on ${kind}`, async (t) => {
    await using folder = await temporaryFolder();
    await using server = await serve(kind, await shortModel(folder.path));
    await using engine = await AsyncSGLang.connect(server.url);
    const tokenizer = await LocalTokenizer.fromFolder(tokenizerFolder("qwen3"));
    const generateKwargs = { maxNewTokens: NEW, ignoreEos: true };

    await t.step(
      "a dialog that outgrows the context ends as truncated, with what fitted",
      async () => {
        // The third prompt leaves less room than an answer may take, the fourth none.
        const lengths = [10, (CONTEXT - NEW) / 2 - 60, (CONTEXT - NEW) / 2 - 40, 400];
        const environment = (): Environment => ({
          reset: () => ({ messages: [user("go")] }),
          step: ({ turn }) => ({
            reward: 1,
            done: false,
            messages: [user(" word".repeat(lengths[turn + 1] ?? 400))],
          }),
        });
        const policy = new SGLangWrapper(engine, { tokenizer, generateKwargs });
        await using collector = new LLMCollector(new EnvironmentPool(environment, { size: 2 }), {
          policy,
          dialogTurnsPerBatch: 2,
          totalDialogs: 2,
          yieldCompletedTrajectories: true,
          maxTurns: 50,
        });
        let rows = 0;
        let limited = 0;
        for await (const batch of collector) {
          for (const trajectory of batch.trajectories()) {
            const last = trajectory.rows.at(-1)!;
            assert.deepEqual([last.truncated, last.done], [true, true]);
          }
          for (const { promptIds, responseIds } of batch.rows) {
            assert.ok(promptIds!.length + responseIds.length <= CONTEXT);
            assert.ok(responseIds.length > 0);
            if (responseIds.length < NEW) limited++;
            rows++;
          }
        }
        assert.deepEqual([collector.stats.dialogsFailed, collector.stats.dialogsCompleted], [0, 2]);
        assert.ok(rows >= 4, `${rows} rows`);
        assert.ok(limited > 0, "no answer was limited to the room that was left");
      },
    );

    await t.step("one bad prompt of 64 is named, and the other 63 go on", async () => {
      const bad = 40;
      for (const inputMode of ["history", "text", "tokens"] as const) {
        const policy = new SGLangWrapper(engine, {
          tokenizer,
          inputMode,
          inplace: false,
          generateKwargs: { maxNewTokens: 2 },
        });
        const texts = Array.from(
          { length: 64 },
          (_, row) => row === bad ? " word".repeat(CONTEXT + 10) : `question ${row}`,
        );
        const input = inputMode === "history"
          ? { history: texts.map((text) => [user(text)]) }
          : inputMode === "text"
          ? { text: texts }
          : { tokens: texts.map((text) => tokenizer.encode(text)) };
        await assert.rejects(policy.call(input), (error) => {
          assert.ok(error instanceof PartialResultError);
          assert.deepEqual(error.failures.map(({ row }) => row), [bad]);
          assert.match(error.message, /row 40/);
          assert.equal(error.rows.length, 63);
          assert.equal(error.partial.samples.length, 63);
          return true;
        });
      }
    });

    await t.step("messages of every shape are sent as the server would render them", async () => {
      const policy = new SGLangWrapper(engine, {
        tokenizer,
        inplace: false,
        generateKwargs: { maxNewTokens: 1 },
      });
      // Without tools: the server's chat endpoint writes those in another way than transformers.
      for (const [name, same] of Object.entries(shapes)) {
        const output = await policy.call({ history: same });
        const [first, ...others] = output.tokens.get("prompt")!;
        for (const other of others) assert.deepEqual(other, first, name);
        if (kind === "embedded") continue;
        assert.equal(await tokensByServer(server.url, same[0]!), first!.length, name);
      }
    });

    await t.step("a last message is gone on with, as its template opens it", async () => {
      const [text] = History.fromChats([[user("1+2?"), { role: "assistant", content: "It is " }]])
        .applyChatTemplate({ chatTemplate: tokenizer.chatTemplate!, continueFinalMessage: true });
      assert.ok(text!.endsWith("It is "));
      const policy = new SGLangWrapper(engine, {
        tokenizer,
        inputMode: "text",
        inplace: false,
        generateKwargs: { maxNewTokens: 2 },
      });
      const output = await policy.call({ text: text! });
      assert.deepEqual(output.tokens.only("prompt"), tokenizer.encode(text!));
      assert.equal(output.text!.only("prompt"), text);
      // The server counts the same tokens.
      const meta = output.samples[0]!.generation;
      assert.deepEqual(meta.promptIds, output.tokens.only("prompt"));
    });
  });
}
