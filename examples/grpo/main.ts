/**
 * GRPO on a tiny model with a tool: dialogs of two steps, groups of four, advantages within them, clipped
 * importance ratios, a sync each step, a bound on staleness, TensorBoard. Kill it (`kill -9`) and start it
 * again with the same --run: it goes on.
 *
 *     deno run -A examples/grpo/main.ts --python PYTHON
 *     deno run -A examples/grpo/main.ts --python PYTHON --server URL --model FOLDER
 *
 * PYTHON needs torch, transformers and safetensors. Default: the one of `deno task setup:sglang`.
 * Further options: --steps 30  --learning-rate 0.005  --by files|link
 *   --seeds 0,1,2 (one run after the other; default 0)  --svg FILE (the curves)
 *   --run FOLDER (kept; default: a new one that is removed)
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { environmentName, sglangHome } from "../../scripts/sglang_cpu/home.ts";
import { firstAndLastTenth, sparkline, toSvg } from "../evolution_strategies/curve.ts";
import { openServers } from "../evolution_strategies/servers.ts";
import { trainGrpo } from "./loop.ts";

const { values: flags } = parseArgs({
  options: {
    python: { type: "string" },
    server: { type: "string", multiple: true, default: [] },
    model: { type: "string" },
    steps: { type: "string", default: "30" },
    seeds: { type: "string", default: "0" },
    "learning-rate": { type: "string", default: "0.005" },
    by: { type: "string", default: "files" },
    run: { type: "string" },
    svg: { type: "string" },
  },
});
const by = wayOf(flags.by);
const stop = new AbortController();
Deno.addSignalListener("SIGINT", () => stop.abort(new Error("interrupted")));
const seeds = flags.seeds.split(",").map(Number);
const runFolder = flags.run ?? await Deno.makeTempDir({ prefix: "grpo-" });
try {
  const curves: number[][] = [];
  for (const seed of seeds) {
    const folder = seeds.length === 1 ? runFolder : join(runFolder, `seed-${seed}`);
    curves.push(await runSeed(seed, folder));
  }
  if (flags.svg !== undefined) {
    const title = `GRPO with a tool: mean reward, ${seeds.length} seed(s) and their mean`;
    await Deno.writeTextFile(flags.svg, toSvg(curves, { title, xLabel: "step" }));
  }
} finally {
  if (flags.run === undefined) await Deno.remove(runFolder, { recursive: true });
}

/** Trains with one order of the tasks, on servers that begin anew; gives the reward of each step. */
async function runSeed(seed: number, folder: string): Promise<number[]> {
  const began = performance.now();
  await Deno.mkdir(folder, { recursive: true });
  await using servers = await openServers("embedded", {
    urls: flags.server,
    model: flags.model,
    signal: stop.signal,
  });
  const curve: number[] = [];
  const lookUps: number[] = [];
  const steps = trainGrpo({
    engine: servers.engine,
    checkpoint: servers.model,
    python: flags.python ?? join(sglangHome(), environmentName("0.5.16"), "bin", "python"),
    learningRate: Number(flags["learning-rate"]),
    runFolder: folder,
    seed,
    steps: Number(flags.steps),
    by,
    signal: stop.signal,
  });
  for await (const { step, reward, lookedUp, k3, effectiveSampleSize, alarms } of steps) {
    curve.push(reward);
    lookUps.push(lookedUp);
    say(
      `step ${step} ${sparkline(curve).padEnd(Number(flags.steps))} reward ${reward.toFixed(3)}  ` +
        `looked up ${lookedUp.toFixed(2)}  k3 ${k3.toExponential(1)}  ` +
        `ess ${effectiveSampleSize.toFixed(3)}`,
    );
    for (const alarm of alarms) say(`  ${alarm}`);
  }
  if (curve.length === 0) return curve;
  const fromTo = (values: readonly number[]) =>
    firstAndLastTenth(values).map((value) => value.toFixed(3)).join(" to ");
  say(
    `seed ${seed}, first tenth to last tenth: reward ${fromTo(curve)}, looked up ` +
      `${fromTo(lookUps)}, ${((performance.now() - began) / 1000).toFixed(0)} s`,
  );
  return curve;
}

function wayOf(by: string): "files" | "link" {
  if (by === "files" || by === "link") return by;
  throw new Error(`--by must be files or link, not ${by}`);
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(line + "\n"));
}
