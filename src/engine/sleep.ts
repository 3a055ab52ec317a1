import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import type { MemoryTag } from "../client/memory.ts";
import type { CallOptions } from "../client/types.ts";
import { StateError, ValidationError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { sleep, withDeadline } from "../internal/deadline.ts";
import type { WorkerPool } from "./workers.ts";

/** How long the servers may take to have no request left. */
const DRAIN_MS = 60_000;
const POLL_MS = 50;

/** Options of {@linkcode AsyncSGLang.sleep}. */
export interface SleepOptions extends CallOptions {
  /** What the servers free. Default everything: caches, weights and CUDA graphs. */
  readonly tags?: readonly MemoryTag[] | undefined;
}

const SLEEP_NAMES = {
  tags: true,
  signal: true,
  timeoutMs: true,
} as const satisfies OptionNames<SleepOptions>;

/** Options of {@linkcode AsyncSGLang.wake}. */
export interface WakeOptions extends CallOptions {
  /**
   * Sends all weights, with the servers' memory taken back and generation still paused: what they
   * held is lost. Must be given where weights were released.
   */
  readonly updateWeights?: (() => Promise<unknown>) | undefined;
}

const WAKE_NAMES = {
  updateWeights: true,
  signal: true,
  timeoutMs: true,
} as const satisfies OptionNames<WakeOptions>;

/**
 * Lets the servers of an engine give their memory away and take it back, in the one order that no
 * server dies of: pause, wait until nothing runs, release; take back, send weights, resume.
 */
export class EngineSleep {
  readonly #pool: WorkerPool;
  readonly #clock: Clock;
  #tags: readonly MemoryTag[] | undefined;

  constructor(pool: WorkerPool, clock: Clock) {
    this.#pool = pool;
    this.#clock = clock;
  }

  /** Whether the servers sleep. */
  get isAsleep(): boolean {
    return this.#tags !== undefined;
  }

  async sleep(options: SleepOptions): Promise<void> {
    checkOptionNames(options, SLEEP_NAMES, "sleep()");
    const { tags, signal, timeoutMs = DRAIN_MS } = options;
    if (this.isAsleep) throw new StateError("The engine sleeps already: call wake()");
    const call = { signal };
    await this.#pool.onEvery("sleep", async ({ client }) => {
      await client.pause("abort", call);
      await this.#untilIdle(client, { signal, timeoutMs });
      await client.releaseMemoryOccupation({ ...call, tags });
      this.#tags = client.releasedMemory;
    });
  }

  async wake(options: WakeOptions): Promise<void> {
    checkOptionNames(options, WAKE_NAMES, "wake()");
    const { updateWeights, ...call } = options;
    if (this.#tags === undefined) {
      throw new StateError(
        "The engine does not sleep: memory that was not released cannot be taken back",
      );
    }
    if (this.#tags.includes("weights") && updateWeights === undefined) {
      throw new ValidationError(
        "The servers have released their weights: give `updateWeights`, which sends all of them",
      );
    }
    await this.#pool.onEvery("wake", async ({ client }) => {
      if (client.releasedMemory.length > 0) await client.resumeMemoryOccupation(call);
    });
    await updateWeights?.();
    await this.#pool.onEvery("resume", ({ client }) => client.resume(call));
    this.#tags = undefined;
  }

  async #untilIdle(
    client: {
      readonly url: string;
      load: (options: CallOptions) => Promise<{ running: number; waiting: number }>;
    },
    { signal, timeoutMs }: { signal: AbortSignal | undefined; timeoutMs: number },
  ): Promise<void> {
    let left = 0;
    await withDeadline({
      phase: "sleep",
      timeoutMs,
      peer: client.url,
      lastHeard: () => `${left} requests`,
      hint: "The server is paused and nothing was released; resume() lets it go on",
      signal,
      clock: this.#clock,
    }, async (inner) => {
      for (;;) {
        const { running, waiting } = await client.load({ signal: inner });
        left = running + waiting;
        if (left === 0) return;
        await sleep(POLL_MS, { signal: inner, clock: this.#clock });
      }
    });
  }
}
