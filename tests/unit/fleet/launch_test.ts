/** Files that start a fleet elsewhere. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { parseAllDocuments } from "yaml";
import { kubernetesManifests, slurmScript } from "../../../src/fleet/launch/mod.ts";
import { manifestsOf } from "../../../src/fleet/launch/kubernetes.ts";
import { run } from "../cli/_support.ts";

/** Runs a script with stand-ins for Slurm's commands; the server's command prints its words. */
async function runScript(script: string, env: Record<string, string>): Promise<string[]> {
  // More names than a pipe holds: whoever reads the first only breaks it.
  const stand = `scontrol() { seq -f node-%g 20000; }
srun() { while [ "$1" != bash ]; do shift; done; "$@"; }
exec() { "$@"; }
export -f scontrol srun exec
`;
  const text = script.replaceAll("exec srun", "srun");
  const { success, stdout, stderr } = await new Deno.Command("bash", {
    args: ["-c", stand + text],
    env: { ...env, PATH: Deno.env.get("PATH")! },
    clearEnv: true,
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).replace(/\n$/, "").split("\n");
}

/** What Python runs in place of SGLang: it prints its words, one on a line, or its command line. */
const module = `import os, sys
print("\\n".join(sys.argv[1:]))
print(open("/proc/self/cmdline").read().replace("\\0", " "), file=sys.stderr)
sys.exit("a key" in open("/proc/self/cmdline").read())
`;

async function standInModule(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir();
  await Deno.mkdir(`${path}/sglang`);
  await Deno.writeTextFile(`${path}/sglang/__init__.py`, "");
  await Deno.writeTextFile(`${path}/sglang/launch_server.py`, module);
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

Deno.test("the Slurm script hands every word on as it was, whatever it holds", async () => {
  const word = fc.string({ minLength: 1, maxLength: 12 }).filter((text) =>
    // deno-lint-ignore no-control-regex -- refused by name, which another test shows
    !/[\x00-\x1f\x7f]/.test(text) && text.isWellFormed()
  );
  await using sglang = await standInModule();
  await fc.assert(
    fc.asyncProperty(word, fc.array(word, { maxLength: 3 }), async (model, args) => {
      const words = await runScript(slurmScript({ model, args }), {
        PYTHONPATH: sglang.path,
        SLURM_JOB_NODELIST: "node-[1-2]",
        SLURM_ARRAY_TASK_ID: "3",
        SLURM_PROCID: "0",
      });
      assert.deepEqual(words.slice(0, 6), [
        "--model-path",
        model,
        "--host",
        "0.0.0.0",
        "--port",
        "30003",
      ]);
      assert.deepEqual(words.slice(8), args);
    }),
    { numRuns: 25 },
  );
});

Deno.test("the Slurm script: one allocation for each replica, ranks and head node for several nodes", async () => {
  await using sglang = await standInModule();
  const script = slurmScript({
    model: "/m",
    replicas: 3,
    nnodes: 2,
    gpusPerNode: 8,
    partition: "gpu",
    time: "1-00:00:00",
  });
  for (
    const directive of ["--array=0-2", "--nodes=2", "--gpus-per-node=8", "--partition=gpu"]
  ) assert.ok(script.includes(`#SBATCH ${directive}\n`), directive);
  const words = await runScript(script, {
    PYTHONPATH: sglang.path,
    SLURM_JOB_NODELIST: "node-[1-2]",
    SLURM_ARRAY_TASK_ID: "1",
    SLURM_PROCID: "1",
    SGLANG_API_KEY: "a key",
    SGLANG_ADMIN_API_KEY: "--a key",
  });
  const text = words.join(" ");
  assert.ok(text.includes("--tp-size 16 --nnodes 2 --node-rank 1"), text);
  assert.ok(text.includes("--dist-init-addr node-1:40001"), text);
  // The module fails when the list of processes shows a key.
  assert.deepEqual(words.slice(0, 2), ["--api-key=a key", "--admin-api-key=--a key"]);
  assert.ok(script.includes("TORCH_NCCL_ASYNC_ERROR_HANDLING=2"));
});

Deno.test("launch options that are wrong are refused by name", () => {
  for (
    const options of [{ name: "Big Fleet" }, { replicas: 0 }, { nnodes: 1.5 }, { port: 70000 }, {
      gpusPerNode: -1,
    }, { args: ["a\nb"] }]
  ) {
    assert.throws(() => slurmScript({ model: "/m", ...options }), { code: "validation" });
    assert.throws(() => kubernetesManifests({ model: "/m", ...options }), { code: "validation" });
  }
});

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  // deno-lint-ignore no-explicit-any -- YAML is what it is
  readonly spec?: any;
}

Deno.test("a word of a launch file begins no other word and no other line", () => {
  for (const bad of ["a\nrm -rf x", "a --x", "", "a\tb", "a\u2028b"]) {
    for (const option of ["partition", "time"]) {
      assert.throws(() => slurmScript({ model: "m", [option]: bad }), new RegExp(`\`${option}\``));
    }
    for (const option of ["image", "routerImage", "modelsClaim", "keysSecret"]) {
      assert.throws(() => manifestsOf({ model: "m", [option]: bad }), new RegExp(`\`${option}\``));
    }
  }
  for (const option of ["prefix", "command", "python", "model"]) {
    const options = { model: "m", [option]: "a\nb" };
    assert.throws(() => slurmScript(options), /control characters/);
  }
  for (const time of ["30", "1-00:00:00", "UNLIMITED"]) {
    assert.ok(slurmScript({ model: "m", time }).includes(`--time=${time}\n`));
  }
});

Deno.test("the manifests are YAML of the same objects, and fit each other", () => {
  for (const nnodes of [1, 2]) {
    const options = { model: "/models/m", replicas: 2, nnodes, gpusPerNode: 8, keysSecret: "keys" };
    const text = kubernetesManifests(options);
    const parsed = parseAllDocuments(text).map((document) => document.toJS() as Manifest);
    assert.deepEqual(parsed, JSON.parse(JSON.stringify(manifestsOf(options))));
    const kinds = parsed.map(({ kind }) => kind);
    assert.ok(kinds.includes(nnodes === 1 ? "Deployment" : "LeaderWorkerSet"));
    const servers = parsed.find(({ metadata, kind }) =>
      metadata.name === "sglang-servers" && kind !== "Service"
    )!;
    const service = parsed.find(({ metadata, kind }) =>
      metadata.name === "sglang-servers" && kind === "Service"
    )!;
    const template = servers.spec.template ?? servers.spec.leaderWorkerTemplate.leaderTemplate;
    for (const [label, value] of Object.entries(service.spec.selector)) {
      if (label.startsWith("leaderworkerset")) continue;
      assert.equal(template.metadata.labels[label], value);
    }
    assert.deepEqual(template.spec.readinessGates, [{ conditionType: "sglang-rl.dev/refitted" }]);
    assert.equal(template.spec.containers[0].resources.limits["nvidia.com/gpu"], 8);
    assert.ok(!text.includes("undefined") && !text.includes("null"));
    // Kubernetes would put the keys into the command line.
    assert.ok(!text.includes("$(SGLANG_"), text);
  }
});

Deno.test("launch prints either file and wants to know which", async () => {
  assert.match((await run(["launch", "--slurm", "/m"])).out, /^#!\/bin\/bash\n/);
  assert.match((await run(["launch", "--kubernetes", "/m"])).out, /kind: Deployment/);
  assert.equal((await run(["launch", "/m"])).code, 2);
  assert.equal((await run(["launch", "/m", "--slurm", "--kubernetes"])).code, 2);
});

Deno.test("ports beyond the highest are refused, the replicas' own and those of several nodes", () => {
  for (const launch of [{ replicas: 35_537 }, { port: 55_600, replicas: 10, nnodes: 2 }]) {
    assert.throws(() => slurmScript({ model: "m", ...launch }), /port \d+ is too high/);
  }
  slurmScript({ model: "m", replicas: 35_536 });
  slurmScript({ model: "m", port: 55_600, replicas: 10 });
});
