/** Which part may import which: the arrows of the design, which point one way. */

/** One import of a module of ours, paths relative to the root. */
export interface Edge {
  readonly from: string;
  readonly to: string;
  readonly kind: "value" | "type" | "dynamic";
}

/** What a part may import besides itself. */
interface Layer {
  /** Parts whose values, and types, it may import. */
  readonly values: readonly string[];
  /** Parts of which it may know the types only. */
  readonly types?: readonly string[];
  /** Parts that it may reach by a dynamic import. */
  readonly dynamic?: readonly string[];
}

const base = ["src/errors.ts", "src/runtime", "src/internal"];

/** The parts, from the bottom to the top. */
export const layers: Readonly<Record<string, Layer>> = {
  "src/errors.ts": { values: ["src/errors"] },
  "src/errors": { values: [] },
  "src/runtime": { values: [] },
  "src/internal": { values: ["src/errors.ts", "src/runtime"] },
  "src/checkpoint": { values: base },
  "src/http": { values: base },
  "src/client": { values: [...base, "src/http"] },
  "src/process": { values: base },
  "src/rendezvous": { values: base },
  "src/collective": { values: [...base, "src/rendezvous"], types: ["src/checkpoint"] },
  "src/server": { values: [...base, "src/process", "src/http"] },
  "src/router": { values: [...base, "src/process", "src/http"] },
  "src/fleet": { values: [...base, "src/http", "src/client"] },
  "src/weights": {
    values: [...base, "src/client", "src/rendezvous", "src/checkpoint", "src/collective"],
    dynamic: ["ffi"],
  },
  "src/adapters": { values: [...base, "src/client", "src/checkpoint", "src/weights"] },
  "src/delta": { values: [...base, "src/http", "src/checkpoint", "src/weights"] },
  "ffi": { values: base, types: ["src/collective", "src/checkpoint"] },
  "src/engine": {
    values: [
      ...base,
      "src/client",
      "src/checkpoint",
      "src/server",
      "src/router",
      "src/fleet",
      "src/weights",
      "src/adapters",
    ],
  },
  // Turns know messages and tokenizers by their types; a policy gives them what renders and samples.
  "src/rollout": { values: base, types: ["src/client", "src/policy"] },
  "src/policy": {
    values: [...base, "src/client", "src/engine", "src/rollout"],
  },
  "src/collector": {
    values: [
      ...base,
      "src/training",
      "src/client",
      "src/checkpoint",
      "src/engine",
      "src/rollout",
      "src/policy",
      // The form of a line is written once, beside its reader.
      "src/rollout_file",
    ],
  },
  "src/trainer": {
    values: [...base, "src/checkpoint", "src/collector", "src/weights"],
    types: ["src/collective"],
    dynamic: ["ffi"],
  },
  "src/training": { values: base },
  "src/reference": {
    values: [...base, "src/training", "src/collector"],
    types: ["src/engine"],
  },
  "src/datasets": { values: base },
  "src/sandbox": { values: [...base, "src/policy", "src/collector"] },
  "src/evaluation": { values: [...base, "src/collector", "src/policy"] },
  "src/sinks": { values: base },
  "src/mcp": { values: [...base, "src/collector"] },
  // What a page opens, so it leans on little.
  "src/rollout_file": {
    values: [...base, "src/checkpoint"],
    types: ["src/client", "src/policy"],
  },
  "src/gateway": {
    values: [...base, "src/client", "src/rollout", "src/policy", "src/collector"],
    types: ["src/engine"],
  },
  // What the adapters of other frameworks ask.
  "src/ai": { values: [...base, "src/gateway"] },
  "src/langchain": { values: [...base, "src/gateway"] },
  "src/dashboard": {
    values: [...base, "src/telemetry", "src/training", "src/rollout_file"],
  },
  "src/telemetry": { values: base, types: ["src/collector"] },
  "src/embedded": { values: [...base, "src/checkpoint", "src/collective"] },
  "src/cli": {
    values: [
      ...base,
      "src/http",
      "src/client",
      "src/checkpoint",
      "src/server",
      "src/router",
      "src/fleet",
      "src/weights",
      "src/engine",
      "src/collector",
      "src/gateway",
      "src/telemetry",
      "src/dashboard",
      "src/rollout_file",
      // For the texts of tokens.
      "src/policy",
      // For the mismatch of a plot.
      "src/training",
      // For its command that serves the embedded server.
      "src/embedded",
    ],
  },
  "mod.ts": {
    values: [
      "src/errors.ts",
      "src/client",
      "src/server",
      "src/router",
      "src/weights",
      "src/engine",
      "src/policy",
      "src/collector",
    ],
  },
};

/** The part that a file belongs to, or `undefined` when none has it. */
export function partOf(path: string): string | undefined {
  return Object.keys(layers).find((part) => path === part || path.startsWith(`${part}/`));
}

/** What is wrong with a graph of imports, one line each. */
export function findLayerFaults(edges: readonly Edge[]): string[] {
  const faults = edges.flatMap((edge) => findFault(edge) ?? []);
  const native = edges.filter(({ from, to, kind }) =>
    kind === "dynamic" && partOf(from) === "src/weights" && partOf(to) === "ffi"
  );
  if (native.length > 1) {
    const files = native.map((edge) => edge.from).join(", ");
    faults.push(`ffi is reached by ${native.length} dynamic imports instead of one: ${files}`);
  }
  return faults;
}

/** Arrows that are allowed and that no import uses, one line each; all may lean on the base. */
export function findUnusedArrows(edges: readonly Edge[]): string[] {
  const used = new Set(edges.map(({ from, to, kind }) => `${partOf(from)} ${kind} ${partOf(to)}`));
  return Object.entries(layers).flatMap(([part, { values, types = [], dynamic = [] }]) => {
    const arrows = [
      ...values.filter((to) => part === "mod.ts" || !base.includes(to)).map((to) => ["value", to]),
      ...types.map((to) => ["type", to]),
      ...dynamic.map((to) => ["dynamic", to]),
    ];
    return arrows.filter(([kind, to]) => !used.has(`${part} ${kind} ${to}`)).map(([kind, to]) =>
      `${part} may import ${to} (${kind}) and does not: take the arrow out of scripts/layers.ts`
    );
  });
}

function findFault({ from, to, kind }: Edge): string | undefined {
  if (/^(jsr|https?):/.test(to)) return `${from} imports ${to}: only npm: and node: can be had`;
  const source = partOf(from);
  const target = partOf(to);
  if (source === undefined) return `${from} belongs to no part: add it to scripts/layers.ts`;
  if (target === undefined) return `${from} imports ${to}, which belongs to no part`;
  if (source === target) return undefined;
  const { values, types = [], dynamic = [] } = layers[source]!;
  const allowed = {
    value: values,
    type: [...values, ...types, ...dynamic],
    dynamic: [...values, ...dynamic],
  }[kind];
  if (allowed.includes(target)) return undefined;
  const how = { value: "imports", type: "imports types of", dynamic: "dynamically imports" }[kind];
  return `${from} ${how} ${to}: ${source} must not know ${target}`;
}
