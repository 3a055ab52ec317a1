/**
 * Runs the suites of the client, the gateway and the collector in Node and Bun. Options: --runtime
 * node|bun (may be repeated; default node), --report PATH of a JUnit report, and files of tests.
 */
import { build, type Plugin, stop } from "esbuild";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import config from "../../deno.json" with { type: "json" };
import { forNode, missingIn } from "./bundle.ts";
import { packagesOfTests, program } from "./programs.ts";

const suites = ["client", "gateway", "collector"];
/** What else differs from runtime to runtime. */
const others = ["tests/unit/http/tls_test.ts"];

/** They run Deno themselves, or take long; named, each can be tried. */
const leftOut = /answer_types|many_dialogs|many_rows/;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runtime: { type: "string", multiple: true, default: ["node"] },
    report: { type: "string", default: "" },
  },
});

const root = resolve(".");

/** Files of tests get a `Deno` of Node, and know where they lie. */
const inTests = {
  name: "in tests",
  setup({ onLoad }) {
    const shim = join(root, "tests/_support/node/deno.ts");
    onLoad({ filter: /\/tests\/.*\.ts$/ }, async ({ path }) => {
      if (path.includes("/_support/node/")) return undefined;
      const text = (await Deno.readTextFile(path))
        .replaceAll("import.meta.url", JSON.stringify(pathToFileURL(path).href));
      const shims = /\bDeno\b/.test(text) ? `import { Deno } from ${JSON.stringify(shim)};` : "";
      const use = shims + missingIn(text, ["Deno"]);
      return { contents: `${use}${text}`, loader: "ts" };
    });
  },
} satisfies Plugin;

const files = positionals.length > 0 ? positionals : [...await testsOf(suites), ...others];
const packages = await packagesOfTests(await versions());
// Within that folder, so that packages are found.
const out = await Deno.makeTempDir({ dir: packages, prefix: "run-" });
let failed = false;
try {
  await Deno.writeTextFile(join(out, "package.json"), '{"type":"module"}');
  await bundleTests(files, out);
  for (const name of values.runtime) {
    const report = values.report === "" ? "" : values.report.replace("NAME", name);
    const bundled = files.map((file) => join(out, file.replace(/\.ts$/, ".js")));
    const { success } = await new Deno.Command(await program(name as "node" | "bun"), {
      args: [join(out, "tests/_support/node/run.js"), report, ...bundled],
      env: { NO_COLOR: "1" },
    }).output().then((output) => {
      Deno.stdout.writeSync(output.stdout);
      Deno.stderr.writeSync(output.stderr);
      return output;
    });
    failed ||= !success;
  }
} finally {
  await Deno.remove(out, { recursive: true });
}
if (failed) Deno.exit(1);

async function testsOf(folders: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const folder of folders) await collect(`tests/unit/${folder}`, found);
  return found.sort();
}

async function collect(folder: string, into: string[]): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) await collect(`${folder}/${name}`, into);
    else if (name.endsWith("_test.ts") && !leftOut.test(name)) into.push(`${folder}/${name}`);
  }
}

async function bundleTests(tests: readonly string[], outdir: string): Promise<void> {
  const sources = [...tests, "tests/_support/node/run.ts"];
  await build({
    ...forNode,
    plugins: [inTests, ...forNode.plugins],
    entryPoints: Object.fromEntries(sources.map((path) => [path.replace(/\.ts$/, ""), path])),
    outdir,
    chunkNames: "parts/[name]-[hash]",
  });
  await stop();
}

/** All packages of this project at the versions of the lock, as npm installs them. */
async function versions(): Promise<string[]> {
  const { specifiers } = JSON.parse(await Deno.readTextFile("deno.lock"));
  return Object.entries(config.imports)
    .filter(([name]) => !["puppeteer-core", "axe-core", "esbuild", "commander"].includes(name))
    .map(([name, specifier]) => {
      const key = Object.keys(specifiers).find((key) => key.startsWith(`npm:${name}@`));
      return `${name}@${
        key === undefined ? specifier.split("@").at(-1) : specifiers[key].split("_")[0]
      }`;
    });
}
