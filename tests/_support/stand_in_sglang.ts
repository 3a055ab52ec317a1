import { join } from "node:path";

const program = new URL("../../src/cli/mod.ts", import.meta.url).pathname;

/** A Python module `sglang.launch_server` that becomes an embedded server. */
const launchServer = `import os, sys
args = dict(zip(sys.argv[1:], sys.argv[2:]))
deno, cli = os.environ["STAND_IN_DENO"], os.environ["STAND_IN_CLI"]
os.execv(deno, [deno, "run", "-A", "--no-check", "--quiet", cli, "serve", "--embedded",
  args["--model-path"], "--port", args["--port"]])
`;

/**
 * Puts a stand-in for SGLang into a folder: real processes under real keepers, each an embedded
 * server. Returns the variables with which `serve` starts it.
 */
export async function makeStandIn(folder: string): Promise<Record<string, string>> {
  await Deno.mkdir(join(folder, "sglang"));
  await Deno.writeTextFile(join(folder, "sglang/__init__.py"), "");
  await Deno.writeTextFile(join(folder, "sglang/launch_server.py"), launchServer);
  return {
    PYTHONPATH: folder,
    SGLANG_PYTHON: "python3",
    STAND_IN_DENO: Deno.execPath(),
    STAND_IN_CLI: program,
  };
}
