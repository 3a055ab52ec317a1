import type { Command } from "commander";
import type { Generation } from "../../client/types.ts";
import { systemClock } from "../../internal/clock.ts";
import { addFleetOptions, connectFleet, type FleetOptions, wholeNumber } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { jsonLine } from "../json_lines.ts";
import type { CommandContext } from "../program.ts";
import { ProgressLine } from "../progress.ts";
import { textTable } from "../table.ts";

interface Options extends FleetOptions {
  readonly prompts: number;
  readonly promptTokens: number;
  readonly maxNewTokens: number;
  readonly rounds: number;
  readonly logProbs: boolean;
  readonly json?: boolean | undefined;
}

/** What a round measured. */
interface Round {
  readonly tokens: number;
  readonly seconds: number;
  readonly tokensPerSecond: number;
  readonly samplesPerSecond: number;
  readonly latencyMsMedian: number;
  readonly latencyMsP95: number;
}

const examples = `
Examples:
  sglang-rl bench -s http://127.0.0.1:30000
  sglang-rl bench -r http://127.0.0.1:30010 --prompts 512 --max-new-tokens 256 --json`;

/** Adds `bench`. */
export function addBench(program: Command, { io }: CommandContext): void {
  addFleetOptions(
    program.command("bench").description("Measure how fast running servers generate."),
  )
    .option("--prompts <count>", "requests of a round, all at once", wholeNumber(1), 64)
    .option("--prompt-tokens <count>", "length of each prompt", wholeNumber(1), 32)
    .option("-m, --max-new-tokens <count>", "tokens of each sample", wholeNumber(1), 64)
    .option("--rounds <count>", "rounds; the first warms up when there are more", wholeNumber(1), 3)
    .option("--no-log-probs", "do without log-probabilities")
    .option("--json", "one JSON object")
    .addHelpText("after", examples)
    .action((options: Options) => bench(options, io));
}

async function bench(options: Options, io: CliIo): Promise<void> {
  await using engine = await connectFleet(options, io);
  const vocabSize = (await engine.serverInfo())[0]?.vocabSize ?? 256;
  const rounds: Round[] = [];
  {
    using line = new ProgressLine(io);
    for (let round = 0; round < options.rounds; round++) {
      const inputIds = randomPrompts(options, { vocabSize, round });
      const started = systemClock.now();
      const samples = await engine.generate({ inputIds }, {
        maxNewTokens: options.maxNewTokens,
        ignoreEos: true,
        returnLogProbs: options.logProbs,
        onProgress: ({ done, total }) =>
          line.show(`round ${round + 1} of ${options.rounds}: ${done} of ${total}`),
        signal: io.signal,
      });
      rounds.push(measured(samples as Generation[], (systemClock.now() - started) / 1000));
    }
  }
  if (options.json) {
    io.out(jsonLine({ servers: engine.workers.map(({ url }) => url), rounds }));
    return;
  }
  const header = ["round", "tokens", "seconds", "tokens/s", "samples/s", "p50 ms", "p95 ms"];
  const rows = rounds.map((round, i) => [
    i + 1,
    round.tokens,
    Number(round.seconds.toFixed(2)),
    Math.round(round.tokensPerSecond),
    Number(round.samplesPerSecond.toFixed(1)),
    Math.round(round.latencyMsMedian),
    Math.round(round.latencyMsP95),
  ]);
  io.out(textTable(header, rows, io.isOutTerminal ? io.columns : undefined));
}

/** Prompts that share no beginning, so that the prefix cache does not help. */
function randomPrompts(
  options: Options,
  { vocabSize, round }: { vocabSize: number; round: number },
): number[][] {
  // Small ids are ordinary tokens in common vocabularies, never special ones.
  const limit = Math.min(vocabSize, 256);
  return Array.from(
    { length: options.prompts },
    (_, prompt) =>
      Array.from({ length: options.promptTokens }, (_, i) => {
        const mixed = Math.imul((round * options.prompts + prompt) * 1000 + i + 1, 0x9e3779b1) >>>
          0;
        return mixed % limit;
      }),
  );
}

function measured(samples: readonly Generation[], seconds: number): Round {
  const tokens = samples.reduce((sum, sample) => sum + sample.ids.length, 0);
  const latencies = samples.map((sample) => sample.latencyMs).sort((a, b) => a - b);
  const at = (share: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(share * latencies.length))]!;
  return {
    tokens,
    seconds,
    tokensPerSecond: tokens / seconds,
    samplesPerSecond: samples.length / seconds,
    latencyMsMedian: at(0.5),
    latencyMsP95: at(0.95),
  };
}
