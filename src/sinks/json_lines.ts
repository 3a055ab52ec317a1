import { ValidationError } from "../errors.ts";
import { LineSplitter } from "../internal/lines.ts";
import { pathOf } from "../internal/path_of.ts";
import { namingPermission } from "../internal/permission.ts";
import { isMissingFile, lookAtFile } from "../internal/regular_file.ts";
import { writeAll } from "../internal/write_all.ts";
import { AppendFile } from "./append_file.ts";
import { checkStep, type ScalarSink } from "./scalar_sink.ts";
import { runtime } from "../runtime/mod.ts";

const LONGEST_LINE_BYTES = 2 ** 24;

const refuse = (message: string, options?: ErrorOptions) => new ValidationError(message, options);

/**
 * Notes numbers as JSON lines, `{"step": 1, "time": 1700000000.5, "reward": 0.5}`: one line for each
 * call, the time in seconds. Numbers that are not finite become `null`. A file that is there is gone
 * on with; `purgeStep` takes out its lines of that step and later ones, which a killed run noted and its
 * successor takes again, and a line that was left unfinished. Needs `--allow-write` of the file; with
 * `purgeStep` also `--allow-read`, and both of the same with `.part` behind it.
 *
 * @throws {LimitError} A line of the file is longer than 16 MiB.
 */
export async function jsonLinesSink(
  place: string,
  options: { readonly now?: () => number; readonly purgeStep?: number | undefined } = {},
): Promise<ScalarSink> {
  const { now = Date.now, purgeStep } = options;
  const path = pathOf(place, "a sink");
  if (purgeStep !== undefined) {
    checkStep(purgeStep);
    await namingPermission(
      `--allow-read=${path} --allow-write=${path},${path}.part`,
      `take steps out of ${path}`,
      () => purge(path, purgeStep),
    );
  }
  const file = await AppendFile.open(path);
  return {
    async log(step, values) {
      checkStep(step);
      const line = JSON.stringify({ ...values, step, time: now() / 1000 });
      await file.write(new TextEncoder().encode(line + "\n"));
    },
    async [Symbol.asyncDispose]() {
      await file.close();
    },
  };
}

/** Takes the lines of a step and of later ones out of a file; it is whole at every moment. */
async function purge(path: string, from: number): Promise<void> {
  const part = `${path}.part`;
  try {
    // A pipe would hold who opens it.
    await lookAtFile(path, { refuse });
    using file = await runtime().open(path);
    using kept = await runtime().open(part, { write: true, create: true, truncate: true });
    const splitter = new LineSplitter({ name: "a line", maxBytes: LONGEST_LINE_BYTES });
    const bytes = new Uint8Array(65_536);
    for (let length; (length = await file.read(bytes)) !== null;) {
      const lines = splitter.push(bytes.slice(0, length)).filter((line) => isBefore(line, from));
      await writeAll(kept, new TextEncoder().encode(lines.map((line) => line + "\n").join("")));
    }
  } catch (error) {
    if (isMissingFile(error)) return;
    await runtime().remove(part).catch(() => {});
    throw error;
  }
  await runtime().rename(part, path);
}

/** Whether a line is of an earlier step. What has no step is somebody's own and stays. */
function isBefore(line: string, from: number): boolean {
  try {
    const step = (JSON.parse(line) as { step?: unknown } | null)?.step;
    return typeof step !== "number" || step < from;
  } catch {
    return true;
  }
}
