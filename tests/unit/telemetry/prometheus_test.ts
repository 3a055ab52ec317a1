import assert from "node:assert/strict";
import { Monitor } from "../../../src/telemetry/mod.ts";
import { hasProgram } from "../../_support/processes.ts";
import { openTraining, watchedOf } from "./_training.ts";

const examples = new URL("../../../examples/monitoring/", import.meta.url);

async function promtool(args: readonly string[], input = ""): Promise<void> {
  const child = new Deno.Command("promtool", {
    args: [...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  assert.equal(code, 0, new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr));
}

async function metricsOfARun(): Promise<string> {
  await using training = await openTraining();
  using monitor = new Monitor(watchedOf(training));
  await training.step();
  monitor.record("loss", 0.5);
  return await monitor.metrics();
}

Deno.test("dashboard and alerts ask for metrics that there are, and docs/telemetry.md names each", async () => {
  const metrics = await metricsOfARun();
  const there = new Set(metrics.matchAll(/^# TYPE (\S+)/gm).map(([, name]) => name!));
  const docs = await Deno.readTextFile(new URL("../../../docs/telemetry.md", import.meta.url));
  for (const file of ["grafana.json", "alerts.yml"]) {
    const text = await Deno.readTextFile(new URL(file, examples));
    const asked = new Set(text.matchAll(/\bsglang_rl_[a-z_]+/g).map(([name]) => name));
    for (const name of asked) {
      const plain = name.replace(/_(bucket|sum|count)$/, "");
      assert.ok(there.has(name) || there.has(plain), `${file} asks for ${name}`);
    }
  }
  for (const name of there) {
    assert.ok(docs.includes(name), `docs/telemetry.md lacks ${name}`);
  }
});

Deno.test({
  name: "Prometheus's own tool takes the metrics and the alert rules",
  // Where it is not installed, monitor_test.ts reads the format by a parser of its own.
  ignore: !await hasProgram("promtool"),
  async fn() {
    await promtool(["check", "metrics"], await metricsOfARun());
    await promtool(["check", "rules", new URL("alerts.yml", examples).pathname]);
    // Each alert fires for what it is about, and none for a run that does well.
    await promtool(["test", "rules", new URL("rules_test.yml", import.meta.url).pathname]);
  },
});
