/**
 * Several GPUs of one host: what dies or freezes in a sync, and what becomes of the others; how long
 * generation stops; the first sync; what isolation costs. scripts/gpu/run_multi.sh starts the servers
 * and runs each test.
 */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { safetensors } from "../../src/weights/source/mod.ts";
import { median, openGroup, record } from "./support/gpu.ts";
import { fleetOf, folderOf } from "./support/multi_fleet.ts";
import { isReached, type Position, positions } from "./support/positions.ts";
import { python } from "./support/peer.ts";
import { onDevice } from "./support/sources.ts";
import { runStreams } from "./support/streams.ts";
import {
  afterwards,
  type answersAfter,
  failing,
  faulty,
  folders,
  MIB,
  referenceTokens,
  seconds,
  senderTo,
  serversOf,
  servingAfter,
  signal,
  victims,
} from "./support/survival.ts";

const anyResources = { sanitizeResources: false, sanitizeOps: false };
const shares: Record<Position, number> = { before: 0, middle: 0.5, after: 1 };

Deno.test({
  name:
    "kill: whatever dies in a sync, the other servers answer within 10 s, and the next is right",
  ...anyResources,
  async fn(t) {
    const healthy = serversOf("GPU_HEALTHY");
    const doomed = victims();
    const everyone = [...healthy, ...doomed.map(({ server }) => server)];
    await Promise.all(everyone.map((server) => server.ready(240_000)));
    const tokens = (await referenceTokens(everyone)).a;
    const buckets = { bucketBytes: 32 * MIB };
    const step = (name: string, work: () => Promise<void>) =>
      t.step({ name, fn: work, ...anyResources });

    const third = doomed[0]!;
    const three = [...healthy, third.server];
    for (const at of positions) {
      await step(`our abort, ${at}`, async () => {
        await using sender = senderTo(three, buckets);
        await sender.initAllWorkersGroup();
        const stop = new AbortController();
        let from = 0;
        const error = await failing(sender, safetensors(folders.b), {
          signal: stop.signal,
          onProgress(progress) {
            if (from > 0 || !isReached(at, progress)) return;
            from = performance.now();
            stop.abort();
          },
        });
        await afterwards("abort", at, { others: three, all: three, from, error, tokens, sender });
      });
      for (const how of ["fails", "stalls"] as const) {
        // Before the servers are paused a source may take its time.
        if (how === "stalls" && at === "before") continue;
        await step(`a source that ${how}, ${at}`, async () => {
          await using sender = senderTo(three, { ...buckets, deadlines: { updateMs: 8000 } });
          await sender.initAllWorkersGroup();
          let from = performance.now();
          let isPaused = false;
          const error = await failing(sender, faulty(folders.b, shares[at], how), {
            onProgress({ phase }) {
              if (phase === "pause" && !isPaused) from = performance.now(), isPaused = true;
            },
          });
          await afterwards(`source ${how}`, at, {
            others: three,
            all: three,
            from,
            error,
            tokens,
            sender,
          });
        });
      }
      await step(`a server frozen, ${at}`, async () => {
        await using sender = senderTo(three, buckets);
        await sender.initAllWorkersGroup();
        let from = 0;
        let watched: ReturnType<typeof answersAfter> | undefined;
        const error = await failing(sender, safetensors(folders.b), {
          onProgress(progress) {
            if (from > 0 || !isReached(at, progress)) return;
            from = performance.now();
            new Deno.Command("kill", { args: ["-STOP", "--", `-${third.pid}`] }).outputSync();
            watched = servingAfter(healthy, from);
          },
        });
        const endedS = seconds(performance.now() - from);
        const answers = await watched!;
        await signal("CONT", third.pid);
        record("survival.frozen", { at, endedS, error: error.slice(0, 200), answers });
        ok(answers.every(({ afterS }) => afterS <= 10), JSON.stringify(answers));
        await afterwards("frozen, then on", at, {
          others: three,
          all: three,
          from: performance.now(),
          error,
          tokens,
          sender,
        });
      });
      await step(`the trainer killed, ${at}`, async () => {
        const trainer = new Deno.Command(Deno.execPath(), {
          args: [
            ...["run", "-A", "--no-check", "--cached-only"],
            new URL("./support/dying_trainer.ts", import.meta.url).pathname,
            ...[at, folders.b, ...three.map(({ url }) => url)],
          ],
          stdout: "piped",
          stderr: "inherit",
        }).spawn();
        const out = new TextDecoder().decode((await trainer.output()).stdout);
        const from = performance.now();
        ok(out.includes("dies"), out);
        await afterwards("trainer", at, {
          others: three,
          all: three,
          from,
          error: "killed",
          tokens,
          sender: undefined,
        });
      });
    }
    for (const [i, at] of positions.entries()) {
      await step(`a server killed, ${at}`, async () => {
        const victim = doomed[i]!;
        const fleet = [...healthy, victim.server];
        await using sender = senderTo(fleet, buckets);
        await sender.initAllWorkersGroup();
        let from = 0;
        const error = await failing(sender, safetensors(folders.b), {
          onProgress(progress) {
            if (from > 0 || !isReached(at, progress)) return;
            from = performance.now();
            new Deno.Command("kill", { args: ["-KILL", "--", `-${victim.pid}`] }).outputSync();
          },
        });
        await afterwards("server", at, {
          others: healthy,
          all: fleet,
          from,
          error,
          tokens,
          sender,
        });
      });
    }
    await step("a server on rank 0's GPU", async () => {
      const twins = serversOf("GPU_TWIN");
      await Promise.all(twins.map((server) => server.ready(240_000)));
      const fleet = [...healthy, ...twins];
      await using sender = senderTo(fleet);
      const from = performance.now();
      const error = await sender.initAllWorkersGroup().then(() => "none", ({ message }) => message);
      const tookS = seconds(performance.now() - from);
      record("survival.twin", { error: String(error).slice(0, 400), tookS });
      await afterwards("two ranks on one GPU", "open", {
        others: healthy,
        all: healthy,
        from: performance.now(),
        error,
        tokens,
        sender: undefined,
      });
    });
  },
});

