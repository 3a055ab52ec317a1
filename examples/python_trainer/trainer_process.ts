/** The Python trainer as a child process that speaks JSON lines. */
import { readLines } from "../../src/internal/lines.ts";
import { withDeadline } from "../../src/internal/deadline.ts";

/** What the trainer answers to a batch. */
export interface TrainerStep {
  /** Number of the step. */
  readonly step: number;
  /** The loss. */
  readonly loss: number;
  /** Mean reward of the batch. */
  readonly mean_reward: number;
  /** Largest difference between the servers' log-probabilities and the trainer's. */
  readonly log_prob_gap: number;
  /** The trainer's log-probabilities of each row, where it tells them. */
  readonly trained?: readonly (readonly number[])[] | undefined;
}

/** Options of {@linkcode TrainerProcess.start}. */
export interface TrainerOptions {
  /** Python with torch, transformers and safetensors. */
  readonly python: string;
  /** Folder of the checkpoint to begin with. */
  readonly checkpoint: string;
  /** Address of a link over which rows come and weights go. Default: files. */
  readonly link?: string | undefined;
  /** Step size. */
  readonly learningRate?: number | undefined;
  /** The trainer. Default `trainer.py` beside this file. */
  readonly program?: URL | undefined;
  /** Further arguments. */
  readonly args?: readonly string[] | undefined;
  /** Ends every wait. */
  readonly signal?: AbortSignal | undefined;
}

const START_TIMEOUT_MS = 120_000;
const STEP_TIMEOUT_MS = 120_000;

/** A running trainer; disposing ends it. */
export class TrainerProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #answers: AsyncGenerator<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #signal: AbortSignal | undefined;

  private constructor(child: Deno.ChildProcess, signal: AbortSignal | undefined) {
    this.#child = child;
    this.#answers = readLines(child.stdout);
    this.#input = child.stdin.getWriter();
    this.#signal = signal;
  }

  /** Starts it and waits until its model is loaded. Needs `--allow-run` for the Python. */
  static async start(options: TrainerOptions): Promise<TrainerProcess> {
    const { python, checkpoint, learningRate = 0.005, link, args = [], signal } = options;
    const { program = new URL("trainer.py", import.meta.url) } = options;
    const child = new Deno.Command(python, {
      args: [
        program.pathname,
        checkpoint,
        `--learning-rate=${learningRate}`,
        ...(link === undefined ? [] : [`--link=${link}`]),
        ...args,
      ],
      env: {
        PYTHONPATH: new URL("../../python", import.meta.url).pathname,
        HF_HUB_OFFLINE: "1",
        TRANSFORMERS_OFFLINE: "1",
        CUDA_VISIBLE_DEVICES: "",
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const trainer = new TrainerProcess(child, signal);
    try {
      await trainer.#answer("trainer start", START_TIMEOUT_MS);
      return trainer;
    } catch (error) {
      await trainer[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Trains on a batch file and has the new weights written to a file; without files, by the link. */
  async step(
    step: number,
    request: { batch?: string; weights?: string } & Readonly<Record<string, unknown>> = {},
  ): Promise<TrainerStep> {
    await this.#input.write(new TextEncoder().encode(JSON.stringify({ step, ...request }) + "\n"));
    return await this.#answer("trainer step", STEP_TIMEOUT_MS) as TrainerStep;
  }

  /** Ends the process. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {});
    try {
      this.#child.kill("SIGKILL");
    } catch { /* It has ended already. */ }
    await this.#child.status;
    await this.#answers.return(undefined).catch(() => {});
    await this.#child.stdout.cancel().catch(() => {});
  }

  async #answer(phase: string, timeoutMs: number): Promise<unknown> {
    const { value, done } = await withDeadline(
      { phase, timeoutMs, peer: "trainer.py", signal: this.#signal },
      () => this.#answers.next(),
    );
    if (done) throw new Error(`The trainer ended in phase "${phase}"; its words are above`);
    return JSON.parse(value);
  }
}
