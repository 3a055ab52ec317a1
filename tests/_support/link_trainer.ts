/** A trainer in Python, by `sglang_rl.trainer`, that does what a test asks. */
import { readLines } from "../../src/internal/lines.ts";
import { modelPath, pythonOf } from "./real.ts";

/** What a push came to. */
export interface PushOutcome {
  readonly version?: string;
  readonly way?: string;
  readonly why?: string;
  readonly seconds: number;
  readonly error?: string;
  readonly message?: string;
  readonly phase?: string;
  readonly code?: string;
  readonly step?: string;
  readonly server?: string;
}

/** What a process holds. */
export interface Held {
  readonly descriptors: number;
  readonly maps: number;
  readonly rss: number;
}

/** What it can be asked, and what it answers. */
interface Commands {
  load: [{ folder: string }, number];
  make: [{ shapes: Record<string, readonly number[]>; dtype: string; seed: number }, number];
  save: [{ folder: string }, true];
  push: [
    { version?: string; die?: string | number; names?: readonly string[] },
    PushOutcome,
  ];
  pushes: [{ times: number }, { seconds: number[]; held: Held[] }];
  batches: [{ count: number }, unknown[]];
  state: [Record<never, never>, Held];
  bye: [Record<never, never>, true];
}

/** Starts the trainer in plain Python of `python/tests`, which pushes the weights of `tiny1` once. */
export function startPlainTrainer(
  address: string,
  way: string,
  options: { readonly key?: string; readonly args?: readonly string[] } = {},
): Deno.ChildProcess {
  const { key = "", args = [] } = options;
  const script = new URL("../../python/tests/plain_trainer.py", import.meta.url).pathname;
  const file = `${modelPath("tiny1")}/model.safetensors`;
  return new Deno.Command(pythonOf(), {
    args: ["-B", "-S", script, address, key, file, way, ...args],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
}

/** A running trainer. */
export class LinkTrainer implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #answers: AsyncGenerator<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#answers = readLines(child.stdout);
    this.#input = child.stdin.getWriter();
  }

  static async start(
    address: string,
    options: {
      readonly key?: string;
      readonly ways?: readonly string[];
      readonly python?: string;
      readonly env?: Readonly<Record<string, string>>;
    } = {},
  ): Promise<LinkTrainer> {
    const { key = "", ways = [], python = pythonOf(), env = {} } = options;
    const script = new URL("./link_trainer.py", import.meta.url).pathname;
    const child = new Deno.Command(python, {
      args: ["-B", script, address, key, ways.join(",")],
      env: {
        PYTHONPATH: new URL("../../python", import.meta.url).pathname,
        CUDA_VISIBLE_DEVICES: "",
        OMP_NUM_THREADS: "1",
        ...env,
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const trainer = new LinkTrainer(child);
    await trainer.#answers.next();
    return trainer;
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Asks and waits for the answer; fails when the trainer died of it. */
  async ask<Name extends keyof Commands>(
    name: Name,
    args: Commands[Name][0],
  ): Promise<Commands[Name][1]> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify([name, args])}\n`));
    const { value, done } = await this.#answers.next();
    if (done) throw new Error("the trainer has ended");
    return JSON.parse(value);
  }

  /** Kills it (-9). */
  async kill(): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch { /* It has ended already. */ }
    await this.#child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {});
    await this.kill();
    await this.#answers.return(undefined).catch(() => {});
    await this.#child.stdout.cancel().catch(() => {});
  }
}
