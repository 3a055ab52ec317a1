/**
 * GRPO on a tiny model: groups of four, advantages within them, clipped importance ratios, a sync each
 * step, a bound on staleness, TensorBoard. Kill it and start it again: it goes on.
 *
 *     deno run -A examples/grpo/main.ts --python PYTHON
 *     deno run -A examples/grpo/main.ts --python PYTHON --server URL --model FOLDER
 *
 * PYTHON needs torch, transformers and safetensors. Default: the one of `deno task setup:sglang`.
 * Further options: --steps 40  --seed 0  --learning-rate 0.005  --run FOLDER (kept; default: a new one)
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { joinSinks, jsonLinesSink, tensorBoardSink } from "@sglang-rl/sglang-rl/sinks";
import { environmentName, sglangHome } from "../../scripts/sglang_cpu/home.ts";
import { firstAndLastTenth, sparkline } from "../evolution_strategies/curve.ts";
import { openServers } from "../evolution_strategies/servers.ts";
import { trainGrpo } from "./loop.ts";

const { values: flags } = parseArgs({
  options: {
    python: { type: "string" },
    server: { type: "string", multiple: true, default: [] },
    model: { type: "string" },
    steps: { type: "string", default: "40" },
    seed: { type: "string", default: "0" },
    "learning-rate": { type: "string", default: "0.005" },
    run: { type: "string" },
  },
});
const stop = new AbortController();
Deno.addSignalListener("SIGINT", () => stop.abort(new Error("interrupted")));
const runFolder = flags.run ?? await Deno.makeTempDir({ prefix: "grpo-" });
try {
  await Deno.mkdir(runFolder, { recursive: true });
  await using servers = await openServers("embedded", {
    urls: flags.server,
    model: flags.model,
    signal: stop.signal,
  });
  await using sink = joinSinks(
    await tensorBoardSink(runFolder),
    await jsonLinesSink(join(runFolder, "numbers.jsonl")),
  );
  const curve: number[] = [];
  const steps = trainGrpo({
    engine: servers.engine,
    checkpoint: servers.model,
    python: flags.python ?? join(sglangHome(), environmentName("0.5.16"), "bin", "python"),
    learningRate: Number(flags["learning-rate"]),
    runFolder,
    seed: Number(flags.seed),
    steps: Number(flags.steps),
    sink,
    signal: stop.signal,
  });
  for await (const { step, reward, k3, effectiveSampleSize, alarms } of steps) {
    curve.push(reward);
    say(
      `step ${step} ${sparkline(curve).padEnd(Number(flags.steps))} reward ${reward.toFixed(3)}  ` +
        `k3 ${k3.toExponential(1)}  ess ${effectiveSampleSize.toFixed(3)}`,
    );
    for (const alarm of alarms) say(`  ${alarm}`);
  }
  if (curve.length > 0) {
    const [first, last] = firstAndLastTenth(curve);
    say(`mean reward: first tenth ${first.toFixed(3)}, last tenth ${last.toFixed(3)}`);
  }
} finally {
  if (flags.run === undefined) await Deno.remove(runFolder, { recursive: true });
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(line + "\n"));
}
