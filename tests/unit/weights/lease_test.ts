/** A trainer that lives keeps its turn; one that is counted as dead writes nothing more. */
import type { GivenOptions, WeightSyncOptions } from "../../../src/weights/options.ts";
import assert from "node:assert/strict";
import fc from "fast-check";
import { SyncOvertakenError } from "../../../src/errors.ts";
import type { Clock } from "../../../src/internal/clock.ts";
import {
  type OpenWeightSource,
  stateDict,
  type WeightSource,
} from "../../../src/weights/source/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { FakeClock, openCalls } from "../../_support/clock.ts";
import { recordingGroups, weightsStandIn } from "../../_support/weights_stand_in.ts";

const tensors = Object.fromEntries(
  ["a", "b", "c", "d"].map((name) => [name, { data: Float32Array.of(1, 2), shape: [2] }]),
);
const BUCKETS = 4;

/** The time of one process, which may be stopped (SIGSTOP) while time goes on elsewhere. */
class ProcessClock implements Clock {
  readonly #clock: Clock;
  #held: (() => void)[] | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.now();
  }

  schedule(delayMs: number, callback: () => void): () => void {
    let isDue = true;
    const cancel = this.#clock.schedule(delayMs, () => {
      const run = () => isDue && callback();
      if (this.#held === undefined) run();
      else this.#held.push(run);
    });
    return () => {
      isDue = false;
      cancel();
    };
  }

  stop(): void {
    this.#held ??= [];
  }

  goOn(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const run of held) run();
  }
}

/** A source whose read of one tensor waits until it is let go. */
function slowSource(at: number) {
  const reached = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const inner = stateDict(tensors);
  const source: WeightSource = {
    label: "slow",
    async open(options) {
      const open = await inner.open(options);
      return {
        ...open,
        view: () => undefined,
        async read(index, target, call) {
          if (index === at) {
            reached.resolve();
            await goOn.promise;
          }
          await open.read(index, target, call);
        },
      } satisfies OpenWeightSource;
    },
  };
  return { source, reached: reached.promise, goOn: goOn.resolve };
}

function senderOf(urls: readonly string[], name: string, options: GivenOptions) {
  return new SGLangWeightSyncScheme({
    workers: urls,
    trainer: name,
    env: () => undefined,
    nameCheck: "off",
    bucketBytes: 8,
    openGroup: recordingGroups().openGroup,
    headers: { "x-trainer": name },
    ...options,
  } as WeightSyncOptions).createSender();
}

type Server = ReturnType<typeof weightsStandIn>;

/** Which trainer made which call, in order. */
function callsOf(server: Server, name: string): string[] {
  return server.requests.filter(({ headers }) => headers.get("x-trainer") === name)
    .map(({ method, path }) => `${method} ${path}`);
}

/** Calls that change or tell nothing of the weights. */
const HARMLESS = ["GET /model_info", "POST /destroy_weights_update_group"];

