import { retold } from "../../internal/retold.ts";
import { type Command, Option } from "commander";
import { SGLangClient } from "../../client/mod.ts";
import type { PauseMode } from "../../client/types.ts";
import { SGLangError, StateError } from "../../errors.ts";
import { accessOf, addFleetOptions, type FleetOptions, serverUrls } from "../fleet_options.ts";
import type { CliIo } from "../io.ts";
import { jsonLine } from "../json_lines.ts";
import { toldBy } from "../option_words.ts";
import type { CommandContext } from "../program.ts";

interface Options extends FleetOptions {
  readonly mode?: PauseMode | undefined;
  readonly json?: boolean | undefined;
}

const pauseExamples = `
Examples:
  sglang-rl pause -s http://127.0.0.1:30000
  sglang-rl pause -r http://127.0.0.1:30010 --mode retract

A paused server answers no new request until "sglang-rl resume".`;

const resumeExamples = `
Examples:
  sglang-rl resume -s http://127.0.0.1:30000
  sglang-rl resume -r http://127.0.0.1:30010

A server that is not paused is left as it is.`;

/** Adds `pause` and `resume`. */
export function addPause(program: Command, { io }: CommandContext): void {
  addFleetOptions(program.command("pause").description("Pause generation on every server."))
    .addOption(
      new Option("--mode <mode>", "what becomes of running requests")
        .choices(["abort", "retract", "in_place"]).default("retract"),
    )
    .option("--json", "one JSON object on a line for each server")
    .addHelpText("after", pauseExamples)
    .action(async (options: Options) => {
      await onEach(options, io, {
        done: "paused",
        call: (client) => client.pause(options.mode ?? "retract", { signal: io.signal }),
      });
    });
  addFleetOptions(program.command("resume").description("Resume generation on every server."))
    .option("--json", "one JSON object on a line for each server")
    .addHelpText("after", resumeExamples)
    .action(async (options: Options) => {
      await onEach(options, io, {
        done: "resumed",
        call: (client) => client.resume({ signal: io.signal }),
      });
    });
}

/** Does it on every server and tells how it went on each; throws the first failure afterwards. */
async function onEach(
  options: Options,
  io: CliIo,
  { done, call }: { done: string; call: (client: SGLangClient) => Promise<void> },
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const clients = (await serverUrls(options, io)).map((url) =>
    stack.use(new SGLangClient({ url, ...accessOf(options, io) }))
  );
  const failures: unknown[] = [];
  await Promise.all(clients.map(async (client) => {
    let error: string | null = null;
    try {
      await call(client);
    } catch (thrown) {
      failures.push(thrown);
      error = toldBy("pause", thrown);
    }
    const state = error === null ? done : "failed";
    io.out(
      options.json
        ? jsonLine({ server: client.url, state, error })
        : `${client.url}: ${error ?? done}\n`,
    );
  }));
  const [first] = failures;
  if (first === undefined) return;
  const message = `${failures.length} of ${clients.length} servers were not ${done}`;
  throw first instanceof SGLangError
    ? retold(first, message)
    : new StateError(message, { cause: first });
}
