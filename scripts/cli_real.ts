/**
 * Runs the commands of docs/cli.md on the real SGLang, each as the page writes it, and prints how each
 * ended beside how the page says that it ends: first beside a `serve` of two servers with the router,
 * then beside a server of the newest version with keys. Sets SGLang up when it is not there.
 *
 * Run as `deno task docs:cli-real`; it takes some eight minutes on two cores.
 */
// deno-lint-ignore-file no-console
import { join } from "node:path";
import { makeTinyCheckpoint } from "../src/embedded/mod.ts";
import { readLines } from "../src/internal/lines.ts";
import { cpuEnv, pythonOf, routerPython } from "../tests/_support/real.ts";
import { freePort } from "../tests/_support/free_port.ts";
import { runStep, type Step, type StepResult } from "./cli_real/step.ts";
import { besideFleet, besideKeys } from "./cli_real/steps.ts";
import { sglangHome } from "./sglang_cpu/home.ts";
import { setUp } from "./sglang_cpu/set_up.ts";

const program = new URL("../src/cli/mod.ts", import.meta.url).pathname;

/** The commands, in a folder whose name a careless shell line would break. */
async function makeWorkplace(): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl cli é " });
  await Deno.mkdir(join(folder, "bin"));
  const deno = `"${Deno.execPath()}" run --quiet`;
  // Another serve of this machine may have the port at which these commands look by themselves.
  const command = `#!/bin/bash
case "$1 $*" in
  *--control*) ;;
  drain\\ *|restart\\ *|logs\\ *|status\\ *|sync\\ *|dashboard\\ *) set -- "$@" --control "$CONTROL" ;;
esac
exec ${deno} -A "${program}" "$@"
`;
  const bare = `#!/bin/sh\nexec ${deno} --no-prompt "${program}" "$@"\n`;
  await Deno.writeTextFile(join(folder, "bin/sglang-rl"), command, { mode: 0o755 });
  await Deno.writeTextFile(join(folder, "bin/sglang-rl-no-permissions"), bare, { mode: 0o755 });
  await makeTinyCheckpoint(join(folder, "checkpoints/step-10"), { seed: 0 });
  await makeTinyCheckpoint(join(folder, "checkpoints/step-20"), { seed: 1 });
  await Deno.writeTextFile(join(folder, "prompts.txt"), "Hello\nWorld\n");
  return folder;
}

/** Starts `serve`, runs the steps beside it, ends it; every step's result, `serve`'s the last. */
async function beside(
  steps: readonly Step[],
  { folder, args, env }: {
    readonly folder: string;
    readonly args: readonly string[];
    readonly env: Readonly<Record<string, string>>;
  },
): Promise<StepResult[]> {
  const controlPort = freePort();
  const run = `sglang-rl serve checkpoints/step-10 ${args.join(" ")}`;
  const began = performance.now();
  const path = `${join(folder, "bin")}:${Deno.env.get("PATH")}`;
  const common = { ...env, PATH: path, CONTROL: `http://127.0.0.1:${controlPort}` };
  const serve = new Deno.Command(join(folder, "bin/sglang-rl"), {
    args: ["serve", "checkpoints/step-10", ...args, "--json", `--control-port=${controlPort}`],
    cwd: folder,
    env: { ...cpuEnv, ...common },
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const lines = readLines(serve.stdout);
  const results: StepResult[] = [];
  try {
    const line = (await lines.next()).value ?? "";
    if (line === "") {
      return [{ step: { run }, code: -1, seconds: 0, faults: ["no start"], said: "" }];
    }
    const { url, servers } = JSON.parse(line) as { url: string; servers: string[] };
    const [a = "", b = ""] = servers;
    const stepEnv = { ...common, ROUTER: url, A: a, B: b, PYTHON: pythonOf() };
    for (const step of steps) {
      const result = await runStep(step, { cwd: folder, env: stepEnv });
      show(result);
      results.push(result);
    }
  } finally {
    serve.kill("SIGTERM");
    await lines.return(undefined);
  }
  const { code } = await serve.status;
  const seconds = (performance.now() - began) / 1000;
  const faults = code === 143 ? [] : [`ended with ${code}`];
  const result = { step: { run, code: 143 }, code, seconds, faults, said: "" };
  show(result);
  return [...results, result];
}

function show({ step, code, seconds, faults, said }: StepResult): void {
  const line = step.run.replaceAll(/\s+/g, " ");
  const shown = line.length > 78 ? `${line.slice(0, 77)}…` : line;
  const verdict = faults.length === 0 ? "as documented" : `NOT: ${faults.join("; ")}`;
  const time = seconds.toFixed(1).padStart(6);
  console.log(`${shown.padEnd(78)} ${String(code).padStart(4)} ${time} s  ${verdict}`);
  if (faults.length > 0) console.log(said.replaceAll(/^/gm, "    "));
}

await setUp({
  versions: ["0.5.16", "0.5.23"],
  home: sglangHome(),
  say: console.error,
  signal: new AbortController().signal,
});
const folder = await makeWorkplace();
try {
  console.log(`${"command".padEnd(78)} exit     time  as documented`);
  const shared = ["--device=cpu", "--dtype=float32", "--arg=max-total-tokens=8192"];
  const fleet = await beside(besideFleet, {
    folder,
    args: [
      ...shared,
      ...["--replicas", "2", `--python=${pythonOf()}`, `--router-python=${routerPython()}`],
      ...["--log-dir", "logs of serve", "--supervise", "--host", "127.0.0.1"],
    ],
    env: {},
  });
  const keys = await beside(besideKeys, {
    folder,
    args: [...shared, `--python=${pythonOf("0.5.23")}`],
    env: { SGLANG_API_KEY: "key-of-the-servers", SGLANG_ADMIN_API_KEY: "key-of-the-admin" },
  });
  const results = [...fleet, ...keys];
  const wrong = results.filter(({ faults }) => faults.length > 0).length;
  console.log(`${results.length} commands, ${wrong} not as documented`);
  Deno.exitCode = wrong === 0 ? 0 : 1;
} finally {
  await Deno.remove(folder, { recursive: true });
}