Deno.test({
  name: "gaps: generation under load stops for little longer than the sync, in every pause mode",
  ...anyResources,
  async fn() {
    const servers = serversOf("GPU_HEALTHY");
    await Promise.all(servers.map((server) => server.ready(240_000)));
    await using trainer = await openGroup();
    const sources = [
      await onDevice(folders.b, trainer.group),
      await onDevice(folders.a, trainer.group),
    ];
    // A server's first load compiles kernels, which is no gap of a sync.
    for (const stop of await Promise.all(servers.map((server) => runStreams(server)))) await stop();
    const modes = [["abort", true], ["retract", true], ["in_place", true], [
      "abort",
      false,
    ]] as const;
    for (const [pauseMode, soleTrainer] of modes) {
      await using sender = senderTo(servers, { pauseMode, soleTrainer });
      await sender.initAllWorkersGroup();
      const idle: number[] = [];
      for (let i = 0; i < 4; i++) {
        idle.push((await sender.updateWeights(sources[i % 2])).durationMs);
      }
      const rounds = [];
      for (let i = 0; i < 3; i++) {
        const stops = await Promise.all(servers.map((server) => runStreams(server)));
        const report = await sender.updateWeights(sources[i % 2]);
        const seen = await Promise.all(stops.map((stop) => stop()));
        rounds.push({
          ms: Math.round(report.durationMs),
          pausedMs: Math.round(report.pausedMs),
          phases: report.phasesMs,
          seen,
        });
      }
      const gapMs = median(rounds.flatMap(({ seen }) => seen.map((one) => one.gapMs)));
      record("gap", { pauseMode, soleTrainer, gapMs, idleMs: idle.map(Math.round), rounds });
    }
  },
});

Deno.test({
  name: "first: the first sync after the set-up takes little longer than later ones",
  ...anyResources,
  async fn() {
    const servers = serversOf("GPU_HEALTHY");
    await Promise.all(servers.map((server) => server.ready(240_000)));
    await using trainer = await openGroup();
    const source = await onDevice(folders.a, trainer.group);
    for (const keeper of [true, false]) {
      await using sender = senderTo(servers, { keeper });
      const from = performance.now();
      await sender.initAllWorkersGroup();
      const initMs = Math.round(performance.now() - from);
      const ms: number[] = [];
      for (let i = 0; i < 6; i++) {
        ms.push(Math.round((await sender.updateWeights(source)).durationMs));
      }
      const rest = median(ms.slice(1));
      record("first", { keeper, initMs, ms, ratio: Number((ms[0]! / rest).toFixed(2)) });
    }
  },
});

