import assert from "node:assert/strict";
import { Monitor } from "../../../src/telemetry/mod.ts";
import { openTraining } from "./_training.ts";

const examples = new URL("../../../examples/monitoring/", import.meta.url);

async function promtool(args: readonly string[], input?: string): Promise<string | null> {
  try {
    const child = new Deno.Command("promtool", {
      args: [...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(input ?? ""));
    await writer.close();
    const { code, stdout, stderr } = await child.output();
    const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assert.equal(code, 0, said);
    return said;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

async function metricsOfARun(): Promise<string> {
  await using training = await openTraining();
  using monitor = new Monitor(training);
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

// Where Prometheus is not installed, monitor_test.ts reads the format by a parser of its own.
Deno.test("Prometheus's own tool takes the metrics and the alert rules", async () => {
  if (await promtool(["check", "metrics"], await metricsOfARun()) === null) return;
  await promtool(["check", "rules", new URL("alerts.yml", examples).pathname]);
});
