/**
 * How long the other side of a trainer link takes to notice when one is killed (-9), at each phase of
 * a push, on the embedded server: from the end of the killed process to the named error.
 *
 * Run as `deno run -A bench/link_deaths.ts`; needs `deno task setup:sglang` for Python with torch.
 */
// deno-lint-ignore-file no-console
import { EmbeddedServer } from "../src/embedded/mod.ts";
import { readLines } from "../src/internal/lines.ts";
import { trainerBroadcasts, TrainerLink } from "../src/trainer/mod.ts";
import { type SGLangWeightSender, SGLangWeightSyncScheme } from "../src/weights/mod.ts";
import { LinkTrainer, startPlainTrainer } from "../tests/_support/link_trainer.ts";
import { modelPath } from "../tests/_support/real.ts";

const folder = await Deno.makeTempDir({ prefix: "sglang-rl-deaths-" });
const address = `unix:${folder}/trainer.sock`;
const line = (who: string, way: string, when: string, error: string, after: string) =>
  `${who.padEnd(10)}${way.padEnd(11)}${when.padEnd(11)}${error.padEnd(44)}${after}`;
const ms = (from: number, to: number) => `${Math.max(0, Math.round(to - from))} ms`;
try {
  await using server = await EmbeddedServer.start({ model: modelPath("tiny") });
  console.log(line("who dies", "way", "when", "the other side's error", "after"));
  for (const way of ["shm", "socket"] as const) {
    let gone = Promise.withResolvers<number>();
    const info = (line: string) => {
      if (line.includes("is gone")) gone.resolve(performance.now());
    };
    const logger = { debug() {}, info, warn() {}, error() {} };
    await using link = await TrainerLink.listen(address, { logger });
    const scheme = new SGLangWeightSyncScheme({ serverUrl: server.url });
    await using sender = scheme.createSender();
    await sender.initAllWorkersGroup();
    for (const die of ["offered", "asked", "half", "sent"]) {
      const child = startPlainTrainer(address, way, { args: ["--die", die] });
      const ended = child.output().then(() => performance.now());
      // Nobody takes up the first; that its trainer is gone is noticed all the same.
      const heard = die === "offered"
        ? { error: "none: nobody had taken it up", at: await gone.promise }
        : await told(link, sender);
      await gone.promise;
      gone = Promise.withResolvers();
      console.log(line("trainer", way, die, heard.error, ms(await ended, heard.at)));
    }
  }
  {
    await using link = await TrainerLink.listen(address);
    const transport = trainerBroadcasts();
    const scheme = new SGLangWeightSyncScheme({ serverUrl: server.url, transport });
    await using sender = scheme.createSender();
    await sender.initAllWorkersGroup();
    for (const die of ["join", "broadcast"]) {
      await using trainer = await LinkTrainer.start(address, { ways: ["broadcast"] });
      await trainer.ask("load", { folder: modelPath("tiny1") });
      const ended = trainer.ask("push", { die }).catch(() => {}).then(() => performance.now());
      const heard = await told(link, sender);
      console.log(line("trainer", "broadcast", die, heard.error, ms(await ended, heard.at)));
    }
  }
  await using trainer = await LinkTrainer.start(address);
  await trainer.ask("load", { folder: modelPath("tiny1") });
  const steps = ["offered", "probe", "stage", "pause", "update", "version", "resume", "done"];
  for (const step of steps) {
    const script = new URL("../tests/_support/link_child.ts", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", script, address, server.url, step],
      stdout: "piped",
    }).spawn();
    const lines = readLines(child.stdout);
    await lines.next();
    const ended = child.status.then(() => performance.now());
    const outcome = await trainer.ask("push", {});
    const heard = performance.now();
    const error = `${outcome.error} (${outcome.phase})`;
    console.log(line("rank 0", "shm", step, error, ms(await ended, heard)));
    await lines.return(undefined);
    await child.stdout.cancel().catch(() => {});
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}

/** When a sync of the next push failed, and how. */
async function told(link: TrainerLink, sender: SGLangWeightSender) {
  const error = await link.syncNext(sender).then(() => "none: all was sent", (error) => error.name);
  return { error: String(error), at: performance.now() };
}
