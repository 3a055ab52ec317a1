/**
 * How long the other side of a trainer link takes to notice when one is killed (-9), at each phase of
 * a push, on the embedded server: from the end of the killed process to the named error.
 *
 * Run as `deno run -A bench/link_deaths.ts`; needs `deno task setup:sglang` for Python with torch.
 */
// deno-lint-ignore-file no-console
import { EmbeddedServer } from "../src/embedded/mod.ts";
import { readLines } from "../src/internal/lines.ts";
import { TrainerLink } from "../src/trainer/mod.ts";
import { SGLangWeightSyncScheme } from "../src/weights/mod.ts";
import { LinkTrainer, startPlainTrainer } from "../tests/_support/link_trainer.ts";
import { modelPath } from "../tests/_support/real.ts";

const folder = await Deno.makeTempDir({ prefix: "sglang-rl-deaths-" });
const address = `unix:${folder}/trainer.sock`;
const ms = (from: number, to: number) => `${Math.max(0, Math.round(to - from))} ms`;
try {
  await using server = await EmbeddedServer.start({ model: modelPath("tiny") });
  console.log("who dies  way     when     the other side's error           after");
  for (const way of ["shm", "socket"] as const) {
    await using link = await TrainerLink.listen(address);
    const scheme = new SGLangWeightSyncScheme({ serverUrl: server.url });
    await using sender = scheme.createSender();
    await sender.initAllWorkersGroup();
    for (const die of ["asked", "half"]) {
      const child = startPlainTrainer(address, way, { args: ["--die", die] });
      const ended = child.output().then(() => performance.now());
      const heard = await link.syncNext(sender).then(
        () => ["none", performance.now()] as const,
        (error: Error) => [error.name, performance.now()] as const,
      );
      console.log(
        `trainer   ${way.padEnd(8)}${die.padEnd(9)}${heard[0].padEnd(33)}${
          ms(await ended, heard[1])
        }`,
      );
    }
  }
  await using trainer = await LinkTrainer.start(address);
  await trainer.ask("load", { folder: modelPath("tiny1") });
  for (const step of ["probe", "stage", "pause", "update", "version", "resume"]) {
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
    console.log(
      `rank 0    shm     ${step.padEnd(9)}${`${outcome.error} (${outcome.phase})`.padEnd(33)}${
        ms(await ended, heard)
      }`,
    );
    await lines.return(undefined);
    await child.stdout.cancel().catch(() => {});
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}
