/** A checkpoint that changes while it is streamed is not told to be whole. */
import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";

/** How somebody changes a file of a checkpoint that is being read. */
const changes: Record<string, (file: string, other: string) => Promise<void>> = {
  "written over in place": async (file, other) => {
    using out = await Deno.open(file, { write: true });
    await out.write((await Deno.readFile(other)).subarray(0, 64 * 1024));
  },
  "written over, with the other's time": async (file, other) => {
    await Deno.writeFile(file, await Deno.readFile(other));
    await Deno.utime(file, 1_577_836_800, 1_577_836_800);
  },
  "replaced": async (file, other) => {
    await Deno.copyFile(other, `${file}.new`);
    await Deno.rename(`${file}.new`, file);
  },
  "cut short": (file) => Deno.truncate(file, 200_000),
  "removed": (file) => Deno.remove(file),
};

Deno.test("a file that changes after its opening is told of, however it changes", async () => {
  const [a, b] = [await tinyCheckpoint({ seed: 1 }), await tinyCheckpoint({ seed: 2 })];
  for (const [how, change] of Object.entries(changes)) {
    await using folder = await temporaryFolder();
    const file = join(folder.path, "model.safetensors");
    await Deno.copyFile(join(a, "model.safetensors"), file);
    // Times of files go by ticks: a change in the tick of the copy could not be told by any time.
    await Deno.utime(file, 1_600_000_000, 1_600_000_000);
    await using checkpoint = await openCheckpoint(folder.path);
    await checkpoint.confirmUnchanged();
    await change(file, join(b, "model.safetensors"));
    await assert.rejects(checkpoint.confirmUnchanged(), { code: "checkpoint" }, how);
  }
});

Deno.test("a sync of a checkpoint that is written over meanwhile fails, and names the partial servers", async () => {
  const old = await tinyCheckpoint({ seed: 0 });
  const [a, b] = [await tinyCheckpoint({ seed: 1 }), await tinyCheckpoint({ seed: 2 })];
  await using server = await EmbeddedServer.start({ model: old });
  const cases = fc.record({
    how: fc.constantFrom(...Object.keys(changes)),
    bucket: fc.integer({ min: 1, max: 3 }),
    bucketBytes: fc.constantFrom(40_000, 160_000),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ how, bucket, bucketBytes }) => {
      await using folder = await temporaryFolder();
      for (const name of ["model.safetensors", "config.json"]) {
        await Deno.copyFile(join(a, name), join(folder.path, name));
      }
      await using sender = new SGLangWeightSyncScheme({
        serverUrl: server.url,
        transport: "gloo",
        env: () => undefined,
        bucketBytes,
      }).createSender();
      await sender.initAllWorkersGroup();
      await sender.updateWeights(safetensors(a));
      let buckets = 0;
      let last = 0;
      const file = join(folder.path, "model.safetensors");
      const text = join(b, "model.safetensors");
      const original = Deno.readFileSync(text);
      const failed = assert.rejects(
        sender.updateWeights(safetensors(folder.path), {
          onProgress({ phase, bytesDone }) {
            if (phase !== "update" || bytesDone === last) return;
            last = bytesDone;
            if (++buckets !== bucket) return;
            changeNow(how, file, original);
          },
        }),
        (error: Error & { code?: string }) => {
          assert.match(error.message, /changed while it was being read|does not exist/);
          assert.equal(error.code, "weight_sync");
          assert.match(error.message, new RegExp(`${server.url}: partly updated, kept paused`));
          return true;
        },
      );
      await failed;
      assert.match(server.stats.weightVersion, /^incomplete:/);
      assert.equal(sender.servers[0]!.condition, "partial");
      // The next whole checkpoint repairs it.
      const repaired = await sender.updateWeights(safetensors(b));
      assert.equal(server.stats.weightVersion, repaired.version);
    }),
    { numRuns: 8 },
  );
});

/** The same changes at once, while the sync looks away. */
function changeNow(how: string, file: string, content: Uint8Array): void {
  if (how === "removed") return Deno.removeSync(file);
  if (how === "cut short") return Deno.truncateSync(file, 200_000);
  if (how === "replaced") {
    Deno.writeFileSync(`${file}.new`, content);
    return Deno.renameSync(`${file}.new`, file);
  }
  Deno.writeFileSync(file, content);
  if (how.endsWith("other's time")) Deno.utimeSync(file, 1_577_836_800, 1_577_836_800);
}
