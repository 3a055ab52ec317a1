import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type CollectorStats,
  LLMCollector,
  type LLMCollectorOptions,
  type RolloutBatch,
  type RolloutRow,
} from "../../../src/collector/mod.ts";
import {
  type Environment,
  EnvironmentPool,
  promptEnvironment,
} from "../../../src/collector/environments/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { seeded } from "../../_support/seeded.ts";
import { collect, countingEnvironment, fakePolicy } from "./_fakes.ts";

/** Everything that a fleet, a sandbox and a trainer do to a collector, by chance. */
interface Weather {
  readonly random: () => number;
  /** Chance that a dialog fails. */
  readonly faults: number;
  /** Chance that a sync ends just before a turn. */
  readonly syncs: number;
}

/** Microtasks that a turn takes; a few take long. */
async function pass(random: () => number): Promise<void> {
  const steps = random() < 0.02 ? 200 : Math.floor(random() * 20);
  for (let i = 0; i < steps; i++) await Promise.resolve();
}

function stormy({ random, faults }: Weather): Environment {
  return {
    reset: async ({ group, member }) => {
      await pass(random);
      if (random() < faults) throw new Error("sandbox lost");
      return { messages: [{ role: "user", content: `task ${group}` }], info: { group, member } };
    },
    step: async ({ turn }) => {
      await pass(random);
      if (random() < faults) throw new Error("grader lost");
      return { reward: random() < 0.5 ? 1 : 0, done: turn > 0 || random() < 0.5 };
    },
  };
}

interface Run {
  readonly batches: readonly RolloutBatch[];
  readonly stats: CollectorStats;
  readonly staleness: readonly number[];
}

async function collectInStorm(
  weather: Weather,
  options: Omit<LLMCollectorOptions, "dialogTurnsPerBatch">,
): Promise<Run> {
  // Pauses before retries pass at once; no deadline does.
  const clock = new FakeClock({ skipUpToMs: 5_000 });
  const staleness: number[] = [];
  const policy = fakePolicy(async () => {
    if (weather.random() < weather.syncs) collector.incrementVersion();
    await pass(weather.random);
  });
  const collector: LLMCollector = new LLMCollector(
    new EnvironmentPool(() => stormy(weather), { size: 24, maxConcurrency: 16 }),
    { policy, dialogTurnsPerBatch: 64, clock, maxConsecutiveFailures: 1000, ...options },
  );
  const batches: RolloutBatch[] = [];
  for await (const batch of collector) {
    batches.push(batch);
    for (const rows of batch.groups().map((group) => group.flatMap((dialog) => dialog.rows))) {
      const versions = rows.flatMap((row) => [...row.tokenVersions ?? []]);
      staleness.push((batch.versionIndex ?? 0) - Math.min(...versions));
    }
  }
  await collector.shutdown();
  assert.equal(clock.pending, 0);
  return { batches, stats: collector.stats, staleness };
}

function membersOf(batch: RolloutBatch): Map<number, Set<number>> {
  const members = new Map<number, Set<number>>();
  for (const group of batch.groups()) {
    members.set(group[0]!.rows[0]!.group, new Set(group.map((dialog) => dialog.rows[0]!.member)));
  }
  return members;
}

function assertLedgerIsExact(stats: CollectorStats): void {
  const { dialogsStarted, dialogsCompleted, dialogsFailed, dialogsAbandoned } = stats;
  assert.equal(dialogsStarted, dialogsCompleted + dialogsFailed + dialogsAbandoned);
}

Deno.test("10,000 groups in faults, stalls and syncs: none short, none lost, none twice, none too old", async () => {
  const total = 10_000;
  const size = 4;
  const weather = { random: seeded(27), faults: 0.01, syncs: 0.003 };
  const { batches, stats, staleness } = await collectInStorm(weather, {
    groupSize: size,
    totalDialogs: total * size,
    dialogRetries: 1,
    maxStaleness: 2,
    onStale: "retry",
    onDialogError: "skip",
  });
  const seen = new Set<number>();
  for (const batch of batches) {
    for (const [group, members] of membersOf(batch)) {
      assert.equal(members.size, size, `group ${group}`);
      assert.ok(!seen.has(group), `group ${group} came twice`);
      seen.add(group);
    }
  }
  const dropped = stats.groupsDropped + stats.staleDropped / size;
  assert.equal(seen.size + dropped, total);
  assert.equal(stats.groupsDropped, 0);
  assert.ok(staleness.every((age) => age <= 2), `${Math.max(...staleness)}`);
  assert.ok(stats.retries > 500, `only ${stats.retries} retries`);
  assertLedgerIsExact(stats);
});

