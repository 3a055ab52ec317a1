import { samplingIn } from "../client/request.ts";
import type { Generation, GenerationDelta } from "../client/types.ts";
import { CrashedError, HttpError, UnreachableError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { sleep } from "../internal/deadline.ts";
import { droppedSample } from "./make_generation.ts";
import type { Patience } from "./patience.ts";
import type { PlannedRequest } from "./generate_plan.ts";
import { type FullText, objectionToSeam, SeamStops, stopsOf } from "./seam.ts";
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
  /** How often it goes on. */
  readonly patience: Patience;
  /** Whether there is somebody else to ask. */
  readonly mayGoOn: () => boolean;
  /** Text of ids, special tokens included. */
  readonly fullText: FullText;
  /** Told about each time. */
  readonly onResume: (error: Error, tokens: number) => void;
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

/** Pauses between breaks without a token between them. */
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
  const wire = samplingIn(first.body);
  let breaks = 0;
  for (;;) {
    const earlier = before.sample;
    try {
      const planned = earlier === null ? first : await options.continued(first, earlier.ids);
      if (planned === null) return yield before.end();
      let stops = earlier === null
        ? undefined
        : await SeamStops.at(before.ids, stopsOf(wire), options.fullText);
      for await (const delta of options.open(planned)) {
        if (delta.ids.length > 0) {
          breaks = 0;
          options.patience.renew();
        }
        if (stops !== undefined && delta.ids.length > 0) {
          const { found, over } = await stops.push([...delta.ids]);
          if (found !== undefined) {
            const isKept = wire.no_stop_trim === true;
            const fullText = await options.fullText(
              Int32Array.from([...before.ids, ...delta.ids.slice(0, found.count)]),
            );
            return yield before.endAtStop(delta, { ...found, isKept, fullText });
          }
          if (over) stops = undefined;
        }
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
      if (isOver || !options.patience.allows(error)) throw error;
      breaks++;
      const objection = before.ids.length === 0 ? undefined : objectionToSeam(wire);
      if (objection !== undefined) throw cannotGoOn(error, { objection, before });
      options.onResume(error, before.ids.length);
    }
    await sleep(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (breaks - 1)), { signal, clock });
  }
}

function cannotGoOn(
  error: Error,
  { objection, before }: { objection: string; before: Before },
): UnreachableError {
  const { url = "", reason } = error as Partial<UnreachableError>;
  return new UnreachableError(
    `${error.message}. The stream cannot go on on another server after ${before.ids.length} ` +
      `tokens: ${objection}, and another server would take those tokens for a part of the prompt. ` +
      "Ask again, or ask without it",
    { url, reason, cause: error },
  );
}

/** Whether the server, not the request, was the matter. */
export function isBreak(error: unknown): error is Error {
  // How its process ended is told in place of the broken connection, where it is known.
  if (error instanceof UnreachableError || error instanceof CrashedError) return true;
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

  /** The last step of a stream that a stop string across a seam ends. */
  endAtStop(
    delta: GenerationDelta,
    { stop, count, isKept, fullText }: {
      stop: string;
      count: number;
      isKept: boolean;
      fullText: string;
    },
  ): GenerationDelta {
    const given = this.#text.length;
    const ids = delta.ids.slice(0, count);
    const logProbs = delta.logProbs?.slice(0, count) ?? null;
    this.add({ ...delta, ids, logProbs });
    const whole = this.sample!;
    // The joined text has broken characters where the seam cut one.
    const joined = whole.text ?? "";
    const text = joined.includes(stop) ? joined : fullText;
    const at = text.lastIndexOf(stop);
    const end = at < 0 ? text.length : at + (isKept ? stop.length : 0);
    const final: Generation = {
      ...whole,
      text: text.slice(0, end),
      finishReason: { type: "stop", matched: stop },
    };
    return { text: text.slice(given, Math.max(given, end)), ids, logProbs, final };
  }

  /** The last step of a stream that broke after its last token. */
  end(): GenerationDelta {
    const length = this.ids.length;
    const final: Generation = { ...this.sample!, finishReason: { type: "length", length } };
    const logProbs = final.logProbs === null ? null : new Float32Array(0);
    return { text: "", ids: new Int32Array(0), logProbs, final };
  }
}
