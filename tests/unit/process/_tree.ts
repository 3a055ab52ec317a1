import { hasProgram } from "../../_support/processes.ts";
import { ProcessTree, type ProcessTreeOptions } from "../../../src/process/mod.ts";
import { turns, until } from "../../_support/clock.ts";

/** Whether the keeper can run; these tests are about nothing else. */
export function hasPython(): Promise<boolean> {
  return hasProgram("python3");
}

/** Those of `pids` that are alive now. */
export async function aliveOf(pids: readonly number[]): Promise<number[]> {
  const { stdout } = await new Deno.Command("sh", {
    args: [
      "-c",
      "for p; do kill -0 $p 2>/dev/null && echo $p; done; true",
      "sh",
      ...pids.map(String),
    ],
  }).output();
  return new TextDecoder().decode(stdout).split("\n").filter(Boolean).map(Number);
}

/** Resolves once none of `pids` is alive; a process that stays hangs the test with its name. */
export async function allGone(pids: readonly number[]): Promise<void> {
  while ((await aliveOf(pids)).length > 0) await turns(20);
}

/** Runs a shell script as a tree. */
export function launchShell(
  script: string,
  options: Omit<ProcessTreeOptions, "command"> = {},
): Promise<ProcessTree> {
  return ProcessTree.launch({ command: ["sh", "-c", script], name: "the script", ...options });
}

/** The first line that a tree writes. */
export async function firstLine(tree: ProcessTree): Promise<string> {
  await until(() => tree.lastLine !== undefined);
  return tree.lastLine!;
}
