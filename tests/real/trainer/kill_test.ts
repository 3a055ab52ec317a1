/** Either side is killed (-9) at each phase of a push: the other hears of it, the next push works. */
import assert from "node:assert/strict";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { readLines } from "../../../src/internal/lines.ts";
import { TrainerLink } from "../../../src/trainer/mod.ts";
import {
  type SGLangWeightSender,
  SGLangWeightSyncScheme,
  type WeightSyncReport,
} from "../../../src/weights/mod.ts";
import { until } from "../../_support/clock.ts";
import { LinkTrainer, startPlainTrainer } from "../../_support/link_trainer.ts";
import { modelPath } from "../../_support/real.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { greedy } from "../../unit/embedded/_support.ts";

async function expected(): Promise<number[]> {
  await using server = await EmbeddedServer.start({ model: modelPath("tiny1") });
  return await greedy(server);
}

for (const way of ["shm", "socket"] as const) {
  Deno.test(`a trainer killed at any point of a push by ${way} is named; the next push works`, async () => {
    await using folder = await temporaryFolder();
    const socket = `${folder.path}/trainer.sock`;
    await using server = await EmbeddedServer.start({ model: modelPath("tiny") });
    await using link = await TrainerLink.listen(`unix:${socket}`);
    const scheme = new SGLangWeightSyncScheme({ serverUrl: server.url });
    await using sender = scheme.createSender();
    await sender.initAllWorkersGroup();
    const wanted = await expected();
    for (const die of ["offered", "asked", "half", "sent"]) {
      const child = startPlainTrainer(link.address, way, { args: ["--die", die] });
      // One that dies before it is taken up leaves nothing to take up.
      if (die === "offered") {
        await child.output();
        await until(() => link.trainers.length === 0);
      } else {
        const [synced] = await Promise.all([
          link.syncNext(sender).then((report) => report, (error) => error),
          child.output(),
        ]);
        if (die === "sent") assert.ok(synced.version !== undefined || /plain/.test(synced.message));
        else assert.match(synced.message, /trainer plain ended in push 1 /);
      }
      const next = startPlainTrainer(link.address, way);
      const [report, { stdout }] = await Promise.all([nextAlive(link, sender), next.output()]);
      const told = JSON.parse(new TextDecoder().decode(stdout));
      assert.deepEqual([told.type, told.version], ["done", report.version], die);
      assert.deepEqual(await greedy(server), wanted);
    }
    await until(() => link.trainers.length === 0);
    // What listens is all that is left.
    assert.deepEqual(await held(socket), { maps: 0, files: 0, sockets: 1 });
  });
}

/**
 * Syncs the next push of a trainer that lives: an offer that was on its way when its trainer died may
 * still be taken up, and then fails by name before a byte has come.
 */
async function nextAlive(
  link: TrainerLink,
  sender: SGLangWeightSender,
): Promise<WeightSyncReport> {
  try {
    return await link.syncNext(sender);
  } catch (error) {
    assert.match((error as Error).message, /trainer plain ended in push 1 .* 0 of \d+ tensors/);
    return await link.syncNext(sender);
  }
}

Deno.test("rank 0 killed at any step is named by the trainer; the next push works", async () => {
  await using folder = await temporaryFolder();
  const address = `unix:${folder.path}/trainer.sock`;
  await using server = await EmbeddedServer.start({ model: modelPath("tiny") });
  await using trainer = await LinkTrainer.start(address);
  await trainer.ask("load", { folder: modelPath("tiny1") });
  const before = await trainer.ask("state", {});
  const wanted = await expected();
  const steps = ["offered", "probe", "stage", "pause", "update", "version", "resume", "done"];
  for (const step of steps) {
    {
      await using _rank0 = await rank0(address, server.url, step);
      const outcome = await trainer.ask("push", {});
      assert.equal(outcome.error, "LinkLost", step);
      assert.match(outcome.message!, /closed the connection|reset by peer|Broken pipe/, step);
      assert.ok(outcome.phase, step);
    }
    await using _rank0 = await rank0(address, server.url);
    const next = await trainer.ask("push", {});
    assert.ok(next.version !== undefined, `${step}: ${next.message}`);
    assert.deepEqual(await greedy(server), wanted);
  }
  await trainer.ask("bye", {});
  const after = await trainer.ask("state", {});
  assert.deepEqual([after.descriptors, after.maps], [before.descriptors, before.maps]);
});

/** What this process holds of links: mapped memory, its descriptors, ends of the socket. */
async function held(path: string) {
  const maps = await Deno.readTextFile("/proc/self/maps");
  const sockets = await Deno.readTextFile("/proc/net/unix");
  const files = [...Deno.readDirSync("/proc/self/fd")].filter(({ name }) => {
    try {
      return Deno.readLinkSync(`/proc/self/fd/${name}`).includes("sglang-rl-trainer");
    } catch {
      return false;
    }
  });
  return {
    maps: maps.split("sglang-rl-trainer").length - 1,
    files: files.length,
    sockets: sockets.split(path).length - 1,
  };
}

async function rank0(address: string, server: string, step = ""): Promise<AsyncDisposable> {
  const script = new URL("../../_support/link_child.ts", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", script, address, server, step],
    stdout: "piped",
  }).spawn();
  const lines = readLines(child.stdout);
  await lines.next();
  return {
    async [Symbol.asyncDispose]() {
      try {
        child.kill("SIGKILL");
      } catch { /* It has ended already. */ }
      await child.status;
      await lines.return(undefined);
      await child.stdout.cancel().catch(() => {});
    },
  };
}
