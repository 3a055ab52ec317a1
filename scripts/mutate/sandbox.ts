/** A copy of the project in which sources are changed and tests run. */
import { dirname, join } from "node:path";

/** CPU seconds that a run of tests may take: a mutant may loop for ever. */
const CPU_SECONDS = 120;
/** Seconds after which a run that waits for ever is ended; generous, for a busy machine. */
const WALL_SECONDS = 120;

/** A copy of the project; removed when disposed of. */
export class Sandbox implements AsyncDisposable {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Copies what git knows or would know. */
  static async create(): Promise<Sandbox> {
    const folder = await Deno.makeTempDir({ prefix: "mutate-" });
    const list = await new Deno.Command("git", {
      args: ["ls-files", "--cached", "--others", "--exclude-standard", "-z"],
    }).output();
    for (const path of new TextDecoder().decode(list.stdout).split("\0").filter(Boolean)) {
      const info = await Deno.stat(path).catch(() => undefined);
      if (info?.isFile !== true) continue;
      await Deno.mkdir(join(folder, dirname(path)), { recursive: true });
      await Deno.copyFile(path, join(folder, path));
    }
    return new Sandbox(folder);
  }

  /** Runs `tests` with `text` as the source at `path`; tells whether they noticed. */
  async isKilled(path: string, text: string, tests: readonly string[]): Promise<boolean> {
    const whole = join(this.#folder, path);
    const original = await Deno.readTextFile(whole);
    await Deno.writeTextFile(whole, text);
    try {
      return !await this.passes(tests);
    } finally {
      await Deno.writeTextFile(whole, original);
    }
  }

  /** Whether `tests` pass, within so many times the limits of a mutant's run. */
  async passes(tests: readonly string[], times = 1): Promise<boolean> {
    const run = ["test", "-P=unit", "--no-check", "--fail-fast", "--quiet", ...tests];
    const { success } = await new Deno.Command("sh", {
      args: [
        "-c",
        `ulimit -t ${times * CPU_SECONDS}; exec timeout -s KILL ${times * WALL_SECONDS} "$0" "$@"`,
        Deno.execPath(),
        ...run,
      ],
      cwd: this.#folder,
      stdout: "null",
      stderr: "null",
    }).output();
    return success;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#folder, { recursive: true });
  }
}
