import type { RolloutRow } from "../collector/row.ts";
import type { GenerateOptions, RLSGLangEngine } from "../engine/engine.ts";
import { ProtocolError, ValidationError } from "../errors.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** Options of {@linkcode scoreRows}. */
export interface ScoreRowsOptions {
  /** Further fields of each request, for example `{ lora: "reference" }` for an adapter. */
  readonly request?: Omit<GenerateOptions, "samplingParams" | "signal" | "timeoutMs"> | undefined;
  /** Deadline of the whole in milliseconds. Default 600 000. */
  readonly timeoutMs?: number | undefined;
  /** Ends it; what runs is aborted on the servers. */
  readonly signal?: AbortSignal | undefined;
}

const OPTION_NAMES = {
  request: true,
  timeoutMs: true,
  signal: true,
} as const satisfies OptionNames<ScoreRowsOptions>;

const DEFAULT_TIMEOUT_MS = 600_000;

/** What is needed of a row to score it. */
export type ScorableRow = Pick<RolloutRow, "dialog" | "turn" | "promptIds" | "responseIds">;

/**
 * Log-probability of each sampled id `(R)` of some rows, by the policy that an engine serves: what a
 * loss with a divergence from a reference policy needs. Nothing is sampled; every row is a request of
 * its own, as many at once as the engine sends.
 *
 * @throws {ValidationError} A row whose prompt ids are not known; nothing was sent.
 * @throws {ProtocolError} The servers told too few log-probabilities.
 * @throws {TimeoutError} The deadline passed.
 *
 * @example
 * ```ts
 * import { scoreRows } from "@sglang-rl/sglang-rl/reference";
 * import type { AsyncSGLang } from "@sglang-rl/sglang-rl";
 * import type { RolloutBatch } from "@sglang-rl/sglang-rl/collector";
 *
 * declare const reference: AsyncSGLang;
 * declare const batch: RolloutBatch;
 * const logProbs = await scoreRows(batch.rows, reference);
 * console.log(logProbs[0]?.length === batch.rows[0]?.responseIds.length); // true
 * ```
 */
export async function scoreRows(
  rows: readonly ScorableRow[],
  engine: RLSGLangEngine,
  options: ScoreRowsOptions = {},
): Promise<Float32Array[]> {
  checkOptionNames(options, OPTION_NAMES, "scoreRows()");
  const { request, signal, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const unknown = rows.find(({ promptIds }) => promptIds === null || promptIds.length === 0);
  if (unknown !== undefined) {
    throw new ValidationError(
      `Cannot score turn ${unknown.turn} of dialog ${unknown.dialog}: the ids of its prompt are not ` +
        "known; use a policy that tells them",
    );
  }
  const leaving = new AbortController();
  const stop = signal === undefined ? leaving.signal : AbortSignal.any([signal, leaving.signal]);
  try {
    return await Promise.all(rows.map((row) =>
      scored(row, engine, {
        ...request,
        samplingParams: { maxNewTokens: 0 },
        returnLogProbs: true,
        // The first position that is told has no log-probability: it would need the one before.
        logProbStartLen: row.promptIds!.length - 1,
        timeoutMs,
        signal: stop,
      })
    ));
  } finally {
    leaving.abort();
  }
}

async function scored(
  { promptIds, responseIds, dialog, turn }: ScorableRow,
  engine: RLSGLangEngine,
  options: GenerateOptions,
): Promise<Float32Array> {
  const count = responseIds.length;
  if (count === 0) return new Float32Array(0);
  const ids = new Int32Array(promptIds!.length + count);
  ids.set(promptIds!);
  ids.set(responseIds, promptIds!.length);
  const [sample] = await engine.generate({ inputIds: [ids] }, options);
  const logProbs = sample!.promptLogProbs?.slice(-count);
  if (logProbs?.length === count && logProbs.every(Number.isFinite)) return logProbs;
  throw new ProtocolError(
    `The reference told ${
      logProbs?.length ?? 0
    } finite log-probabilities for the ${count} sampled ` +
      `ids of turn ${turn} of dialog ${dialog}`,
  );
}
