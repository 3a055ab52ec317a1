/**
 * Rollouts in Deno, training in Python: REINFORCE on a tiny model. Rows go to the trainer as
 * safetensors or JSON lines, weights come back as safetensors and are pushed into the servers.
 * With `--format link` neither is a file: both go over a link, by `sglang_rl.WeightLink`.
 *
 *     deno run -A examples/python_trainer/main.ts --python PYTHON
 *     deno run -A examples/python_trainer/main.ts --python PYTHON --server URL --model FOLDER
 *
 * PYTHON needs torch, transformers and safetensors. Default: the one of `deno task setup:sglang`.
 * Further options: --steps 24  --format safetensors|jsonl|link  --learning-rate 0.005
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { environmentName, sglangHome } from "../../scripts/sglang_cpu/home.ts";
import { firstAndLastTenth, sparkline } from "../evolution_strategies/curve.ts";
import { openServers } from "../evolution_strategies/servers.ts";
import { trainWithPython } from "./loop.ts";

const { values: flags } = parseArgs({
  options: {
    python: { type: "string" },
    server: { type: "string", multiple: true, default: [] },
    model: { type: "string" },
    steps: { type: "string", default: "24" },
    "learning-rate": { type: "string", default: "0.005" },
    format: { type: "string", default: "safetensors" },
  },
});
if (flags.format !== "safetensors" && flags.format !== "jsonl" && flags.format !== "link") {
  throw new Error(`--format must be safetensors, jsonl or link, not ${flags.format}`);
}
const stop = new AbortController();
Deno.addSignalListener("SIGINT", () => stop.abort(new Error("interrupted")));
const workFolder = await Deno.makeTempDir({ prefix: "python-trainer-" });
try {
  await using servers = await openServers("embedded", {
    urls: flags.server,
    model: flags.model,
    signal: stop.signal,
  });
  const curve: number[] = [];
  const steps = trainWithPython({
    engine: servers.engine,
    checkpoint: servers.model,
    python: flags.python ?? join(sglangHome(), environmentName("0.5.16"), "bin", "python"),
    learningRate: Number(flags["learning-rate"]),
    workFolder,
    steps: Number(flags.steps),
    format: flags.format,
    signal: stop.signal,
  });
  for await (const { mean_reward, loss, log_prob_gap } of steps) {
    curve.push(mean_reward);
    say(
      `${sparkline(curve).padEnd(Number(flags.steps))} reward ${mean_reward.toFixed(3)}  ` +
        `loss ${loss.toFixed(3)}  log-prob gap ${log_prob_gap.toExponential(1)}`,
    );
  }
  const [first, last] = firstAndLastTenth(curve);
  say(`mean reward: first tenth ${first.toFixed(3)}, last tenth ${last.toFixed(3)}`);
} finally {
  await Deno.remove(workFolder, { recursive: true });
}

function say(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(line + "\n"));
}
