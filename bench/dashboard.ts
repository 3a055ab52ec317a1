/**
 * What looking costs: CPU of a process with 1,000 dialogs and 8 servers, without a monitor, with one,
 * and with the page open.
 *
 *     deno run -A bench/dashboard.ts [seconds]
 */
// deno-lint-ignore-file no-console -- a program for the terminal
import process from "node:process";
import { LLMCollector, type PolicyRequest, type PolicySample } from "../src/collector/mod.ts";
import { EnvironmentPool } from "../src/collector/environments/mod.ts";
import { openDashboard } from "../src/dashboard/mod.ts";
import { HttpPool } from "../src/http/mod.ts";
import { systemClock } from "../src/internal/clock.ts";
import { sleep } from "../src/internal/deadline.ts";
import { Monitor } from "../src/telemetry/mod.ts";

const seconds = Number(Deno.args[0] ?? 20);
const dialogs = 1000;

/** Servers of another process that answer a load, so that their work is not counted. */
const standIns = new Deno.Command(Deno.execPath(), {
  args: [
    "eval",
    `const load = JSON.stringify({ running: 1, waiting: 0 });
     const ports = Array.from({ length: 8 }, () =>
       Deno.serve({ port: 0, onListen() {} }, () => new Response(load)).addr.port);
     console.log(JSON.stringify(ports));`,
  ],
  stdout: "piped",
}).spawn();
const reader = standIns.stdout.pipeThrough(new TextDecoderStream()).getReader();
const ports: number[] = JSON.parse((await reader.read()).value!);
const pools = ports.map((port) =>
  new HttpPool({ url: `http://127.0.0.1:${port}`, clock: systemClock })
);
const engine = {
  workers: pools.map((pool, i) => ({
    url: `http://127.0.0.1:${ports[i]}`,
    state: "serving",
    client: {
      capabilities: () => Promise.resolve({ hasReady: true }),
      async ready() {
        using answer = await pool.send({ method: "GET", path: "/" }, new AbortController().signal);
        await answer.beginning(1000);
        return true;
      },
      async load() {
        using answer = await pool.send({ method: "GET", path: "/" }, new AbortController().signal);
        await answer.beginning(1000);
        return { running: 1, waiting: 0, tokensPerSecond: 1, tokenUsage: 0, cacheHitRate: 0 };
      },
    },
  })),
};

/** A model that takes a second for a turn. */
const collector = new LLMCollector(
  new EnvironmentPool(() => ({
    reset: () => ({ messages: [{ role: "user", content: "Go" }] }),
    step: ({ turn }) => ({
      messages: [{ role: "user", content: "on" }],
      reward: 1,
      done: turn > 8,
    }),
  }), { size: dialogs }),
  {
    policy: {
      async call(
        _request: PolicyRequest,
        { signal }: { signal: AbortSignal },
      ): Promise<PolicySample> {
        await sleep(1000, { signal });
        return {
          message: { role: "assistant", content: "Yes" },
          promptIds: Int32Array.of(1, 2, 3),
          ids: new Int32Array(64),
          logProbs: new Float32Array(64),
          finishReason: { type: "stop", matched: null },
          weightVersion: null,
          weightVersions: null,
        };
      },
    },
    dialogTurnsPerBatch: 1000,
    prefetchBatches: 4,
  },
);
const stop = new AbortController();
const reading = (async () => {
  while (!stop.signal.aborted) await collector.rollout({ signal: stop.signal }).catch(() => {});
})();
await sleep(3000);

/** Share of one core that this process used in a while, and rows a second. */
async function measure(name: string): Promise<void> {
  const before = process.cpuUsage();
  const rows = collector.stats.turns;
  const startedAt = systemClock.now();
  await sleep(seconds * 1000);
  const { user, system } = process.cpuUsage(before);
  const elapsed = systemClock.now() - startedAt;
  const share = (user + system) / 1000 / elapsed * 100;
  const rate = (collector.stats.turns - rows) / elapsed * 1000;
  console.log(`${name.padEnd(28)} ${share.toFixed(2)} % of a core, ${rate.toFixed(0)} rows/s`);
}

for (let round = 0; round < 2; round++) {
  await measure("nobody looks");
  {
    using monitor = new Monitor({ engine, collector });
    await measure("a monitor counts");
    await using page = await openDashboard({ monitor });
    await measure("a page is served, unseen");
    const leave = new AbortController();
    const answer = await fetch(new URL("/api/live", page.url), { signal: leave.signal });
    const looking = answer.body!.pipeTo(new WritableStream(), { signal: leave.signal }).catch(
      () => {},
    );
    await measure("a page is looked at");
    leave.abort();
    await looking;
  }
}
stop.abort();
await reading;
await collector.asyncShutdown();
for (const pool of pools) pool[Symbol.dispose]();
standIns.kill();