for (const version of ["0.5.16", "0.5.23"]) {
  Deno.test(`a live trainer with a slow read is not overtaken, however slow (${version})`, async () => {
    using clock = FakeClock.install();
    using calls = openCalls();
    await using server = weightsStandIn({}, { version });
    const deadlines = {
      beginMs: 3000,
      readMs: 3_600_000,
      updateMs: 3_600_000,
      controlMs: 3_600_000,
    };
    await using a = senderOf([server.url], "A", { deadlines });
    await using b = senderOf([server.url], "B", { deadlines });
    await Promise.all([a.initAllWorkersGroup(), b.initAllWorkersGroup()]);
    const slow = slowSource(2);
    const first = a.updateWeights(slow.source);
    const isStuck = () => calls.count === 0;
    await clock.pass(slow.reached, { ms: 500, isStuck });
    const second = b.updateWeights(stateDict(tensors));
    second.catch(() => {});
    const waited = Promise.withResolvers<void>();
    clock.schedule(20_000, waited.resolve);
    await clock.pass(waited.promise, { ms: 500, isStuck });
    const sent = callsOf(server, "B").filter((call) => call.includes("update_weights"));
    assert.deepEqual(sent, [], "B waits");
    slow.goOn();
    assert.equal((await clock.pass(first, { ms: 500, isStuck })).version, "1");
    assert.equal((await clock.pass(second, { ms: 500, isStuck })).version, "2");
    assert.equal(server.weightVersion, "2");
  });

  Deno.test(`a trainer that was stopped and overtaken writes nothing more (${version})`, async () => {
    const at = fc.integer({ min: 2, max: BUCKETS - 1 });
    await fc.assert(
      fc.asyncProperty(at, fc.boolean(), async (slowAt, comesBackInTime) => {
        using clock = FakeClock.install();
        using calls = openCalls();
        await using one = weightsStandIn({}, { version });
        await using two = weightsStandIn({}, { version });
        const servers = [one, two];
        const urls = servers.map(({ url }) => url);
        const deadlines = {
          beginMs: 3000,
          readMs: 3_600_000,
          updateMs: 3_600_000,
          controlMs: 3_600_000,
        };
        const process = new ProcessClock(clock);
        await using a = senderOf(urls, "A", { deadlines, clock: process });
        const slowB = slowSource(BUCKETS - 1);
        await using b = senderOf(urls, "B", { deadlines });
        await Promise.all([a.initAllWorkersGroup(), b.initAllWorkersGroup()]);
        const slow = slowSource(slowAt);
        const first = a.updateWeights(slow.source);
        first.catch(() => {});
        const isStuck = () => calls.count === 0;
        await clock.pass(slow.reached, { ms: 500, isStuck });
        process.stop();
        const second = b.updateWeights(slowB.source);
        second.catch(() => {});
        // B takes over; A goes on while B still sends, or when B is done.
        await clock.pass(slowB.reached, { ms: 500, isStuck });
        if (!comesBackInTime) {
          slowB.goOn();
          await clock.pass(second, { ms: 500, isStuck });
        }
        const before = servers.map((server) => callsOf(server, "A").length);
        process.goOn();
        slow.goOn();
        await assert.rejects(clock.pass(first, { ms: 500, isStuck }), (error: Error) => {
          assert.ok(error instanceof SyncOvertakenError, String(error));
          assert.equal(error.code, "overtaken");
          if (comesBackInTime) assert.match(error.other, /^B-/);
          else assert.equal(error.found, "2");
          assert.ok(urls.includes(error.server!));
          return true;
        });
        servers.forEach((server, i) => {
          const said = callsOf(server, "A").slice(before[i]);
          assert.deepEqual(said.filter((call) => !HARMLESS.includes(call)), []);
        });
        for (const state of a.servers) {
          assert.equal(state.condition, "foreign");
          assert.equal(state.paused, false);
        }
        slowB.goOn();
        const report = await clock.pass(second, { ms: 500, isStuck });
        // The name that A gave up is not used again.
        assert.equal(report.version, "2");
        for (const server of servers) assert.equal(server.weightVersion, "2");
      }),
      { numRuns: 4 },
    );
  });
}

Deno.test("a version that another writes between two buckets ends the sync before the next", async () => {
  await using server = weightsStandIn();
  await using sender = senderOf([server.url], "A", {});
  await sender.initAllWorkersGroup();
  let buckets = 0;
  const onProgress = ({ bytesDone }: { bytesDone: number }) => {
    if (bytesDone !== 16 || buckets > 0) return;
    buckets = callsOf(server, "A").filter((call) => call.endsWith("from_distributed")).length;
    server.weightVersion = "updating:other~4:9";
  };
  await assert.rejects(
    sender.updateWeights(stateDict(tensors), { onProgress }),
    { code: "overtaken", other: "other", phase: "update bucket 3 of 4" },
  );
  const sent = callsOf(server, "A").filter((call) => call.endsWith("from_distributed")).length;
  assert.equal(buckets, 2);
  assert.equal(sent, 2);
  assert.equal(server.weightVersion, "updating:other~4:9");
  assert.ok(!callsOf(server, "A").includes("POST /continue_generation"));
});
