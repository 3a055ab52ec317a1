/**
 * Syncs a fleet again and again while its servers are killed and come back with old weights, and
 * counts what a trainer would get: rows of other weights than their version says, rows lost or
 * doubled, versions used twice.
 *
 * Run as `deno task soak:versions [--minutes 20] [--kills 50] [--version 0.5.16] [--no-router]
 * [--embedded] [--seed 1] [--results FILE]`: two real servers behind the real router, of one version
 * or by default of both; or embedded servers. A file of results gets a line with each run's report.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { EmbeddedPair, RealPair } from "./soak/pairs.ts";
import { runVersionsSoak } from "./soak/versions.ts";
import { type SGLangVersion, sglangVersions } from "./sglang_cpu/home.ts";

const { values } = parseArgs({
  allowNegative: true,
  options: {
    minutes: { type: "string", default: "20" },
    kills: { type: "string", default: "Infinity" },
    seed: { type: "string", default: "1" },
    version: { type: "string" },
    embedded: { type: "boolean", default: false },
    router: { type: "boolean", default: true },
    results: { type: "string" },
  },
});

function isVersion(text: string): text is SGLangVersion {
  return (sglangVersions as readonly string[]).includes(text);
}

function versionsOf(given: string | undefined) {
  if (given === undefined) return undefined;
  if (isVersion(given)) return [given, given] as const;
  throw new TypeError(`--version must be one of ${sglangVersions.join(", ")}, not ${given}`);
}

const versions = versionsOf(values.version);
const { embedded, router } = values;
await using pair = embedded
  ? await EmbeddedPair.start({ versions, router })
  : await RealPair.start({ versions, router });
const report = await runVersionsSoak(pair, {
  durationMs: Number(values.minutes) * 60_000,
  kills: Number(values.kills),
  seed: Number(values.seed),
  onProgress: (line) => console.log(line),
});
console.log(JSON.stringify(report, null, 2));
if (values.results !== undefined) {
  const { version = "both", seed } = values;
  const line = JSON.stringify({ version, router, embedded, seed, ...report });
  await Deno.writeTextFile(values.results, `${line}\n`, { append: true });
}
const { wrongRows, lostRows, doubledRows, versionsTwice, failedDialogs } = report;
const faults = wrongRows + Math.abs(lostRows) + doubledRows + versionsTwice + failedDialogs;
// Where nothing was synced, killed or made, nothing was shown.
const hasRun = report.syncs > 0 && report.rows > 0 && report.kills > 0 &&
  report.fewestServers === 2;
Deno.exitCode = faults === 0 && hasRun ? 0 : 1;
