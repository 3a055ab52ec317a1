import { basename } from "node:path";
import type { Command } from "commander";
import { openDashboard, type PlotSeries, plotSvg } from "../../dashboard/mod.ts";
import { asPermissionError } from "../../internal/permission.ts";
import { messageOf } from "../../internal/thrown.ts";
import { LocalTokenizer } from "../../policy/mod.ts";
import { readRollout } from "../../rollout_file/mod.ts";
import { wholeNumber } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { addressFrom, type ListenAddress } from "../listen_address.ts";
import type { CommandContext } from "../program.ts";

const viewExamples = `
Examples:
  sglang-rl view rows.jsonl
  sglang-rl view batch.safetensors --tokenizer models/Qwen2.5-0.5B-Instruct

It serves the page on this machine alone, until Ctrl-C. Without a tokenizer tokens are shown as ids.`;

const plotExamples = `
Examples:
  sglang-rl plot rows.jsonl > reward.svg
  sglang-rl plot rows.jsonl --every 64 --out reward.svg`;

interface ViewOptions {
  readonly listen: ListenAddress;
  readonly tokenizer?: string | undefined;
}

interface PlotCommandOptions {
  readonly out?: string | undefined;
  readonly every: number;
}

/** Adds `view` and `plot`. */
export function addView(program: Command, { io }: CommandContext): void {
  program.command("view <file>")
    .description("Serve a page that shows the trajectories of a file, until Ctrl-C.")
    .option("--tokenizer <folder>", "folder with tokenizer.json, for the texts of tokens")
    .option("--listen <[host:]port>", "where the page is", addressFrom, addressFrom("9411"))
    .addHelpText("after", viewExamples)
    .action((file: string, options: ViewOptions) => view(file, options, io));
  program.command("plot <file>")
    .description("Draw the mean reward over the dialogs of a file, as SVG.")
    .option("--out <file>", "where the SVG goes (default: the output)")
    .option("--every <dialogs>", "dialogs of one point", wholeNumber(1), 16)
    .addHelpText("after", plotExamples)
    .action((file: string, options: PlotCommandOptions) => plot(file, options, io));
}

async function view(path: string, options: ViewOptions, io: CliIo): Promise<void> {
  const { tokenizer: folder } = options;
  const tokenizer = folder === undefined ? undefined : await LocalTokenizer.fromFolder(folder);
  const rollouts = await readRollout(path, { signal: io.signal });
  await using page = await openDashboard({
    file: { rollouts, name: basename(path) },
    tokenTexts: tokenizer && ((ids) => ids.map((id) => tokenizer.decode([id]))),
    hostname: options.listen.hostname,
    port: options.listen.port,
    signal: io.signal,
    onError: (error) => io.err(`The page could not answer: ${messageOf(error)}\n`),
  });
  io.out(`Trajectories: ${page.url}\n`);
  await page.finished;
}

async function plot(path: string, options: PlotCommandOptions, io: CliIo): Promise<void> {
  const { every } = options;
  await using rollouts = await readRollout(path, { signal: io.signal });
  const rewards = new Map<number, number>();
  for await (const { dialog, reward } of rollouts) {
    io.signal.throwIfAborted();
    rewards.set(dialog, (rewards.get(dialog) ?? 0) + reward);
  }
  const values = [...rewards.values()];
  const points: [number, number][] = [];
  for (let at = 0; at < values.length; at += every) {
    const part = values.slice(at, at + every);
    points.push([at + part.length, part.reduce((sum, value) => sum + value, 0) / part.length]);
  }
  const series: PlotSeries[] = [{ name: `mean of ${every} dialogs`, points }];
  const svg = plotSvg(series, { title: `Reward, ${basename(path)}`, xLabel: "dialogs" });
  if (options.out === undefined) return io.out(svg);
  try {
    await Deno.writeTextFile(options.out, svg);
  } catch (error) {
    throw asPermissionError(error, `--allow-write=${options.out}`, `write ${options.out}`);
  }
}
