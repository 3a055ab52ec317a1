/** Real replicas behind the real router under load, for tests that kill some of them. */
import assert from "node:assert/strict";
import { AsyncSGLang, type FromPretrainedOptions } from "../../../src/engine/mod.ts";
import { sleep } from "../../../src/internal/deadline.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { cpuEnv, modelPath, routerPython, serverPython } from "../../_support/real.ts";

/** Longest wait for a replica: more than one start that hangs takes to be given up. */
const HEAL_MS = 300_000;

/** What a run counted. */
export interface KillingReport {
  readonly kills: number;
  readonly samples: number;
  readonly streams: number;
  readonly errors: readonly string[];
  /** Samples whose weights were not the fleet's. */
  readonly strange: readonly string[];
  /** From each kill until the replica served again, in milliseconds. */
  readonly healedMs: readonly number[];
}

/** Options of the servers of these tests. */
const launch = {
  device: "cpu",
  python: serverPython(),
  env: cpuEnv,
  memFractionStatic: 0.1,
  maxTotalTokens: 16_384,
  maxRunningRequests: 32,
  dtype: "float32",
  readyTimeoutMs: 240_000,
  stopGraceMs: 0,
} as const;

/** A fleet of two replicas behind the router. */
export function startFleet(options: Pick<FromPretrainedOptions, "supervise"> = {}) {
  return AsyncSGLang.fromPretrained(modelPath("tiny"), {
    ...launch,
    numReplicas: 2,
    router: { python: routerPython(), stopGraceMs: 0 },
    ...options,
  });
}

/** So many requests at any time, half or all of them streams, until they are stopped. */
export function loadFleet(
  engine: AsyncSGLang,
  { requests, tokens, version, streams = "half" }: {
    readonly requests: number;
    readonly tokens: number;
    readonly streams?: "half" | "all";
    /** The weights that all samples should be of. */
    readonly version: string;
  },
) {
  const errors: string[] = [];
  const strange: string[] = [];
  const stop = new AbortController();
  const count = { samples: 0, streams: 0 };
  const isStream = (i: number) => streams === "all" || i % 2 === 1;
  const ask = async (i: number) => {
    for (let round = 0; !stop.signal.aborted; round++) {
      const prompt = `Request ${i}, round ${round}:`;
      const options = { maxNewTokens: tokens, ignoreEos: true, signal: stop.signal } as const;
      try {
        let said: string | null = null;
        let length = 0;
        let end = "";
        if (!isStream(i)) {
          const sample = await engine.generate(prompt, options);
          said = sample.weightVersion;
          length = sample.ids.length;
          end = sample.finishReason.type;
          count.samples++;
        } else {
          for await (const { final } of engine.stream(prompt, options)) {
            said = final?.weightVersion ?? said;
            length = final?.ids.length ?? length;
            end = final?.finishReason.type ?? end;
          }
          count.streams++;
        }
        // What the end of the load cut off is no sample.
        if (stop.signal.aborted) return;
        if (said !== version) strange.push(`${said} instead of ${version}`);
        if (length !== tokens) strange.push(`${length} tokens, ended by ${end}`);
      } catch (error) {
        if (stop.signal.aborted) return;
        errors.push(`${isStream(i) ? "stream" : "generate"}: ${error}`);
      }
    }
  };
  const load = Promise.all(Array.from({ length: requests }, (_, i) => ask(i)));
  return {
    errors,
    strange,
    count,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await load;
    },
  };
}

