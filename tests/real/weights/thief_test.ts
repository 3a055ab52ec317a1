/** Another user of the machine while weights are sent. `deno task test:thief` is the long form. */
import assert from "node:assert/strict";
import { SGLangClient } from "../../../src/client/mod.ts";
import { readLines } from "../../../src/internal/lines.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { modelPath, startForks, startRealServer } from "../../_support/real.ts";

const JOINS = Number(Deno.env.get("JOINS") ?? 4);
const versions = ["0.5.16", "0.5.23"] as const;
const thief = new URL("thief.py", import.meta.url).pathname;

Deno.test("whoever joins without the secret gets no weights, and no sync fails", async () => {
  await using stack = new AsyncDisposableStack();
  const forks = stack.use(await startForks(versions));
  const starts = await Promise.allSettled(
    versions.map((version) => startRealServer({ version, python: forks.pythons.get(version)! })),
  );
  for (const start of starts) if (start.status === "fulfilled") stack.use(start.value);
  const urls = starts.map((start) => {
    if (start.status === "rejected") throw start.reason;
    return start.value.url;
  });
  const watching = new Deno.Command("python3", {
    args: [thief],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const said = readLines(watching.stdout);
  assert.equal((await said.next()).value!.trim(), "watching");
  const given: string[] = [];
  for (let join = 0; join < JOINS; join++) {
    const scheme = new SGLangWeightSyncScheme({
      workers: urls,
      transport: "gloo",
      // The first update of a server that has just started may take seconds longer than another's;
      // whether it is left behind then is not the question here.
      deadlines: { stragglerMs: 60_000 },
    });
    await using sender = scheme.createSender();
    await sender.initAllWorkersGroup();
    const { version } = await sender.updateWeights(
      safetensors(modelPath(join % 2 === 0 ? "tiny1" : "tiny")),
    );
    given.push(version);
    if (join % 50 > 0) continue;
    for (const url of urls) {
      using client = new SGLangClient({ url });
      assert.equal((await client.modelInfo()).weightVersion, version);
    }
  }
  await watching.stdin.close();
  const [connections, offers, stolen] = (await said.next()).value!.trim().split(" ").map(Number);
  await said.next();
  await watching.status;
  // deno-lint-ignore no-console -- the figures are what the long form is run for
  console.log(JSON.stringify({ joins: given.length, connections, offers, stolen }));
  assert.equal(given.length, JOINS);
  assert.ok(connections! >= JOINS, "the thief found no listener");
  assert.equal(stolen, 0);
});