Deno.test({
  name: "isolation: a group for each server costs little more than one over all",
  ...anyResources,
  async fn() {
    const fleet = fleetOf("q7b").map(({ server }) => server);
    await Promise.all(fleet.map((server) => server.ready(300_000)));
    await using trainer = await openGroup();
    const source = await onDevice(folderOf("q7b"), trainer.group);
    for (const bucketMiB of [1024, 512]) {
      for (
        const [isolation, keeper] of [["server", true], ["server", false], ["fleet", true]] as const
      ) {
        const options = { bucketBytes: bucketMiB * MIB, isolation, keeper, soleTrainer: true };
        await using sender = senderTo(fleet, options);
        const init = performance.now();
        await sender.initAllWorkersGroup();
        const initMs = Math.round(performance.now() - init);
        const ms: number[] = [];
        const phases: Record<string, number>[] = [];
        let taken: number[] = [];
        for (let i = 0; i < 8; i++) {
          taken = [];
          let done = 0;
          const report = await sender.updateWeights(source, {
            onProgress({ bytesDone, elapsedMs }) {
              if (bytesDone > done) taken.push(Math.round(elapsedMs));
              done = bytesDone;
            },
          });
          ms.push(Math.round(report.durationMs));
          phases.push(report.phasesMs as Record<string, number>);
        }
        const names = Object.keys(phases[1]!);
        const usual = names.map((name) => [name, median(phases.slice(1).map((one) => one[name]!))]);
        const sums = await Promise.all(fleet.map((server) => server.checksum()));
        sums.forEach((one) => deepEqual(one, sums[0]));
        record("isolation", {
          ...{ bucketMiB, isolation, keeper, servers: fleet.length },
          ...{ initMs, ms, median: median(ms.slice(1)), phases: Object.fromEntries(usual) },
          // When every server had taken each bucket of the last sync.
          taken,
        });
      }
    }
  },
});

Deno.test({
  name: "finite: NaN in device memory is refused before a server is asked for anything",
  ...anyResources,
  async fn() {
    const servers = serversOf("GPU_HEALTHY");
    await Promise.all(servers.map((server) => server.ready(240_000)));
    await using trainer = await openGroup();
    const { group } = trainer;
    const source = await onDevice(folders.a, group);
    await using sender = senderTo(servers, { finite: true });
    await sender.initAllWorkersGroup();
    const ms: number[] = [];
    const checkMs: number[] = [];
    for (let i = 0; i < 6; i++) {
      const report = await sender.updateWeights(source);
      equal(report.finite, true);
      ms.push(Math.round(report.durationMs));
      checkMs.push(report.phasesMs.check ?? 0);
    }
    await using open = await source.open();
    const index = open.tensors.findIndex(({ name }) =>
      name.endsWith("layers.11.mlp.up_proj.weight")
    );
    const { address } = [open.device!(index)!].flat()[0]!;
    const before = new Uint8Array(2);
    const at = address + 2n * 12_345n;
    await group.copyFromDevice(before, at);
    await group.copyToDevice(at, Uint8Array.of(0x80, 0x7f));
    await rejects(sender.updateWeights(source), (error: Error) => {
      record("finite", { ms, checkMs, refused: error.message });
      return /layers\.11\.mlp\.up_proj\.weight".*at element 12345:/.test(error.message);
    });
    await group.copyToDevice(at, before);
    equal((await sender.updateWeights(source)).finite, true);
  },
});

Deno.test({
  name: "release: memory that torch gives back is given back after all work of the device",
  ...anyResources,
  async fn() {
    const script = new URL("./support/empty_cache.py", import.meta.url).pathname;
    const { success, stdout } = await new Deno.Command(python, {
      args: ["-B", "-W", "ignore", script],
      env: { CUDA_VISIBLE_DEVICES: "0" },
      stderr: "inherit",
    }).output();
    equal(success, true);
    const found = JSON.parse(new TextDecoder().decode(stdout)) as { done: boolean[] };
    record("release", found);
    ok(found.done.length >= 4 && found.done.every((one) => one));
  },
});

Deno.test({
  name: "shared: two ranks on one GPU in a group over all servers leave the others answering",
  ...anyResources,
  async fn() {
    const healthy = serversOf("GPU_HEALTHY");
    const twins = serversOf("GPU_TWIN");
    await Promise.all([...healthy, ...twins].map((server) => server.ready(240_000)));
    await using sender = senderTo([...healthy, ...twins], { isolation: "fleet" });
    const from = performance.now();
    const error = await sender.initAllWorkersGroup().then(() => "none", ({ message }) => message);
    const tookS = seconds(performance.now() - from);
    const answers = await servingAfter(healthy, performance.now());
    record("survival.shared", { error: String(error).slice(0, 400), tookS, answers });
    ok(error !== "none");
    ok(answers.every(({ afterS }) => afterS <= 10), JSON.stringify(answers));
    // Two servers that share a GPU which is not rank 0's.
    const sharing = serversOf("GPU_SHARING");
    if (sharing.length < 2) return;
    await Promise.all(sharing.map((server) => server.ready(240_000)));
    await using other = senderTo(sharing, { isolation: "fleet" });
    const since = performance.now();
    const refusal = await other.initAllWorkersGroup().then(() => "none", ({ message }) => message);
    const refusedS = seconds(performance.now() - since);
    const after = await servingAfter(sharing, performance.now());
    record("survival.sharing", { error: String(refusal).slice(0, 400), refusedS, answers: after });
    ok(/duplicate gpu/i.test(String(refusal)), String(refusal));
    ok(refusedS <= 10 && after.every(({ afterS }) => afterS <= 10), JSON.stringify(after));
  },
});
