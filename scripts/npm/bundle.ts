import { isBuiltin } from "node:module";
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

/** How sources become what Node 22 and Bun understand. */
export const forNode = {
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node22",
  packages: "external",
  inject: ["scripts/npm/missing.ts"],
  plugins: [texts],
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
    inject: [...forNode.inject],
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
