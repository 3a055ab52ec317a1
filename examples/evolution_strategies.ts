/**
 * A loop that learns, in TypeScript alone: evolution strategies on a tiny language model. Each
 * generation perturbs a few weights with seeded noise, pushes every candidate into the running
 * server, rolls out, counts the reward, and steps towards the better candidates.
 *
 *     deno run -A examples/evolution_strategies.ts            # embedded server, no GPU, no Python
 *     deno run -A examples/evolution_strategies.ts --real     # real SGLang on the CPU, by gloo
 *     deno run -A examples/evolution_strategies.ts --gpu --model FOLDER   # on GPUs, by NCCL
 *     deno run -A examples/evolution_strategies.ts --server URL --model FOLDER
 *
 * Further options: --seeds 0,1,2  --generations 24  --pairs 8  --noise 2.5  --svg FILE
 */
import { parseArgs } from "node:util";
import {
  LLMCollector,
  promptEnvironment,
  type SGLangWeightSender,
  SGLangWeightSyncScheme,
  SGLangWrapper,
} from "@sglang-rl/sglang-rl";
import { firstAndLastTenth, mean, sparkline, toSvg } from "./evolution_strategies/curve.ts";
import { Parameters } from "./evolution_strategies/parameters.ts";
import { openServers, type ServerKind } from "./evolution_strategies/servers.ts";
import { EvolutionStrategy } from "./evolution_strategies/strategy.ts";

const { values: flags } = parseArgs({
  options: {
    real: { type: "boolean", default: false },
    gpu: { type: "boolean", default: false },
    server: { type: "string", multiple: true, default: [] },
    model: { type: "string" },
    seeds: { type: "string" },
    generations: { type: "string" },
    pairs: { type: "string", default: "8" },
    noise: { type: "string", default: "2.5" },
    svg: { type: "string" },
  },
});
const kind: ServerKind = flags.gpu ? "gpu" : flags.real ? "real" : "embedded";
const isShort = kind !== "embedded" || flags.server.length > 0;
const seeds = (flags.seeds ?? (isShort ? "0" : "0,1,2")).split(",").map(Number);
const generations = Number(flags.generations ?? (isShort ? 12 : 24));

/** Prompts of a rollout; each is one dialog with every candidate. */
const prompts = Array.from({ length: 16 }, (_, i) => `What comes after ${i}?`);

/** The goal: how much of what the model says looks like arithmetic. */
function shareOfArithmetic(text: string): number {
  return text === "" ? 0 : (text.match(/[0-9(){}=<>*]/g)?.length ?? 0) / text.length;
}

const stop = new AbortController();
Deno.addSignalListener("SIGINT", () => stop.abort(new Error("interrupted")));

await using servers = await openServers(kind, {
  ...flags,
  urls: flags.server,
  signal: stop.signal,
});
const { engine, model } = servers;
const parameters = await Parameters.read(model);

// Only the evolving weights are declared, so only they travel.
const scheme = new SGLangWeightSyncScheme({
  engine,
  transport: kind === "gpu" ? "nccl" : "auto",
  soleTrainer: true,
});
await using sender = scheme.createSender();
await sender.initAllWorkersGroup(parameters.metadata, { signal: stop.signal });

const policy = new SGLangWrapper(engine, {
  generateKwargs: { maxNewTokens: 24, ignoreEos: true },
  returnLogProbs: false,
});

const spentMs = { perturb: 0, sync: 0, rollout: 0, update: 0 };
/** What the syncs were made of. */
const syncMs = new Map<string, number>();
const curves: number[][] = [];
for (const seed of seeds) curves.push(await evolve(seed));
report(curves);

/** One run; gives the mean reward of every generation. */
async function evolve(seed: number): Promise<number[]> {
  // One environment for each prompt, all in step: nothing runs ahead while the next candidate is
  // being pushed, so that every row belongs to one candidate.
  const environments = prompts.map((prompt) =>
    promptEnvironment({
      prompts: [prompt],
      reward: ({ message }) => shareOfArithmetic(String(message.content)),
    })
  );
  await using collector = new LLMCollector(environments, {
    policy,
    dialogTurnsPerBatch: prompts.length,
    trackPolicyVersion: true,
    signal: stop.signal,
  });
  sender.registerCollector(collector);
  const noise = Number(flags.noise);
  const strategy = new EvolutionStrategy(parameters.vector, {
    pairs: Number(flags.pairs),
    noise,
    stepSize: 0.6 * noise,
    seed,
  });
  const curve: number[] = [];
  for (let generation = 0; generation < generations; generation++) {
    const candidates = timed("perturb", () => strategy.ask());
    const rewards: number[] = [];
    for (const candidate of candidates) rewards.push(await rewardOf(candidate, sender, collector));
    timed("update", () => strategy.tell(rewards));
    curve.push(mean(rewards));
    say(`seed ${seed}  ${sparkline(curve).padEnd(generations)}  ${curve.at(-1)!.toFixed(3)}`);
  }
  return curve;
}

/** Pushes a candidate into the servers and rolls it out. */
async function rewardOf(
  candidate: Float32Array,
  sender: SGLangWeightSender,
  collector: LLMCollector,
): Promise<number> {
  let startedAtMs = performance.now();
  const { phasesMs } = await sender.updateWeights(parameters.toStateDict(candidate), {
    signal: stop.signal,
  });
  spentMs.sync += performance.now() - startedAtMs;
  for (const [phase, ms] of Object.entries(phasesMs)) {
    syncMs.set(phase, (syncMs.get(phase) ?? 0) + ms);
  }
  startedAtMs = performance.now();
  const batch = await collector.rollout();
  spentMs.rollout += performance.now() - startedAtMs;
  const rows = batch!.rows;
  const isMixed = rows.some((row) =>
    row.tokenVersions!.some((version) => version !== collector.policyVersion)
  );
  if (isMixed) throw new Error("A row was not made by the candidate that was just pushed");
  return mean(rows.map((row) => row.reward));
}

function timed<T>(phase: "perturb" | "update", work: () => T): T {
  const startedAtMs = performance.now();
  const result = work();
  spentMs[phase] += performance.now() - startedAtMs;
  return result;
}

function report(curves: readonly number[][]): void {
  const tenths = curves.map(firstAndLastTenth);
  const first = mean(tenths.map(([value]) => value));
  const last = mean(tenths.map(([, value]) => value));
  const times = first > 0 ? `, ${(last / first).toFixed(1)} times as much` : "";
  say(
    `mean reward over ${seeds.length} seed(s): first tenth ${first.toFixed(3)}, last tenth ` +
      `${last.toFixed(3)}${times}`,
  );
  const candidates = seeds.length * generations * Number(flags.pairs) * 2;
  const each = ([phase, ms]: [string, number]) => `${phase} ${(ms / candidates).toFixed(1)} ms`;
  const phases = Object.entries(spentMs).map(each).join(", ");
  say(`each of ${candidates} candidates: ${phases} (${sender.transport?.transport})`);
  const longest = [...syncMs].toSorted(([, a], [, b]) => b - a).slice(0, 4);
  say(`of its sync: ${longest.map(each).join(", ")}`);
  if (flags.svg === undefined) return;
  Deno.writeTextFileSync(
    flags.svg,
    toSvg(curves, {
      title: "Evolution strategies: share of digits and signs",
      xLabel: "generation",
    }),
  );
  say(`reward curve: ${flags.svg}`);
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(line + "\n"));
}
