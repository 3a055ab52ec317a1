/** Builds the npm package for Node 22 and later, and for Bun: ESM and types, nothing to run at install. */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { bundle } from "./bundle.ts";
import { writeManifest } from "./manifest.ts";
import { writeTypes } from "./types.ts";

const { values: { out } } = parseArgs({
  options: { out: { type: "string", default: "dist/npm" } },
});
await Deno.remove(out, { recursive: true }).catch(() => {});
await Deno.mkdir(out, { recursive: true });
const { bytes, packages } = await bundle(out);
const files = await writeTypes(out);
await writeManifest(out, packages);
console.log(`${out}: ${Math.round(bytes / 1024)} KiB of JavaScript, ${files} files of types`);
