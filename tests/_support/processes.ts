/** Programs and processes of this machine, for tests that start some and look for what is left. */

/** Whether a program is there that tells its version. */
export async function hasProgram(name: string): Promise<boolean> {
  try {
    const { success } = await new Deno.Command(name, { args: ["--version"], stdout: "null" })
      .output();
    return success;
  } catch {
    return false;
  }
}

/** A process with all its descendants, now. */
export async function treeOf(pid: number): Promise<number[]> {
  const children = new Map<number, number[]>();
  for (const [child, parent] of await listProcesses()) {
    children.set(parent, [...children.get(parent) ?? [], child]);
  }
  const found = [pid];
  for (const each of found) found.push(...children.get(each) ?? []);
  return found;
}

/** Those of `pids` that are still alive once all are gone or the time is up. */
export async function leftOf(
  pids: readonly number[],
  options: { withinMs: number },
): Promise<number[]> {
  const end = performance.now() + options.withinMs;
  for (;;) {
    const alive = new Set((await listProcesses()).map(([pid]) => pid));
    const left = pids.filter((pid) => alive.has(pid));
    if (left.length === 0 || performance.now() > end) return left;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/**
 * Process and parent of all that run; a zombie runs no more. By the shell, because Deno reads /proc
 * with all permissions only, and slim machines have no `ps`.
 */
async function listProcesses(): Promise<[number, number][]> {
  const { stdout } = await new Deno.Command("sh", {
    args: ["-c", "cat /proc/[0-9]*/stat 2>/dev/null; true"],
  }).output();
  return new TextDecoder().decode(stdout).trim().split("\n").map((line) => {
    // The command in brackets may hold anything, brackets too.
    const [state, parent] = line.slice(line.lastIndexOf(")") + 2).split(" ");
    return { pid: parseInt(line), state, parent: Number(parent) };
  }).filter(({ state }) => state !== "Z").map(({ pid, parent }) => [pid, parent]);
}

/** Arguments and environments of all processes that this user may look at, in one text. */
export async function seenOfProcesses(): Promise<string> {
  const { stdout } = await new Deno.Command("sh", {
    args: ["-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; true"],
  }).output();
  return new TextDecoder().decode(stdout);
}
