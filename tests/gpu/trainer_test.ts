/**
 * A torch trainer on GPU 0 hands its device memory to rank 0 on the same GPU, which sends it to
 * servers on the others; beside it rank 0's own device memory. `PARTS="trainer python"` of
 * scripts/gpu/run_multi.sh also measures torch's own broadcast in the same run.
 */
import { deepEqual, equal } from "node:assert/strict";
import { TrainerLink } from "../../src/trainer/mod.ts";
import { SGLangWeightSyncScheme } from "../../src/weights/mod.ts";
import { LinkTrainer } from "../_support/link_trainer.ts";
import { temporaryFolder } from "../_support/temporary_folder.ts";
import { libraries, median, openGroup, record, stderrLogger } from "./support/gpu.ts";
import {
  fleetOf,
  folderOf,
  type ModelKind,
  readState,
  referenceFromDisk,
  spoil,
} from "./support/multi_fleet.ts";
import { python } from "./support/peer.ts";
import { onDevice } from "./support/sources.ts";

const anyResources = { sanitizeResources: false, sanitizeOps: false };
const REPEATS = 5;
const onGpu0 = { CUDA_VISIBLE_DEVICES: "0", LINK_DEVICE: "cuda:0" };

for (const kind of (Deno.env.get("GPU_TRAINER_KINDS") ?? "q05b q7b").split(" ") as ModelKind[]) {
  Deno.test({
    name: `trainer: CUDA IPC from a torch process beside rank 0's own device memory, ${kind}`,
    ...anyResources,
    async fn() {
      const fleet = fleetOf(kind);
      await Promise.all(fleet.map(({ server }) => server.ready(150_000)));
      const reference = await referenceFromDisk(fleet, folderOf(kind));
      await using folder = await temporaryFolder();
      await using link = await TrainerLink.listen(`unix:${folder.path}/trainer.sock`, {
        cuda: { device: 0, libraries },
        logger: stderrLogger,
      });
      const scheme = new SGLangWeightSyncScheme({
        workers: fleet.map(({ server }) => server.url),
        transport: "nccl",
        masterAddress: "127.0.0.1",
        nccl: libraries,
        bucketBytes: 2 ** 30,
        logger: { ...stderrLogger, debug: () => {} },
      });
      await using sender = scheme.createSender();
      await sender.initAllWorkersGroup();
      const own: number[] = [];
      {
        await using rank0 = await openGroup();
        const source = await onDevice(folderOf(kind), rank0.group);
        for (let i = 0; i <= REPEATS; i++) {
          own.push((await sender.updateWeights(source)).durationMs);
        }
      }
      const taken: Record<string, { syncMs: number; pushMs: number }> = {};
      for (const way of ["cuda-ipc", "shm", "socket"]) {
        await using trainer = await LinkTrainer.start(link.address, {
          ways: [way],
          python,
          env: onGpu0,
        });
        await trainer.ask("load", { folder: folderOf(kind) });
        const [syncs, pushes]: [number[], number[]] = [[], []];
        for (let i = 0; i <= (way === "cuda-ipc" ? REPEATS : 1); i++) {
          await spoil(fleet);
          const [outcome, report] = await Promise.all([
            trainer.ask("push", {}),
            link.syncNext(sender),
          ]);
          equal(outcome.way, way, outcome.why);
          deepEqual((await readState(fleet)).checksums, reference.checksums);
          syncs.push(report.durationMs);
          pushes.push(outcome.seconds * 1000);
        }
        taken[way] = {
          syncMs: Math.round(median(syncs.slice(1))),
          pushMs: Math.round(median(pushes.slice(1))),
        };
        await trainer.ask("bye", {});
      }
      const ownMs = median(own.slice(1));
      const ratio = Number((taken["cuda-ipc"]!.syncMs / ownMs).toFixed(3));
      record(`multi.trainer.${kind}`, { ownMs: Math.round(ownMs), ...taken, ratio });
    },
  });
}

Deno.test({
  name: "trainer: many pushes by CUDA IPC, also of trainers that are killed, keep no device memory",
  ...anyResources,
  async fn() {
    const fleet = fleetOf("q05b").slice(0, 1);
    await using folder = await temporaryFolder();
    await using link = await TrainerLink.listen(`unix:${folder.path}/trainer.sock`, {
      cuda: { device: 0, libraries },
    });
    const scheme = new SGLangWeightSyncScheme({
      workers: fleet.map(({ server }) => server.url),
      transport: "nccl",
      masterAddress: "127.0.0.1",
      nccl: libraries,
    });
    await using sender = scheme.createSender();
    await sender.initAllWorkersGroup();
    await using meter = await openGroup();
    const start = () =>
      LinkTrainer.start(link.address, {
        ways: ["cuda-ipc"],
        python,
        env: onGpu0,
      });
    const free: number[] = [];
    const times = Number(Deno.env.get("GPU_TRAINER_PUSHES") ?? 100);
    for (let round = 0; round < 3; round++) {
      {
        await using trainer = await start();
        await trainer.ask("load", { folder: folderOf("q05b") });
        const pushes = trainer.ask("pushes", { times });
        for (let i = 0; i < times; i++) await link.syncNext(sender);
        await pushes;
        const dying = trainer.ask("push", {}).catch(() => {});
        const push = await link.nextPush();
        const open = await push.source.open();
        await trainer.kill();
        await open[Symbol.asyncDispose]();
        await dying;
      }
      free.push(await meter.group.freeDeviceBytes());
    }
    record("multi.trainer.leaks", {
      pushes: 3 * times,
      freeMiB: free.map((f) => Math.floor(f / 2 ** 20)),
    });
    equal(free.at(-1)! >= free[0]! - 2 ** 20, true, `${free}`);
  },
});

Deno.test({
  name: "trainer: expandable segments are refused with the setting to change",
  ...anyResources,
  async fn() {
    await using folder = await temporaryFolder();
    await using link = await TrainerLink.listen(`unix:${folder.path}/trainer.sock`, {
      cuda: { device: 0, libraries },
    });
    await using trainer = await LinkTrainer.start(link.address, {
      ways: ["cuda-ipc"],
      python,
      env: { ...onGpu0, PYTORCH_CUDA_ALLOC_CONF: "expandable_segments:True" },
    });
    await trainer.ask("load", { folder: folderOf("q05b") });
    const { error, message } = await trainer.ask("push", {});
    equal(error, "ValueError");
    equal(message!.includes("PYTORCH_CUDA_ALLOC_CONF=expandable_segments:False"), true, message);
  },
});
