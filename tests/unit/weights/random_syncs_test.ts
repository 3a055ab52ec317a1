/** Whatever fails, no two sets of weights ever have one name, and no server tells a wrong one. */
import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { SGLangError } from "../../../src/errors.ts";
import { isMark } from "../../../src/internal/version_marks.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { type SGLangWeightSender, SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { VersionLedger } from "../../../src/weights/version_ledger.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";

/** What goes wrong in one sync. */
const faults = [
  "nothing",
  "nothing",
  "abort early",
  "abort at a bucket",
  "refuse",
  "torn file",
  "crash",
] as const;

const step = fc.record({
  checkpoint: fc.nat(2),
  fault: fc.constantFrom(...faults),
  bucket: fc.integer({ min: 1, max: 3 }),
  server: fc.nat(1),
  named: fc.boolean(),
  trainer: fc.nat(1),
});

/** What a server's weights continue a prompt with: tells which checkpoint, or mixture, it holds. */
async function continuation(server: EmbeddedServer): Promise<{ ids: string; version: string }> {
  const answer = await fetch(`${server.url}/generate`, {
    method: "POST",
    body: JSON.stringify({
      input_ids: [10, 20, 30],
      sampling_params: { temperature: 0, max_new_tokens: 6, ignore_eos: true },
      extra_key: crypto.randomUUID(),
    }),
  });
  const { output_ids, meta_info } = await answer.json();
  return { ids: output_ids.join(), version: meta_info.weight_version };
}

/** The servers, and one ledger of versions for all who sync them, as an engine has it. */
class FakeEngine {
  readonly versions = new VersionLedger();
  readonly #servers: readonly EmbeddedServer[];

  constructor(servers: readonly EmbeddedServer[]) {
    this.#servers = servers;
  }

  get workers() {
    return this.#servers.map(({ url }) => ({ url }));
  }
}

/** One sync, in which something may go wrong. */
async function attempt(
  sender: SGLangWeightSender,
  servers: readonly EmbeddedServer[],
  how: {
    readonly fault: typeof faults[number];
    readonly bucket: number;
    readonly server: number;
    readonly named: boolean;
    readonly source: string;
    readonly other: Uint8Array;
  },
) {
  const stop = new AbortController();
  const server = servers[how.server]!;
  if (how.fault === "abort early") stop.abort();
  if (how.fault === "refuse") server.setFaults({ refuseUpdates: 1 });
  let buckets = 0;
  let last = 0;
  const onBucket = () => {
    if (how.fault === "abort at a bucket") stop.abort();
    if (how.fault === "torn file") Deno.writeFileSync(how.source, how.other);
    if (how.fault === "crash") server.crash();
  };
  try {
    return await sender.updateWeights(safetensors(how.source), {
      signal: stop.signal,
      version: how.named ? "policy" : undefined,
      onProgress({ phase, bytesDone }) {
        if (phase !== "update" || bytesDone === last) return;
        last = bytesDone;
        if (++buckets === how.bucket) onBucket();
      },
    });
  } catch (error) {
    assert.ok(error instanceof SGLangError, String(error));
    return undefined;
  } finally {
    if (!server.stats.crashed) server.setFaults({ refuseUpdates: 0 });
  }
}

const SYNCS_IN_A_FLEET = 12;
const FLEETS = 3;

Deno.test("over random syncs with faults a version never means two sets of weights", async () => {
  const checkpoints = await Promise.all([1, 2, 3].map((seed) => tinyCheckpoint({ seed })));
  const model = await tinyCheckpoint({ seed: 0 });
  let syncs = 0;
  const runs = fc.array(step, { minLength: SYNCS_IN_A_FLEET, maxLength: SYNCS_IN_A_FLEET });
  await fc.assert(
    fc.asyncProperty(
      runs,
      fc.constantFrom("0.5.16" as const, "0.5.23" as const),
      async (steps, version) => {
        await using folder = await temporaryFolder();
        const servers = await Promise.all(
          [0, 1].map(() => EmbeddedServer.start({ model, version })),
        );
        await using _servers = {
          async [Symbol.asyncDispose]() {
            for (const server of servers) await server.close();
          },
        };
        // One ledger for all, as an engine has it.
        const engine = new FakeEngine(servers);
        const trainers = [0, 1].map(() =>
          new SGLangWeightSyncScheme({
            engine,
            transport: "gloo",
            env: () => undefined,
            bucketBytes: 120_000,
            deadlines: { destroyMs: 500, updateMs: 5000, initMs: 5000 },
          }).createSender()
        );
        await using _trainers = {
          async [Symbol.asyncDispose]() {
            for (const trainer of trainers) await trainer.close();
          },
        };
        for (const trainer of trainers) await trainer.initAllWorkersGroup();
        /** What the servers said under each version. */
        const meaning = new Map<string, string>();
        const given = new Set<string>();
        for (const one of steps) {
          syncs++;
          const source = join(folder.path, "pushed.safetensors");
          await Deno.copyFile(join(checkpoints[one.checkpoint]!, "model.safetensors"), source);
          const other = await Deno.readFile(
            join(checkpoints[(one.checkpoint + 1) % 3]!, "model.safetensors"),
          );
          const report = await attempt(trainers[one.trainer]!, servers, { ...one, source, other });
          if (report !== undefined) {
            assert.ok(!given.has(report.version), `version ${report.version} was given twice`);
            given.add(report.version);
          }
          for (const [i, server] of servers.entries()) {
            if (!server.stats.crashed) continue;
            await server.close();
            servers[i] = await EmbeddedServer.start({ model, version });
          }
          for (const server of servers) {
            if (server.stats.paused) continue;
            const said = await continuation(server);
            if (isMark(said.version) || said.version === "default") continue;
            const before = meaning.get(said.version) ?? said.ids;
            assert.equal(said.ids, before, `${said.version} means two sets of weights`);
            meaning.set(said.version, before);
          }
        }
      },
    ),
    { numRuns: FLEETS },
  );
  assert.equal(syncs >= SYNCS_IN_A_FLEET * FLEETS, true);
});
