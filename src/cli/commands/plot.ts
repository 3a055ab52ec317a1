import { basename, extname } from "node:path";
import { type Command, Option } from "commander";
import { plotPng, plotSvg } from "../../dashboard/mod.ts";
import { ValidationError } from "../../errors.ts";
import { asPermissionError } from "../../internal/permission.ts";
import { wholeNumber } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { curvesOf } from "../plot_curves.ts";
import type { CommandContext } from "../program.ts";

const examples = `
Examples:
  sglang-rl plot rows.jsonl > reward.svg
  sglang-rl plot rows.jsonl --every 64 --out reward.png
  sglang-rl plot batch.safetensors --trained rescored.safetensors --out mismatch.png
  sglang-rl plot run.jsonl --only reward,mismatch_k3 --out run.png

Of a file of rollouts it draws the mean reward of dialogs; with --trained, a file of the same rows with
the trainer's log_probs, also the mismatch (k3). Of the JSON lines of a run's numbers (jsonLinesSink) it
draws each number over the steps.`;

interface Options {
  readonly out?: string | undefined;
  readonly format?: "svg" | "png" | undefined;
  readonly every?: number | undefined;
  readonly trained?: string | undefined;
  readonly only?: readonly string[] | undefined;
}

/** Adds `plot`. */
export function addPlot(program: Command, { io }: CommandContext): void {
  program.command("plot <file>")
    .description("Draw the curves of a file, reward and mismatch, as SVG or PNG.")
    .option("--out <file>", "where the picture goes (default: an SVG to the output)")
    .addOption(
      new Option("--format <format>", "form of the picture (default: by the name of --out)")
        .choices(["svg", "png"]),
    )
    .option(
      "--every <count>",
      "dialogs, or steps, whose mean is one point (default: 16 dialogs, 1 step)",
      wholeNumber(1),
    )
    .option("--trained <file>", "the same rows with the trainer's log_probs, for the mismatch")
    .option("--only <names>", "names of a run's numbers, with commas", (text) => text.split(","))
    .addHelpText("after", examples)
    .action((file: string, options: Options) => plot(file, options, io));
}

async function plot(path: string, options: Options, io: CliIo): Promise<void> {
  const { out, every, trained, only } = options;
  const format = formatOf(options);
  if (format === "png" && out === undefined) {
    throw new ValidationError("A PNG goes to a file: name it with --out");
  }
  const { title, xLabel, series, damaged } = await curvesOf(path, {
    every,
    trained,
    only,
    signal: io.signal,
  });
  const isFinite = ([x, y]: readonly [number, number]) => Number.isFinite(x) && Number.isFinite(y);
  const points = series.flatMap((one) => one.points);
  const infinite = points.length - points.filter(isFinite).length;
  if (damaged > 0) io.err(`${damaged} ${damaged === 1 ? "row" : "rows"} left out: unreadable\n`);
  if (infinite === points.length) {
    throw new ValidationError(
      `${path} has nothing to draw: ` +
        (infinite === 0 ? "no row has a number" : "each point is NaN or infinite"),
    );
  }
  if (infinite > 0) {
    io.err(`${infinite} ${infinite === 1 ? "point" : "points"} left out: NaN or infinite\n`);
  }
  const plotOptions = { title: `${title}, ${basename(path)}`, xLabel };
  if (out === undefined) return io.out(plotSvg(series, plotOptions));
  const picture = format === "png"
    ? await plotPng(series, plotOptions)
    : new TextEncoder().encode(plotSvg(series, plotOptions));
  try {
    await Deno.writeFile(out, picture);
  } catch (error) {
    throw asPermissionError(error, `--allow-write=${out}`, `write ${out}`);
  }
}

/** What is asked for, else what the file's name says. */
function formatOf({ format, out = ".svg" }: Options): "svg" | "png" {
  const ending = extname(out).toLowerCase();
  if (format !== undefined) return format;
  if (ending === ".png") return "png";
  if (ending === ".svg" || ending === "") return "svg";
  throw new ValidationError(`${out} is neither .svg nor .png: say which with --format`);
}
