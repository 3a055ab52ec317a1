/**
 * Several GPUs of one host: what dies or freezes in a sync, and what becomes of the others; how long
 * generation stops; the first sync; what isolation costs. scripts/gpu/run_multi.sh starts the servers
 * and runs each test.
 */
import type { GivenOptions, WeightSyncOptions } from "../../src/weights/options.ts";
import { deepEqual, notDeepEqual, ok, rejects } from "node:assert/strict";
import { safetensors, type WeightSource } from "../../src/weights/source/mod.ts";
import { type SGLangWeightSender, SGLangWeightSyncScheme } from "../../src/weights/mod.ts";
import { libraries, median, openGroup, record, stderrLogger } from "./support/gpu.ts";
import { fleetOf, folderOf } from "./support/multi_fleet.ts";
import { isReached, type Position, positions } from "./support/positions.ts";
import { Server } from "./support/server.ts";
import { onDevice } from "./support/sources.ts";
import { runStreams } from "./support/streams.ts";

const anyResources = { sanitizeResources: false, sanitizeOps: false };
const MIB = 2 ** 20;
const folders = { a: folderOf("q05b", "a"), b: folderOf("q05b", "b") };
const quiet = { ...stderrLogger, debug: () => {} };
const seconds = (ms: number) => Number((ms / 1000).toFixed(2));

/** A server whose process group can be killed: `http://host:port@pid`. */
interface Victim {
  readonly server: Server;
  readonly pid: number;
}

function serversOf(variable: string): Server[] {
  return (Deno.env.get(variable) ?? "").split(" ").filter(Boolean).map((url) => new Server(url));
}

function victims(): Victim[] {
  return (Deno.env.get("GPU_VICTIMS") ?? "").split(" ").filter(Boolean).map((one) => {
    const [url, pid] = one.split("@");
    return { server: new Server(url!), pid: Number(pid) };
  });
}

function senderTo(servers: readonly Server[], options: GivenOptions = {}) {
  return new SGLangWeightSyncScheme({
    workers: servers.map(({ url }) => url),
    transport: "nccl",
    // Options of one transport are refused with another.
    ...(options.transport === "cuda-ipc" ? {} : { masterAddress: "127.0.0.1" }),
    nccl: libraries,
    logger: quiet,
    whenUnreachable: "skip",
    ...options,
  } as WeightSyncOptions).createSender();
}

async function signal(name: string, pid: number): Promise<void> {
  await new Deno.Command("kill", { args: [`-${name}`, "--", `-${pid}`] }).output();
}

/** Greedy tokens of each checkpoint, as every server of it must continue. */
async function referenceTokens(servers: readonly Server[]): Promise<Record<"a" | "b", string>> {
  const read = async (folder: string) => {
    const body = { model_path: folder, load_format: "auto" };
    await Promise.all(servers.map((server) => server.must("/update_weights_from_disk", body)));
    const tokens = await Promise.all(servers.map((server) => server.tokens()));
    tokens.forEach((one) => deepEqual(one, tokens[0]));
    return String(tokens[0]);
  };
  const b = await read(folders.b);
  return { b, a: await read(folders.a) };
}

