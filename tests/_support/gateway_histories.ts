/** Random sessions of agents against a gateway, and what must hold of their rows. */
import assert from "node:assert/strict";
import type { Generation } from "../../src/client/types.ts";
import type { RolloutRow } from "../../src/collector/mod.ts";
import {
  type GenerateOptions,
  makeGeneration,
  type PromptList,
  RLSGLangEngine,
} from "../../src/engine/mod.ts";
import { RecordingGateway } from "../../src/gateway/mod.ts";
import { SGLangWrapper } from "../../src/policy/mod.ts";
import { joinTurns } from "../../src/rollout/mod.ts";
import { seeded } from "./seeded.ts";
import { mergingTokenizer, turnTemplates } from "./turn_templates.ts";

const tokenizer = await mergingTokenizer();
/** What answers are made of: words, thoughts, calls, halves of marks. */
const phrases = [
  "hello",
  " a",
  "ass",
  "\n\n",
  "<think>hm</think>",
  "<thi",
  '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>',
  '<tool_call>\n{"name": "find", "arguments": {"q": "x"}}\n</tool_call>',
  "<tool_call>{broken",
  "ok",
  ": ",
];

/** One sample, as the engine made it. */
interface Made {
  readonly prompt: Int32Array;
  readonly ids: Int32Array;
  readonly logProbs: Float32Array;
}

/** Samples at random, and keeps what it was sent and what it sampled. */
class RecordingEngine extends RLSGLangEngine {
  readonly url = "http://recording";
  readonly workers = [{ url: "http://recording", tpSize: 1 }];
  made: Made[] = [];
  readonly #random: () => number;
  readonly #left = new Set<string>();

  constructor(random: () => number) {
    super();
    this.#random = random;
  }

  override async *stream(prompt: string | ArrayLike<number>, options: GenerateOptions = {}) {
    const random = this.#random;
    const [rid = ""] = options.rids ?? [];
    const count = 1 + Math.floor(random() * 4);
    const text = Array.from(
      { length: count },
      () => phrases[Math.floor(random() * phrases.length)]!,
    ).join("");
    const isCut = random() < 0.15;
    const all = tokenizer.encode(isCut ? text : `${text}<|im_end|>`) as Int32Array;
    const logProbs = Float32Array.from(all, () => -random() * 10);
    let at = 0;
    while (at < all.length && !this.#left.has(rid)) {
      const next = Math.min(all.length, at + 1 + Math.floor(random() * 3));
      const ids = all.slice(at, next);
      at = next;
      await Promise.resolve();
      if (at === all.length) break;
      yield { text: tokenizer.decode(ids) as string, ids, logProbs: null, final: null };
      await new Promise((go) => setTimeout(go, 0));
    }
    const isLeft = this.#left.delete(rid);
    const ids = all.slice(0, at);
    const known = logProbs.slice(0, at);
    this.made.push({ prompt: Int32Array.from(prompt as ArrayLike<number>), ids, logProbs: known });
    const end = isCut || isLeft ? ids : ids.subarray(0, -1);
    const final = makeGeneration({
      text: tokenizer.decode(end) as string,
      ids,
      logProbs: known,
      finishReason: isLeft
        ? { type: "abort", message: "left", statusCode: null }
        : isCut
        ? { type: "length", length: ids.length }
        : { type: "stop", matched: ids.at(-1)! },
      weightVersion: "v1",
      id: rid,
      server: this.url,
    });
    yield { text: "", ids: new Int32Array(), logProbs: null, final };
  }

  override async generateAll(prompts: PromptList, options: GenerateOptions) {
    const out: Generation[] = [];
    for (const prompt of prompts.list) {
      for await (const { final } of this.stream(prompt as string, options)) {
        if (final !== null) out.push(final);
      }
    }
    return out;
  }

