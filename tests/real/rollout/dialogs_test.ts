/**
 * Dialogs with the real tokenizers and templates of several families, on both real servers and the
 * embedded one: every row is what the server was sent and what it sampled.
 *
 * By default each server has some of the families and few dialogs, which costs two minutes. With
 * `SGLANG_RL_DIALOGS=200` each has all of them and that many dialogs; `SGLANG_RL_FAMILIES` and
 * `SGLANG_RL_SERVED_BY` choose some.
 */
import assert from "node:assert/strict";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { type Environment, EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { type JoinedDialogRow, LLMCollector, type RolloutRow } from "../../../src/collector/mod.ts";
import { LocalTokenizer, SGLangWrapper } from "../../../src/policy/mod.ts";
import type { Message } from "../../../src/policy/chat.ts";
import {
  type RealModel,
  type SGLangVersion,
  startRealServer,
  tinyOnRealTokenizer,
  tokenizerFolder,
} from "../../_support/real.ts";
import { keyOf, type RecordingProxy, recordingProxy } from "../../_support/recording_proxy.ts";
import { checkRows, type Served } from "../../_support/turn_checks.ts";

const DIALOGS = Number(Deno.env.get("SGLANG_RL_DIALOGS") ?? 8);
const TURNS = 5;

/** Models that share a tokenizer, and so a server. */
const families: Readonly<Record<string, readonly Family[]>> = {
  qwen: [
    { name: "Qwen3, thinking", model: "qwen3" },
    { name: "Qwen3, not thinking", model: "qwen3", variables: { enable_thinking: false } },
    { name: "Qwen2.5", model: "qwen2.5" },
  ],
  llama: [{ name: "Llama 3.1", model: "llama3.1" }],
  deepseek: [
    { name: "DeepSeek V3", model: "deepseek-v3" },
    { name: "DeepSeek R1", model: "deepseek-r1" },
  ],
};

interface Family {
  readonly name: string;
  readonly model: RealModel;
  readonly variables?: Record<string, unknown>;
}

const isWhole = Deno.env.has("SGLANG_RL_DIALOGS");
const list = (variable: string) => Deno.env.get(variable)?.split(",");

/** Which families each server has. */
const served: Readonly<Record<string, readonly string[]>> = isWhole
  ? Object.fromEntries(
    (list("SGLANG_RL_SERVED_BY") ?? ["0.5.16", "0.5.23", "embedded"])
      .map((kind) => [kind, list("SGLANG_RL_FAMILIES") ?? Object.keys(families)]),
  )
  : { "0.5.16": ["qwen"], "0.5.23": ["llama"], embedded: ["deepseek"] };

/** Texts that tokenizers and templates trip over. */
const SAID = [
  "q",
  "",
  " ",
  "ünï 😀",
  "<think>\nno\n</think>\n\nyes",
  "a <",
  "<|im_end|>",
  "\n\n1. x\n",
];

function environment(): Environment {
  let number = 0;
  const say = (turn: number): Message => ({
    role: "user",
    content: `${SAID[(number + turn) % SAID.length]} ${number}`,
  });
  return {
    reset: ({ dialog }) => {
      number = dialog;
      const system: Message[] = dialog % 3 === 0 ? [{ role: "system", content: "be brief" }] : [];
      return { messages: [...system, say(0)] };
    },
    step: ({ turn, ids }) => ({
      reward: ids.length,
      done: turn + 1 === TURNS,
      messages: turn + 1 === TURNS ? [] : [say(turn + 1)],
    }),
  };
}

async function policiesOf(family: Family, engine: AsyncSGLang): Promise<SGLangWrapper[]> {
  const tokenizer = await LocalTokenizer.fromFolder(tokenizerFolder(family.model));
  const { eosToken } = tokenizer.specialTokens;
  const bias = (tokens: readonly (string | null)[], by: number) =>
    Object.fromEntries(
      tokens.flatMap((token) => token === null ? [] : Array.from(tokenizer.encode(token)))
        .map((id) => [id, by]),
    );
  const samplings = [
    // Mostly cut, of any tokens at all.
    {},
    // Ends by its end token, after few tokens.
    { logitBias: bias([eosToken], 9) },
    // Thoughts, white space and pieces of markers.
    { logitBias: bias([eosToken, "<think>", "</think>", "\n\n", "<", " hello"], 9) },
    // Ends by a stop string.
    { logitBias: bias([" hello"], 9), stop: [" hello hello"] },
  ];
  return samplings.map((sampling) =>
    new SGLangWrapper(engine, {
      tokenizer,
      chatTemplateName: "model",
      tokenizerKwargs: family.variables,
      generateKwargs: { maxNewTokens: 8, temperature: 1, ...sampling },
    })
  );
}

/** What the collector gave, against what the proxy saw; says how many ids were compared. */
function check(
  rows: readonly RolloutRow[],
  joined: readonly JoinedDialogRow[],
  proxy: RecordingProxy,
): { promptIds: number; sampledIds: number } {
  const compared = { promptIds: 0, sampledIds: 0 };
  const byDialog = new Map<number, Served[]>();
  for (const row of rows) {
    const served = proxy.served.get(keyOf(row.promptIds!, row.responseIds))?.shift();
    assert.ok(served, `dialog ${row.dialog}, turn ${row.turn} is not what was sent and sampled`);
    assert.deepEqual(row.logProbs, Float32Array.from(served.logProbs));
    compared.promptIds += served.promptIds.length;
    compared.sampledIds += served.ids.length;
    byDialog.set(row.dialog, [...byDialog.get(row.dialog) ?? [], served]);
  }
  for (const [dialog, served] of byDialog) {
    checkRows(joined.filter((row) => row.dialog === dialog), served);
  }
  return compared;
}

async function serve(kind: string, model: RealModel): Promise<AsyncDisposable & { url: string }> {
  const folder = tinyOnRealTokenizer(model);
  if (kind === "embedded") return await EmbeddedServer.start({ model: folder });
  return await startRealServer({
    model: folder,
    version: kind as SGLangVersion,
    memFractionStatic: 0.3,
  });
}

for (const [server, kinds] of Object.entries(served)) {
  for (const kind of kinds) {
    const members = families[kind]!;
    Deno.test(`dialogs are what was sent and sampled: ${kind} on ${server}`, async (t) => {
      await using running = await serve(server, members[0]!.model);
      for (const family of members) {
        await t.step(family.name, async () => {
          await using proxy = recordingProxy(running.url);
          await using engine = await AsyncSGLang.connect(proxy.url);
          const counts = {
            rows: 0,
            joined: 0,
            start: 0,
            append: 0,
            branch: 0,
            drift: 0,
            promptIds: 0,
            sampledIds: 0,
          };
          const policies = await policiesOf(family, engine);
          for (const policy of policies) {
            await using collector = new LLMCollector(
              new EnvironmentPool(environment, { size: 16 }),
              {
                policy,
                dialogTurnsPerBatch: TURNS * DIALOGS,
                totalDialogs: Math.ceil(DIALOGS / policies.length),
                yieldCompletedTrajectories: true,
              },
            );
            for await (const batch of collector) {
              const joined = batch.joined();
              const compared = check(batch.rows, joined, proxy);
              counts.promptIds += compared.promptIds;
              counts.sampledIds += compared.sampledIds;
              counts.rows += batch.rows.length;
              counts.joined += joined.length;
              counts.start += batch.trajectories().length;
              counts.branch += joined.length - batch.trajectories().length;
              counts.append += batch.rows.length - joined.length;
              counts.drift += batch.rows.filter(({ drift }) => drift !== null).length;
            }
            assert.equal(collector.stats.dialogsFailed, 0);
          }
          const left = proxy.served.values().toArray().flat().length;
          // The engine asks once for the size of the vocabulary.
          assert.ok(left <= 1, `${left} samples are in no row`);
          assert.equal(counts.start, Math.ceil(DIALOGS / policies.length) * policies.length);
          assert.equal(counts.rows, counts.start * TURNS);
          // deno-lint-ignore no-console
          console.log(`${family.name} on ${server}:`, JSON.stringify(counts));
        });
      }
    });
  }
}
