import { UnsupportedError } from "../../errors.ts";

/** A model that guesses tokens ahead for the server's own one (speculative decoding). */
export interface DraftModel {
  /** The server's `--speculative-algorithm`. */
  readonly algorithm: string;
  /** Its own checkpoint; `null` where it is layers of the served one (multi-token prediction). */
  readonly model: string | null;
}

/** What becomes of draft models in a sync. */
export type DraftChoice = "update" | "keep";

/** Which of a server's models take an update (from 0.5.22). */
export type WeightSelector = "all" | "target";

/** They guess from the text and have no weights. */
const WITHOUT_WEIGHTS = ["NGRAM", "LOOKAHEAD"];

/** The draft model that a server tells of in its arguments. */
export function draftOf(args: Readonly<Record<string, unknown>>): DraftModel | undefined {
  const {
    speculative_algorithm: algorithm,
    speculative_draft_model_path: path,
    model_path: served,
  } = args;
  if (typeof algorithm !== "string" || WITHOUT_WEIGHTS.includes(algorithm.toUpperCase())) {
    return undefined;
  }
  const isOwn = typeof path === "string" && path !== "" && path !== served;
  return { algorithm, model: isOwn ? path : null };
}

/** What is asked of {@linkcode requireDraftFit}. */
export interface DraftQuestion {
  readonly url: string;
  readonly version: string;
  readonly draft: DraftModel | undefined;
  /** Whether its updates can be for the target alone. */
  readonly hasWeightSession: boolean;
  readonly transport: string;
  readonly choice: DraftChoice;
}

/**
 * Refuses a sync that would leave a draft model with weights that nobody asked for: old ones
 * unasked, or those of another model.
 *
 * @throws {UnsupportedError} Names the server, its draft model and what works.
 */
export function requireDraftFit(question: DraftQuestion): void {
  const { url, version, draft, hasWeightSession, transport, choice } = question;
  if (draft === undefined) return;
  const keep =
    'Set draft: "keep" to leave it as it is: answers stay right, only fewer of its guesses ' +
    "are taken";
  const what = `${url} has a draft model (${draft.algorithm}, ${
    draft.model ?? "layers of the served checkpoint"
  })`;
  // These bring what they are given to the draft model, too.
  const reachesDraft = transport === "disk" || (transport === "cuda-ipc" && !hasWeightSession);
  if (choice === "keep") {
    if (!reachesDraft) return;
    throw new UnsupportedError(
      `${what}, which transport "${transport}" of SGLang ${version} cannot leave as it is. Use ` +
        '"nccl" or "gloo"',
    );
  }
  if (draft.model !== null) {
    throw new UnsupportedError(
      `${what}, and the weights are not its. ${keep}`,
    );
  }
  if (hasWeightSession || reachesDraft) return;
  throw new UnsupportedError(
    `${what}, which SGLang ${version} does not update by "${transport}" (0.5.22 and newer do). ${keep}`,
  );
}
