/**
 * Checks the manifests of `sglang-rl launch --kubernetes` with Kubernetes's own schemas, strictly.
 * Needs a Python with kubernetes-validate (`pip install kubernetes-validate`), which brings them.
 *
 * Run as `deno task check:manifests [PYTHON]`.
 */
// deno-lint-ignore-file no-console
import { stringify } from "yaml";
import { manifestsOf } from "../src/fleet/launch/kubernetes.ts";

const variants = [
  { model: "/models/m", replicas: 4, gpusPerNode: 8, modelsClaim: "models", keysSecret: "keys" },
  { model: "/models/m", gpusPerNode: 0, routerImage: null },
  { model: "/models/m", replicas: 2, nnodes: 2, gpusPerNode: 8 },
];

/** What Kubernetes itself knows: of a LeaderWorkerSet the pods that it makes. */
function known(manifest: Readonly<Record<string, unknown>>): unknown[] {
  if (manifest.kind !== "LeaderWorkerSet") return [manifest];
  const { leaderTemplate, workerTemplate } = (manifest as {
    spec: { leaderWorkerTemplate: Record<string, { metadata: object; spec: object }> };
  }).spec.leaderWorkerTemplate;
  return [leaderTemplate!, workerTemplate!].map(({ metadata, spec }) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "pod", ...metadata },
    spec,
  }));
}

const python = Deno.args[0] ?? "python3";
const folder = await Deno.makeTempDir();
try {
  const files: string[] = [];
  for (const [i, options] of variants.entries()) {
    for (const [j, manifest] of manifestsOf(options).flatMap(known).entries()) {
      const file = `${folder}/${i}-${j}.yaml`;
      await Deno.writeTextFile(file, stringify(manifest));
      files.push(file);
    }
  }
  const check = await new Deno.Command(python, {
    args: ["-m", "kubernetes_validate", "--strict", ...files],
    stdout: "inherit",
    stderr: "inherit",
  }).output();
  console.log(`manifests: ${files.length} objects, ${check.success ? "ok" : "faults"}`);
  Deno.exitCode = check.success ? 0 : 1;
} finally {
  await Deno.remove(folder, { recursive: true });
}
