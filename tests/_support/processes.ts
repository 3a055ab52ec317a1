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

/** A process, as nobody else can become: numbers are given out again. */
interface Running {
  readonly pid: number;
  readonly parent: number;
  /** When it began, in ticks since the machine did. */
  readonly began: string;
}

/** A process with all its descendants, now. */
export async function treeOf(pid: number): Promise<number[]> {
  const children = new Map<number, number[]>();
  for (const { pid, parent } of await listProcesses()) {
    children.set(parent, [...children.get(parent) ?? [], pid]);
  }
  const found = [pid];
  for (const each of found) found.push(...children.get(each) ?? []);
  return found;
}

/** Those of `pids` that are alive now. */
export async function aliveOf(pids: readonly number[]): Promise<number[]> {
  const alive = new Set((await listProcesses()).map(({ pid }) => pid));
  return pids.filter((pid) => alive.has(pid));
}

/** Resolves once those of `pids` that are alive at the first look are gone. */
export async function allGone(
  pids: readonly number[],
  pause: () => Promise<unknown>,
): Promise<void> {
  const first = (await listProcesses()).filter(({ pid }) => pids.includes(pid));
  const isAlive = (now: readonly Running[]) =>
    first.some(({ pid, began }) => now.some((one) => one.pid === pid && one.began === began));
  while (isAlive(await listProcesses())) await pause();
}

/** Those of `pids` that are still alive once all are gone or the time is up. */
export async function leftOf(
  pids: readonly number[],
  options: { withinMs: number },
): Promise<number[]> {
  const end = performance.now() + options.withinMs;
  for (;;) {
    const left = await aliveOf(pids);
    if (left.length === 0 || performance.now() > end) return left;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/**
 * All processes that run. A zombie runs no more, and where nobody collects it, as in a container
 * whose first process does not, it stays for ever. By the shell, because Deno reads /proc with all
 * permissions only, and slim machines have no `ps`.
 */
async function listProcesses(): Promise<Running[]> {
  const { stdout } = await new Deno.Command("sh", {
    args: ["-c", "cat /proc/[0-9]*/stat 2>/dev/null; true"],
  }).output();
  return new TextDecoder().decode(stdout).trim().split("\n").flatMap((line) => {
    // The command in brackets may hold anything, brackets too.
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
    const [state, parent] = fields;
    if (state === "Z" || state === "X") return [];
    return [{ pid: parseInt(line), parent: Number(parent), began: fields[19]! }];
  });
}

/** Arguments and environments of all processes that this user may look at, in one text. */
export async function seenOfProcesses(): Promise<string> {
  const { stdout } = await new Deno.Command("sh", {
    args: ["-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; true"],
  }).output();
  return new TextDecoder().decode(stdout);
}