Deno.test("whatever becomes of members, groups come whole or are counted as left out", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer(),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 0, max: 3 }),
      fc.constantFrom("fill" as const, "drop" as const, "keep" as const),
      fc.constantFrom(0, 0.05, 0.4),
      fc.boolean(),
      async (seed, size, spares, incompleteGroups, faults, dropFlatGroups) => {
        const total = 30;
        const weather = { random: seeded(seed), faults, syncs: 0.02 };
        const { batches, stats } = await collectInStorm(weather, {
          groupSize: size,
          overSample: spares,
          incompleteGroups,
          dropFlatGroups,
          maxGroupRefills: 2,
          totalDialogs: total * size,
          maxStaleness: 1,
          onDialogError: "skip",
        });
        const given = batches.flatMap((batch) => [...membersOf(batch)]);
        assert.equal(new Set(given.map(([group]) => group)).size, given.length);
        for (const [, members] of given) {
          assert.ok(incompleteGroups === "keep" ? members.size <= size : members.size === size);
        }
        assertLedgerIsExact(stats);
        const isKept = incompleteGroups === "keep";
        const givenDialogs = given.reduce((sum, [, members]) => sum + members.size, 0);
        assert.equal(
          stats.dialogsCompleted,
          givenDialogs + stats.groupDialogsDropped + stats.staleDropped,
        );
        if (isKept) assert.equal(stats.groupsDropped, 0);
        else {assert.equal(
            given.length,
            total - stats.groupsDropped - stats.groupsRefused - stats.staleDropped / size,
          );}
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("a batch holds whole groups, also where that makes it larger", async () => {
  await using collector = new LLMCollector(
    new EnvironmentPool(() => countingEnvironment(1), { size: 8 }),
    { policy: fakePolicy(), dialogTurnsPerBatch: 5, groupSize: 4, totalDialogs: 16 },
  );
  const batches = await collect(collector);
  assert.deepEqual(batches.map((batch) => batch.length), [8, 8]);
  const numbers = batches[0]!.rows.map((row) => [row.group, row.member]);
  assert.deepEqual(numbers, [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1], [1, 2], [1, 3]]);
});

Deno.test("members of a group have the same prompt", async () => {
  const prompts = ["a", "b", "c"];
  await using collector = new LLMCollector(
    new EnvironmentPool(() => promptEnvironment({ prompts, reward: () => 1 }), { size: 4 }),
    { policy: fakePolicy(), dialogTurnsPerBatch: 12, groupSize: 2, totalDialogs: 12 },
  );
  const [batch] = await collect(collector);
  for (const { group, messages } of batch!.rows) {
    assert.equal(messages[0]!.content, prompts[group % 3]);
  }
});

Deno.test("with spares the first members to end count, and the others are ended", async () => {
  const aborted: number[] = [];
  const policy = fakePolicy(async ({ dialog }, signal) => {
    if (dialog !== 1) return;
    await new Promise<void>((resolve) =>
      signal.addEventListener("abort", () => {
        aborted.push(dialog);
        resolve();
      })
    );
  });
  await using collector = new LLMCollector(
    new EnvironmentPool(() => countingEnvironment(1), { size: 4 }),
    { policy, dialogTurnsPerBatch: 2, groupSize: 2, overSample: 1, totalDialogs: 2 },
  );
  const [batch] = await collect(collector);
  assert.deepEqual(batch!.rows.map((row) => row.member), [0, 2]);
  assert.deepEqual(aborted, [1]);
  assert.equal(collector.stats.dialogsAbandoned, 1);
});

