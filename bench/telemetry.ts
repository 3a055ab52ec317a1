/**
 * What traces and metrics cost: time of an operation that is observed, while nobody looks, with a
 * monitor, and with OpenTelemetry but no SDK; beside the same work without any.
 *
 *     deno run -A bench/telemetry.ts [rounds]
 */
// deno-lint-ignore-file no-console -- a program for the terminal
import { systemClock } from "../src/internal/clock.ts";
import {
  beginObserved,
  type Facts,
  observed,
  propagationHeaders,
} from "../src/internal/observe.ts";
import { enableTelemetry, Monitor } from "../src/telemetry/mod.ts";

const rounds = Number(Deno.args[0] ?? 300_000);
const engine = { workers: [] };

/** What a request does, without being looked at. */
async function plain(facts: Facts): Promise<number> {
  await Promise.resolve();
  facts.outputTokens = 8;
  return 1;
}

/** Nanoseconds of one call. */
async function measure(name: string, work: () => Promise<unknown>): Promise<number> {
  for (let i = 0; i < rounds / 10; i++) await work();
  const startedAt = systemClock.now();
  for (let i = 0; i < rounds; i++) await work();
  const each = (systemClock.now() - startedAt) / rounds * 1e6;
  console.log(`${name.padEnd(40)} ${each.toFixed(0)} ns`);
  return each;
}

const request = () => observed("generate", engine, { rid: "a", samples: 1 }, plain);
for (let round = 0; round < 2; round++) {
  await measure("the work alone", () => plain({ rid: "a", samples: 1 }));
  await measure("observed, nobody looks", request);
  await measure("its headers, nobody looks", () => Promise.resolve(propagationHeaders()));
  await measure("begun and ended, nobody looks", () => {
    beginObserved({ name: "group", subject: undefined, facts: {} }).end();
    return Promise.resolve();
  });
  {
    using _monitor = new Monitor({ engine });
    await measure("a monitor counts", request);
  }
  {
    using _telemetry = enableTelemetry();
    await measure("OpenTelemetry without an SDK", request);
  }
}
