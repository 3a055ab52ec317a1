import config from "../../deno.json" with { type: "json" };
import { entries, peers } from "./entries.ts";

/** Writes package.json, the readme and the licence. */
export async function writeManifest(
  out: string,
  packages: ReadonlySet<string>,
): Promise<void> {
  const { specifiers } = JSON.parse(await Deno.readTextFile("deno.lock"));
  const rangeOf = (name: string) => rangeIn(specifiers, name);
  const dependencies = Object.fromEntries(
    [...packages].filter((name) => !peers.includes(name)).sort().map((
      name,
    ) => [name, rangeOf(name)]),
  );
  const manifest = {
    name: config.name,
    version: config.version,
    description: "SGLang backend for RL of language models",
    license: config.license,
    type: "module",
    sideEffects: false,
    engines: { node: ">=22" },
    exports: Object.fromEntries(
      entries.map(({ path, name, source }) => [path, {
        types: `./types/${source.replace(/\.ts$/, ".d.ts")}`,
        default: `./esm/${name}.js`,
      }]),
    ),
    dependencies,
    peerDependencies: Object.fromEntries(peers.map((name) => [name, rangeOf(name)])),
    peerDependenciesMeta: Object.fromEntries(peers.map((name) => [name, { optional: true }])),
  };
  await Deno.writeTextFile(`${out}/package.json`, `${JSON.stringify(manifest, null, 2)}\n`);
  for (const name of ["README.md", "LICENSE", "CHANGELOG.md"]) {
    await Deno.copyFile(name, `${out}/${name}`);
  }
}

/** The version that this project is tested with, and those that promise to fit. */
function rangeIn(specifiers: Readonly<Record<string, string>>, name: string): string {
  const found = Object.keys(specifiers).find((key) => key.startsWith(`npm:${name}@`));
  if (found === undefined) throw new Error(`${name} is not in deno.lock`);
  return `^${specifiers[found]!.split("_")[0]}`;
}
