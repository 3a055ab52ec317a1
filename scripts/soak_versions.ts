/**
 * Syncs a fleet again and again while its servers are killed and come back with old weights, and
 * counts what a trainer would get: rows of other weights than their version says, rows lost or
 * doubled, versions used twice.
 *
 * Run as `deno task soak:versions [--minutes 20] [--kills 50] [--embedded [--router]]
 * [--seed 1]`: two real servers (0.5.16 and 0.5.23) behind the real router, or embedded servers, with
 * `--router` behind the real router.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { runVersionsSoak } from "./soak/versions.ts";
import { EmbeddedPair, RealPair } from "./soak/pairs.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "20" },
    kills: { type: "string", default: "Infinity" },
    seed: { type: "string", default: "1" },
    embedded: { type: "boolean", default: false },
    router: { type: "boolean", default: false },
  },
});
await using pair = values.embedded
  ? await EmbeddedPair.start({ router: values.router })
  : await RealPair.start();
const report = await runVersionsSoak(pair, {
  durationMs: Number(values.minutes) * 60_000,
  kills: Number(values.kills),
  seed: Number(values.seed),
  onProgress: (line) => console.log(line),
});
console.log(JSON.stringify(report, null, 2));
const isGood = report.wrongRows + report.lostRows + report.doubledRows + report.versionsTwice === 0;
Deno.exit(isGood ? 0 : 1);
