import { isBuiltin } from "node:module";
import { resolve } from "node:path";
import { build, type Plugin, stop } from "esbuild";
import { entries } from "./entries.ts";

/** The page of the dashboard is imported as texts. */
const texts: Plugin = {
  name: "texts",
  setup({ onLoad }) {
    onLoad(
      { filter: /./ },
      async ({ path, with: { type } }) =>
        type === "text" ? { contents: await Deno.readTextFile(path), loader: "text" } : undefined,
    );
  },
};

/** Globals that Node may lack, which `missing.ts` brings. */
const missing = ["Deno", "DisposableStack", "AsyncDisposableStack", "Float16Array"];

/** The import of those that a text uses. */
export function missingIn(text: string, except: readonly string[] = []): string {
  const used = missing.filter((name) =>
    !except.includes(name) && new RegExp(`\\b${name}\\b`).test(text)
  );
  const path = JSON.stringify(resolve("scripts/npm/missing.ts"));
  return used.length === 0 ? "" : `import { ${used.join(", ")} } from ${path};`;
}

/**
 * Sources import what they use of them. Not by `inject`, by which the classes of errors would import
 * what throws them, and in some orders be there too late.
 */
const brought: Plugin = {
  name: "brought",
  setup({ onLoad }) {
    onLoad({ filter: /[/](src|ffi)[/].*[.]ts$/ }, async (file) => {
      if (file.path.includes("/src/errors/") || file.with.type === "text") return undefined;
      const contents = await Deno.readTextFile(file.path);
      return { contents: missingIn(contents) + contents, loader: "ts" };
    });
  },
};

/** How sources become what Node 22 and Bun understand. */
export const forNode = {
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node22",
  packages: "external",
  plugins: [texts, brought],
  logLevel: "warning",
} as const;

/** What was written. */
export interface Bundle {
  readonly bytes: number;
  /** Packages that it imports. */
  readonly packages: ReadonlySet<string>;
}

/** Writes the JavaScript of all entries. */
export async function bundle(out: string): Promise<Bundle> {
  const { metafile } = await build({
    ...forNode,
    plugins: [...forNode.plugins],
    entryPoints: Object.fromEntries(entries.map(({ name, source }) => [name, source])),
    outdir: `${out}/esm`,
    chunkNames: "parts/[name]-[hash]",
    metafile: true,
  });
  await stop();
  const outputs = Object.values(metafile.outputs);
  const external = outputs.flatMap(({ imports }) => imports.filter(({ external }) => external));
  return {
    bytes: outputs.reduce((sum, { bytes }) => sum + bytes, 0),
    packages: new Set(
      external.filter(({ path }) => !isBuiltin(path)).map(({ path }) => packageOf(path)),
    ),
  };
}

function packageOf(path: string): string {
  return path.split("/").slice(0, path.startsWith("@") ? 2 : 1).join("/");
}