  override abort(rids: readonly string[] | "all") {
    if (rids !== "all") { for (const rid of rids) this.#left.add(rid); }
    return Promise.resolve();
  }

  override tokenize = unused;
  override detokenize = unused;
}

function unused(): never {
  throw new Error("not needed here");
}

type Sent = Record<string, unknown>;
const tools = ["add", "find"].map((name) => ({
  type: "function",
  function: { name, parameters: { type: "object", properties: {} } },
}));

/** What a run came to. */
export interface Counted {
  readonly sessions: number;
  readonly turns: number;
  readonly branches: number;
  readonly aborted: number;
  /** Turns that went on from the ids of another. */
  readonly appended: number;
}

/** Runs sessions with random histories, several at once, and checks each one's rows. */
export async function runHistories(
  { seed, sessions, template }: {
    readonly seed: number;
    readonly sessions: number;
    readonly template: keyof typeof turnTemplates;
  },
): Promise<Counted> {
  const random = seeded(seed);
  const engine = new RecordingEngine(random);
  const policy = new SGLangWrapper(engine, { tokenizer, chatTemplate: turnTemplates[template] });
  await using gateway = await RecordingGateway.listen(policy);
  const counted = { sessions: 0, turns: 0, branches: 0, aborted: 0, appended: 0 };
  const AT_ONCE = 8;
  while (counted.sessions < sessions) {
    engine.made = [];
    const count = Math.min(AT_ONCE, sessions - counted.sessions);
    const ended = await Promise.all(
      Array.from({ length: count }, () => oneSession(gateway, random)),
    );
    check(ended.flat(), engine.made);
    for (const rows of ended) {
      checkBranches(rows);
      counted.sessions++;
      counted.turns += rows.length;
      counted.branches += new Set(rows.map(({ branch }) => branch)).size;
      counted.aborted += rows.filter(({ info }) => info.aborted === true).length;
      counted.appended += rows.filter(({ branch }, at) =>
        rows.slice(0, at).some((row) => row.branch === branch)
      ).length;
    }
  }
  return counted;
}

/** An agent that goes on, asks again, edits, forgets, calls tools side by side, and goes away. */
async function oneSession(
  gateway: RecordingGateway,
  random: () => number,
): Promise<readonly RolloutRow[]> {
  const session = gateway.open();
  const histories: Sent[][] = [[{ role: "user", content: `go ${Math.floor(random() * 5)}` }]];
  const steps = 1 + Math.floor(random() * 6);
  for (let step = 0; step < steps; step++) {
    const history = histories[Math.floor(random() * histories.length)]!;
    const chance = random();
    if (chance < 0.1) {
      histories.push([{ role: "user", content: "in short: hello" }]);
      continue;
    }
    if (chance < 0.2 && history.length > 1) {
      const edited = structuredClone(history);
      const at = Math.floor(random() * edited.length);
      edited[at] = { ...edited[at], content: `${edited[at]!.content ?? ""} edited` };
      while (edited.at(-1)!.role === "assistant") edited.pop();
      if (edited.length > 0) histories.push(edited);
      continue;
    }
    const requests = chance < 0.35 ? 2 : 1;
    const answers = await Promise.all(
      Array.from({ length: requests }, () => ask(session, history, random)),
    );
    for (const message of answers) {
      if (message === null) continue;
      const calls = (message.tool_calls ?? []) as { readonly id: string }[];
      const next: Sent[] = [...history, message];
      for (const { id } of calls) next.push({ role: "tool", tool_call_id: id, content: "3" });
      if (calls.length === 0) next.push({ role: "user", content: "and then" });
      histories.push(next);
    }
  }
  return (await session.end()).rows;
}

async function ask(
  { baseUrl, key }: { readonly baseUrl: string; readonly key: string },
  messages: Sent[],
  random: () => number,
): Promise<Sent | null> {
  const isStream = random() < 0.5;
  const leaving = new AbortController();
  const leaves = random() < 0.1;
  const body = { model: "m", messages, tools, stream: isStream, n: random() < 0.1 ? 2 : 1 };
  try {
    const asking = fetch(`${baseUrl}/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify(body),
      signal: leaving.signal,
    });
    if (leaves && !isStream) leaving.abort();
    const response = await asking;
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
    if (!isStream) return (await response.json()).choices[0].message;
    return await streamed(response, leaves ? leaving : null);
  } catch (error) {
    if (leaving.signal.aborted) return null;
    throw error;
  }
}

/** Puts a stream together as a client does; leaves it after its first part. */
async function streamed(response: Response, leaving: AbortController | null): Promise<Sent | null> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const part of response.body!) {
    text += decoder.decode(part, { stream: true });
    leaving?.abort();
  }
  const message: Sent = { role: "assistant", content: "" };
  const calls: Sent[] = [];
  for (const line of text.split("\n\n")) {
    if (!line.startsWith("data: {")) continue;
    const [choice] = JSON.parse(line.slice(6)).choices;
    if (choice === undefined || choice.index !== 0) continue;
    // Who streams drops thoughts; who asks for a whole answer keeps them.
    const { content, tool_calls } = choice.delta;
    if (content) message.content += content;
    calls.push(...tool_calls ?? []);
  }
  if (calls.length > 0) message.tool_calls = calls;
  return message;
}

/** All that was sampled is in exactly one row, bit for bit, behind the prompt that was sent. */
function check(rows: readonly RolloutRow[], made: readonly Made[]): void {
  const key = (prompt: Int32Array, ids: Int32Array, logProbs: Float32Array) =>
    JSON.stringify([[...prompt], [...ids], [...new Int32Array(logProbs.slice().buffer)]]);
  const sampled = made.map(({ prompt, ids, logProbs }) => key(prompt, ids, logProbs)).sort();
  const recorded = rows.map(({ promptIds, responseIds, logProbs }) =>
    key(promptIds!, responseIds, logProbs!)
  ).sort();
  assert.deepEqual(recorded, sampled);
}

/** Each branch is one row of ids, with each of its turns' samples marked once. */
function checkBranches(rows: readonly RolloutRow[]): void {
  for (const turns of Map.groupBy(rows, ({ branch }) => branch).values()) {
    const joined = joinTurns(turns);
    assert.equal(joined.length, 1, "a branch is not one row");
    const marked = joined[0]!.mask.reduce((sum, bit) => sum + bit, 0);
    assert.equal(marked, turns.reduce((sum, { responseIds }) => sum + responseIds.length, 0));
    const logProbs = joined[0]!.logProbs!.filter((_, at) => joined[0]!.mask[at] === 1);
    assert.deepEqual(
      [...logProbs],
      turns.flatMap((turn) => [...turn.logProbs!]),
    );
  }
}