/** Milliseconds until every server has used its device, and what each says it holds. */
async function answersAfter(servers: readonly Server[], from: number) {
  const each = await Promise.all(servers.map(async (server) => {
    for (let i = 0; i < 60; i++) {
      const answer = await server.post("/weights_checker", { action: "checksum" }, 1000)
        .catch(() => undefined);
      if (answer?.status === 200) {
        const afterMs = performance.now() - from;
        const info = await (await fetch(`${server.url}/model_info`)).json();
        const generated = await server.post("/generate", {
          input_ids: [5, 6, 7],
          sampling_params: { temperature: 0, max_new_tokens: 4, ignore_eos: true },
        }, 1500).then(({ status }) => status === 200, () => false);
        const version = String(info.weight_version);
        return { afterS: seconds(afterMs), version: version.slice(0, 20), generates: generated };
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return { afterS: Infinity, version: "", generates: false };
  }));
  return each;
}

/** Milliseconds until every server generates again, asked while the sync still runs. */
async function servingAfter(servers: readonly Server[], from: number) {
  return await Promise.all(servers.map(async (server) => {
    // Held by the server while it is paused, and answered when it is resumed.
    const { status } = await server.post("/generate", {
      input_ids: [5, 6, 7],
      sampling_params: { temperature: 0, max_new_tokens: 4, ignore_eos: true },
    }, 40_000);
    const afterS = seconds(performance.now() - from);
    const info = await (await fetch(`${server.url}/model_info`)).json();
    return { afterS, version: String(info.weight_version).slice(0, 20), generates: status === 200 };
  }));
}

/** What a death left: the others' answers, and whether the next sync brings everybody along. */
async function afterwards(
  what: string,
  at: Position | "open",
  state: {
    readonly others: readonly Server[];
    readonly all: readonly Server[];
    readonly from: number;
    readonly error: string;
    readonly tokens: string;
    readonly sender: SGLangWeightSender | undefined;
  },
): Promise<void> {
  const answers = await answersAfter(state.others, state.from);
  const errorMs = performance.now() - state.from;
  const next = await (async () => {
    const fresh = state.sender ?? senderTo(state.all);
    try {
      if (state.sender === undefined) await fresh.initAllWorkersGroup();
      const { durationMs } = await fresh.updateWeights(safetensors(folders.a));
      const tokens = await Promise.all(state.others.map((server) => server.tokens()));
      return {
        ms: Math.round(durationMs),
        right: tokens.map((one) => String(one) === state.tokens),
      };
    } catch (error) {
      return { ms: -1, right: [false], error: (error as Error).message.slice(0, 300) };
    } finally {
      if (state.sender === undefined) await fresh.close();
    }
  })();
  record("survival", { what, at, error: state.error.slice(0, 200), answers, next, errorMs });
  ok(answers.every(({ afterS }) => afterS <= 10), `${what} ${at}: ${JSON.stringify(answers)}`);
  ok(next.right.every((one) => one), `${what} ${at}: ${JSON.stringify(next)}`);
}

/** Runs a sync to checkpoint b and gives the words of its error. */
async function failing(
  sender: SGLangWeightSender,
  source: WeightSource,
  options: Parameters<SGLangWeightSender["updateWeights"]>[1],
): Promise<string> {
  return await sender.updateWeights(source, options).then(
    ({ skipped }) => `no error, skipped ${skipped.length}`,
    (error: Error) => `${error.name}: ${error.message}`,
  );
}

/** A checkpoint of which one read fails, or never ends. */
function faulty(folder: string, share: number, how: "fails" | "stalls"): WeightSource {
  const inner = safetensors(folder);
  return {
    label: `a source that ${how}`,
    async open(options) {
      const open = await inner.open(options);
      const last = Math.min(open.tensors.length - 1, Math.floor(open.tensors.length * share));
      return {
        ...open,
        tensors: open.tensors,
        readsAtOnce: open.readsAtOnce,
        view: (index) => open.view(index),
        async read(index, target, call) {
          if (index === last && how === "stalls") await new Promise(() => {});
          if (index === last) throw new Error("the disk is gone");
          await open.read(index, target, call);
        },
        [Symbol.asyncDispose]: () => open[Symbol.asyncDispose](),
      };
    },
  };
}

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
    for (const pauseMode of ["abort", "retract", "in_place"] as const) {
      await using sender = senderTo(servers, { pauseMode, soleTrainer: true });
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
      record("gap", { pauseMode, gapMs, idleMs: idle.map(Math.round), rounds });
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
        let phases = {};
        for (let i = 0; i < 6; i++) {
          const report = await sender.updateWeights(source);
          ms.push(Math.round(report.durationMs));
          phases = report.phasesMs;
        }
        const sums = await Promise.all(fleet.map((server) => server.checksum()));
        sums.forEach((one) => deepEqual(one, sums[0]));
        record("isolation", {
          ...{ bucketMiB, isolation, keeper, servers: fleet.length },
          ...{ initMs, ms, median: median(ms.slice(1)), phases },
        });
      }
    }
  },
});

