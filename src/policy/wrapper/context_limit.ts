import { convertSamplingParams, TORCHRL_SAMPLING_DEFAULTS } from "../../client/sampling_params.ts";
import type { SamplingInput } from "../../client/types.ts";
import { ContextOverflowError, HttpError } from "../../errors.ts";

/** How a server says that prompt and answer do not fit; 0.5.9 to 0.5.23 say it alike. */
const TOO_LONG = {
  context: /longer than the model's context length \((\d+) tokens\)/,
  prompt: /exceeds the maximum allowed length \((\d+) tokens\)/,
  tooMany: /Input length \((\d+) tokens\)/,
  both: /maximum context length of (\d+) tokens/,
  promptTokens: /(?<!\d)(\d+) tokens from the input/,
};

/** Limits on new tokens of one request. */
export interface NewTokens {
  /** Most new tokens. */
  readonly maxNewTokens: number;
  /** Fewest new tokens. */
  readonly minNewTokens: number;
}

/**
 * How long prompts and answers may be, as far as the servers told. It is learnt from what a server
 * reports of itself and from its refusals; nothing is assumed.
 */
export class ContextLimit {
  #total = Infinity;
  #prompt = Infinity;

  /** Most tokens of a prompt; `Infinity` while not known. */
  get prompt(): number {
    return Math.min(this.#prompt, this.#total - 1);
  }

  /** Learns the most tokens of a prompt. */
  limitPrompt(tokens: number): void {
    this.#prompt = Math.min(this.#prompt, tokens);
  }

  /** Whether an error says that prompt and answer do not fit; the limit is then known. */
  learn(error: unknown): error is HttpError {
    if (!(error instanceof HttpError)) return false;
    const found = (pattern: RegExp) => Number(pattern.exec(error.serverMessage)?.[1] ?? NaN);
    const total = Math.min(...[TOO_LONG.context, TOO_LONG.both].map(found).filter(Number.isFinite));
    const prompt = found(TOO_LONG.prompt);
    if (Number.isFinite(total)) this.#total = Math.min(this.#total, total);
    // Some servers refuse a prompt of just the length that they call allowed.
    const refused = found(TOO_LONG.tooMany) - 1;
    if (Number.isFinite(prompt)) this.limitPrompt(refused < prompt ? refused : prompt);
    return Number.isFinite(total) || Number.isFinite(prompt);
  }

  /**
   * The wanted numbers of new tokens, or fewer where the context has less room; `null` where they are
   * as wanted.
   *
   * @throws {ContextOverflowError} There is no room for any.
   */
  fit(promptTokens: number, wanted: NewTokens): NewTokens | null {
    if (promptTokens > this.prompt) {
      throw new ContextOverflowError({ promptTokens, limit: this.prompt });
    }
    const room = this.#total - promptTokens;
    if (wanted.maxNewTokens <= room) return null;
    return { maxNewTokens: room, minNewTokens: Math.min(wanted.minNewTokens, room) };
  }
}

/** How many tokens a refused text has, as the server counted. */
export function countedTokens(error: HttpError): number | null {
  const found = TOO_LONG.promptTokens.exec(error.serverMessage) ??
    /\((\d+) tokens\)/.exec(error.serverMessage);
  return found === null ? null : Number(found[1]);
}

/** The limits on new tokens that sampling parameters ask for. */
export function newTokensOf(sampling: SamplingInput | undefined): NewTokens {
  const { samplingParams } = convertSamplingParams(sampling, {
    defaults: TORCHRL_SAMPLING_DEFAULTS,
  });
  return {
    maxNewTokens: samplingParams.max_new_tokens as number,
    minNewTokens: (samplingParams.min_new_tokens as number | undefined) ?? 0,
  };
}
