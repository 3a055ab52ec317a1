/**
 * Checks that the parts import each other only as scripts/layers.ts allows.
 *
 * Run as `deno run -A scripts/check_layers.ts`.
 */
// deno-lint-ignore-file no-console
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { type Edge, findLayerFaults, findUnusedArrows } from "./layers.ts";
import { filesUnder } from "./files.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

interface Target {
  readonly specifier?: string;
}

interface GraphModule {
  readonly specifier: string;
  readonly dependencies?: readonly {
    readonly specifier: string;
    readonly code?: Target;
    readonly type?: Target;
    readonly isDynamic?: boolean;
  }[];
}

/** All imports of our own modules. Deno's own graph knows types and dynamic imports apart. */
async function readEdges(files: readonly string[]): Promise<Edge[]> {
  const entry = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    const imports = files.map((file) =>
      `import ${JSON.stringify(new URL(`file://${file}`).href)};`
    );
    await Deno.writeTextFile(entry, imports.join("\n"));
    const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", `--config=${root}deno.json`, entry],
    }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    const graph: { modules: GraphModule[] } = JSON.parse(new TextDecoder().decode(stdout));
    return graph.modules.flatMap(edgesOf);
  } finally {
    await Deno.remove(entry);
  }
}

function edgesOf(module: GraphModule): Edge[] {
  const from = pathOf(module.specifier);
  if (from === undefined) return [];
  return (module.dependencies ?? []).flatMap((dependency): Edge[] => {
    const target = dependency.code?.specifier ?? dependency.type?.specifier ?? dependency.specifier;
    const kind = dependency.isDynamic ? "dynamic" : dependency.code ? "value" : "type";
    const to = pathOf(target);
    if (to !== undefined) return [{ from, to, kind }];
    return /^(npm|node):/.test(target) ? [] : [{ from, to: target, kind }];
  });
}

function pathOf(specifier: string): string | undefined {
  if (!specifier.startsWith("file:")) return undefined;
  const path = relative(root, fileURLToPath(specifier));
  return path.startsWith("..") ? undefined : path;
}

if (import.meta.main) {
  const files = [
    `${root}mod.ts`,
    ...await filesUnder(`${root}src`, ".ts"),
    ...await filesUnder(`${root}ffi`, ".ts"),
  ];
  const edges = await readEdges(files);
  const faults = [...findLayerFaults(edges), ...findUnusedArrows(edges)];
  for (const fault of faults) console.error(fault);
  console.log(`layers: ${files.length} files, ${edges.length} imports, ${faults.length} faults`);
  Deno.exitCode = faults.length > 0 ? 1 : 0;
}
