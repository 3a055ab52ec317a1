/** The short form of `deno task soak:adapters`. */
import assert from "node:assert/strict";
import { runAdapterSoak } from "../../../scripts/soak/adapters.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { testAdapter, testLora } from "../../_support/adapters.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";

Deno.test("versions come one after the other while a collector generates, and no row has a wrong one", async () => {
  const model = await tinyCheckpoint();
  await using first = await EmbeddedServer.start({ model, version: "0.5.16", lora: testLora });
  await using second = await EmbeddedServer.start({ model, version: "0.5.23", lora: testLora });
  const adapters = await Promise.all([1, 2, 3].map((seed) => testAdapter(model, { seed })));
  const report = await runAdapterSoak({
    urls: [first.url, second.url],
    model,
    adapters,
    versions: 20,
  });
  assert.equal(report.wrongRows, 0);
  assert.equal(report.inexactRows, 0);
  assert.equal(report.failedDialogs, 0);
  assert.ok(report.rows > 0 && report.versionsSeen > 1);
  // What is kept, what is just loaded, and one more that is in use or on its way out.
  assert.ok(report.mostLoaded <= 6, `${report.mostLoaded} adapters at once`);
  assert.equal(report.loadedAtEnd, 3);
});
