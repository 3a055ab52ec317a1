/** A stream of small requests, to see for how long a server does not answer while it is synced. */
import type { Server } from "./server.ts";

/** What a stream of requests saw. */
export interface LoadReport {
  /** Requests that were answered in full. */
  readonly answered: number;
  /** Requests that a pause ended early. */
  readonly aborted: number;
  /** Requests that failed. */
  readonly failed: number;
  /** Longest time between two full answers, in milliseconds. */
  readonly longestGapMs: number;
  /** Middle time between two full answers, in milliseconds. */
  readonly medianGapMs: number;
}

const streams = 4;
const request = {
  input_ids: [5, 100, 200, 300],
  sampling_params: { temperature: 0, max_new_tokens: 4, ignore_eos: true },
};

/** Asks a server without a break, with a few requests at a time, until it is stopped. */
export class RequestLoad {
  readonly #server: Server;
  readonly #answeredAt: number[] = [];
  readonly #workers: readonly Promise<void>[];
  #aborted = 0;
  #failed = 0;
  #stopped = false;

  private constructor(server: Server) {
    this.#server = server;
    this.#workers = Array.from({ length: streams }, () => this.#ask());
  }

  /** Begins, and waits until the server has answered a few requests. */
  static async start(server: Server, settleMs = 500): Promise<RequestLoad> {
    const load = new RequestLoad(server);
    await new Promise((resolve) => setTimeout(resolve, settleMs));
    return load;
  }

  /** Ends, after the server has answered a few more, and tells what was seen. */
  async stop(settleMs = 500): Promise<LoadReport> {
    await new Promise((resolve) => setTimeout(resolve, settleMs));
    this.#stopped = true;
    await Promise.all(this.#workers);
    const times = this.#answeredAt;
    const gaps = times.slice(1).map((time, i) => time - times[i]!).sort((a, b) => a - b);
    return {
      answered: times.length,
      aborted: this.#aborted,
      failed: this.#failed,
      longestGapMs: Math.round(gaps.at(-1) ?? 0),
      medianGapMs: Math.round(gaps[Math.floor(gaps.length / 2)] ?? 0),
    };
  }

  async #ask(): Promise<void> {
    while (!this.#stopped) {
      try {
        const { status, body } = await this.#server.post("/generate", request, 30_000);
        const meta = body.meta_info as { finish_reason?: { type?: string } } | undefined;
        if (status === 200 && meta?.finish_reason?.type === "length") {
          this.#answeredAt.push(performance.now());
        } else if (meta?.finish_reason?.type === "abort") this.#aborted++;
        else this.#failed++;
      } catch {
        this.#failed++;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }
}
