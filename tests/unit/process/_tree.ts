import { ProcessTree, type ProcessTreeOptions } from "../../../src/process/mod.ts";

/** Whether the keeper can run; these tests are about nothing else. */
export async function hasPython(): Promise<boolean> {
  try {
    const { success } = await new Deno.Command("python3", { args: ["--version"], stdout: "null" })
      .output();
    return success;
  } catch {
    return false;
  }
}

/** Those of `pids` that are still alive once all are gone or the time is up. */
export async function aliveOf(
  pids: readonly number[],
  options: { untilGoneMs: number },
): Promise<number[]> {
  const end = performance.now() + options.untilGoneMs;
  for (;;) {
    const { stdout } = await new Deno.Command("sh", {
      args: [
        "-c",
        "for p; do kill -0 $p 2>/dev/null && echo $p; done; true",
        "sh",
        ...pids.map(String),
      ],
    }).output();
    const alive = new TextDecoder().decode(stdout).split("\n").filter(Boolean).map(Number);
    if (alive.length === 0 || performance.now() > end) return alive;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
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
  while (tree.lastLine === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
  return tree.lastLine;
}
