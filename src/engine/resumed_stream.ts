import type { Generation, GenerationDelta } from "../client/types.ts";
import { HttpError, UnreachableError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { sleep } from "../internal/deadline.ts";
import { droppedSample } from "./dropped_sample.ts";
import type { PlannedRequest } from "./generate_plan.ts";
import { stitch } from "./stitch.ts";

/** What a stream needs to go on elsewhere. */
export interface ResumedStreamOptions {
  /** Opens the stream of a request on whichever server is next. */
  readonly open: (planned: PlannedRequest) => AsyncIterable<GenerationDelta>;
  /** The request that goes on from these ids, `null` when nothing is left to make. */
  readonly continued: (
    planned: PlannedRequest,
    ids: Int32Array,
  ) => Promise<PlannedRequest | null>;
  /** Whether there is somebody else to ask. */
  readonly mayGoOn: () => boolean;
  /** Told about each time. */
  readonly onResume: (error: Error, tokens: number) => void;
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

/** Breaks in a row without a token between them. */
const MAX_IDLE_BREAKS = 8;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;

/**
 * A stream that outlives its server: where the connection breaks, it goes on on another server from
 * the ids that it has, so nothing that was given out is given out again. The last step's sample is
 * the whole. As for every resumed sample, penalties and a seed begin again at the seam, and which
 * weights made the first part was not told (`weightVersions` is `null`).
 */
export async function* resumedStream(
  first: PlannedRequest,
  options: ResumedStreamOptions,
): AsyncGenerator<GenerationDelta, void, undefined> {
  const { signal, clock } = options;
  const before = new Before(first);
  let breaks = 0;
  for (;;) {
    const earlier = before.sample;
    try {
      const planned = earlier === null ? first : await options.continued(first, earlier.ids);
      if (planned === null) return yield before.end();
      for await (const delta of options.open(planned)) {
        if (delta.ids.length > 0) breaks = 0;
        if (delta.final !== null && earlier !== null) {
          yield { ...delta, final: stitch(earlier, delta.final) };
          return;
        }
        if (delta.final === null) before.add(delta);
        yield delta;
      }
      return;
    } catch (error) {
      const isOver = signal.aborted || !isBreak(error) || !options.mayGoOn();
      if (isOver || breaks++ === MAX_IDLE_BREAKS) throw error;
      options.onResume(error, before.ids.length);
    }
    await sleep(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (breaks - 1)), { signal, clock });
  }
}

/** Whether the server, not the request, was the matter. */
export function isBreak(error: unknown): error is Error {
  if (error instanceof UnreachableError) return true;
  return error instanceof HttpError && [502, 503, 504].includes(error.status);
}

/** What was given out before the present server. */
class Before {
  readonly ids: number[] = [];
  readonly #first: PlannedRequest;
  readonly #logProbs: number[] = [];
  #hasLogProbs = true;
  #text = "";

  constructor(first: PlannedRequest) {
    this.#first = first;
  }

  add({ ids, logProbs, text }: GenerationDelta): void {
    for (const id of ids) this.ids.push(id);
    for (const logProb of logProbs ?? []) this.#logProbs.push(logProb);
    this.#hasLogProbs &&= logProbs !== null || ids.length === 0;
    this.#text += text;
  }

  /** It as a sample, for the part that follows; `null` when nothing was given out. */
  get sample(): Generation | null {
    if (this.ids.length === 0) return null;
    return {
      ...droppedSample(this.#first, ""),
      text: this.#text,
      ids: Int32Array.from(this.ids),
      logProbs: this.#hasLogProbs ? Float32Array.from(this.#logProbs) : null,
      completionTokens: this.ids.length,
    };
  }

  /** The last step of a stream that broke after its last token. */
  end(): GenerationDelta {
    const length = this.ids.length;
    const final: Generation = { ...this.sample!, finishReason: { type: "length", length } };
    const logProbs = final.logProbs === null ? null : new Float32Array(0);
    return { text: "", ids: new Int32Array(0), logProbs, final };
  }
}
