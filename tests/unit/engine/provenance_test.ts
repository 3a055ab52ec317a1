import assert from "node:assert/strict";
import fc from "fast-check";
import { EnvironmentPool, promptEnvironment } from "../../../src/collector/environments/mod.ts";
import { LLMCollector, type RolloutRow } from "../../../src/collector/mod.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import { safetensors, stateDict } from "../../../src/weights/source/mod.ts";
import { systemClock } from "../../../src/internal/clock.ts";
import { checkpoint, TestFleet } from "./_fleet.ts";
import { readWeights } from "./_weights.ts";

const GREEDY = { maxNewTokens: 6, temperature: 0, ignoreEos: true };
const LETTERS = ["a", "b", "c"] as const;
type Letter = typeof LETTERS[number];

/** What each checkpoint answers, so that tokens tell which weights made them. */
const expected = new Map<string, Letter>();

/** A fleet, its collector, and what is known of every name that a sync gave. */
class Trial implements AsyncDisposable {
  readonly fleet: TestFleet;
  readonly collector: LLMCollector;
  readonly lettersByVersion = new Map<string, Letter>([["default", "a"]]);
  readonly seen = new Set<string>();
  readonly alive: boolean[];
  rows = 0;

  constructor(fleet: TestFleet, tokenizer: string) {
    this.fleet = fleet;
    this.alive = fleet.servers.map(() => true);
    const policy = new SGLangWrapper(fleet.engine, { tokenizer, generateKwargs: GREEDY });
    this.collector = new LLMCollector(
      new EnvironmentPool(() => promptEnvironment({ prompts: ["Hello"], reward: () => 0 }), {
        size: 3,
      }),
      {
        policy,
        dialogTurnsPerBatch: 6,
        maxStaleness: 0,
        prefetchBatches: 0,
        dialogRetries: 3,
      },
    );
    fleet.sender.registerCollector(this.collector);
  }

  async sync(letter: Letter, way: "files" | "memory", name: string | undefined): Promise<void> {
    const folder = await checkpoint(letter);
    const source = way === "files" ? safetensors(folder) : stateDict(await readWeights(folder));
    const options = name === undefined ? {} : { version: name };
    const { version } = await this.fleet.sender.updateWeights(source, options);
    assert.ok(!this.lettersByVersion.has(version), `${version} was given twice`);
    this.lettersByVersion.set(version, letter);
  }

  /** A sync that is broken off when the first bytes are there, and one that repairs. */
  async failedSync(letter: Letter): Promise<void> {
    const stop = new AbortController();
    await assert.rejects(this.fleet.sender.updateWeights(safetensors(await checkpoint(letter)), {
      signal: stop.signal,
      onProgress: ({ bytesDone }) => bytesDone > 0 && stop.abort(),
    }));
    await this.sync(letter, "memory", undefined);
  }

  async kill(index: number): Promise<void> {
    const others = this.alive.filter((is, i) => is && i !== index && this.isServing(i));
    if (!this.alive[index] || others.length === 0) return;
    this.alive[index] = false;
    await this.fleet.kill(index);
  }

  async restart(index: number, version: "0.5.16" | "0.5.23"): Promise<void> {
    const others = this.alive.filter((is, i) => is && i !== index && this.isServing(i));
    if (others.length === 0) return;
    this.alive[index] = true;
    await this.fleet.restart(index, version);
  }

  async add(): Promise<void> {
    const server = await this.fleet.startServer();
    this.fleet.servers.push(server);
    this.alive.push(true);
    await this.fleet.engine.addWorker(server.url);
  }

  async remove(index: number): Promise<void> {
    const { engine, servers } = this.fleet;
    const others = this.alive.filter((is, i) => is && i !== index && this.isServing(i));
    const isThere = engine.workers.some(({ url }) => url === servers[index]!.url);
    if (!isThere || others.length === 0) return;
    await engine.removeWorker(servers[index]!.url, { drainMs: 2_000 });
  }