Deno.test("groups without spread of reward are left out, and others take their place", async () => {
  const environment: Environment = {
    reset: ({ group, member }) => ({
      messages: [{ role: "user", content: "go" }],
      info: { reward: group % 2 === 0 ? 1 : member },
    }),
    step: () => ({ reward: 0, done: true }),
  };
  const make = (): Environment => {
    let reward = 0;
    return {
      reset: async (task) => {
        const reset = await environment.reset(task);
        reward = reset.info!.reward as number;
        return reset;
      },
      step: () => ({ reward, done: true }),
    };
  };
  await using collector = new LLMCollector(new EnvironmentPool(make, { size: 4 }), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 4,
    groupSize: 2,
    totalDialogs: 16,
    dropFlatGroups: true,
  });
  const groups = (await collect(collector)).flatMap((batch) => [...membersOf(batch).keys()]);
  assert.deepEqual(groups, [1, 3, 5, 7]);
  assert.equal(collector.stats.groupsRefused, 4);
});

Deno.test("admitGroup sees all rows of a group, and its own error ends collecting", async () => {
  const seen: (readonly RolloutRow[])[] = [];
  const make = (admitGroup: (rows: readonly RolloutRow[]) => boolean) =>
    new LLMCollector(new EnvironmentPool(() => countingEnvironment(2), { size: 3 }), {
      policy: fakePolicy(),
      dialogTurnsPerBatch: 6,
      groupSize: 3,
      totalDialogs: 6,
      admitGroup,
    });
  await using picky = make((rows) => {
    seen.push(rows);
    return rows[0]!.group === 1;
  });
  const batches = await collect(picky);
  assert.deepEqual(seen.map((rows) => rows.length), [6, 6]);
  assert.deepEqual(batches.flatMap((batch) => [...membersOf(batch).keys()]), [1]);
  await using broken = make(() => {
    throw new Error("no such column");
  });
  await assert.rejects(() => broken.rollout(), /admitGroup failed: no such column/);
  await using late = make((() => Promise.resolve(false)) as unknown as () => boolean);
  await assert.rejects(() => late.rollout(), /admitGroup failed: it must give true or false/);
});

Deno.test("a member that fails for ever costs its group, not the others, and is told", async () => {
  const make = (): Environment => ({
    reset: ({ group, member }) => {
      if (group === 1 && member === 0) throw new Error("poison");
      return { messages: [{ role: "user", content: "go" }] };
    },
    step: () => ({ reward: 1, done: true }),
  });
  await using collector = new LLMCollector(new EnvironmentPool(make, { size: 1 }), {
    policy: fakePolicy(),
    clock: new FakeClock({ skipUpToMs: 5_000 }),
    dialogTurnsPerBatch: 6,
    groupSize: 2,
    totalDialogs: 6,
    maxGroupRefills: 3,
    onDialogError: "skip",
  });
  const [batch] = await collect(collector);
  assert.deepEqual([...membersOf(batch!).keys()], [0, 2]);
  assert.deepEqual(batch!.failures.map(({ dialog, attempts }) => [dialog, attempts]), [[2, 4]]);
  assert.equal(collector.stats.groupsDropped, 1);
});

Deno.test("options that make no groups are refused by name", () => {
  const refused = (options: Partial<LLMCollectorOptions>, message: RegExp) =>
    assert.throws(
      () =>
        new LLMCollector(new EnvironmentPool(() => countingEnvironment(1), { size: 1 }), {
          policy: fakePolicy(),
          dialogTurnsPerBatch: 4,
          ...options,
        }),
      { name: "ValidationError", message },
    );
  refused({ overSample: 1 }, /overSample needs groupSize/);
  refused({ groupSize: Infinity }, /groupSize must be a whole number .* not Infinity/);
  refused({ groupSize: 2, overSample: Infinity }, /overSample must be .* not Infinity/);
  refused({ groupSize: 0 }, /groupSize must be a whole number of at least 1/);
  refused({ groupSize: 3, totalDialogs: 7 }, /multiple of groupSize \(3\), not 7/);
  refused({ groupSize: 3, incompleteGroups: "maybe" as "fill" }, /"fill", "drop" or "keep"/);
  refused({ groupSize: 3, yieldCompletedTrajectories: false }, /groupSize gives out whole dialogs/);
});
