/** The rule that a file is one idea, as far as a number can hold it. */

/** Lines above which a file has more than one idea. */
export const MOST_LINES = 400;

/** A file and how long it is. */
export interface FileSize {
  readonly path: string;
  readonly lines: number;
}

/** What is too long without a reason, and exceptions that nobody needs. */
export function findSizeFaults(
  files: readonly FileSize[],
  exceptions: Readonly<Record<string, string>>,
): string[] {
  const long = files.filter(({ lines }) => lines > MOST_LINES);
  const faults = long.filter(({ path }) => !Object.hasOwn(exceptions, path)).map((
    { path, lines },
  ) => `${path} has ${lines} lines, at most ${MOST_LINES} are one idea: split it`);
  const unused = Object.keys(exceptions).filter((path) => !long.some((file) => file.path === path));
  const unexplained = Object.entries(exceptions).filter(([, reason]) => reason.trim() === "");
  return [
    ...faults,
    ...unused.map((path) => `${path} is short enough, or gone: take its exception out`),
    ...unexplained.map(([path]) => `${path}: its exception needs a reason`),
  ];
}
