/**
 * A wrapper and a collector, step by step: dialogs of two turns on a small embedded server, no GPU
 * and no Python needed.
 *
 *     deno run -A examples/rollout.ts
 *     deno run -A examples/rollout.ts http://127.0.0.1:30000      # a running SGLang server
 */
import {
  AsyncSGLang,
  type Environment,
  EnvironmentPool,
  LLMCollector,
  SGLangWrapper,
} from "@sglang-rl/sglang-rl";
import { EmbeddedServer, makeTinyCheckpoint } from "@sglang-rl/sglang-rl/testing";

await using stack = new AsyncDisposableStack();

// 1. Servers. The engine takes one address, several, or a router's.
const url = Deno.args[0] ?? await startEmbedded();
const engine = stack.use(await AsyncSGLang.connect(url));

// 2. The policy: conversations in, token ids and log-probabilities out.
const policy = new SGLangWrapper(engine, { generateKwargs: { maxNewTokens: 16 } });

// 3. An environment: it begins a dialog, sees each answer, pays a reward and says what comes next.
function askTwice(): Environment {
  let topic = "";
  return {
    reset({ dialog }) {
      topic = ["the sea", "trains", "bread"][dialog % 3]!;
      return { messages: [{ role: "user", content: `Tell me about ${topic}` }], info: { topic } };
    },
    step({ message, turn }) {
      const reward = String(message.content).includes("e") ? 1 : 0;
      if (turn === 1) return { reward, done: true };
      return { reward, done: false, messages: [{ role: "user", content: "And then?" }] };
    },
  };
}

// 4. The collector: eight dialogs at a time, given out whole, until thirty have been collected.
const collector = stack.use(
  new LLMCollector(new EnvironmentPool(askTwice, { size: 8 }), {
    policy,
    dialogTurnsPerBatch: 20,
    totalDialogs: 30,
    yieldCompletedTrajectories: true,
    trackPolicyVersion: true,
  }),
);

// 5. Batches. A trainer would take the ids, log-probabilities and rewards of the rows; here they are
// counted. `sender.registerCollector(collector)` would keep the versions in step with weight syncs.
for await (const batch of collector) {
  const trajectories = batch.trajectories();
  const tokens = batch.rows.reduce((sum, row) => sum + row.responseIds.length, 0);
  const reward = batch.rows.reduce((sum, row) => sum + row.reward, 0) / trajectories.length;
  say(`${trajectories.length} dialogs, ${tokens} tokens, mean return ${reward.toFixed(2)}`);
}
const { dialogsCompleted, turns } = collector.stats;
say(`${dialogsCompleted} dialogs of ${turns} turns, policy version ${collector.policyVersion}`);

async function startEmbedded(): Promise<string> {
  const folder = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  await makeTinyCheckpoint(folder);
  return stack.use(await EmbeddedServer.start({ model: folder })).url;
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(line + "\n"));
}
