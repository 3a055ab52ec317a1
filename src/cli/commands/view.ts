import { basename } from "node:path";
import type { Command } from "commander";
import { openDashboard } from "../../dashboard/mod.ts";
import { LocalTokenizer } from "../../policy/mod.ts";
import { readRollout } from "../../rollout_file/mod.ts";
import type { CliIo } from "../io.ts";
import { addPageOptions, pageAccess, type PageOptions } from "../page_options.ts";
import { toldBy } from "../option_words.ts";
import type { CommandContext } from "../program.ts";
import { ProgressLine } from "../progress.ts";

const examples = `
Examples:
  sglang-rl view rows.jsonl
  sglang-rl view batch.safetensors --tokenizer models/Qwen2.5-0.5B-Instruct
  SGLANG_RL_DASHBOARD_KEY=$(openssl rand -hex 16) sglang-rl view rows.jsonl --listen 0.0.0.0:9411

It serves the page on this machine alone, until Ctrl-C. Elsewhere it needs the key of --key-env, which
the page asks for. Without a tokenizer tokens are shown as ids. Rows that cannot be read are told by
the numbers of their lines; the others are shown.`;

interface Options extends PageOptions {
  readonly tokenizer?: string | undefined;
}

/** Adds `view`. */
export function addView(program: Command, { io }: CommandContext): void {
  const command = program.command("view <file>")
    .description("Serve a page that shows the trajectories of a file, until Ctrl-C.")
    .option("--tokenizer <folder>", "folder with tokenizer.json, for the texts of tokens");
  addPageOptions(command, "9411")
    .addHelpText("after", examples)
    .action((file: string, options: Options) => view(file, options, io));
}

async function view(path: string, options: Options, io: CliIo): Promise<void> {
  const { tokenizer: folder } = options;
  const access = pageAccess(options, io);
  const { signal } = io;
  const tokenizer = folder === undefined
    ? undefined
    : await LocalTokenizer.fromFolder(folder, { signal });
  using progress = new ProgressLine(io);
  const rollouts = await readRollout(path, {
    signal,
    onProgress: ({ bytes, totalBytes }) =>
      progress.show(`looking for rows: ${Math.round(100 * bytes / totalBytes)} %`),
  });
  await using page = await openDashboard({
    file: {
      rollouts,
      name: basename(path),
      onProgress: (row) => progress.show(`reading row ${row} of ${rollouts.length}`),
    },
    tokenTexts: tokenizer && ((ids) => ids.map((id) => tokenizer.decode([id]))),
    ...access,
    signal,
    onError: (error) => io.err(`The page could not answer: ${toldBy("view", error)}\n`),
  });
  progress[Symbol.dispose]();
  const { damaged } = page;
  if (damaged > 0) {
    io.err(
      `${damaged} ${damaged === 1 ? "row" : "rows"} cannot be read; the page tells which and why\n`,
    );
  }
  io.out(`Trajectories: ${page.url}\n`);
  await page.finished;
}
