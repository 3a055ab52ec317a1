/**
 * Installs real tokenizers and chat templates, and Python's transformers to compare with.
 *
 * Run as `deno task setup:tokenizers [--home DIR] [--python PYTHON]`.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { resolve } from "node:path";
import { tokenizersHome } from "./real_tokenizers/home.ts";
import { setUpTokenizers } from "./real_tokenizers/set_up.ts";
import { SetupError } from "./sglang_cpu/setup_error.ts";

async function main(): Promise<number> {
  const abort = new AbortController();
  const onInterrupt = () => abort.abort(new SetupError("Interrupted; run it again to go on"));
  Deno.addSignalListener("SIGINT", onInterrupt);
  try {
    const { values } = parseArgs({
      args: Deno.args,
      options: { home: { type: "string" }, python: { type: "string" } },
    });
    const home = values.home === undefined ? tokenizersHome() : resolve(values.home);
    await setUpTokenizers({
      home,
      python: values.python,
      say: (line) => console.log(line),
      signal: abort.signal,
    });
    console.log(`The real tokenizers are in ${home}`);
    return 0;
  } catch (error) {
    if (!(error instanceof SetupError || error instanceof TypeError)) throw error;
    console.error(`Cannot set up the tokenizers: ${error.message}`);
    return 1;
  } finally {
    Deno.removeSignalListener("SIGINT", onInterrupt);
  }
}

if (import.meta.main) Deno.exitCode = await main();
