/**
 * Runs TorchRL's SGLangWrapper and ours on the same SGLang server with the same prompts, greedy, and
 * prints for each output whether they are equal, and the ratio of the wall times.
 *
 *     deno run -A bench/torchrl/compare.ts [URL] [MODEL_FOLDER]
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { AsyncSGLang, LocalTokenizer, SGLangWrapper } from "../../mod.ts";
import type { InputMode } from "../../src/policy/mod.ts";
import type { PolicyOutput } from "../../src/policy/mod.ts";
import { modelPath, sharedServers } from "../../tests/_support/real.ts";
import { median } from "../../tests/_support/median.ts";

const PROMPTS = 64;
const MAX_NEW_TOKENS = 16;
const RUNS = 3;
/** Prefill and decode in batches of other sizes add floats in another order. */
const LOG_PROB_TOLERANCE = 1e-3;

type Outputs = Record<string, unknown>;

const here = dirname(fileURLToPath(import.meta.url));
const url = Deno.args[0] ?? sharedServers()[0]!;
const folder = Deno.args[1] ?? modelPath("tiny");

const python = await run("bash", [join(here, "setup.sh")]);
const tokenizer = await LocalTokenizer.fromFolder(folder);
await using engine = await AsyncSGLang.connect(url);

let isEqual = true;
for (const mode of ["history", "text", "tokens"] as const) {
  const prompts = makePrompts(mode);
  const request = { prompts, max_new_tokens: MAX_NEW_TOKENS, runs: RUNS };
  await engine.flushCache();
  const theirs: Outputs = JSON.parse(
    await run(python, [join(here, "torchrl_wrapper.py"), url, folder, mode], request),
  );
  await engine.flushCache();
  const ours = await runOurs(mode, prompts);
  say(`\n${mode}, ${PROMPTS} prompts of ${MAX_NEW_TOKENS} new tokens`);
  for (const key of Object.keys(theirs).filter((key) => key !== "seconds")) {
    const same = difference(ours[key], theirs[key]);
    isEqual &&= same === null;
    say(`  ${key.padEnd(26)} ${same ?? "equal"}`);
  }
  const [a, b] = [median(theirs.seconds as number[]), median(ours.seconds as number[])];
  say(
    `  wall time: TorchRL ${a.toFixed(3)} s, ours ${b.toFixed(3)} s, ratio ${(a / b).toFixed(1)}`,
  );
}
if (!isEqual) Deno.exit(1);

function makePrompts(mode: InputMode): unknown[] {
  const texts = Array.from({ length: PROMPTS }, (_, i) => `Question ${i}: what is ${i} and ${i}?`);
  if (mode === "text") return texts;
  if (mode === "history") return texts.map((content) => [{ role: "user", content }]);
  // TorchRL takes a rectangle only.
  return texts.map((text) => Array.from(tokenizer.encode(text).slice(0, 16)));
}

async function runOurs(mode: InputMode, prompts: unknown[]): Promise<Outputs> {
  const wrapper = new SGLangWrapper(engine, {
    tokenizer,
    inputMode: mode,
    // TorchRL takes its own qwen or chatml template by the model's name, as we do.
    generateKwargs: { maxNewTokens: MAX_NEW_TOKENS, temperature: 0 },
    inplace: false,
  });
  const seconds: number[] = [];
  let output: PolicyOutput | undefined;
  for (let i = 0; i < RUNS; i++) {
    const start = performance.now();
    output = await wrapper.call({ [mode]: prompts });
    seconds.push((performance.now() - start) / 1000);
  }
  return { seconds, ...named(output!) };
}

/** Our outputs under TorchRL's names. */
function named({ text, tokens, masks, logProbs, history }: PolicyOutput): Outputs {
  const messages = (chats: readonly (readonly { role: string; content: unknown }[])[]) =>
    chats.map((chat) => chat.map(({ role, content }) => [role, content]));
  return {
    "text.prompt": text?.prompt,
    "text.response": text?.response,
    "text.full": text?.full,
    "tokens.prompt": tokens.prompt,
    "tokens.response": tokens.response,
    "tokens.full": tokens.full,
    "masks.all_attention_mask": masks.allAttentionMask,
    "masks.all_assistant_mask": masks.allAssistantMask,
    "log_probs.response": logProbs?.response,
    "log_probs.full": logProbs?.full,
    "history.response": history && messages(history.get("response").chats),
    "history.full": history && messages(history.get("full").chats),
  };
}

/** What differs, or `null`. */
function difference(ours: unknown, theirs: unknown, path = ""): string | null {
  if (isList(ours) && isList(theirs)) {
    if (ours.length !== theirs.length) {
      return `DIFFERENT at [${path}]: ${ours.length} items, TorchRL ${theirs.length}`;
    }
    for (let i = 0; i < ours.length; i++) {
      const found = difference(ours[i], theirs[i], path === "" ? `${i}` : `${path}, ${i}`);
      if (found !== null) return found;
    }
    return null;
  }
  const [a, b] = [ours, theirs].map((value) => typeof value === "boolean" ? Number(value) : value);
  const isNear = typeof a === "number" && typeof b === "number" && !Number.isInteger(b) &&
    Math.abs(a - b) < LOG_PROB_TOLERANCE;
  if (a === b || isNear) return null;
  return `DIFFERENT at [${path}]: ${JSON.stringify(ours)}, TorchRL ${JSON.stringify(theirs)}`;
}

function isList(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || ArrayBuffer.isView(value);
}

async function run(command: string, args: string[], input?: unknown): Promise<string> {
  const child = new Deno.Command(command, {
    args,
    stdin: input === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "inherit",
    env: { CUDA_VISIBLE_DEVICES: "", HF_HUB_OFFLINE: "1", OMP_NUM_THREADS: "1" },
  }).spawn();
  if (input !== undefined) {
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(JSON.stringify(input)));
    await writer.close();
  }
  const { success, stdout } = await child.output();
  if (!success) throw new Error(`${command} ${args[0]} failed`);
  return new TextDecoder().decode(stdout).trim().split("\n").at(-1)!;
}

function say(line: string): void {
  // deno-lint-ignore no-console
  console.log(line);
}
