import { allGone as processesGone, hasProgram } from "../../_support/processes.ts";
import { ProcessTree, type ProcessTreeOptions } from "../../../src/process/mod.ts";
import { turns, until } from "../../_support/clock.ts";

/** Whether the keeper can run; these tests are about nothing else. */
export function hasPython(): Promise<boolean> {
  return hasProgram("python3");
}

/** Resolves once none of `pids` is alive. */
export function allGone(pids: readonly number[]): Promise<void> {
  return processesGone(pids, () => turns(20));
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