  /** Whether a server gets requests, and rightly so. */
  isServing(index: number): boolean {
    const { url } = this.fleet.servers[index]!;
    return this.fleet.engine.workers.some((one) => one.url === url && one.state === "serving") &&
      this.fleet.servers[index]!.stats.weightVersion === (this.current ?? "default");
  }

  get current(): string | undefined {
    return this.fleet.engine.versions.current;
  }

  /** Rows that are given out are of the present weights, by their tokens. */
  async collect(): Promise<void> {
    const batch = await this.collector.rollout({ timeoutMs: 30_000 });
    for (const row of batch!.rows) this.check(row);
    this.rows += batch!.length;
    assert.equal(this.collector.stats.rowsYielded, this.rows);
  }

  check(row: RolloutRow): void {
    const key = `${row.dialog}/${row.turn}`;
    assert.ok(!this.seen.has(key), `row ${key} came twice`);
    this.seen.add(key);
    const letter = expected.get(row.responseIds.join());
    const said = row.weightVersions!.map(({ version }) => version);
    assert.equal(letter, this.lettersByVersion.get(this.current ?? "default"), `said ${said}`);
    assert.deepEqual(new Set(row.tokenVersions), new Set([this.collector.policyVersion]));
    assert.equal(row.versionsExact, true);
    assert.ok(this.fleet.servers.some(({ url }) => url === row.server));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.collector.asyncShutdown();
    await this.fleet[Symbol.asyncDispose]();
  }
}

async function learnWhatEachAnswers(version: "0.5.16" | "0.5.23"): Promise<void> {
  expected.clear();
  await using fleet = await TestFleet.start(1, { version });
  const tokenizer = await checkpoint("a");
  const policy = new SGLangWrapper(fleet.engine, { tokenizer, generateKwargs: GREEDY });
  for (const letter of LETTERS) {
    await fleet.sender.updateWeights(safetensors(await checkpoint(letter)));
    await using collector = new LLMCollector(
      new EnvironmentPool(() => promptEnvironment({ prompts: ["Hello"], reward: () => 0 }), {
        size: 1,
      }),
      { policy, dialogTurnsPerBatch: 1 },
    );
    expected.set((await collector.rollout())!.rows[0]!.responseIds.join(), letter);
  }
  assert.equal(expected.size, LETTERS.length);
}

const index = fc.integer({ min: 0, max: 2 });
const letter = fc.constantFrom(...LETTERS);
const name = fc.option(fc.constantFrom("step-1", "step-2", "3", "default"), { nil: undefined });
const action = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ kind: "collect" } as const) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("sync" as const),
      letter,
      name,
      way: fc.constantFrom("files" as const, "memory" as const),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("restart" as const),
      index,
      version: fc.constantFrom("0.5.16" as const, "0.5.23" as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("kill" as const), index }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("failedSync" as const), letter }) },
  { weight: 1, arbitrary: fc.constant({ kind: "add" } as const) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("remove" as const), index }) },
  { weight: 1, arbitrary: fc.constant({ kind: "refresh" } as const) },
);

for (const version of ["0.5.16", "0.5.23"] as const) {
  Deno.test(`whatever restarts, fails, comes and goes, no row of other weights counts as current (${version})`, async () => {
    await learnWhatEachAnswers(version);
    const tokenizer = await checkpoint("a");
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 4, maxLength: 12 }), async (actions) => {
        const fleet = await TestFleet.start(2, {
          version,
          whenUnreachable: "skip",
          clock: systemClock,
          membershipMs: 0,
        });
        await using trial = new Trial(fleet, tokenizer);
        // A third place, for the indexes.
        await trial.add();
        for (const step of actions) {
          if (step.kind === "sync") await trial.sync(step.letter, step.way, step.name);
          else if (step.kind === "failedSync") await trial.failedSync(step.letter);
          else if (step.kind === "add") await trial.add();
          else if (step.kind === "refresh") await fleet.engine.refreshWorkers();
          else if (step.kind === "collect") await trial.collect();
          else if (step.kind === "restart") await trial.restart(step.index, step.version);
          else await trial[step.kind](step.index);
        }
        await trial.collect();
      }),
      { numRuns: 6, endOnFailure: true },
    );
  });
}