/** Kills replicas in turn; each has to be back with the fleet's weights before the next kill. */
export async function killReplicas(kills: number): Promise<KillingReport> {
  await using engine = await startFleet({ supervise: { restartLimit: kills } });
  await engine.initWeightUpdateGroup();
  // Other weights than its checkpoint's.
  const { version } = (await engine.updateWeights(safetensors(modelPath("tiny1"))))!;
  const healedMs: number[] = [];
  const load = loadFleet(engine, { requests: 64, tokens: 48, version });
  {
    await using _load = load;
    for (let kill = 0; kill < kills; kill++) {
      const victim = engine.managed!.servers[kill % 2]!;
      const seen = engine.supervisor!.events({ signal: AbortSignal.timeout(HEAL_MS) });
      const way: string[] = [];
      const killedAt = performance.now();
      Deno.kill(victim.pid!, "SIGKILL");
      let isBack = false;
      for await (const { url, kind, to, reason } of seen) {
        if (url !== victim.url) continue;
        way.push(`${Math.round(performance.now() - killedAt)} ms ${kind} ${to}: ${reason}`);
        assert.notEqual(to, "retired", "the budget is as large as the number of kills");
        if (to === "healthy") {
          isBack = true;
          break;
        }
      }
      assert.ok(isBack, await lateWords(`${victim.url} after kill ${kill + 1}`, way, victim));
      healedMs.push(Math.round(performance.now() - killedAt));
      const { weightVersion } = await engine.workers.find(({ url }) => url === victim.url)!.client
        .modelInfo();
      assert.equal(weightVersion, version, "it serves with other weights");
    }
  }
  const { errors, strange, count } = load;
  return { kills, ...count, errors, strange, healedMs };
}

/** What a run saw of a replica that was killed whenever it was back. */
export interface RetirementReport extends Omit<KillingReport, "healedMs"> {
  /** From the first kill until it was retired, in milliseconds. */
  readonly retiredMs: number;
  /** What the event said. */
  readonly reason: string;
  /** What the engine said of both replicas then. */
  readonly states: readonly string[];
  /** The same after an order to start it again. */
  readonly statesAfterOrder: readonly string[];
}

/** Kills one replica as soon as it is back, with the default budget, until it is retired. */
export async function retireReplica(): Promise<RetirementReport> {
  await using engine = await startFleet();
  await engine.initWeightUpdateGroup();
  const { version } = (await engine.updateWeights(safetensors(modelPath("tiny1"))))!;
  const load = loadFleet(engine, { requests: 16, tokens: 24, version });
  const supervisor = engine.supervisor!;
  const { url } = engine.managed!.servers[0]!;
  const states = () => supervisor.servers.map(({ state }) => state);
  let kills = 0;
  const kill = () => {
    kills++;
    Deno.kill(engine.managed!.servers[0]!.pid!, "SIGKILL");
  };
  const retired = { ms: 0, reason: "", states: [] as string[] };
  let statesAfterOrder: string[] = [];
  {
    await using _load = load;
    const startedAt = performance.now();
    const seen = supervisor.events({ signal: AbortSignal.timeout(HEAL_MS) });
    kill();
    for await (const event of seen) {
      if (event.url !== url) continue;
      if (event.to === "retired") {
        retired.ms = Math.round(performance.now() - startedAt);
        retired.reason = event.reason;
        retired.states = states();
        break;
      }
      if (event.to === "healthy") kill();
    }
    assert.notEqual(retired.ms, 0, `not retired after ${kills} kills`);
    // The other one serves on alone, until somebody orders this one back.
    const before = load.count.samples;
    while (load.count.samples < before + 16) await sleep(100);
    await supervisor.restart(url, { signal: AbortSignal.timeout(HEAL_MS) });
    statesAfterOrder = states();
  }
  const { errors, strange, count } = load;
  const { ms: retiredMs, reason } = retired;
  return {
    kills,
    ...count,
    errors,
    strange,
    retiredMs,
    reason,
    states: retired.states,
    statesAfterOrder,
  };
}

/** What is known of a replica that is not back in time. */
async function lateWords(
  name: string,
  way: readonly string[],
  { logFile }: { readonly logFile?: string | undefined },
): Promise<string> {
  const log = logFile === undefined ? "" : await Deno.readTextFile(logFile);
  return [`${name} is not back:`, ...way, "Its log:", log.slice(-8_000)].join("\n");
}
