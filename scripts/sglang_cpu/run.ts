import { ProcessTree } from "../../src/process/mod.ts";

/** How a program ended, and all that it wrote. */
export interface RunResult {
  readonly success: boolean;
  readonly lines: readonly string[];
}

/** Runs a program that ends with us, line by line. */
export async function run(
  command: readonly string[],
  options: {
    env?: Record<string, string | null>;
    onLine?: (line: string) => void;
    signal?: AbortSignal | undefined;
  } = {},
): Promise<RunResult> {
  const lines: string[] = [];
  await using tree = await ProcessTree.launch({
    command,
    keeperPython: command[0],
    env: { PYTHONUNBUFFERED: "1", ...options.env },
    signal: options.signal,
    onLine(line) {
      lines.push(line);
      options.onLine?.(line);
    },
  });
  const exit = await tree.wait();
  if (exit.logFile !== null) await Deno.remove(exit.logFile).catch(() => {});
  options.signal?.throwIfAborted();
  return { success: exit.exitCode === 0, lines };
}

/** The last line that says something, for an error of one line. */
export function lastWords(result: RunResult): string {
  const meant = result.lines.filter((line) => line.trim() !== "" && !line.startsWith("[notice]"));
  const error = meant.findLast((line) => /error/i.test(line));
  return (error ?? meant.at(-1) ?? "no output").trim();
}
