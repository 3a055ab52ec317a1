import type { Command } from "commander";
import type { Generation } from "../../client/types.ts";
import type { AsyncSGLang } from "../../engine/mod.ts";
import { ValidationError } from "../../errors.ts";
import { namingPermission } from "../../internal/permission.ts";
import {
  addFleetOptions,
  connectFleet,
  type FleetOptions,
  numberFrom,
  repeatable,
  wholeNumber,
} from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { jsonLine } from "../json_lines.ts";
import type { CommandContext } from "../program.ts";
import { ProgressLine } from "../progress.ts";

interface Options extends FleetOptions {
  readonly file?: string | undefined;
  readonly samples: number;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly seed?: number | undefined;
  readonly stop: readonly string[];
  readonly logProbs?: boolean | undefined;
  readonly stream?: boolean | undefined;
  readonly json?: boolean | undefined;
}

const examples = `
Examples:
  sglang-rl generate -s http://127.0.0.1:30000 "The capital of France is" --temperature 0
  sglang-rl generate -r http://127.0.0.1:30010 --file prompts.txt -n 4 --json > samples.jsonl
  sglang-rl generate -s http://127.0.0.1:30000 --stream "Once upon a time"`;

/** Adds `generate`. */
export function addGenerate(program: Command, { io }: CommandContext): void {
  addFleetOptions(
    program.command("generate")
      .description("Generate for prompts, all at once.")
      .argument("[prompts...]", "prompts"),
  )
    .option("-f, --file <path>", 'file with one prompt on each line; "-" for standard input')
    .option("-n, --samples <count>", "samples for each prompt", wholeNumber(1), 1)
    .option("-m, --max-new-tokens <count>", "most tokens of a sample", wholeNumber(0), 128)
    .option("-t, --temperature <number>", "0 is greedy", numberFrom(0), 1)
    .option("--top-p <number>", "nucleus mass", numberFrom(0), 1)
    .option("--top-k <count>", "likeliest tokens kept; -1 for all", wholeNumber(-1), -1)
    .option("--seed <number>", "seed of the sampling", wholeNumber(0))
    .addOption(repeatable("--stop <text>", "stop string; may be repeated"))
    .option("--log-probs", "ask for log-probabilities; shown with --json")
    .option("--stream", "show the text as it comes; one prompt only")
    .option("--json", "one JSON object on a line for each sample")
    .addHelpText("after", examples)
    .action((prompts: string[], options: Options) => generate(prompts, options, io));
}

async function generate(given: readonly string[], options: Options, io: CliIo): Promise<void> {
  const prompts = [...given, ...await promptsOf(options.file, io)];
  if (prompts.length === 0) throw new ValidationError("Give prompts, or --file PATH");
  if (options.stream && (prompts.length > 1 || options.samples > 1)) {
    throw new ValidationError("--stream shows one sample of one prompt");
  }
  await using engine = await connectFleet(options, io);
  if (options.stream) return await streamOne(engine, { prompt: prompts[0]!, options, io });
  let samples: Generation[];
  {
    using line = new ProgressLine(io);
    samples = await engine.generate(prompts, {
      ...samplingOf(options),
      n: options.samples,
      returnLogProbs: options.logProbs ?? false,
      onProgress: ({ done, total }) => line.show(`generate: ${done} of ${total}`),
      signal: io.signal,
    });
  }
  samples.forEach((sample, i) => {
    const prompt = prompts[Math.floor(i / options.samples)]!;
    io.out(options.json ? jsonLine(record(prompt, sample)) : shown(prompt, sample));
  });
}

async function streamOne(
  engine: AsyncSGLang,
  { prompt, options, io }: { prompt: string; options: Options; io: CliIo },
): Promise<void> {
  const steps = engine.stream(prompt, {
    ...samplingOf(options),
    returnLogProbs: options.logProbs ?? false,
    signal: io.signal,
  });
  for await (const step of steps) {
    if (!options.json) io.out(step.text);
    else if (step.final !== null) io.out(jsonLine(record(prompt, step.final)));
  }
  if (!options.json) io.out("\n");
}

function samplingOf(options: Options): Record<string, unknown> {
  const { maxNewTokens, temperature, topP, topK, seed, stop } = options;
  return {
    maxNewTokens,
    temperature,
    topP,
    topK,
    ...(seed === undefined ? {} : { samplingSeed: seed }),
    ...(stop.length === 0 ? {} : { stop }),
  };
}

async function promptsOf(file: string | undefined, io: CliIo): Promise<string[]> {
  if (file === undefined) return [];
  const text = file === "-"
    ? await io.stdin()
    : await namingPermission(`--allow-read=${file}`, `read ${file}`, () => readText(file));
  return text.split(/\r?\n/).filter((line) => line !== "");
}

async function readText(file: string): Promise<string> {
  try {
    return await Deno.readTextFile(file);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new ValidationError(`There is no file ${file}`, { cause: error });
  }
}

function record(prompt: string, sample: Generation): Record<string, unknown> {
  return {
    prompt,
    text: sample.text,
    ids: sample.ids,
    logProbs: sample.logProbs,
    finishReason: sample.finishReason,
    weightVersion: sample.weightVersion,
    weightVersions: sample.weightVersions,
    promptTokens: sample.promptTokens,
    completionTokens: sample.completionTokens,
    server: sample.server,
    latencyMs: Math.round(sample.latencyMs),
  };
}

function shown(prompt: string, sample: Generation): string {
  const { completionTokens, finishReason, weightVersion } = sample;
  const detail = `${completionTokens} tokens, ${finishReason.type}, weights ${
    weightVersion ?? "?"
  }`;
  return `> ${prompt}\n${sample.text ?? [...sample.ids].join(" ")}\n  (${detail})\n\n`;
}
