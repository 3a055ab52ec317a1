/** A fleet as Slurm jobs: found, synced, one cancelled, healed. `deno task test:slurm`. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { startSlurm } from "../../scripts/slurm/cluster.ts";
import { makeTinyCheckpoint } from "../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../src/engine/mod.ts";
import { FleetSupervisor, serversInSlurm } from "../../src/fleet/mod.ts";
import { slurmScript } from "../../src/fleet/launch/mod.ts";
import { sleep } from "../../src/internal/deadline.ts";
import { reservePorts } from "../../src/process/mod.ts";
import { safetensors } from "../../src/weights/source/mod.ts";

const cli = new URL("../../src/cli/mod.ts", import.meta.url).pathname;

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let look = 0; look < 300; look++) {
    if (await isSo()) return;
    await sleep(200);
  }
  throw new Error(`${what} did not come in a minute`);
}

Deno.test("servers that Slurm started are found and synced; a cancelled one is replaced and refitted", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-slurm-" });
  try {
    await makeTinyCheckpoint(join(folder, "step-0"), { seed: 0 });
    await makeTinyCheckpoint(join(folder, "step-1"), { seed: 1 });
    await using cluster = await startSlurm(folder);
    // Two neighbours, out of the range from which connections of this machine take theirs.
    using ports = reservePorts({ count: 2, hostname: "0.0.0.0" });
    const port = ports.ports[0]!;
    ports.release();
    const script = slurmScript({
      model: join(folder, "step-0"),
      name: "fleet",
      replicas: 2,
      gpusPerNode: 0,
      port,
      command: `"${Deno.execPath()}" run -A --quiet "${cli}" serve --embedded ` +
        `"${join(folder, "step-0")}" --host 0.0.0.0 --port "$port"`,
    });
    await Deno.writeTextFile(join(folder, "fleet.sbatch"), script);
    const jobId = (await cluster.run("sbatch", "--parsable", "fleet.sbatch")).trim();
    const discovery = serversInSlurm({
      jobName: "fleet",
      port,
      intervalMs: 500,
      run: (command, args) => cluster.run(command, ...args),
    });
    const answers = (url: string) =>
      fetch(`${url}/model_info`).then(async (response) => {
        await response.body?.cancel();
        return response.ok;
      }, () => false);
    await until("two servers", async () => {
      const urls = await discovery.servers();
      return urls.length === 2 && (await Promise.all(urls.map(answers))).every(Boolean);
    });
    const urls = (await discovery.servers()).toSorted();
    assert.deepEqual(urls, [`http://localhost:${port}`, `http://localhost:${port + 1}`]);

    await using engine = await AsyncSGLang.connect(urls, { retry: { retries: 0 } });
    await using fleet = FleetSupervisor.start(engine, { probeMs: 300, discovery });
    await engine.initWeightUpdateGroup();
    const report = await engine.updateWeights(safetensors(join(folder, "step-1")));
    const version = report!.version;
    const greedy = { temperature: 0, maxNewTokens: 8 } as const;
    const expected = await engine.generate("Hello", greedy);
    assert.equal(expected.weightVersion, version);

    await t.step("one is cancelled: the other serves on", async () => {
      await cluster.run("scancel", `${jobId}_0`);
      await until("the death", () => !engine.workers.some(({ url }) => url === urls[0]));
      const samples = await engine.generate(["Hello", "Hello"], greedy);
      for (const sample of samples) assert.deepEqual(sample.ids, expected.ids);
    });

    await t.step("its successor serves only with the fleet's weights", async () => {
      await cluster.run("sbatch", "--array=0", "fleet.sbatch");
      await until(
        "the successor",
        () => fleet.servers.some(({ url, state }) => url === urls[0] && state === "healthy"),
      );
      const worker = engine.workers.find(({ url }) => url === urls[0])!;
      assert.equal(worker.state, "serving");
      const sample = await worker.client.generate({ text: "Hello", samplingParams: greedy });
      assert.equal(sample.weightVersion, version);
      assert.deepEqual(sample.ids, expected.ids);
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
