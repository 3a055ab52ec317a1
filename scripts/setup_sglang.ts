/**
 * Installs the real SGLang and its router for a CPU, and makes the tiny checkpoints.
 *
 * Run as `deno task setup:sglang [--version 0.5.16|0.5.23|all] [--home DIR] [--python PYTHON]`.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { resolve } from "node:path";
import { sglangHome, sglangVersion, sglangVersions } from "./sglang_cpu/home.ts";
import { setUp } from "./sglang_cpu/set_up.ts";
import { SetupError } from "./sglang_cpu/setup_error.ts";

const usage = "usage: deno task setup:sglang [--version 0.5.16|0.5.23|all] [--home DIR] " +
  "[--python PYTHON]";

function readArgs(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        version: { type: "string", default: "0.5.16" },
        home: { type: "string" },
        python: { type: "string" },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    throw new SetupError(`${error instanceof Error ? error.message : error}. ${usage}`);
  }
}

async function main(): Promise<number> {
  const abort = new AbortController();
  const onInterrupt = () => abort.abort(new SetupError("Interrupted; run it again to go on"));
  Deno.addSignalListener("SIGINT", onInterrupt);
  try {
    const { version, home, python, help } = readArgs(Deno.args);
    if (help) {
      console.log(usage);
      return 0;
    }
    const folder = home === undefined ? sglangHome() : resolve(home);
    const started = performance.now();
    await setUp({
      versions: version === "all" ? sglangVersions : [sglangVersion(version)],
      home: folder,
      python,
      say: (line) => console.log(line),
      signal: abort.signal,
    });
    console.log(`The real SGLang is in ${folder} (${seconds(started)} s)`);
    return 0;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(`Cannot set up SGLang: ${error.message}`);
    return 1;
  } finally {
    Deno.removeSignalListener("SIGINT", onInterrupt);
  }
}

function seconds(started: number): string {
  return ((performance.now() - started) / 1000).toFixed(1);
}

if (import.meta.main) Deno.exitCode = await main();
