/** The state machine of a supervised server: its table, and what holds for every history. */
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  defaultRules,
  type FleetRules,
  inputMeanings,
  type ServerInput,
  type ServerState,
  stateMeanings,
  transitions,
} from "../../../src/fleet/mod.ts";
import { newRecord, type ServerRecord, step } from "../../../src/fleet/machine.ts";
import { transitionTable } from "../../../src/fleet/transitions.ts";

const states = Object.keys(stateMeanings) as ServerState[];
const inputs = Object.keys(inputMeanings) as ServerInput[];

/** What happened, how long after the last, and how many others were healthy. */
const happening = fc.record({
  input: fc.constantFrom(...inputs),
  afterMs: fc.constantFrom(0, 10, 1_000, 70_000),
  othersHealthy: fc.nat(2),
});

const anyRules = fc.record({
  missedLimit: fc.integer({ min: 1, max: 4 }),
  failedLimit: fc.integer({ min: 1, max: 4 }),
  restartLimit: fc.nat(4),
}).map((some): FleetRules => ({ ...defaultRules, ...some }));

interface Moment {
  readonly before: ServerRecord;
  readonly input: ServerInput;
  readonly after: ServerRecord;
  readonly othersHealthy: number;
}

/** Every step of a history. */
function live(
  rules: FleetRules,
  history: readonly { input: ServerInput; afterMs: number; othersHealthy: number }[],
  start: { state: "starting" | "healthy" | "stale"; isOurs: boolean },
): Moment[] {
  let record = newRecord({ ...start, now: 0 });
  let now = 0;
  return history.map(({ input, afterMs, othersHealthy }) => {
    now += afterMs;
    const before = record;
    record = step(before, input, { rules, now, othersHealthy }).record;
    return { before, input, after: record, othersHealthy };
  });
}

function holdsFor(check: (moments: readonly Moment[], rules: FleetRules) => void): void {
  fc.assert(
    fc.property(
      anyRules,
      fc.array(happening, { maxLength: 60 }),
      fc.constantFrom("starting" as const, "healthy" as const, "stale" as const),
      fc.boolean(),
      (rules, history, state, isOurs) => check(live(rules, history, { state, isOurs }), rules),
    ),
    { numRuns: 500 },
  );
}

Deno.test("a server that was out of rotation becomes healthy by weights alone, never by an answer", () => {
  const serving = new Set<ServerState>(["healthy", "suspect"]);
  holdsFor((moments) => {
    for (const { before, input, after } of moments) {
      if (!serving.has(after.state) || serving.has(before.state)) continue;
      assert.deepEqual([before.state, input], ["stale", "fitted"]);
    }
  });
});

Deno.test("a retired server stays so until an order", () => {
  holdsFor((moments) => {
    for (const { before, input, after } of moments) {
      if (before.state === "retired" && after.state !== "retired") assert.equal(input, "ordered");
    }
  });
});

Deno.test("a server is started no more often than its budget without a steady time between", () => {
  holdsFor((moments, { restartLimit }) => {
    for (const { after } of moments) assert.ok(after.restarts <= Math.max(restartLimit, 0));
  });
});

Deno.test("only a server that is ours is started", () => {
  holdsFor((moments) => {
    for (const { before, input, after } of moments) {
      if (after.state !== "restarting" || before.state === "restarting") continue;
      assert.ok(before.isOurs || input === "due");
    }
  });
});

Deno.test("failed requests alone never take the last needed server", () => {
  holdsFor((moments, { minHealthy }) => {
    for (const { input, before, after, othersHealthy } of moments) {
      if (input === "failed" && after.state === "dead" && before.state !== "dead") {
        assert.ok(othersHealthy >= minHealthy);
      }
    }
  });
});

Deno.test("answers to probes do not forgive failed requests, nor the other way round", () => {
  holdsFor((moments) => {
    for (const { before, input, after } of moments) {
      if (before.state !== "suspect" || after.state !== "healthy") continue;
      assert.ok(input === "answered" || input === "served");
      assert.equal(after.missed + after.failed, 0);
      assert.equal(input === "answered" ? before.failed : before.missed, 0);
    }
  });
});

Deno.test("a record is not changed by a step, and equal steps give equal records", () => {
  holdsFor((moments) => {
    for (const { before, input, othersHealthy } of moments) {
      const copy = structuredClone(before);
      const context = { rules: defaultRules, now: 5, othersHealthy };
      assert.deepEqual(step(before, input, context), step(copy, input, context));
      assert.deepEqual(before, copy);
    }
  });
});

Deno.test("every state is reached and left, every input and every row of the table is used", () => {
  assert.deepEqual(
    new Set(transitions.map(({ to }) => to)),
    new Set(states.filter((s) => s !== "starting")),
  );
  assert.deepEqual(new Set(transitions.map(({ from }) => from)), new Set(states));
  assert.deepEqual(new Set(transitions.map(({ on }) => on)), new Set(inputs));
  // A row after one without a condition for the same input would never be taken.
  transitions.forEach(({ from, on, when }, i) => {
    const isShadowed = transitions.slice(0, i).some((row) =>
      row.from === from && row.on === on && (row.when === undefined || row.when === when)
    );
    assert.ok(!isShadowed, `${from} on ${on} is never taken`);
  });
});

Deno.test("a server that dies at each start is retired after its budget, with longer pauses each time", () => {
  const rules = { ...defaultRules, restartLimit: 3, backoffMs: 500 };
  let record = newRecord({ state: "healthy", isOurs: true, now: 0 });
  let now = 0;
  const feed = (input: ServerInput) => {
    record = step(record, input, { rules, now, othersHealthy: 1 }).record;
  };
  const pauses: number[] = [];
  feed("exited");
  while (record.state !== "retired") {
    assert.equal(record.state, "dead");
    pauses.push(record.dueAt! - now);
    now = record.dueAt!;
    feed("due");
    if ((record as ServerRecord).state === "restarting") feed("not launched");
  }
  assert.deepEqual(pauses, [500, 1000, 2000, 0]);
});

Deno.test("a steady minute gives the budget back", () => {
  const rules = { ...defaultRules, restartLimit: 1, steadyMs: 60_000 };
  let record = newRecord({ state: "healthy", isOurs: true, now: 0 });
  let now = 0;
  const feed = (...given: ServerInput[]) => {
    for (const input of given) {
      record = step(record, input, { rules, now, othersHealthy: 1 }).record;
    }
    return record.state;
  };
  assert.equal(feed("exited", "due", "launched", "fitted"), "healthy");
  now += 60_000;
  assert.equal(feed("exited", "due", "launched", "fitted"), "healthy");
  now += 59_999;
  assert.equal(feed("exited", "due"), "retired");
});

Deno.test("the document has the table", async () => {
  const text = await Deno.readTextFile(new URL("../../../docs/servers.md", import.meta.url));
  const plain = (table: string) => table.replaceAll(/ +/g, " ").replaceAll(/-{3,}/g, "---");
  assert.ok(
    plain(text).includes(plain(transitionTable())),
    `docs/servers.md lacks this table (deno fmt aligns it):\n${transitionTable()}`,
  );
  for (const [state, meaning] of Object.entries(stateMeanings)) {
    assert.ok(plain(text).includes(`| \`${state}\` | ${meaning} |`), `docs lack ${state}`);
  }
});
