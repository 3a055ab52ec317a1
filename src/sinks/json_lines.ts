import { AppendFile } from "./append_file.ts";
import { checkStep, type ScalarSink } from "./scalar_sink.ts";

/**
 * Notes numbers as JSON lines, `{"step": 1, "time": 1700000000.5, "reward": 0.5}`: one line for each
 * call, the time in seconds. Numbers that are not finite become `null`. A file that is there is gone
 * on with. Needs `--allow-write` of the file.
 */
export async function jsonLinesSink(
  path: string,
  options: { readonly now?: () => number } = {},
): Promise<ScalarSink> {
  const { now = Date.now } = options;
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