Deno.test({
  name: "moe: experts over two GPUs with attention data parallelism get the right weights",
  ...anyResources,
  async fn() {
    const [server] = serversOf("GPU_MOE");
    await server!.ready(240_000);
    const tokens: Record<string, string> = {};
    for (const version of ["b", "a"]) {
      const folder = folderOf("moe" as never, version);
      await server!.must("/update_weights_from_disk", { model_path: folder, load_format: "auto" });
      tokens[version] = String(await server!.tokens());
    }
    notDeepEqual(tokens.a, tokens.b);
    await using sender = senderTo([server!]);
    await sender.initAllWorkersGroup();
    const ms: number[] = [];
    for (const version of ["b", "a", "b"]) {
      const report = await sender.updateWeights(safetensors(folderOf("moe" as never, version)));
      ms.push(Math.round(report.durationMs));
      deepEqual(String(await server!.tokens()), tokens[version]);
    }
    record("moe", { ms });
  },
});

Deno.test({
  name: "ipc: servers on several GPUs read rank 0's memory",
  ...anyResources,
  async fn() {
    const servers = serversOf("GPU_IPC");
    await Promise.all(servers.map((server) => server.ready(240_000)));
    const tokens = await referenceTokens(servers);
    await using trainer = await openGroup();
    const sources = {
      a: await onDevice(folders.a, trainer.group),
      b: await onDevice(folders.b, trainer.group),
    };
    const options = {
      transport: "cuda-ipc",
      serversSeeDevice: true,
      bucketBytes: 1024 * MIB,
    } as const;
    await using sender = senderTo(servers, options);
    await sender.initAllWorkersGroup();
    const ms: number[] = [];
    for (const version of ["b", "a", "b", "a"] as const) {
      ms.push(Math.round((await sender.updateWeights(sources[version])).durationMs));
      for (const server of servers) deepEqual(String(await server.tokens()), tokens[version]);
    }
    record("ipc", { servers: servers.length, ms });
  },
});

Deno.test({
  name: "refused: a quantised server is left as it was",
  ...anyResources,
  async fn() {
    const servers = serversOf("GPU_FP8");
    await Promise.all(servers.map((server) => server.ready(240_000)));
    await using sender = senderTo(servers);
    await rejects(sender.initAllWorkersGroup(), /quantis/);
    record("fp8", { tokens: (await servers[0]!.tokens()).length });
  },
});

Deno.test({
  name: "deterministic: four samples of one prompt are four, and the same again with the same seed",
  ...anyResources,
  async fn() {
    const { AsyncSGLang } = await import("../../src/engine/mod.ts");
    const [server] = serversOf("GPU_DETERMINISTIC");
    await server!.ready(240_000);
    await using engine = await AsyncSGLang.connect(server!.url);
    const sample = async (seed: number | undefined) => {
      const four = await engine.generate({ inputIds: [5, 100, 200, 300] }, {
        ...{ n: 4, temperature: 1, maxNewTokens: 16, ignoreEos: true },
        ...(seed === undefined ? {} : { samplingSeed: seed }),
      });
      return (four as unknown as { ids: ArrayLike<number> }[]).map(({ ids }) => String(ids));
    };
    const once = await sample(7);
    const again = await sample(7);
    const free = await sample(undefined);
    record("deterministic", {
      different: new Set(once).size,
      same: String(once) === String(again),
      differentUnseeded: new Set(free).size,
      overlap: free.filter((one) => once.includes(one)).length,
    });
    deepEqual(once, again);
    ok(new Set(once).size === 4 && new Set(free).size === 4);
  },
});
