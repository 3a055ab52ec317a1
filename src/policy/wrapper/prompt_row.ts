import type { Generation } from "../../client/types.ts";
import { partSeed } from "../../internal/sample_seed.ts";
import type { Message } from "../message.ts";
import { assistantMaskOf, logProbsOf, type TurnPrompt } from "../../rollout/turn.ts";

/** How ids that were kept or given differ from the text that belongs to them. */
export interface TokenDrift {
  /** Index of the first token that differs. */
  readonly index: number;
  /** What was sent: the sampled or given ids, or the ids of the text. */
  readonly sent: "ids" | "text";
}

/** A prompt, ready to be sent. */
export interface PromptRow {
  /** The ids to send; `null` to send the text and let the server tokenise it. */
  readonly ids: Int32Array | null;
  /** The prompt as text; `null` in tokens mode. */
  readonly text: string | null;
  /** The conversation; `null` outside history mode. */
  readonly chat: readonly Message[] | null;
  /** The prompt of a conversation's next turn; `null` when scoring and outside history mode. */
  readonly turn: TurnPrompt | null;
  /** 1 on assistants' tokens of the prompt; `null` for none. */
  readonly assistantMask: Uint8Array | null;
  /** Log-probabilities of the prompt's tokens from earlier turns; `null` for none. */
  readonly logProbs: Float32Array | null;
  /** How the ids differ from those of the text. */
  readonly drift: TokenDrift | null;
  /** Seed of its samples, in place of the one in the sampling parameters. */
  readonly samplingSeed?: number | undefined;
}

const EMPTY: PromptRow = {
  ids: null,
  text: null,
  chat: null,
  turn: null,
  assistantMask: null,
  logProbs: null,
  drift: null,
};

/** Ids that are sent as they are. */
export function idsRow(ids: Int32Array): PromptRow {
  return { ...EMPTY, ids };
}

/** A text, and its ids where they are known. */
export function textRow(text: string, more: Partial<PromptRow> = {}): PromptRow {
  return { ...EMPTY, text, ...more };
}

/** The next turn of a conversation. */
export function turnRow(turn: TurnPrompt): PromptRow {
  return {
    ids: turn.ids,
    text: turn.text,
    chat: turn.messages,
    turn,
    assistantMask: assistantMaskOf(turn),
    logProbs: logProbsOf(turn),
    drift: driftOf(turn),
  };
}

function driftOf({ drift, branch }: TurnPrompt): TokenDrift | null {
  if (branch !== null) return { index: branch.index, sent: "text" };
  return drift === null ? null : { index: drift, sent: "ids" };
}

/**
 * The rows of one call, where a seed is given: each row is a request of its own, so rows with the same
 * prompt get seeds of their own. Done before callers are gathered, so that it does not depend on who
 * else calls.
 */
export function rowsWithSeeds(
  rows: readonly PromptRow[],
  seed: number | undefined,
): readonly PromptRow[] {
  if (seed === undefined) return rows;
  const counts = new Map<string, number>();
  return rows.map((row) => {
    const prompt = row.ids === null ? `text ${row.text}` : row.ids.join();
    const before = counts.get(prompt) ?? 0;
    counts.set(prompt, before + 1);
    return { ...row, samplingSeed: partSeed(seed, before) };
  });
}

/** What became of one prompt: its samples, or why there are none. */
export type RowOutcome =
  | {
    /** As many as were asked for. */
    readonly generations: readonly Generation[];
    readonly error?: undefined;
  }
  | {
    /** Why it failed. */
    readonly error: Error;
    readonly generations?: undefined;
  };
