/**
 * A torch trainer on GPU 0 hands its device memory to rank 0 on the same GPU, which sends it to
 * servers on the others; beside it rank 0's own device memory, FSDP2 over two GPUs, and torch as rank
 * 0 by itself, in the same run.
 */
import { deepEqual, equal } from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { readLines } from "../../src/internal/lines.ts";
import { trainerBroadcasts, TrainerLink } from "../../src/trainer/mod.ts";
import { SGLangWeightSyncScheme, type WeightSyncReport } from "../../src/weights/mod.ts";
import { freePort } from "../_support/free_port.ts";
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
const ways = (Deno.env.get("GPU_TRAINER_WAYS") ?? "cuda-ipc shm socket").split(" ");
const onGpu0 = { CUDA_VISIBLE_DEVICES: "0", LINK_DEVICE: "cuda:0" };

Deno.test({
  name: "trainer: torch is rank 0 itself and broadcasts by NCCL, in few buckets and many",
  ...anyResources,
  async fn() {
    const fleet = fleetOf("q05b");
    await Promise.all(fleet.map(({ server }) => server.ready(150_000)));
    const reference = await referenceFromDisk(fleet, folderOf("q05b"));
    await using folder = await temporaryFolder();
    await using link = await TrainerLink.listen(`unix:${folder.path}/trainer.sock`, {
      logger: stderrLogger,
    });
    await using trainer = await LinkTrainer.start(link.address, {
      ways: ["broadcast"],
      python,
      env: onGpu0,
    });
    await trainer.ask("load", { folder: folderOf("q05b") });
    const took: Record<string, number> = {};
    for (const bucketBytes of [2 ** 30, 2 ** 26]) {
      await using sender = new SGLangWeightSyncScheme({
        workers: fleet.map(({ server }) => server.url),
        transport: trainerBroadcasts(),
        bucketBytes,
        logger: { ...stderrLogger, debug: () => {} },
      }).createSender();
      await sender.initAllWorkersGroup();
      const syncs: number[] = [];
      for (let i = 0; i <= REPEATS; i++) {
        await spoil(fleet);
        const [outcome, report] = await Promise.all([
          trainer.ask("push", {}),
          link.syncNext(sender),
        ]);
        equal(outcome.way, "broadcast", outcome.message);
        deepEqual((await readState(fleet)).checksums, reference.checksums);
        syncs.push(report.durationMs);
      }
      took[`${bucketBytes}`] = Math.round(median(syncs.slice(1)));
    }
    record("multi.trainer.rank0.q05b", took);
    await trainer.ask("bye", {});
  },
});

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
      const schemeOf = (isolation: "server" | "fleet") =>
        new SGLangWeightSyncScheme({
          workers: fleet.map(({ server }) => server.url),
          transport: "nccl",
          masterAddress: "127.0.0.1",
          nccl: libraries,
          bucketBytes: 2 ** 30,
          isolation,
          keeper: Deno.env.get("GPU_TRAINER_KEEPER") !== "0",
          logger: { ...stderrLogger, debug: () => {} },
        });
      const scheme = schemeOf("server");
      await using sender = scheme.createSender();
      await sender.initAllWorkersGroup();
      const own: WeightSyncReport[] = [];
      {
        await using rank0 = await openGroup();
        const source = await onDevice(folderOf(kind), rank0.group);
        for (let i = 0; i <= REPEATS; i++) own.push(await sender.updateWeights(source));
      }
      const taken: Record<string, { syncMs: number; pushMs: number; phases: object }> = {};
      for (const way of ways) {
        await using trainer = await LinkTrainer.start(link.address, {
          ways: [way],
          python,
          env: onGpu0,
        });
        await trainer.ask("load", { folder: folderOf(kind) });
        const syncs: WeightSyncReport[] = [];
        const pushes: number[] = [];
        for (let i = 0; i <= (way === "cuda-ipc" ? REPEATS : 1); i++) {
          await spoil(fleet);
          const [outcome, report] = await Promise.all([
            trainer.ask("push", {}),
            link.syncNext(sender),
          ]);
          equal(outcome.way, way, outcome.why);
          deepEqual((await readState(fleet)).checksums, reference.checksums);
          syncs.push(report);
          pushes.push(outcome.seconds * 1000);
        }
        taken[way] = {
          syncMs: durationOf(syncs),
          pushMs: Math.round(median(pushes.slice(1))),
          phases: phasesOf(syncs),
        };
        await trainer.ask("bye", {});
      }
      const ownMs = durationOf(own);
      const ratio = Number((taken["cuda-ipc"]!.syncMs / ownMs).toFixed(3));
      record(`multi.trainer.${kind}`, { ownMs, own: phasesOf(own), ...taken, ratio });

      const sharded: WeightSyncReport[] = [];
      const told: { seconds: number; way: string; held: number }[] = [];
      {
        const ranks = startFsdp(link.address, folderOf(kind), REPEATS + 1);
        const lines = readLines(ranks[0]!.stdout);
        const goOn = ranks[0]!.stdin.getWriter();
        for (let i = 0; i <= REPEATS; i++) {
          await spoil(fleet);
          await goOn.write(new TextEncoder().encode("push\n"));
          const signal = AbortSignal.timeout(90_000);
          sharded.push(await link.syncNext(sender, { signal }));
          told.push(JSON.parse((await lines.next()).value!));
          deepEqual((await readState(fleet)).checksums, reference.checksums);
        }
        for (const rank of ranks) equal((await rank.status).code, 0);
        await goOn.close();
        await ranks[1]!.stdin.close();
        await ranks[1]!.stdout.cancel();
      }
      const fsdpMs = durationOf(sharded);
      record(`multi.trainer.fsdp.${kind}`, {
        syncMs: fsdpMs,
        pushMs: Math.round(median(told.slice(1).map(({ seconds }) => seconds * 1000))),
        heldMiB: Math.round(told[0]!.held / 2 ** 20),
        way: told[0]!.way,
        phases: phasesOf(sharded),
        ratioToOwn: Number((fsdpMs / ownMs).toFixed(3)),
      });

      await sender[Symbol.asyncDispose]();
      const inOne: WeightSyncReport[] = [];
      {
        await using all = schemeOf("fleet").createSender();
        await all.initAllWorkersGroup();
        await using trainer = await LinkTrainer.start(link.address, {
          ways: ["cuda-ipc"],
          python,
          env: onGpu0,
        });
        await trainer.ask("load", { folder: folderOf(kind) });
        for (let i = 0; i <= REPEATS; i++) {
          const [, report] = await Promise.all([trainer.ask("push", {}), link.syncNext(all)]);
          inOne.push(report);
        }
        deepEqual((await readState(fleet)).checksums, reference.checksums);
        await trainer.ask("bye", {});
      }
      const script = new URL("./support/torch_alone.py", import.meta.url).pathname;
      const { success, stdout } = await new Deno.Command(python, {
        args: [
          "-B",
          "-W",
          "ignore",
          script,
          folderOf(kind),
          ...fleet.map(({ server, tpSize }) => `${server.url}*${tpSize}`),
        ],
        env: { CUDA_VISIBLE_DEVICES: "0" },
        stderr: "inherit",
      }).output();
      equal(success, true);
      const lines = new TextDecoder().decode(stdout).split("\n");
      const alone = JSON.parse(lines.find((line) => line.startsWith("{"))!);
      const linkMs = durationOf(inOne);
      record(`multi.trainer.torch.${kind}`, {
        ...alone,
        linkServerMs: taken["cuda-ipc"]!.syncMs,
        linkFleetMs: linkMs,
        linkFleet: phasesOf(inOne),
        ratioFleet: Number((linkMs / alone.pausedMs).toFixed(2)),
        ratioServer: Number((taken["cuda-ipc"]!.syncMs / alone.pausedMs).toFixed(2)),
      });
    },
  });
}

