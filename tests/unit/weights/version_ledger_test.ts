import assert from "node:assert/strict";
import fc from "fast-check";
import { VersionLedger } from "../../../src/weights/mod.ts";

/** What one sync of a fleet of three does. */
const sync = fc.record({
  name: fc.option(
    fc.oneof(
      fc.constantFrom("step-1", "step-2", "default", "7", "12"),
      fc.string({ minLength: 1 }),
    ),
    { nil: undefined },
  ),
  /** How far it comes: nothing touched, marks left, some servers whole, done. */
  ends: fc.constantFrom("untouched", "incomplete", "some", "done", "done", "done"),
  /** Servers that come back with their first weights before it. */
  restarts: fc.array(fc.nat(2), { maxLength: 2 }),
  /** Another trainer's number on some server. */
  other: fc.option(fc.record({ server: fc.nat(2), version: fc.nat(30).map(String) }), {
    nil: undefined,
    freq: 5,
  }),
});

Deno.test("no two syncs give weights one name, over a thousand of them with faults", () => {
  fc.assert(
    fc.property(
      fc.array(sync.filter(({ name }) => !/^(updating|incomplete):/.test(name ?? "")), {
        minLength: 1_000,
        maxLength: 1_000,
      }),
      (syncs) => {
        const ledger = new VersionLedger();
        const served: string[] = ["default", "default", "default"];
        ledger.found(served);
        const given = new Set<string>();
        const ids = new Set<string>();
        for (const { name, ends, restarts, other } of syncs) {
          for (const server of restarts) served[server] = "default";
          if (other !== undefined) served[other.server] = other.version;
          const { version, syncId } = ledger.reserve(name, served);
          assert.ok(!given.has(version), `"${version}" was given twice`);
          assert.ok(!served.includes(version), `"${version}" is served already`);
          assert.ok(!ids.has(syncId));
          ids.add(syncId);
          if (ends === "untouched") continue;
          ledger.announce(version);
          given.add(version);
          assert.equal(ledger.standingOf(version), "announced");
          if (ends === "incomplete") served[0] = `incomplete:${version}`;
          if (ends === "some") served[1] = version;
          if (ends !== "done") continue;
          const before = ledger.current;
          ledger.publish(version);
          served.fill(version);
          assert.equal(ledger.standingOf(version), "current");
          if (before !== undefined) assert.equal(ledger.standingOf(before), "older");
          assert.equal(ledger.standingOf("default"), "older");
        }
      },
    ),
    { numRuns: 5 },
  );
});

Deno.test("numbers go on after a failure, and after what marks on the servers tell", () => {
  const ledger = new VersionLedger();
  for (const expected of ["1", "2", "3"]) {
    const { version } = ledger.reserve(undefined, ["default"]);
    assert.equal(version, expected);
    ledger.announce(version);
    ledger.publish(version);
  }
  ledger.announce(ledger.reserve(undefined, ["3"]).version);
  assert.equal(ledger.reserve(undefined, ["incomplete:4"]).version, "5");
  // Another process tells only by what it left on the servers.
  const fresh = new VersionLedger();
  assert.equal(fresh.reserve(undefined, ["3", "incomplete:4"]).version, "5");
  assert.equal(fresh.reserve(undefined, ["updating:some-owner:8", "3"]).version, "9");
});

Deno.test("a name that was given before gets the sync's id, and keeps it while a sync waits", () => {
  const ledger = new VersionLedger();
  const first = ledger.reserve("step-7", ["default"]);
  assert.deepEqual([first.version, first.name], ["step-7", "step-7"]);
  ledger.announce(first.version);
  const second = ledger.reserve("step-7", ["default"]);
  assert.equal(second.version, `step-7+${second.syncId.slice(0, 8)}`);
  assert.equal(ledger.review(second, ["step-7"]), second);
  assert.equal(ledger.review(second, [second.version]).name, "step-7");
  assert.notEqual(ledger.review(second, [second.version]).version, second.version);
  const number = ledger.reserve(undefined, ["3"]);
  assert.equal(ledger.review(number, ["3"]), number);
  assert.equal(ledger.review(number, ["4"]).version, "5");
});

Deno.test("names that are marks, empty, no text or kill a server's answers are refused", () => {
  const ledger = new VersionLedger();
  const bad = ["", "updating:x:1", "incomplete:1", 3, "a\nb", "\0", "\ud800", "x".repeat(1_001)];
  for (const name of bad) {
    assert.throws(
      () => ledger.reserve(name as string, []),
      (error: Error & { code: string }) =>
        error.code === "validation" && error.message.length < 400,
    );
  }
  for (const name of ["étape 7", "ステップ-7", "🙂", "a:b~c", '"', "x".repeat(1_000)]) {
    assert.equal(ledger.reserve(name, ["3"]).version, name);
  }
  assert.equal(ledger.standingOf(null), "untold");
  assert.equal(ledger.standingOf("incomplete:1"), "mark");
  assert.equal(ledger.standingOf("who knows"), "unknown");
});

Deno.test("nobody's weights are called as those that a server starts with", () => {
  // The servers have weights of another program; this one has not heard the first name.
  const { version } = new VersionLedger().reserve("default", ["3"]);
  assert.match(version, /^default\+[0-9a-f]{8}$/);
});
