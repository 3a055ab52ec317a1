/** Real replicas behind the real router under load, killed with -9 one after the other. */
import assert from "node:assert/strict";
import { AsyncSGLang, type FromPretrainedOptions } from "../../../src/engine/mod.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { cpuEnv, modelPath, routerPython, serverPython } from "../../_support/real.ts";

/** Requests at any time. */
const LOAD = 64;

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
export const launch = {
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

/** A fleet of two replicas behind the router, with other weights than its checkpoint's. */
async function startFleet(supervise: FromPretrainedOptions["supervise"]) {
  await using stack = new AsyncDisposableStack();
  const engine = stack.use(
    await AsyncSGLang.fromPretrained(modelPath("tiny"), {
      ...launch,
      numReplicas: 2,
      router: { python: routerPython(), stopGraceMs: 0 },
      supervise,
    }),
  );
  await engine.initWeightUpdateGroup();
  const synced = await engine.updateWeights(safetensors(modelPath("tiny1")));
  stack.move();
  return { engine, version: synced!.version };
}

/** Requests without pause, half of them streams, until they are stopped. */
function loadFleet(engine: AsyncSGLang, version: string) {
  const errors: string[] = [];
  const strange: string[] = [];
  const stop = new AbortController();
  const count = { samples: 0, streams: 0 };
  const ask = async (i: number) => {
    for (let round = 0; !stop.signal.aborted; round++) {
      const prompt = `Request ${i}, round ${round}:`;
      const options = { maxNewTokens: 48, ignoreEos: true, signal: stop.signal } as const;
      try {
        let said: string | null = null;
        let length = 0;
        if (i % 2 === 0) {
          const sample = await engine.generate(prompt, options);
          said = sample.weightVersion;
          length = sample.ids.length;
          count.samples++;
        } else {
          for await (const { final } of engine.stream(prompt, options)) {
            said = final?.weightVersion ?? said;
            length = final?.ids.length ?? length;
          }
          count.streams++;
        }
        if (said !== version) strange.push(`${said} instead of ${version}`);
        if (length !== 48) strange.push(`${length} tokens`);
      } catch (error) {
        if (stop.signal.aborted) return;
        errors.push(`${i % 2 === 0 ? "generate" : "stream"}: ${error}`);
      }
    }
  };
  const load = Promise.all(Array.from({ length: LOAD }, (_, i) => ask(i)));
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
  const fleet = await startFleet({ restartLimit: kills });
  await using engine = fleet.engine;
  const { version } = fleet;
  const healedMs: number[] = [];
  const load = loadFleet(engine, version);
  {
    await using _load = load;
    for (let kill = 0; kill < kills; kill++) {
      const victim = engine.managed!.servers[kill % 2]!;
      const seen = engine.supervisor!.events({ signal: AbortSignal.timeout(180_000) });
      const killedAt = performance.now();
      Deno.kill(victim.pid!, "SIGKILL");
      let isBack = false;
      for await (const { url, to } of seen) {
        if (url !== victim.url) continue;
        assert.notEqual(to, "retired", "the budget is as large as the number of kills");
        if (to === "healthy") {
          isBack = true;
          break;
        }
      }
      assert.ok(isBack, `${victim.url} did not come back after kill ${kill + 1}`);
      healedMs.push(Math.round(performance.now() - killedAt));
      const { weightVersion } = await engine.workers.find(({ url }) => url === victim.url)!.client
        .modelInfo();
      assert.equal(weightVersion, version, "it serves with other weights");
    }
  }
  const { errors, strange, count } = load;
  return { kills, ...count, errors, strange, healedMs };
}