/** The median of all syncs but the first. */
function durationOf(reports: readonly WeightSyncReport[]): number {
  return Math.round(median(reports.slice(1).map(({ durationMs }) => durationMs)));
}

/** Where the time of these syncs went: the median of each phase, without the first sync. */
function phasesOf(reports: readonly WeightSyncReport[]): Record<string, number> {
  const later = reports.slice(1);
  const phases = Object.keys(later[0]?.phasesMs ?? {}) as (keyof WeightSyncReport["phasesMs"])[];
  return Object.fromEntries(
    phases.map((
      phase,
    ) => [phase, Math.round(median(later.map((one) => one.phasesMs[phase] ?? 0)))]),
  );
}

/** Two ranks of FSDP2 on GPUs 0 and 1. */
function startFsdp(address: string, folder: string, pushes: number): Deno.ChildProcess[] {
  const script = new URL("./support/fsdp_rank.py", import.meta.url).pathname;
  const port = freePort();
  return [0, 1].map((rank) =>
    new Deno.Command(python, {
      args: ["-W", "ignore", script, address, folder, `${rank}`, `${port}`, `${pushes}`],
      env: {
        PYTHONPATH: `${new URL("../../python", import.meta.url).pathname}`,
        CUDA_VISIBLE_DEVICES: "0,1",
        HF_HUB_OFFLINE: "1",
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn()
  );
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
    const held: { rssMiB: number; descriptors: number; devShm: number }[] = [];
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
      while (link.trainers.length > 0) await sleep(50);
      free.push(await meter.group.freeDeviceBytes());
      held.push({
        rssMiB: Math.round(Deno.memoryUsage().rss / 2 ** 20),
        descriptors: [...Deno.readDirSync("/proc/self/fd")].length,
        devShm: [...Deno.readDirSync("/dev/shm")].length,
      });
    }
    record("multi.trainer.leaks", {
      pushes: 3 * times,
      held,
      freeMiB: free.map((f) => Math.floor(f / 2 ** 20)),
    });
    equal(free.at(-1)! >= free[0]! - 2 ** 20, true, `${free}`);
    equal(held.at(-1)!.descriptors <= held[0]!.descriptors + 2, true, JSON.stringify(held));
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
