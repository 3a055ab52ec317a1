import type { RoutedExperts } from "../client/routed_experts.ts";
import type { FinishReason, Generation, VersionSpan } from "../client/types.ts";
import { ProtocolError } from "../errors.ts";

/**
 * What was sampled in one turn, id for id as the server made it. A
 * {@linkcode Generation} of an engine is one; wrapper and collector use the same.
 */
export interface Sample {
  /** Ids of the prompt `(P)` as the server read them; `null` when nobody knows them. */
  readonly promptIds: Int32Array | null;
  /** The sampled ids `(R)`, stop token included. */
  readonly ids: Int32Array;
  /** Log-probability of each sampled id `(R)`; `null` when not asked for. */
  readonly logProbs: Float32Array | null;
  /** Why it ended. */
  readonly finishReason: FinishReason;
  /** The server's weight version at the end; `null` when not told. */
  readonly weightVersion: string | null;
  /** Which version made which ids; `null` where the server does not tell. */
  readonly weightVersions: readonly VersionSpan[] | null;
  /** The experts that the tokens went to; absent or `null` when not asked for. */
  readonly routedExperts?: RoutedExperts | null | undefined;
  /** Address of the server that answered, or of the router before it, when known. */
  readonly server?: string | undefined;
}

/** A sample of known prompt ids. */
export interface KnownSample extends Sample {
  /** Ids of the prompt `(P)`: those that were sent. */
  readonly promptIds: Int32Array;
  /** The answer as the server shows it; `null` when it has no tokenizer. */
  readonly text: string | null;
}

/**
 * The sample in an engine's answer, without what only the engine needs.
 *
 * @throws {ProtocolError} The ids of the prompt are not known.
 */
export function sampleOf(
  generation: Generation,
  sentIds: Int32Array | null = generation.promptIds,
): KnownSample {
  const { ids, logProbs, finishReason, weightVersion, weightVersions, server, text } = generation;
  if (sentIds === null) {
    throw new ProtocolError(
      "The server was sent text and did not return the ids of the prompt, so tokens are not known",
    );
  }
  const { routedExperts } = generation;
  const told = { finishReason, weightVersion, weightVersions, routedExperts, server };
  return { promptIds: sentIds, ids, logProbs, ...told, text };
}

/** The id of the stop token that ended a sample; `null` when it ended in another way. */
export function endTokenOf({ ids, finishReason }: Sample): number | null {
  const last = ids.at(-1);
  return finishReason.type === "stop" && finishReason.matched === last ? last ?? null : null;
}

/**
 * Log-probabilities as they must be: one finite number for each id.
 *
 * @throws {ProtocolError} They are missing, too few or too many, or not finite.
 */
export function checkedLogProbs(
  values: Float32Array | null,
  expected: { count: number; row?: number | undefined; isFirstUnknown?: boolean },
): Float32Array {
  const { count, row = 0, isFirstUnknown = false } = expected;
  if (values === null) {
    throw new ProtocolError(`Log-probabilities were asked for, but row ${row} came without`);
  }
  if (values.length !== count) {
    throw new ProtocolError(
      `Row ${row} has ${values.length} log-probabilities for ${count} tokens`,
    );
  }
  const wrong = values.findIndex((value, at) =>
    !Number.isFinite(value) && !(isFirstUnknown && at === 0)
  );
  if (wrong < 0) return values;
  throw new ProtocolError(
    `Row ${row} has the non-finite log-probability ${values[wrong]} at token ${wrong}`,
  );
}
